//! Taking an agent off the bus, and letting it back.
//!
//! [`evidence`] decides what counts against whom, [`state`] where an agent stands; both are pure. [`enforce`]
//! makes it so: the state is durable before anything else happens, then in [`bars`], which every login asks; then
//! [`cut`] ends the connections and asks the servers whether it worked. What it sent is kept as [`custody`] says.

pub mod bars;
pub mod custody;
pub mod cut;
pub mod enforce;
pub mod evidence;
pub mod report;
pub mod state;
mod told;

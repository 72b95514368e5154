//! The Sealbus guard: decides who may connect to a bus and which flows may happen, logs every decision, and
//! takes anomalous publishers off the bus.
//!
//! | room | what it is | IO? |
//! | --- | --- | --- |
//! | [`policy`] | the policy file, compiled; decisions; permissions | no |
//! | [`check`], [`denials`] | the hot path: each check an envelope passes | no |
//! | [`graph`] | the trust graph: who can reach whom, by signed facts and by the log | no |
//! | [`roster`], [`sessions`] | who is on the bus, who reads what, the relay of sealed keys | no |
//! | [`anomaly`] | what deviates from an agent's own history, and how far it goes | no |
//! | [`quarantine`] | what counts against an agent, and where it stands | no, but its enforcement |
//! | [`oversight`] | what waits for people's approval; what pauses a workflow; the review of what was done | no |
//! | [`audit`] | the append-only Merkle log | disk |
//! | [`store`], [`archive`], [`reload`] | durable state, signed policies, what comes into force | disk |
//! | [`bus`] | connections, logins, envelopes in and out | NATS |
//! | [`service`] | wires them together | all |
//! | [`demo`] | a bus at work on real input, and under attack | all |

pub mod anomaly;
pub mod archive;
pub mod audit;
pub mod bus;
pub mod check;
pub mod cli;
pub mod clock;
pub mod config;
pub mod demo;
pub mod denials;
pub mod effect;
pub mod events;
pub mod graph;
pub mod http;
pub mod keyfile;
pub mod metrics;
pub mod natsserver;
pub mod oversight;
pub mod policy;
pub mod quarantine;
pub mod reload;
pub mod roster;
pub mod service;
pub mod sessions;
pub mod store;
pub mod taint;

//! Progress, on stderr: results alone go to stdout.

use std::io::Write as _;

/// One line.
pub(crate) fn say(text: &str) {
    // That nobody reads it is no reason to stop.
    let _ = writeln!(std::io::stderr(), "sealbus-bench: {text}");
}

//! `sealbus audit accept-loss`.

use serde_json::json;

use super::super::{
    busdir::BusArg,
    failure::{Exit, Failure},
    output::Output,
};
use crate::{
    audit::hex::Hex,
    service::STORE_FILE,
    store::{Store, StoreError},
};

const EXAMPLES: &str = "\
Examples:
  sealbus audit accept-loss --config /etc/sealbus

For when the guard does not start because its log was set back, replaced or is gone, and the newest
copy cannot be had. Stop the guard first and keep what there is of the old log as evidence. The next
start takes the log as it is, and writes size and root of the lost one into it, signed.";

/// Accept that entries of the audit log are lost, so that the guard starts again
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    bus: BusArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let dir = args.bus.open()?;
    let failed = |error: StoreError| {
        let remedy = "stop the guard first; see whether the state directory is whole and writable";
        Failure::told(Exit::Failure, "store", error.to_string(), remedy)
    };
    let store = Store::open(&dir.config.state_dir.join(STORE_FILE)).map_err(failed)?;
    match store.accept_log_loss().map_err(failed)? {
        Some(lost) => output.show(
            &json!({ "accepted": true, "size": lost.size, "root": Hex(lost.root) }),
            format_args!(
                "The log of {} entries with root {} counts as lost; the next start writes that down",
                lost.size,
                Hex(lost.root)
            ),
        ),
        None => output.show(&json!({ "accepted": false }), "Nothing is remembered of an audit log"),
    }
}

//! `sealbus audit parents`: whether envelopes derive from what they say.

use serde_json::json;

use super::{
    super::{
        busdir::BusArg,
        failure::{Exit, Failure},
        output::{BAD, GOOD, Output, paint},
    },
    unreadable,
};
use crate::audit::{
    parents::{Fault, Finding, Lineage},
    search::{Filter, search},
};

const EXAMPLES: &str = "\
Examples:
  sealbus audit parents
  sealbus audit parents --config /etc/sealbus --json | jq .sender | sort | uniq -c

Reads the whole log twice. A parent is true if it was admitted before the envelope that names it,
its sender was given the key of it or sealed it, and the label goes up or a flow grant is named.
That a key was given is known; whether the message was read is not. Exit code 4 if one is not true.";

/// Check that envelopes derive from what they say they derive from
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    bus: BusArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let dir = args.bus.open()?;
    let entries =
        || search(&dir.config.audit_dir, Filter::default()).map_err(|error| unreadable(&dir, error));
    let mut lineage = Lineage::default();
    for found in entries()? {
        lineage.note(&found.map_err(|error| unreadable(&dir, error))?.entry);
    }
    let mut untrue = 0_u64;
    for found in entries()? {
        let found = found.map_err(|error| unreadable(&dir, error))?;
        for finding in lineage.check(found.leaf, &found.entry) {
            untrue += 1;
            if output.is_json() {
                output.object(&finding)?;
            } else {
                output.text(line(&finding))?;
            }
        }
    }
    let checked = lineage.checked();
    if untrue > 0 {
        if !output.is_json() {
            output.remark(format_args!("{} {untrue} of {checked} parents are not true", paint(BAD, "✗")));
        }
        return Err(Failure::shown(Exit::Unverified));
    }
    let text =
        format!("{} {checked} parents, each admitted before and given to who names it", paint(GOOD, "✓"));
    output.show(&json!({ "parents": checked, "untrue": 0 }), text)
}

fn line(finding: &Finding) -> String {
    let what = match finding.fault {
        Fault::Unknown => "was not admitted before",
        Fault::NotGiven => "was not given to it",
        Fault::Below => "has a label that this one does not dominate",
    };
    format!(
        "leaf {}  {} by {}: parent {} {what}",
        finding.leaf, finding.envelope, finding.sender, finding.parent
    )
}

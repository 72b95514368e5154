//! `sealbus quarantine replay`.

use std::{thread, time::Duration};

use sealbus_envelope::order::OrderKind;
use serde_json::json;

use super::{
    super::{
        failure::{Exit, Failure},
        order::AgentOrder,
        output::Output,
    },
    report,
};

const EXAMPLES: &str = "\
Examples:
  sealbus quarantine replay mallory --reason 'its reports before the theft were good'
  sealbus quarantine replay mallory --reason 'good reports' --json

If the quorum's keys are in different hands, a draft is written:
  sealbus quarantine replay mallory --reason 'good reports' --out mallory.order
  sealbus order sign mallory.order          by the next holder
  sealbus order submit mallory.order        by anybody

The agent must have been released. Each kept envelope is judged again, by the policy in force and
the time of now; what passes is logged and delivered with a new admission. Readers judge it as they
judge anything: who has no key of then, or read on with the same key, refuses it. Questions and
answers are not delivered, for their other end is gone. Each envelope is delivered at most once.";

/// How often the guard is asked how far it is: its page answers questions and calls nobody.
const EVERY: Duration = Duration::from_millis(250);
/// How often at most: a minute.
const TIMES: u32 = 240;

/// Deliver what was kept of a released agent after all, by an order that a quorum signs
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    order: AgentOrder,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let Some(begun) = args.order.give_or_draft(OrderKind::ReplayEvidence, output)? else { return Ok(()) };
    let name = &args.order.agent;
    for time in 0..TIMES {
        let agents = report::ask(begun.address)?;
        let Some(found) = agents.iter().find(|found| report::is_called(found, name)) else { break };
        let evidence = &found.evidence;
        if evidence.replaying {
            if time % 4 == 3 {
                output.remark(format_args!("{} of the kept envelopes still wait …", evidence.waiting));
            }
            thread::sleep(EVERY);
            continue;
        }
        let object = json!({
            "agent": found.agent, "delivered": evidence.delivered, "refused": evidence.refused,
            "waiting": evidence.waiting, "envelopes": evidence.newest,
        });
        return output.show(&object, report::fates(found));
    }
    let message = format!("the guard has not finished the replay for `{name}` in a minute");
    Err(Failure::told(Exit::Failure, "replay_unfinished", message, "see `sealbus quarantine show`"))
}

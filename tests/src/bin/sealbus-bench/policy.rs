//! A policy decision at 10 to 10,000 rules, what a policy costs to load and to hold, and what the label flow costs
//! the guard.
//!
//! Built with `--features peers`, Cedar decides the same requests under the same policy turn by turn in the
//! same run.

use std::time::Duration;

use crate::{environment::Environment, progress, report::Report};

#[cfg(feature = "peers")]
mod cedar;
mod decisions;
mod fixture;
mod flow;
mod load;

const SIZES: [usize; 4] = [10, 100, 1_000, 10_000];
/// Loading is measured for the largest.
const LARGEST: usize = 10_000;

pub(crate) fn run(budget: Duration) -> Report {
    let mut report = Report::new("policy", Environment::take());
    // First, while the heap is as the system gave it.
    progress::say(&format!("loading {LARGEST} rules"));
    let loading = load::measure(LARGEST, budget / 5);
    let share = budget * 3 / 5 / u32::try_from(SIZES.len()).unwrap_or(u32::MAX);
    for rules in SIZES {
        progress::say(&format!("{rules} rules"));
        decisions::measure(rules, share).into_iter().for_each(|row| report.push(row));
    }
    loading.into_iter().for_each(|row| report.push(row));
    progress::say("parents, floors, flow grants");
    flow::measure(budget / 5).into_iter().for_each(|row| report.push(row));
    report.note(format!(
        "Every decision is an allowed one: all checks are made. Rules come in random order, `rules_in_turn` \
         different ones; what is asked was just written, as a header was just decoded. sealbus: p50_ns and \
         p99_ns are of means over {} decisions on end, single_p99_ns of decisions timed one by one; Cedar's \
         are all timed one by one. The clock's own time is taken off everywhere. resident_kib is by how much \
         the process grew that keeps the result.",
        decisions::BATCH,
    ));
    report.note(format!(
        "sealbus check: everything that the guard checks of one envelope, decoding and signature included; means \
         over {} envelopes of one signature. times_without is the median ratio to envelopes without parents of a \
         sender that read nothing, in the same turn. A rule read is one that the sender was handed a key under.",
        flow::BATCH,
    ));
    report.note(if cfg!(feature = "peers") {
        "Cedar: one policy a rule, `permit (principal in the team, action == publish, resource == the rule)` \
         with subject (`like`), label range, clearance, integrity and size in `when`; policies, entities and \
         requests are made beforehand. `one policy` is given just the policy of the rule that is named, out \
         of a map by name: an application has to know that no other can matter."
    } else {
        "For Cedar beside these, build with `--features peers`."
    });
    report
}

//! What waits for people and comes as fast as programs write.

use super::{
    super::diagnostic::{Code, Finding, Findings},
    View,
};

/// People decide slowly and agents write fast: one sender of such a rule fills its room again as soon as some of it
/// ends, and each envelope costs the guard two waits for the disk.
pub(super) fn lint(view: &View<'_>, findings: &mut Findings) {
    for rule in view.rules().filter(|rule| rule.hold.is_some() && !view.places.has_rate(&rule.name)) {
        let message =
            format!("rule `{}` holds what is sent until people approve it, and gives no rate", rule.name);
        findings.push(
            Finding::error(
                Code::HeldWithoutRate,
                message,
                view.places.rule(&rule.name),
                "at the default rate, which is for programs",
            )
            .warning()
            .help("give it as many as people can look at, such as `rate = { per_second = 1, burst = 10 }`"),
        );
    }
}

//! What the format has room for and this version does not yet enforce.
//!
//! Such a field is refused, not ignored: nobody may believe they are protected by a line that does
//! nothing. When enforcement arrives, its line here goes.

use std::ops::Range;

use super::diagnostic::{Code, Finding, Findings};
use super::source::{At, RawRule, RawTeam};

pub(crate) fn team(raw: &RawTeam, findings: &mut Findings) {
    refuse(
        "quorum",
        place(&raw.quorum),
        "credentials with the issuer's signature alone would be accepted",
        findings,
    );
}

pub(crate) fn rule(raw: &RawRule, findings: &mut Findings) {
    // `durable = false` promises nothing and is what the guard does.
    let on = |switch: &Option<At<bool>>| switch.as_ref().filter(|on| on.value).map(|on| on.span.clone());
    refuse("durable", on(&raw.durable), "envelopes would be lost to readers that are away", findings);
    refuse("evidence", place(&raw.evidence), "no evidence key would be granted", findings);
}

fn place<T>(field: &Option<At<T>>) -> Option<Range<usize>> {
    field.as_ref().map(|field| field.span.clone())
}

fn refuse(field: &str, written: Option<Range<usize>>, otherwise: &str, findings: &mut Findings) {
    let Some(span) = written else { return };
    let message = format!("`{field}` is not enforced yet");
    findings.push(
        Finding::error(Code::NotEnforcedYet, message, span, "has no effect in this version")
            .help(format!("remove it: if it were accepted, {otherwise}")),
    );
}

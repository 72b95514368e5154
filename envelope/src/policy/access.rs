//! Who may publish and who may read: what both clients ask for themselves, so that a guard cannot lie.

use crate::{
    identity::Claims,
    label::Label,
    policy::{Rule, Tables, faults::Faults},
    reason::{Reason, Refused},
    subject::Subject,
};

/// Whether the holder of `claims` may publish on `subject` with `label` under `rule`. What both clients
/// and the guard's reference model ask; the guard's hot path answers the same from compiled tables.
///
/// # Errors
/// In this order: `not_publisher` (or, for a reply to a request, `not_subscriber`), `unknown_team`, `subject_outside_rule`,
/// `label_unknown`, `label_out_of_range`, `above_clearance`, `above_integrity`; but for what `faults` lets pass.
pub fn check_publish(
    tables: &Tables,
    rule: &Rule,
    claims: &Claims,
    subject: &Subject,
    label: Label,
    reply: bool,
    faults: &mut Faults,
) -> Result<(), Refused> {
    if reply {
        rule.subscriber(claims).ok_or(Refused::new(Reason::NotSubscriber, "rule"))?;
    } else if !rule.names_publisher(claims) {
        faults.found(Reason::NotPublisher, "rule")?;
    }
    let team = tables.team(claims.team.as_str()).ok_or(Refused::new(Reason::UnknownTeam, "team"))?;
    if !rule.pattern.matches(subject) {
        return Err(Refused::new(Reason::SubjectOutsideRule, "subject"));
    }
    if !tables.declares(label) {
        return Err(Refused::new(Reason::LabelUnknown, "label"));
    }
    if !rule.labels.contains(label) {
        faults.found(Reason::LabelOutOfRange, "label")?;
    }
    if !claims.clearance.meet(team.clearance).covers(label) {
        return Err(Refused::new(Reason::AboveClearance, "label"));
    }
    if label.integrity > claims.integrity_ceiling.min(team.integrity_ceiling) {
        faults.found(Reason::AboveIntegrity, "label")?;
    }
    Ok(())
}

/// Whether the holder of `claims` may read `label` under `rule`: as a subscriber, or as the asker of a
/// request if `asked`.
///
/// # Errors
/// `not_subscriber` (or `not_publisher`), `above_clearance`.
pub fn check_read(
    tables: &Tables,
    rule: &Rule,
    claims: &Claims,
    label: Label,
    asked: bool,
) -> Result<(), Refused> {
    if asked {
        if !rule.names_publisher(claims) {
            return Err(Refused::new(Reason::NotPublisher, "rule"));
        }
    } else {
        rule.subscriber(claims).ok_or(Refused::new(Reason::NotSubscriber, "rule"))?;
    }
    match tables.effective_clearance(claims) {
        Some(clearance) if clearance.covers(label) => Ok(()),
        _ => Err(Refused::new(Reason::AboveClearance, "label")),
    }
}

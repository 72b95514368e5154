//! Observe mode: which faults of senders pass where the signed policy observes, and which never do.
//!
//! A guard says with the observed bit that it let a fault pass. A reader takes its word only where the quorum's
//! policy observes, and only for what may be observed.

use sealbus_envelope::label::Label;

use crate::{
    Vectors,
    arrivals::arrival,
    file::Vector,
    flow::{Both, delivery},
    scene::{Scene, at, bin, parents, refused, str},
    world::{World, label},
};

/// Admitted in spite of a fault.
fn observed(scene: Scene<'_>) -> Scene<'_> {
    scene.with(|s| s.decision.observed = true)
}

/// On a bus that observes everywhere.
fn everywhere(scene: Scene<'_>) -> Scene<'_> {
    observed(scene).with(|s| s.tables.observe = true)
}

pub(crate) fn make(world: &World, vectors: &mut Vectors) {
    let to_analyst = |from: &str, rule: &str, subject, label| {
        Scene::from_to(world, "observe", from, rule, subject, label, "analyst")
    };
    let plain = label(1, 0b01, 0);
    let note = |own: Label| to_analyst("collector", "notes", "collect.web.raw", own);
    vectors.good(
        "observed",
        delivery(
            &observed(Scene::new(world, "observed")),
            "the observed bit alone: rates and floors are faults that only the guard can see",
        ),
    );
    passes(world, vectors);

    // Without a policy that observes, the bit is a guard's word against the quorum's.
    for (name, code, purpose, scene) in [
        (
            "observed_by_the_guard_alone",
            "not_publisher",
            "the guard claims to observe a rule that does not name the sender; the policy does not",
            to_analyst("collector", "memos", "memo.x", plain),
        ),
        (
            "observed_label_by_the_guard_alone",
            "label_out_of_range",
            "the guard claims to observe a label that the rule does not take; the policy does not",
            note(label(1, 0b10, 0)),
        ),
        (
            "observed_parents_by_the_guard_alone",
            "below_parents",
            "the guard claims to observe a label below a parent's; the policy does not",
            note(plain).set(at::PARENTS, parents(&[([1; 32], label(2, 0b01, 0))])),
        ),
        (
            "observed_flow_grant_by_the_guard_alone",
            "flow_grant_unknown",
            "the guard claims to observe an unknown flow grant; the policy does not",
            note(plain).set(at::FLOW_GRANT, str("nothing")),
        ),
    ] {
        let vector = Vector { expect: refused(code), ..delivery(&observed(scene), purpose) };
        vectors.hostile(name, vector);
    }
    let silent = to_analyst("collector", "watched", "watch.x", plain);
    let silent =
        delivery(&silent, "the policy observes, but the guard does not say that it let a fault pass");
    vectors.hostile("observed_without_the_bit", Vector { expect: refused("not_publisher"), ..silent });

    let mut both = Both(vectors);
    for (name, code, purpose, scene) in [
        (
            "observed_team_unknown",
            "unknown_team",
            "observed or not, the policy has no such team",
            observed(to_analyst("stranger", "watched", "watch.x", plain)),
        ),
        (
            "observed_subject_outside_rule",
            "subject_outside_rule",
            "observed or not, the rule covers other subjects",
            everywhere(to_analyst("collector", "notes", "any.thing", plain)),
        ),
        (
            "observed_label_undeclared",
            "label_unknown",
            "observed or not, the policy does not declare the level",
            everywhere(note(label(3, 0, 0))),
        ),
        (
            "observed_above_clearance",
            "above_clearance",
            "observed or not, the label is above the sender's clearance",
            everywhere(to_analyst("collector", "anything", "any.x", label(2, 0, 0))),
        ),
        (
            "observed_rule_unknown",
            "unknown_rule",
            "observed or not, the policy has no such rule",
            everywhere(to_analyst("collector", "nothing", "collect.x", plain)),
        ),
        (
            "observed_reply_from_no_subscriber",
            "not_subscriber",
            "observed or not, only who may be asked may answer: an answer reads the question",
            everywhere(to_analyst("clerk", "look-up", "ask.look-up", label(1, 0, 0)))
                .set(at::REQUEST, bin(&[9; 32])),
        ),
    ] {
        both.hostile(name, code, purpose, &scene);
    }
    // Nobody reads more because something is observed.
    for (name, code, purpose, scene) in [
        (
            "observed_reader_not_subscriber",
            "not_subscriber",
            "an observed rule does not name the reader",
            observed(Scene::from_to(world, "observe", "collector", "watched", "watch.x", plain, "clerk")),
        ),
        (
            "observed_reader_above_clearance",
            "above_clearance",
            "the reader is not cleared for what an observed sender wrote",
            observed(to_analyst("clerk", "watched", "watch.x", label(2, 0, 0))),
        ),
    ] {
        let vector = Vector { expect: refused(code), ..delivery(&scene, purpose) };
        vectors.hostile(name, vector);
    }
}

fn passes(world: &World, vectors: &mut Vectors) {
    let to_analyst = |from: &str, rule: &str, subject, label| {
        Scene::from_to(world, "observe", from, rule, subject, label, "analyst")
    };
    let plain = label(1, 0b01, 0);
    let secret = [([1; 32], label(2, 0b01, 0))];
    let note = |own: Label| to_analyst("collector", "notes", "collect.web.raw", own);
    let naming = |grant: &str| everywhere(note(plain)).set(at::FLOW_GRANT, str(grant));
    let mut both = Both(vectors);
    for (name, purpose, scene) in [
        (
            "observed_by_rule",
            "an observed rule does not name the sender",
            observed(to_analyst("collector", "watched", "watch.x", plain)),
        ),
        (
            "observed_by_team",
            "a rule does not name the sender, whose team is observed",
            observed(to_analyst("clerk", "notes", "collect.x", plain)),
        ),
        (
            "observed_by_bus",
            "a rule does not name the sender, on a bus that is observed",
            everywhere(to_analyst("collector", "memos", "memo.x", plain)),
        ),
        (
            "observed_label_out_of_range",
            "a compartment that the rule does not take, on a bus that is observed",
            everywhere(note(label(1, 0b10, 0))),
        ),
        (
            "observed_above_integrity",
            "more integrity than the sender may vouch for, on a bus that is observed",
            everywhere(to_analyst("collector", "anything", "any.x", label(1, 0, 2))),
        ),
        (
            "observed_below_parents",
            "a label below a parent's, on a bus that is observed",
            everywhere(note(plain)).set(at::PARENTS, parents(&secret)),
        ),
        (
            "observed_flow_grant_unknown",
            "an unknown flow grant, which lifts nothing, on a bus that is observed",
            naming("nothing").set(at::PARENTS, parents(&secret)),
        ),
        (
            "observed_flow_grant_mismatch",
            "another team's flow grant, on a bus that is observed",
            naming("clerks-only").set(at::PARENTS, parents(&secret)),
        ),
        (
            "observed_flow_grant_expired",
            "a flow grant that is over, on a bus that is observed",
            naming("over").set(at::PARENTS, parents(&secret)),
        ),
        (
            "observed_twice",
            "two faults at once: the first is what the guard records",
            everywhere(to_analyst("collector", "memos", "memo.x", plain)).set(at::PARENTS, parents(&secret)),
        ),
    ] {
        both.good(name, purpose, &scene);
    }
    let kept = Scene::from_to(world, "observe", "clerk", "memos", "memo.x", label(1, 0, 0), "analyst");
    vectors.good(
        "arrival_observed_and_right",
        arrival(&kept, "where all is observed and nothing is wrong, nothing is recorded"),
    );
}

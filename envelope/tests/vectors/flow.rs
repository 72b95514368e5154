//! Labels, parents and flow grants: what information may go where, at a reader and on arrival at a guard.

use sealbus_envelope::label::Label;

use crate::{
    Vectors,
    arrivals::arrival,
    file::Vector,
    scene::{Scene, at, parents, refused, str},
    world::{NAMING_EIGHT, World, label},
};

/// One envelope, delivered and arriving: both sides judge it by the same rules.
pub(crate) struct Both<'v>(pub(crate) &'v mut Vectors);

impl Both<'_> {
    pub(crate) fn good(&mut self, name: &str, purpose: &str, scene: &Scene<'_>) {
        self.0.good(name, delivery(scene, purpose));
        self.0.good(&format!("arrival_{name}"), arrival(scene, purpose));
    }

    pub(crate) fn hostile(&mut self, name: &str, code: &str, purpose: &str, scene: &Scene<'_>) {
        for (name, vector) in [
            (name.to_owned(), delivery(scene, purpose)),
            (format!("arrival_{name}"), arrival(scene, purpose)),
        ] {
            self.0.hostile(&name, Vector { expect: refused(code), ..vector });
        }
    }
}

pub(crate) fn delivery(scene: &Scene<'_>, purpose: &str) -> Vector {
    let admission = scene.admission(&scene.digest()).encode();
    scene.vector(purpose, &scene.envelope(), Some(&admission), refused(""))
}

/// `collector` sends a note with this label, derived from parents with these labels.
fn note<'w>(world: &'w World, own: Label, from: &[Label]) -> Scene<'w> {
    let scene = Scene::from_to(world, "flow", "collector", "notes", "collect.web.raw", own, "analyst");
    let list: Vec<_> = (1..).zip(from).map(|(n, label)| ([n; 32], *label)).collect();
    scene.set(at::PARENTS, parents(&list))
}

pub(crate) fn make(world: &World, vectors: &mut Vectors) {
    let plain = label(1, 0b01, 0);
    let secret = label(2, 0b01, 0);
    let named =
        |grant: &str, own: Label, from: &[Label]| note(world, own, from).set(at::FLOW_GRANT, str(grant));
    without_grant(world, vectors);
    lifted(world, vectors);

    let mut both = Both(vectors);
    both.hostile(
        "flow_grant_unknown",
        "flow_grant_unknown",
        "the policy has no such flow grant, though none is needed",
        &named("nothing", plain, &[]),
    );
    both.hostile(
        "flow_grant_of_another_team",
        "flow_grant_mismatch",
        "a flow grant of another team, though none is needed",
        &named("clerks-only", plain, &[]),
    );
    both.hostile(
        "flow_grant_expired",
        "flow_grant_expired",
        "admitted in the very millisecond in which the flow grant ends",
        &named("over", plain, &[secret]),
    );
    both.hostile(
        "flow_grant_too_large",
        "flow_grant_mismatch",
        "one byte more than the flow grant lets through",
        &named("too-tiny", plain, &[]),
    );
    let elsewhere = |subject| {
        Scene::from_to(world, "flow", "collector", "notes", subject, plain, "analyst")
            .set(at::FLOW_GRANT, str("publish-notes"))
    };
    both.hostile(
        "flow_grant_other_subject",
        "flow_grant_mismatch",
        "a subject that the rule covers and the flow grant does not",
        &elsewhere("collect.mail.raw"),
    );
    both.hostile(
        "flow_grant_subject_too_short",
        "flow_grant_mismatch",
        "the last token of a pattern needs one token at least",
        &elsewhere("collect.web"),
    );
    both.hostile(
        "flow_grant_below_its_step",
        "flow_grant_mismatch",
        "a label without the compartment to which the flow grant leads",
        &named("publish-notes", label(0, 0, 0), &[secret]),
    );
    both.hostile(
        "flow_grant_above_its_integrity",
        "flow_grant_mismatch",
        "a label of more integrity than the flow grant endorses",
        &named("publish-notes", label(1, 0b01, 1), &[secret]),
    );
    both.hostile(
        "flow_grant_too_weak",
        "below_parents",
        "a parent with a compartment that neither the label nor the flow grant has",
        &named("publish-notes", plain, &[label(2, 0b11, 0)]),
    );
    both.hostile(
        "flow_grant_lifts_one_of_two",
        "below_parents",
        "the flow grant lifts the first parent and not the second",
        &named("publish-notes", plain, &[secret, label(1, 0b10, 0)]),
    );
    both.hostile(
        "flow_grant_and_label_joined",
        "below_parents",
        "a parent that only the join of the label and the flow grant's dominates",
        &named("findings", plain, &[label(2, 0b11, 0)]),
    );
    both.hostile(
        "flow_grant_endorses_no_secret",
        "below_parents",
        "the flow grant endorses, but does not lift the parent's level",
        &named("endorse", label(1, 0b01, 1), &[secret]),
    );
}

fn without_grant(world: &World, vectors: &mut Vectors) {
    let mut both = Both(vectors);
    both.good(
        "parents_dominated",
        "every parent's label is below the envelope's, or equal",
        &note(world, label(1, 0b01, 0), &[label(0, 0, 7), label(1, 0b01, 0), label(1, 0, 3)]),
    );
    for (name, purpose, parent) in [
        ("below_parents_level", "a parent has a higher level than the label", label(2, 0b01, 0)),
        ("below_parents_compartment", "a parent has a compartment that the label lacks", label(1, 0b11, 0)),
    ] {
        both.hostile(name, "below_parents", purpose, &note(world, label(1, 0b01, 0), &[parent]));
    }
    both.hostile(
        "below_parents_integrity",
        "below_parents",
        "a label of more integrity than a parent has",
        &note(world, label(1, 0b01, 1), &[label(1, 0b01, 1), label(1, 0b01, 0)]),
    );
}

fn lifted(world: &World, vectors: &mut Vectors) {
    let plain = label(1, 0b01, 0);
    let named =
        |grant: &str, own: Label, from: &[Label]| note(world, own, from).set(at::FLOW_GRANT, str(grant));
    let mut both = Both(vectors);
    both.good(
        "flow_grant",
        "a flow grant lets a note out that derives from a secret",
        &named("publish-notes", plain, &[label(2, 0b01, 0)]),
    );
    both.good(
        "flow_grant_to_its_own_label",
        "the label is the very one to which the flow grant leads",
        &named("publish-notes", label(0, 0b01, 0), &[label(2, 0b01, 0)]),
    );
    both.good(
        "flow_grant_not_needed",
        "a flow grant may be named where the label dominates the parents anyway",
        &named("publish-notes", plain, &[plain]),
    );
    both.good(
        "flow_grant_lifts_some",
        "of two parents the label dominates one and the flow grant lifts the other: neither does both",
        &named("findings", plain, &[label(2, 0b10, 0), plain]),
    );
    both.good(
        "flow_grant_endorses",
        "a flow grant vouches for what came with less integrity",
        &named("endorse", label(1, 0b01, 1), &[plain]),
    );
    let fits = named("just-fit", plain, &[]);
    assert_eq!(fits.envelope().len(), NAMING_EIGHT as usize, "NAMING_EIGHT is the size of this envelope");
    both.good("flow_grant_size_edge", "an envelope as large as the flow grant lets through", &fits);
    let last = named("last", plain, &[label(2, 0b01, 0)]);
    vectors.good(
        "flow_grant_last_millisecond",
        delivery(&last, "read after the flow grant's end, admitted in its last millisecond"),
    );
    let late = arrival(&last, "arrived after the flow grant's end");
    vectors.hostile("arrival_flow_grant_late", Vector { expect: refused("flow_grant_expired"), ..late });
}

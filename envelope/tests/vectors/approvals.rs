//! Deliveries of what was held: a reader counts the approvals itself.

use sealbus_envelope::{
    approval::{Approval, SignedApproval, header},
    hash::Hash,
    identity::BusId,
    time::Millis,
};
use serde_json::json;

use crate::{
    Vectors,
    file::Vector,
    flow::delivery,
    scene::{Scene, at, refused, str},
    world::{NOW, World, key, label},
};

fn signed(bus: BusId, envelope: Hash, approve: bool, by: &str) -> SignedApproval {
    SignedApproval::sign(&Approval { bus, envelope, approve, time: Millis(NOW - 950) }, &key(by))
}

/// With this value of the header; without it if there is none.
fn with(vector: Vector, approvals: Option<&str>) -> Vector {
    let mut input = vector.input.clone();
    if let (Some(approvals), Some(input)) = (approvals, input.as_object_mut()) {
        input.insert("approvals".to_owned(), json!(approvals));
    }
    Vector { input, ..vector }
}

pub(crate) fn make(world: &World, vectors: &mut Vectors) {
    let held =
        Scene::from_to(world, "held", "collector", "orders", "order.pay", label(1, 0b01, 0), "analyst");
    let lifted = Scene::new(world, "approved").set(at::FLOW_GRANT, str("approved"));
    let (bus, digest) = (world.bus(), held.digest());
    let by = |who: &[&str]| header(&who.iter().map(|by| signed(bus, digest, true, by)).collect::<Vec<_>>());
    for (name, purpose, who) in [
        ("held_approved_by_two", "two people of one list approved it", &["ann", "bob"][..]),
        ("held_approved_across_lists", "two people of different lists approved it", &["bob", "eve"]),
        ("held_approved_by_more", "three people approved it where two are needed", &["ann", "bob", "eve"]),
        (
            "held_approved_beside_a_stranger",
            "a third approval is by nobody on the lists: it counts nothing, for another hold may have asked for it",
            &["ann", "stranger", "bob"],
        ),
    ] {
        vectors.good(name, with(delivery(&held, purpose), Some(&by(who))));
    }
    let one = header(&[signed(bus, lifted.digest(), true, "eve")]);
    let purpose = "a flow grant that wants one approval, and has it";
    vectors.good("flow_grant_approved", with(delivery(&lifted, purpose), Some(&one)));

    // The scene that is held, and the status statement revokes this key too.
    let revoked = |who: &str| {
        Scene::from_to(world, "held", "collector", "orders", "order.pay", label(1, 0b01, 0), "analyst")
            .with(|scene| scene.revoked.push(key(who).public().clone()))
    };
    let no = signed(bus, digest, false, "eve");
    let beside = header(&[no, signed(bus, digest, true, "ann"), signed(bus, digest, true, "bob")]);
    let purpose = "two people approved it; the thief of a third one's key said no, and counts nothing";
    vectors
        .good("held_approved_beside_a_revoked_key", with(delivery(&revoked("eve"), purpose), Some(&beside)));
    let other = by(&["ann at home", "bob"]);
    let purpose = "one of a person's two keys is revoked, and she approved it with the other";
    vectors.good("held_approved_with_the_other_key", with(delivery(&revoked("ann"), purpose), Some(&other)));

    let mut hostile = |name: &str, code: &str, purpose: &str, scene: &Scene<'_>, approvals: Option<&str>| {
        let vector = with(delivery(scene, purpose), approvals);
        vectors.hostile(name, Vector { expect: refused(code), ..vector });
    };
    let missing = "approval_missing";
    hostile("held_without_approvals", missing, "the guard let it pass by itself", &held, None);
    hostile("held_approved_by_none", missing, "a header of no approvals", &held, Some(&by(&[])));
    hostile("held_approved_by_one", missing, "one approval where two are needed", &held, Some(&by(&["bob"])));
    hostile(
        "held_approved_twice_by_one_key",
        missing,
        "one approval, twice",
        &held,
        Some(&by(&["bob", "bob"])),
    );
    hostile(
        "held_approved_twice_by_one_person",
        missing,
        "one person approved with both of her keys",
        &held,
        Some(&by(&["ann", "ann at home"])),
    );
    hostile(
        "held_approved_by_strangers",
        missing,
        "good signatures of nobody on the lists",
        &held,
        Some(&by(&["stranger", "thief"])),
    );
    hostile(
        "held_approved_by_a_revoked_key",
        missing,
        "two people of one list approved it, and the status statement revokes the key of one",
        &revoked("bob"),
        Some(&by(&["ann", "bob"])),
    );
    hostile(
        "flow_grant_approved_by_a_revoked_key",
        missing,
        "whose approval the flow grant has, the status statement revokes",
        &Scene::new(world, "approved").set(at::FLOW_GRANT, str("approved")).with(|scene| {
            scene.revoked.push(key("eve").public().clone());
        }),
        Some(&one),
    );
    let mixed = |other: SignedApproval| header(&[signed(bus, digest, true, "ann"), other]);
    let invalid = "approval_invalid";
    hostile(
        "held_approval_of_another",
        invalid,
        "an approval of another envelope",
        &held,
        Some(&mixed(signed(bus, [9; 32], true, "bob"))),
    );
    hostile(
        "held_approval_that_denies",
        invalid,
        "an approver said no",
        &held,
        Some(&mixed(signed(bus, digest, false, "bob"))),
    );
    hostile(
        "held_approval_of_another_bus",
        "wrong_bus",
        "an approval given on another bus",
        &held,
        Some(&mixed(signed(BusId::from_bytes([9; 32]), digest, true, "bob"))),
    );
    let mut bent = by(&["ann", "bob"]);
    bent.replace_range(bent.len() - 4..bent.len() - 2, "AA");
    hostile("held_approval_bent", invalid, "a byte of the last signature is another", &held, Some(&bent));
    hostile("held_approval_not_base64url", invalid, "no base64url", &held, Some("+/=="));
    let many = by(&["bob"; 17]);
    hostile("held_approvals_too_many", "too_large", "seventeen approvals", &held, Some(&many));
    let long = "A".repeat(5_463);
    hostile("held_approvals_too_long", "too_large", "a header of one character too many", &held, Some(&long));
    let both =
        Scene::from_to(world, "held", "collector", "orders", "order.pay", label(1, 0b01, 0), "analyst")
            .set(at::FLOW_GRANT, str("approved"));
    hostile(
        "held_with_an_unusable_grant",
        "flow_grant_mismatch",
        "approved by two, and the flow grant is for other subjects",
        &both,
        Some(&by(&["ann", "bob"])),
    );
    hostile("flow_grant_unapproved", missing, "a flow grant that wants an approval", &lifted, None);
}

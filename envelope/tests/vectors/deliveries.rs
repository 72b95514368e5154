//! Deliveries that a reader opens.

use sealbus_envelope::{hash::Hash, keys::SenderKey, proof::admission, subject::WireSubjects};
use serde_json::json;
use zeroize::Zeroizing;

use crate::{
    Vectors,
    scene::{Scene, at, bin, content, parents, plaintext, str, uint},
    world::{DAY, NOW, World, label, secret},
};

fn put(vectors: &mut Vectors, name: &str, purpose: &str, scene: &Scene<'_>) {
    let admission = scene.admission(&scene.digest()).encode();
    vectors.good(name, scene.vector(purpose, &scene.envelope(), Some(&admission), json!(null)));
}

pub(crate) fn make(world: &World, vectors: &mut Vectors) {
    let scene = |name: &str| Scene::new(world, name);
    put(vectors, "plain", "the plainest message: a tree of one, no parents", &scene("plain"));
    put(
        vectors,
        "empty_payload",
        "a payload of no bytes and a content type of none",
        &scene("empty").with(|s| s.plaintext = plaintext(&content("", None, b""))),
    );
    put(
        vectors,
        "traced",
        "content type and trace context travel inside the ciphertext",
        &scene("traced").with(|s| {
            let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
            s.plaintext = plaintext(&content("application/json", Some(trace), br#"{"a":1}"#));
        }),
    );
    for (name, length) in [("payload_255", 255), ("payload_256", 256), ("payload_70000", 70_000)] {
        put(
            vectors,
            name,
            "payload sizes at which the length form and the padding change",
            &scene(name).with(|s| s.plaintext = plaintext(&content("a/b", None, &vec![7; length]))),
        );
    }
    put(
        vectors,
        "batch_first_of_two",
        "the first leaf of a tree of two",
        &scene("batch 2").with(|s| s.after = 1),
    );
    put(
        vectors,
        "batch_last_of_seven",
        "the last leaf of an unbalanced tree: its path is shorter than the others'",
        &scene("batch 7").with(|s| s.before = 6),
    );
    put(
        vectors,
        "batch_of_256",
        "the largest batch: a path of eight hashes",
        &scene("batch 256").with(|s| (s.before, s.after) = (200, 55)),
    );
    put(
        vectors,
        "confirm_flag",
        "the sender wants the guard's verdict; readers do nothing about it",
        &scene("confirm").set(at::FLAGS, uint(1)),
    );
    let two: Vec<(Hash, _)> = vec![([1; 32], label(0, 0, 7)), ([2; 32], label(1, 0b01, 0))];
    put(
        vectors,
        "two_parents",
        "two parents in ascending order of digest, with their labels",
        &scene("parents").set(at::PARENTS, parents(&two)),
    );
    let many: Vec<_> = (0..=255u8).map(|n| ([n; 32], label(n % 2, u64::from(n % 2), n % 8))).collect();
    put(
        vectors,
        "256_parents",
        "as many parents as an envelope may name",
        &scene("many parents").set(at::PARENTS, parents(&many)),
    );
    put(
        vectors,
        "sequence_first",
        "sequence number 0",
        &scene("first").with(|s| {
            s.sequence = 0;
            s.read = vec![1, 2];
            s.header[at::SEQUENCE] = uint(0);
        }),
    );
    put(
        vectors,
        "sequence_last",
        "the highest sequence number there is",
        &scene("last").with(|s| {
            s.sequence = u64::MAX;
            s.header[at::SEQUENCE] = uint(u64::MAX);
        }),
    );
    put(
        vectors,
        "replay_window_edge",
        "the oldest sequence number that the window still knows",
        &scene("edge").with(|s| s.read = vec![7 + 1023]),
    );
    put(
        vectors,
        "out_of_order",
        "an earlier number that was not read yet, inside the window",
        &scene("order").with(|s| s.read = vec![6, 8, 9]),
    );
    put(
        vectors,
        "age_edge",
        "time-to-live and skew are used up to the last millisecond",
        &scene("age").with(|s| s.now = NOW - 900 + 60_000 + 30_000),
    );
    put(
        vectors,
        "clock_behind",
        "the reader's clock is behind the guard's by as much as it may be",
        &scene("behind").with(|s| s.now = NOW - 900 - 30_000),
    );
    put(
        vectors,
        "held",
        "the guard held the message for a day: age counts from the admission, not from the sealing",
        &scene("held").set(at::ISSUED, uint(NOW - DAY / 2)),
    );
    put(
        vectors,
        "session_over_since",
        "the sender's session ended after the admission and before the reading",
        &scene("over").with(|s| {
            s.now = NOW + DAY;
            s.header[at::TTL] = uint(2 * DAY);
        }),
    );
    put(
        vectors,
        "policy_replaced_within_grace",
        "admitted under version 3 thirty seconds after version 4 came into force",
        &scene("grace").with(|s| s.policies.push((4, secret("policy 4"), NOW - 900 - 30_000))),
    );
    put(
        vectors,
        "epoch_equal",
        "a lease epoch equal to the highest seen",
        &scene("epoch")
            .with(|s| s.epochs = vec![(s.decision.partition, 2), ((s.decision.partition + 1) % 64, 9)]),
    );
    put(
        vectors,
        "request",
        "a request arrives in the responder's own box",
        &Scene::from_to(world, "request", "collector", "review", "ask.review", label(1, 0, 0), "analyst")
            .with(|s| {
                s.subject = WireSubjects::default().session_box(s.me.token(), &s.me.session(), "request");
            }),
    );
    put(
        vectors,
        "reply",
        "the reply to a request that this reader has open",
        &Scene::from_to(world, "reply", "collector", "look-up", "ask.look-up", label(1, 0, 0), "analyst")
            .with(|s| {
                s.header[at::REQUEST] = bin(&[9; 32]);
                s.asked = vec![[9; 32]];
                s.subject = WireSubjects::default().session_box(s.me.token(), &s.me.session(), "reply");
            }),
    );
    put(
        vectors,
        "named_publisher",
        "a rule may name one agent instead of a team",
        &Scene::from_to(world, "named", "gatherer", "named", "named.x", label(0, 0, 0), "analyst"),
    );
    put(
        vectors,
        "later_epoch_of_the_key",
        "a key that was rotated three times",
        &scene("rotated").with(|s| {
            let mut scope = s.key.scope().clone();
            scope.epoch = 3;
            s.key = SenderKey::new(Zeroizing::new(s.secret), scope);
            s.header[at::KEY] = bin(s.key.id().as_bytes());
        }),
    );
    put(
        vectors,
        "longest_subject",
        "a subject of 200 bytes",
        &scene("long").with(|s| {
            let subject = format!("collect.{}", "x".repeat(192));
            s.header[at::SUBJECT] = str(&subject);
            s.subject =
                WireSubjects::default().delivery(sealbus_envelope::label::Level::new(1).unwrap(), &subject);
        }),
    );

    // A guard's batch: the admission of one envelope among others.
    let scene = Scene::new(world, "admission batch");
    let digest = scene.digest();
    let others = (0..5u8).map(|n| ([n; 32], scene.decision));
    let decisions: Vec<_> = others.chain([(digest, scene.decision)]).collect();
    let admission = admission::sign(&scene.guard, world.bus(), &decisions).pop().unwrap();
    vectors.good(
        "admission_in_a_batch",
        scene.vector(
            "the guard signed six decisions at once",
            &scene.envelope(),
            Some(&admission.encode()),
            json!(null),
        ),
    );
}

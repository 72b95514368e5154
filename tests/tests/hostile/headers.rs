//! Attacks on the guard as a confused deputy: NATS headers and reply subjects that act on streams, or that
//! would make it write where the agent may not.

use sealbus_envelope::{
    control::{self, DeniedNotice, kind, verb},
    proof::admission::HEADER_NAME,
};
use sealbus_tests::hostile::{
    arena::{Arena, By, report},
    server::{HostileServer, admission_of},
};

/// What JetStream obeys in headers, and the guard's own.
const HEADERS: [&str; 11] = [
    "Nats-Rollup: all",
    "Nats-Rollup: sub",
    "Nats-TTL: 1s",
    "Nats-Expected-Last-Sequence: 0",
    "Nats-Msg-Id: 1",
    "Nats-Schedule: @every 1s",
    "Nats-Schedule-Target: sb.out.0.tips.a",
    "Nats-Schedule-TTL: 1s",
    "Nats-Marker-Reason: Purge",
    "Nats-Batch-Id: x",
    "Sealbus-Admission: forged",
];

/// Nothing of an agent's headers or reply subject survives the guard.
#[tokio::test(flavor = "multi_thread")]
async fn the_guard_follows_no_header_and_no_reply_subject() {
    let mut arena = Arena::open().await;
    let mut all = HostileServer::enter(&mut arena.bus).await.raw;
    all.subscribe(">", None).await.unwrap();
    let (mut mallory, mut key) = arena.publisher().await;
    let victim = arena.attacker().await;
    let wire = mallory.wire().clone();
    let ingress = wire.ingress(&mallory.token(), "tips.a");
    let foreign_box = wire.session_box(&victim.token(), &victim.papers.session(), kind::GRANT);

    for header in HEADERS {
        let envelope = mallory.envelope(&mut key, "tips.a", b"with a header");
        let block = format!("NATS/1.0\r\n{header}\r\n\r\n");
        mallory
            .raw
            .publish_bytes(&ingress, Some("$JS.API.STREAM.DELETE.X"), &block, &envelope)
            .await
            .unwrap();
        let delivered = arena.delivered().await;
        let [delivery] = delivered.as_slice() else { panic!("{header}: {delivered:?}") };
        assert_eq!(delivery.payload, envelope);
        let head = String::from_utf8(delivery.headers.to_vec()).unwrap();
        let lines: Vec<_> = head.trim_end().lines().skip(1).collect();
        assert!(matches!(lines.as_slice(), [only] if only.starts_with(HEADER_NAME)), "{header}: {head}");
        assert_ne!(admission_of(delivery), "forged");
        assert_eq!(delivery.reply, None);
        report(&format!("header `{header}` on ingress is not passed on"), By::Guard, "ignored");
    }
    for (attack, reply) in [
        ("reply subject that deletes a stream", "$JS.API.STREAM.DELETE.X".to_owned()),
        (
            "reply subject that is a delivery",
            wire.delivery(sealbus_envelope::label::Level::HIGHEST, "secrets.a"),
        ),
        ("reply subject that is another's box", foreign_box.clone()),
        ("reply subject that is an event", wire.event("quarantine")),
    ] {
        // Refused, accepted, and for the guard's ear: none of the three is answered where it says.
        let envelope = mallory.envelope(&mut key, "tips.a", b"answer there");
        mallory.raw.publish_bytes(&ingress, Some(&reply), "", b"junk").await.unwrap();
        mallory.raw.publish_bytes(&ingress, Some(&reply), "", &envelope).await.unwrap();
        let ctl = wire.control(&mallory.token(), &mallory.papers.session(), verb::WANT);
        mallory.raw.publish_bytes(&ctl, Some(&reply), "", b"junk").await.unwrap();
        let notice: DeniedNotice = control::decode(&mallory.told(kind::DENIED).await).unwrap();
        let other: DeniedNotice = control::decode(&mallory.told(kind::DENIED).await).unwrap();
        let mut subjects = [notice.subject, other.subject];
        subjects.sort();
        assert_eq!(
            subjects,
            ["tips.a".to_owned(), verb::WANT.to_owned()],
            "both denials are told in its own box"
        );
        assert_eq!(arena.delivered().await.len(), 1, "the honest one of the three is delivered");
        let wrong: Vec<_> = all.arrived().await.unwrap().into_iter().filter(|m| m.subject == reply).collect();
        assert!(wrong.is_empty(), "{attack}: {wrong:?}");
        report(attack, By::Guard, "never followed");
    }
    assert!(arena.watch.said("quarantine", &mallory.token()).is_empty());
    arena.close().await;
}

//! The life of a policy on a real server: published, taken up while messages flow, enforced on live connections,
//! and everything that somebody with the publisher's login, or the guard's disk, might offer instead.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;

use sealbus_client::{Client, ErrorKind};
use sealbus_envelope::{
    control::{self, Welcome, kind},
    identity::{Purpose, Roots, SigningKey},
    policy::{Bundle, BundleHead},
    reason::Reason,
};
use sealbus_guard::{
    bus::bucket::{Bucket, Stored},
    http::StatusReport,
    keyfile,
};
use sealbus_tests::{
    bus::{TestBus, soon},
    hostile::{
        arena::{Arena, By, POLICY, report},
        hand::Hand,
        papers::fresh_key,
        watch::{page, page_that, status},
    },
    raw::{RawClient, nkey},
    server::ServerSpec,
};
use serde_json::Value;

fn streams() -> ServerSpec {
    ServerSpec { jetstream: true, ..ServerSpec::default() }
}

/// An arena whose policies need two of three signatures, and its bucket.
async fn arena() -> (Arena, Bucket) {
    let mut bus = TestBus::prepare_quorum(POLICY, streams(), 3, 2).await;
    bus.start_guard().await;
    let bucket = bus.bucket().await;
    (Arena::around(bus).await, bucket)
}

/// Another policy that says the same, but for one rate.
fn harmless(round: usize) -> String {
    POLICY.replace("per_second = 20, burst = 500", &format!("per_second = {}, burst = 500", 20 + round))
}

/// Without the mob on `tips`.
fn without_tips() -> String {
    let begin = POLICY.find("[rules.tips]").unwrap();
    let (before, rest) = POLICY.split_at(begin);
    format!("{before}{}", rest.replacen("\"mob\"", "\"vault\"", 1))
}

/// Without anybody in the mob.
fn without_mob() -> String {
    let text = POLICY.replace("publishers  = [\"mob\"]", "publishers  = [\"vault\"]");
    text.replace(
        "[teams.mob]\nclearance = { level = \"high\", compartments = [\"red\"] }\nintegrity = \"checked\"\n",
        "",
    )
}

/// Publishes as `sealbus policy publish` does.
async fn publish(bucket: &Bucket, version: u64, bytes: &[u8]) {
    let seen = bucket.get(version).await.unwrap().map_or(0, |stored| stored.revision);
    bucket.put(version, bytes, seen).await.unwrap();
    bucket.set_current(version).await.unwrap();
    assert_eq!(bucket.get(version).await.unwrap().unwrap().bytes.unwrap(), bytes, "read back");
}

fn is_kind(event: &Value, kind: &str) -> bool {
    event.get("kind") == Some(&kind.into())
}

async fn in_force(arena: &mut Arena, version: u64) {
    let to = format!(" to {version}");
    let changed = |event: &Value| {
        let detail = event.get("detail").and_then(Value::as_str).unwrap_or_default();
        is_kind(event, "changed") && detail.starts_with("bundle") && detail.ends_with(&to)
    };
    arena.watch.event(&format!("version {version}"), changed).await;
}

async fn refused(arena: &mut Arena, attack: &str, reason: Reason) {
    let wanted = |event: &Value| {
        is_kind(event, "change_refused") && event.get("reason") == Some(&reason.code().into())
    };
    arena.watch.event(attack, wanted).await;
    arena.came_to_nothing(attack).await;
    report(attack, By::Guard, reason.code());
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_policies_come_into_force_and_nothing_is_lost() {
    let (mut arena, bucket) = arena().await;
    for round in 1..=10 {
        let bytes = arena.bus.next_policy(&harmless(round));
        let version = arena.bus.policy_version();
        publish(&bucket, version, &bytes).await;
        in_force(&mut arena, version).await;
        // Who stays connected gets its part of the new policy, with its proofs.
        let welcome: Welcome = control::decode(&arena.canary.told(kind::WELCOME).await).unwrap();
        let (head, ..) = welcome.policy.verify(arena.bus.roots()).unwrap();
        assert_eq!(head.fields().version, version);
        arena.came_to_nothing("a new policy").await;
    }
    let report = status(&arena.bus, "the status", |report| report.policy_version == 11).await;
    assert_eq!(report.sessions.len(), 4, "nobody was disconnected: {:?}", report.sessions);
    assert!(!arena.bus.metrics().render().contains("connections_total{outcome=\"kicked\"}"));
    assert_eq!(bucket.current().await.unwrap(), Some(11));
    arena.close().await;
}

/// Rules for a thousand subjects: larger than a message, and than the server's limit for one.
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_larger_than_a_message_is_published_in_parts() {
    let (mut arena, bucket) = arena().await;
    let mut large = POLICY.to_owned();
    for n in 0..9_500 {
        // One pattern for all: the subjects that one team may use have a limit.
        writeln!(
            large,
            "[rules.large-{n}]\npattern = \"large.a-long-subject-that-takes-some-room-in-each-of-so-many-records.>\"\npublishers = [\"worker\"]\nsubscribers = [\"worker\"]\n\
             labels = {{ level = \"low\" }}"
        )
        .unwrap();
    }
    let bytes = arena.bus.next_policy(&large);
    assert!(bytes.len() > 1 << 20, "{}", bytes.len());
    publish(&bucket, 2, &bytes).await;
    in_force(&mut arena, 2).await;
    arena.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lost_a_right_loses_it_at_once_and_the_rest_stay_connected() {
    let (mut arena, bucket) = arena().await;
    let credentials = arena.mobster();
    let mut mallory = Hand::join(&credentials).await;
    let bytes = arena.bus.next_policy(&without_tips());
    publish(&bucket, 2, &bytes).await;
    in_force(&mut arena, 2).await;
    // Its connection is cut, so that the server forgets what it was allowed.
    soon("the connection to be cut", mallory.raw.closed()).await;
    let mut back = Hand::join(&credentials).await;
    let subject = back.wire().ingress(&back.token(), "tips.late");
    let outcome = back.raw.publish_bytes(&subject, None, "", b"x").await;
    arena.server_refused("publish under a rule that is gone", outcome).await;

    // A team that is gone is out, and cannot come back.
    let bytes = arena.bus.next_policy(&without_mob());
    publish(&bucket, 3, &bytes).await;
    in_force(&mut arena, 3).await;
    soon("the agent to be cut", back.raw.closed()).await;
    let gone = |report: &StatusReport| {
        report.policy_version == 3 && report.sessions.iter().all(|session| session.team != "mob")
    };
    status(&arena.bus, "the mob to be gone", gone).await;
    arena.came_to_nothing("after the mob is gone").await;
    arena.close().await;
}

/// The bundle with other signatures.
fn resigned(bytes: &[u8], roots: &Roots, signers: &[&SigningKey]) -> Vec<u8> {
    let bundle = Bundle::verify(bytes, roots).unwrap();
    let body = bundle.head().fields().encode();
    let signatures: Vec<_> =
        signers.iter().map(|key| (key.public().clone(), key.sign(Purpose::Bundle, &body))).collect();
    let head = BundleHead::assemble(bundle.head().fields(), &signatures);
    // The head is the first of the bundle's parts, written with its length before it.
    let old = bundle.head().as_bytes();
    let at = bytes.windows(old.len()).position(|window| window == old).unwrap();
    let mut w = sealbus_envelope::wire::codec::Writer::with_capacity(64);
    w.bin(&head);
    let mut out = bytes.get(..1).unwrap().to_vec();
    out.extend(w.into_bytes());
    out.extend(bytes.get(at + old.len()..).unwrap());
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_holds_the_publishers_login_cannot_make_a_policy() {
    let (mut arena, bucket) = arena().await;
    let first = std::fs::read(&arena.bus.config().policy).unwrap();
    let good = arena.bus.next_policy(&harmless(1));
    publish(&bucket, 2, &good).await;
    in_force(&mut arena, 2).await;

    let roots = arena.bus.roots().clone();
    let next = arena.bus.signed(&harmless(2), 3, &roots, &arena.bus.quorum());
    let keys: Vec<SigningKey> =
        arena.bus.policy_keys().iter().map(|key| SigningKey::from_seed(&key.to_seed())).collect();
    let (one, two) = (keys.first().unwrap(), keys.get(1).unwrap());
    let thief = fresh_key();
    let attacks = [
        ("publish a policy that nobody signed", resigned(&next, &roots, &[])),
        ("publish a policy one signature short", resigned(&next, &roots, &[one])),
        ("publish a policy that one key signed twice", resigned(&next, &roots, &[one, one])),
        ("publish a policy signed by a key that is no policy key", resigned(&next, &roots, &[one, &thief])),
        ("publish text for a policy", b"levels = []".to_vec()),
    ];
    for (attack, bytes) in attacks {
        let reason = Bundle::verify(&bytes, &roots).unwrap_err().reason;
        publish(&bucket, 3, &bytes).await;
        refused(&mut arena, attack, reason).await;
    }
    // Signed, but not this one: an old policy under a new number.
    publish(&bucket, 3, &first).await;
    refused(&mut arena, "publish an old policy under a new number", Reason::RolledBack).await;
    // A number without a policy, and a policy that is only half there.
    bucket.set_current(7).await.unwrap();
    refused(&mut arena, "publish a number without a policy", Reason::PolicyInvalid).await;
    // Back to before.
    bucket.set_current(1).await.unwrap();
    refused(&mut arena, "roll the bucket back", Reason::RolledBack).await;
    // What is in force, replaced where it was published.
    let Stored { revision, .. } = bucket.get(2).await.unwrap().unwrap();
    bucket.put(2, &resigned(&good, &roots, &[one]), revision).await.unwrap();
    refused(&mut arena, "replace a published policy", Reason::PolicyInvalid).await;

    let metrics = arena.bus.metrics().render();
    for reason in ["policy_invalid", "rolled_back"] {
        assert!(metrics.contains(&format!("changes_refused_total{{reason=\"{reason}\"}}")), "{metrics}");
    }
    status(&arena.bus, "the second policy", |report| report.policy_version == 2).await;

    // The quorum is still heard, whatever was done to the bucket.
    let good = resigned(&next, &roots, &[two, one]);
    publish(&bucket, 3, &good).await;
    in_force(&mut arena, 3).await;
    arena.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_publishers_login_may_ask_for_nothing_but_the_bucket() {
    let mut bus = TestBus::start_with(POLICY, streams()).await;
    let address = bus.server().address();
    let mut raw = RawClient::connect(&address, nkey(&bus.server().keys().publisher)).await.unwrap();
    for subject in [
        "$JS.API.INFO",
        "$JS.API.STREAM.CREATE.X",
        "$JS.API.STREAM.CREATE.KV_sealbus_policy",
        "$JS.API.STREAM.UPDATE.KV_sealbus_policy",
        "$JS.API.STREAM.DELETE.KV_sealbus_policy",
        "$JS.API.STREAM.PURGE.KV_sealbus_policy",
        "$JS.API.STREAM.MSG.DELETE.KV_sealbus_policy",
        "$JS.API.STREAM.MSG.GET.KV_other",
        "$JS.API.CONSUMER.CREATE.KV_sealbus_policy",
        "$JS.API.DIRECT.GET.KV_sealbus_policy",
        "$KV.sealbus_policy.other",
        "$KV.other.x",
        "sb.in.0.agent.x",
        "sb.out.0.tips.x",
        "sb.events.x",
        "_INBOX_sealbus.x",
    ] {
        assert!(raw.publish(subject, "{}").await.is_err(), "{subject}");
    }
    for subject in [">", "$KV.>", "$JS.>", "sb.>", "_INBOX_sealbus.>", "$SYS.>"] {
        assert!(raw.subscribe(subject, None).await.is_err(), "{subject}");
    }
    // And the guard, which made it, cannot delete it either.
    let mut guard = RawClient::connect(&address, nkey(&bus.server().keys().guard)).await.unwrap();
    for subject in [
        "$JS.API.STREAM.DELETE.KV_sealbus_policy",
        "$JS.API.STREAM.PURGE.KV_sealbus_policy",
        "$JS.API.STREAM.CREATE.X",
    ] {
        assert!(guard.publish(subject, "{}").await.is_err(), "{subject}");
    }
}

/// The guard's own copy, its file and the bucket: the highest that is good.
#[tokio::test(flavor = "multi_thread")]
async fn a_guard_that_starts_takes_the_highest_policy_that_is_good() {
    let mut bus = TestBus::prepare_quorum(POLICY, streams(), 3, 2).await;
    bus.start_guard().await;
    let bucket = bus.bucket().await;
    let second = bus.next_policy(&harmless(1));
    publish(&bucket, 2, &second).await;
    status(&bus, "the second policy", |report| report.policy_version == 2).await;

    // The file is at version 1, and the bucket goes back to nothing good: its own copy holds.
    bus.stop_guard().await;
    bucket.set_current(9).await.unwrap();
    bus.start_guard().await;
    status(&bus, "its own copy", |report| report.policy_version == 2).await;

    // Published while no guard ran.
    bus.stop_guard().await;
    let third = bus.next_policy(&harmless(2));
    publish(&bucket, 3, &third).await;
    bus.start_guard().await;
    status(&bus, "the bucket", |report| report.policy_version == 3).await;

    // Put into its file while no guard ran.
    bus.stop_guard().await;
    bus.write_policy(&harmless(3));
    bus.start_guard().await;
    status(&bus, "the file", |report| report.policy_version == 4).await;

    // Without its copies only what is not lower than it ever had will do.
    bus.stop_guard().await;
    std::fs::remove_dir_all(bus.config().state_dir.join("policies")).unwrap();
    keyfile::replace_public(&bus.config().policy, &second).unwrap();
    let error = bus.try_start_guard().await.unwrap_err();
    assert!(error.to_string().contains("version 4 is in force"), "{error}");
}

/// A guard without a valid policy admits nothing, says so, and goes on when there is one.
#[tokio::test(flavor = "multi_thread")]
async fn a_guard_without_a_policy_waits_for_one_and_says_so() {
    let mut bus = TestBus::prepare_quorum(POLICY, streams(), 3, 2).await;
    let good = std::fs::read(&bus.config().policy).unwrap();
    let short = resigned(&good, bus.roots(), &[bus.policy_keys().first().unwrap()]);
    keyfile::replace_public(&bus.config().policy, &short).unwrap();
    bus.start_waiting_guard();
    let said = page_that(&bus, "/readyz", |code, _| code == 503).await;
    assert!(said.contains("no valid policy"), "{said}");
    assert_eq!(page(&bus, "/healthz").await.0, 200);
    // Nobody gets in: there is nobody to answer the server.
    let agent = bus.agent("alice", "honest");
    let error = Client::connect(agent.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::GuardUnavailable, "{error}");

    keyfile::replace_public(&bus.config().policy, &good).unwrap();
    page_that(&bus, "/readyz", |code, _| code == 200).await;
    let client = Client::connect(agent).await.unwrap();
    client.publish_confirmed("honest.a", "at last").await.unwrap();
    client.close().await.unwrap();
    bus.stop_guard().await;
}

//! Attacks on what is in force: old, unsigned or half-signed policy and status in the guard's files.

use sealbus_envelope::{
    identity::Roots,
    policy::{Bundle, BundleHead},
    reason::Reason,
    wire::codec::Writer,
};
use sealbus_guard::{
    clock, keyfile,
    policy::{self, bundle::ServiceKeys, source::PolicySource},
};
use sealbus_tests::{
    bus::TestBus,
    hostile::{
        arena::{Arena, By, POLICY, report},
        hand::Hand,
        papers::fresh_key,
        watch::status,
    },
};

/// A policy that lets the mob read everything.
fn greedy() -> String {
    POLICY.replace(r#"subscribers = ["canary"]"#, r#"subscribers = ["canary", "mob"]"#).replace(
        "[teams.mob]\nclearance = { level = \"high\", compartments = [\"red\"] }",
        "[teams.mob]\nclearance = { level = \"high\", compartments = [\"red\", \"blue\"] }",
    )
}

async fn change_refused(arena: &mut Arena, attack: &str) {
    arena.watch.event(attack, |event| event.get("kind") == Some(&"change_refused".into())).await;
    arena.came_to_nothing(attack).await;
}

async fn changed(arena: &mut Arena, what: &str) {
    arena
        .watch
        .event(what, |event| {
            event.get("kind") == Some(&"changed".into())
                && event.get("detail").and_then(|detail| detail.as_str()).is_some_and(|d| d.starts_with(what))
        })
        .await;
}

/// Whoever can write the guard's files cannot write its policy.
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_the_quorum_did_not_sign_never_comes_into_force() {
    let mut arena = Arena::open().await;
    let path = arena.bus.config().policy.clone();
    let first = std::fs::read(&path).unwrap();
    arena.bus.write_policy(POLICY);
    changed(&mut arena, "bundle").await;
    let second = std::fs::read(&path).unwrap();

    keyfile::replace_public(&path, &first).unwrap();
    change_refused(&mut arena, "roll the policy back").await;
    report("roll the policy back in the guard's file", By::Guard, Reason::RolledBack.code());

    // Signed by a key that is no policy key, for this very bus.
    let thief = fresh_key();
    let roots = Roots { policy_keys: vec![thief.public().clone()], ..arena.bus.roots().clone() };
    let checked = policy::check(&PolicySource::new("greedy.toml", greedy())).unwrap();
    let keys =
        ServiceKeys { status: thief.public().clone(), guards: vec![arena.bus.guard_key().public().clone()] };
    let stolen = policy::bundle::sign(&checked.policy, &keys, 9, clock::now(), &[&thief], &roots).unwrap();
    keyfile::replace_public(&path, &stolen.encode()).unwrap();
    change_refused(&mut arena, "sign the policy with a key of one's own").await;
    report("sign the policy with a key that is no policy key", By::Guard, Reason::PolicyInvalid.code());

    // No signature at all: one short of the quorum.
    let assembled = |signatures: &[_]| {
        let head = BundleHead::assemble(stolen.head().fields(), signatures);
        let mut w = Writer::with_capacity(4096);
        w.array(3).bin(&head).bin(&stolen.tables().encode()).array(stolen.rules().len());
        for rule in stolen.rules() {
            w.bin(&rule.encode());
        }
        w.into_bytes()
    };
    keyfile::replace_public(&path, &assembled(&[])).unwrap();
    change_refused(&mut arena, "a policy one signature short").await;
    report("put a policy one signature short of the quorum", By::Guard, Reason::PolicyInvalid.code());

    // The quorum's signature over other rules.
    let signed = Bundle::verify(&second, arena.bus.roots()).unwrap();
    let mut w = Writer::with_capacity(4096);
    w.array(3).bin(signed.head().as_bytes()).bin(&stolen.tables().encode()).array(stolen.rules().len());
    for rule in stolen.rules() {
        w.bin(&rule.encode());
    }
    keyfile::replace_public(&path, &w.into_bytes()).unwrap();
    change_refused(&mut arena, "the quorum's signature over other rules").await;
    report("put other rules under the quorum's signature", By::Guard, Reason::PolicyInvalid.code());

    keyfile::replace_public(&path, b"levels = []").unwrap();
    change_refused(&mut arena, "text for a bundle").await;
    report("put text where the bundle belongs", By::Guard, Reason::BadEncoding.code());

    std::fs::remove_file(&path).unwrap();
    change_refused(&mut arena, "no policy at all").await;
    report("delete the policy's file", By::Guard, Reason::NoPolicy.code());

    let report = status(&arena.bus, "the status", |report| report.policy_version == 2).await;
    assert_eq!(report.policy_version, 2, "the second policy is in force throughout");
    let mut mallory = arena.attacker().await;
    assert_eq!(mallory.declare("tips", "tips.>", false).await, Some(Reason::NotSubscriber));
    keyfile::replace_public(&path, &second).unwrap();
    arena.close().await;
}

/// Nobody is un-revoked by an old statement, not even over a restart of the guard.
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_cannot_be_taken_back() {
    let mut arena = Arena::open().await;
    let path = arena.bus.config().status.clone();
    let before = std::fs::read(&path).unwrap();
    let credentials = arena.mobster();
    let mut revoked = Hand::join(&credentials).await;
    arena.bus.revoke(&credentials);
    changed(&mut arena, "status").await;
    revoked.raw.closed().await;
    let after = std::fs::read(&path).unwrap();

    keyfile::replace_public(&path, &before).unwrap();
    change_refused(&mut arena, "roll the status back").await;
    report("roll the status statement back", By::Guard, Reason::RolledBack.code());
    let lobby = Hand::connect(sealbus_tests::hostile::papers::Papers::new(&credentials), &credentials).await;
    let mut lobby = lobby.unwrap();
    let hello = lobby.wire().control(&lobby.token(), &lobby.papers.session(), "hello");
    let outcome = lobby.raw.publish_bytes(&hello, None, "", b"").await;
    arena.server_refused("come back after a revocation", outcome).await;

    // A guard that starts with the old statement does not start.
    arena.bus.stop_guard().await;
    let refused = arena.bus.try_start_guard().await.unwrap_err();
    assert!(refused.to_string().contains("version"), "{refused}");
    report("start the guard with an old status statement", By::Guard, Reason::RolledBack.code());
    keyfile::replace_public(&path, &after).unwrap();
    arena.bus.start_guard().await;
    arena.greet_again().await;
    arena.came_to_nothing("a restart with an old statement").await;
    arena.close_after_outage().await;
}

/// Whoever slipped in while no guard looked is found when one starts.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_no_guard_let_in_is_cut_at_the_guards_start() {
    let mut bus = TestBus::prepare(POLICY, sealbus_tests::server::ServerSpec::default()).await;
    let mut intruder = sealbus_tests::hostile::server::HostileServer::enter_unwatched(&mut bus).await;
    bus.start_guard().await;
    sealbus_tests::bus::soon("the intruder to be cut", intruder.raw.closed()).await;
    report("get in while no guard runs", By::Guard, "cut at its start");
}

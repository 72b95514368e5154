//! Reader keys and box keys.

use sealbus_envelope::{
    hash::hex,
    identity::{Purpose, Role, SigningKey},
    keys::{BoxKey, ReaderKey, ReaderSecret},
    time::{Millis, Validity},
};
use serde_json::{Value, json};

use super::Make;
use crate::{
    scene::{Scene, array, bin, roots, uint},
    world::{DAY, NOW, World, key, secret, sessions},
};

pub(super) fn reader_validity() -> Validity {
    Validity::starting(Millis(NOW - 600_000), 3_600_000)
}

pub(super) fn reader_secret() -> ReaderSecret {
    ReaderSecret::from_seed(&secret("analyst reader key"))
}

fn record_body(world: &World, owner: &[u8], from: u64, until: u64, public: &[u8]) -> Vec<u8> {
    array(&[uint(1), bin(world.bus().as_bytes()), bin(owner), uint(from), uint(until), bin(public)])
}

pub(super) fn reader_keys(make: &mut Make<'_, '_>) {
    let world = make.world;
    let analyst = &world.agents["analyst"];
    let session = analyst.member.session();
    let validity = reader_validity();
    let good = ReaderKey::issue(world.bus(), session, &analyst.session, &reader_secret(), validity).unwrap();
    let scene = Scene::new(world, "reader");
    let mut context = scene.context();
    context["me"] = crate::scene::member(&world.agents["collector"].member);
    (context["rule"], context["label"], context["for_reply"]) =
        (json!("notes"), json!([1, 1, 0]), json!(false));
    let input = |bytes: &[u8]| {
        let mut input = crate::scene::member(&analyst.member);
        input["reader_key"] = json!(hex(bytes));
        input
    };
    let mut put = |name: &str, code: &str, purpose: &str, input: Value, context: &Value| {
        make.put(name, code, purpose, "reader", input, context.clone());
    };
    put("reader", "ok", "a reader that a sender may seal to", input(good.as_bytes()), &context);

    let (from, until) = (validity.not_before.0, validity.not_after.0);
    let public = good.public().as_bytes().to_vec();
    let signed =
        |body: &[u8], key: &SigningKey, purpose: Purpose| array(&[bin(body), bin(&key.sign(purpose, body))]);
    let body = record_body(world, session.as_bytes(), from, until, &public);
    assert_eq!(signed(&body, &analyst.session, Purpose::ReaderKey), good.as_bytes());
    put(
        "reader_key_other_purpose",
        "bad_signature",
        "signed as a box key",
        input(&signed(&body, &analyst.session, Purpose::BoxKey)),
        &context,
    );
    put(
        "reader_key_other_signer",
        "bad_signature",
        "the guard put in a key of its own",
        input(&signed(&body, &world.guard, Purpose::ReaderKey)),
        &context,
    );
    let other = world.agents["clerk"].member.session();
    put(
        "reader_key_other_session",
        "wrong_session",
        "the reader key names another session",
        input(&signed(
            &record_body(world, other.as_bytes(), from, until, &public),
            &analyst.session,
            Purpose::ReaderKey,
        )),
        &context,
    );
    let mut small = public.clone();
    small[1184..].fill(0);
    put(
        "reader_key_low_order_point",
        "weak_key",
        "the X25519 half is zero: the classical half would agree on nothing",
        input(&signed(
            &record_body(world, session.as_bytes(), from, until, &small),
            &analyst.session,
            Purpose::ReaderKey,
        )),
        &context,
    );
    let mut high = public.clone();
    high[..3].fill(0xff);
    put(
        "reader_key_coefficient_out_of_range",
        "weak_key",
        "an ML-KEM coefficient is not below 3329",
        input(&signed(
            &record_body(world, session.as_bytes(), from, until, &high),
            &analyst.session,
            Purpose::ReaderKey,
        )),
        &context,
    );
    put(
        "reader_key_short",
        "bad_length",
        "a byte is missing in the public key",
        input(&signed(
            &record_body(world, session.as_bytes(), from, until, &public[1..]),
            &analyst.session,
            Purpose::ReaderKey,
        )),
        &context,
    );
    put(
        "reader_key_never_valid",
        "bad_time",
        "it ends when it begins",
        input(&signed(
            &record_body(world, session.as_bytes(), from, from, &public),
            &analyst.session,
            Purpose::ReaderKey,
        )),
        &context,
    );
    let later = |ms: u64| {
        let mut context = context.clone();
        context["now"] = json!(ms);
        context
    };
    put("reader_key_expired", "expired", "its hour is over", input(good.as_bytes()), &later(until));
    put(
        "reader_key_not_yet_valid",
        "not_yet_valid",
        "more than the skew ahead",
        input(good.as_bytes()),
        &later(from - 30_001),
    );
    put(
        "reader_key_within_skew",
        "ok",
        "made by a clock that is ahead by no more than the skew",
        input(good.as_bytes()),
        &later(from - 30_000),
    );
    put(
        "reader_status_expired",
        "status_expired",
        "the status statement is too old to seal on its word",
        input(good.as_bytes()),
        &later(NOW + 6 * DAY),
    );
    let mixed = {
        let mut input = input(good.as_bytes());
        input["credential"] = json!(world.agents["clerk"].member.credential().as_str());
        input
    };
    put(
        "reader_credential_of_another",
        "wrong_sender",
        "the credential is another agent's than the session's",
        mixed,
        &context,
    );
    let mut revoked = context.clone();
    let status = world.status(&[key("analyst").public()]).sign(&world.status_key).unwrap();
    revoked["status"] = json!(hex(&status));
    put("reader_revoked", "revoked", "the reader is revoked", input(good.as_bytes()), &revoked);
    let mut clerks = context.clone();
    clerks["rule"] = json!("closed");
    put(
        "reader_not_of_the_rule",
        "not_subscriber",
        "the guard names a reader that the rule does not",
        input(good.as_bytes()),
        &clerks,
    );
    clerks["policy"] = {
        let tables = sealbus_envelope::policy::Tables { observe: true, ..world.tables() };
        json!(hex(&world.bundle(tables, 3).encode()))
    };
    put(
        "reader_observed_not_of_the_rule",
        "not_subscriber",
        "the policy observes senders: nobody is given a key for that",
        input(good.as_bytes()),
        &clerks,
    );
    let mut high = context.clone();
    high["label"] = json!([2, 0, 0]);
    put(
        "reader_above_clearance",
        "above_clearance",
        "the label is above the reader's clearance",
        input(good.as_bytes()),
        &high,
    );
    let observer = world.agent("analyst", "analysts", Role::Observer, |_| (), sessions());
    let mut input = crate::scene::member(&observer.member);
    input["reader_key"] = json!(hex(good.as_bytes()));
    put("reader_is_an_observer", "wrong_role", "an observer is no reader of messages", input, &context);
}

pub(super) fn box_keys(make: &mut Make<'_, '_>) {
    let world = make.world;
    let identity = key("analyst");
    let validity = Validity::starting(Millis(NOW - DAY), 30 * DAY);
    let good = BoxKey::issue(world.bus(), &identity, &reader_secret(), validity).unwrap();
    let context = json!({ "roots": roots(world), "identity": hex(identity.public().as_bytes()) });
    let mut put = |name: &str, code: &str, purpose: &str, bytes: &[u8]| {
        make.put(name, code, purpose, "box_key", json!({ "box_key": hex(bytes) }), context.clone());
    };
    put("box_key", "ok", "a box key, certified by the identity", good.as_bytes());
    let body = record_body(world, identity.public().as_bytes(), NOW, NOW + 1, good.public().as_bytes());
    let as_reader = array(&[bin(&body), bin(&identity.sign(Purpose::ReaderKey, &body))]);
    put("box_key_other_purpose", "bad_signature", "signed as a reader key", &as_reader);
    let other = record_body(world, key("clerk").public().as_bytes(), NOW, NOW + 1, good.public().as_bytes());
    let others = array(&[bin(&other), bin(&identity.sign(Purpose::BoxKey, &other))]);
    put("box_key_other_owner", "wrong_sender", "signed by one identity for another", &others);
}

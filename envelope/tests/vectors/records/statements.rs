//! What a status key, a session and a guard state, and what CONNECT carries.

use data_encoding::BASE64URL_NOPAD;
use sealbus_envelope::{
    control::{AuthToken, GuardEpoch, Heartbeat, LiveKey, SessionStatement},
    hash::hex,
    identity::{Credential, Purpose, SessionCertificate},
    time::Millis,
};
use serde_bytes::ByteBuf;
use serde_json::json;

use super::Make;
use crate::{
    scene::{array, bin, roots, uint},
    world::{DAY, NOW, World, key, label, name},
};

pub(super) fn statuses(make: &mut Make<'_, '_>) {
    let world = make.world;
    let mut put = |name: &str, code: &str, purpose: &str, bytes: &[u8], now: u64| {
        let context = json!({ "roots": roots(world), "now": now, "status_key": hex(world.status_key.public().as_bytes()) });
        make.put(name, code, purpose, "status", json!({ "status": hex(bytes) }), context);
    };
    let (a, b) = (key("collector"), key("clerk"));
    let good = world.status(&[a.public(), b.public()]).sign(&world.status_key).unwrap();
    put("status", "ok", "a status statement that revokes two", &good, NOW);
    put(
        "status_empty",
        "ok",
        "a status statement that revokes nobody",
        &world.status(&[]).sign(&world.status_key).unwrap(),
        NOW,
    );
    put("status_expired", "status_expired", "past its valid-until", &good, NOW + 6 * DAY);
    put(
        "status_other_key",
        "bad_signature",
        "signed by the guard, which must not revoke nor un-revoke",
        &world.status(&[]).sign(&world.guard).unwrap(),
        NOW,
    );
    let other = World::on("staging");
    put(
        "status_other_bus",
        "wrong_bus",
        "for another bus",
        &other.status(&[]).sign(&world.status_key).unwrap(),
        NOW,
    );
    let signed =
        |body: &[u8], purpose: Purpose| array(&[bin(body), bin(&world.status_key.sign(purpose, body))]);
    let body = |version: u64, until: u64, list: Vec<u8>| {
        array(&[
            uint(version),
            bin(world.bus().as_bytes()),
            uint(4),
            uint(3),
            uint(NOW - DAY),
            uint(until),
            list,
        ])
    };
    let mut keys = [*a.public().as_bytes(), *b.public().as_bytes()];
    keys.sort();
    let entry = |n: usize| array(&[bin(&keys[n]), uint(NOW - 2 * DAY)]);
    put(
        "status_other_purpose",
        "bad_signature",
        "signed as a heartbeat",
        &signed(&body(1, NOW, array(&[])), Purpose::Heartbeat),
        NOW,
    );
    put(
        "status_version_two",
        "unsupported_version",
        "a version that is not known",
        &signed(&body(2, NOW, array(&[])), Purpose::Status),
        NOW,
    );
    put(
        "status_unsorted",
        "status_invalid",
        "revocations out of order: a search would miss one",
        &signed(&body(1, NOW, array(&[entry(1), entry(0)])), Purpose::Status),
        NOW,
    );
    put(
        "status_duplicate",
        "status_invalid",
        "one identity revoked twice",
        &signed(&body(1, NOW, array(&[entry(0), entry(0)])), Purpose::Status),
        NOW,
    );
    put(
        "status_never_valid",
        "bad_time",
        "it ends when it was issued",
        &signed(&body(1, NOW - DAY, array(&[])), Purpose::Status),
        NOW,
    );
    put(
        "status_bomb",
        "truncated",
        "9,000 revocations are announced that are not there",
        &signed(&body(1, NOW, vec![0xdc, 0x23, 0x28]), Purpose::Status),
        NOW,
    );
    put(
        "status_too_many",
        "too_large",
        "more revocations than a statement holds",
        &signed(&body(1, NOW, vec![0xdc, 0x27, 0x11]), Purpose::Status),
        NOW,
    );
}

pub(super) fn sessions(make: &mut Make<'_, '_>) {
    let world = make.world;
    let collector = &world.agents["collector"];
    let guard = GuardEpoch { epoch: 5, challenge: [0xc4; 16] };
    let live = |rule: &str, next: u64, asker| LiveKey {
        key: world.sender_key("collector", rule, label(1, 0b01, 0)).id(),
        rule: name(rule),
        label: label(1, 0b01, 0),
        epoch: 2,
        next,
        asker,
    };
    let statement = |keys: Vec<LiveKey>, guard: GuardEpoch| SessionStatement {
        bus: world.bus(),
        session: collector.member.session(),
        guard,
        keys,
    };
    let two =
        || vec![live("notes", 12, None), live("look-up", 0, Some(world.agents["analyst"].member.session()))];
    let mut put = |name: &str, code: &str, purpose: &str, bytes: &[u8]| {
        let context = json!({
            "roots": roots(world),
            "certificate": hex(collector.member.certificate().as_bytes()),
            "epoch": 5,
            "challenge": hex(&[0xc4; 16]),
        });
        make.put(name, code, purpose, "statement", json!({ "statement": hex(bytes) }), context);
    };
    put(
        "statement",
        "ok",
        "a session with two live keys, one of them for replies",
        &statement(two(), guard).sign(&collector.session),
    );
    put(
        "statement_no_keys",
        "ok",
        "a session that has not published yet",
        &statement(vec![], guard).sign(&collector.session),
    );
    put(
        "statement_old_epoch",
        "old_epoch",
        "made for the guard's start before this one",
        &statement(two(), GuardEpoch { epoch: 4, ..guard }).sign(&collector.session),
    );
    put(
        "statement_other_challenge",
        "old_epoch",
        "made for another start of the same number",
        &statement(two(), GuardEpoch { challenge: [0; 16], ..guard }).sign(&collector.session),
    );
    put(
        "statement_other_signer",
        "bad_signature",
        "signed by another session",
        &statement(two(), guard).sign(&world.agents["gatherer"].session),
    );
    let mut other = statement(two(), guard);
    other.session = world.agents["gatherer"].member.session();
    put(
        "statement_other_session",
        "wrong_session",
        "speaks for another session",
        &other.sign(&collector.session),
    );
    let mut elsewhere = statement(two(), guard);
    elsewhere.bus = World::on("staging").bus();
    put("statement_other_bus", "wrong_bus", "made for another bus", &elsewhere.sign(&collector.session));
    let doubled = vec![live("notes", 12, None), live("notes", 0, None)];
    put(
        "statement_key_twice",
        "bad_encoding",
        "one key with two next sequence numbers: what lies between could be replayed",
        &statement(doubled, guard).sign(&collector.session),
    );
    let body = array(&[
        uint(1),
        bin(world.bus().as_bytes()),
        bin(collector.member.session().as_bytes()),
        uint(5),
        bin(&[0xc4; 16]),
        array(&[]),
    ]);
    let signed = |purpose| array(&[bin(&body), bin(&collector.session.sign(purpose, &body))]);
    put("statement_other_purpose", "bad_signature", "signed as a reader key", &signed(Purpose::ReaderKey));
    put(
        "statement_trailing_byte",
        "trailing_bytes",
        "a byte follows",
        &[&signed(Purpose::Hello)[..], &[0]].concat(),
    );
}

pub(super) fn heartbeats(make: &mut Make<'_, '_>) {
    let world = make.world;
    let beat = |bus| Heartbeat {
        bus,
        guard: GuardEpoch { epoch: 5, challenge: [0xc4; 16] },
        policy_version: 3,
        status_version: 4,
        time: Millis(NOW),
    };
    let mut put = |name: &str, code: &str, purpose: &str, bytes: &[u8]| {
        let context = json!({ "roots": roots(world), "guards": [hex(world.guard.public().as_bytes())] });
        make.put(name, code, purpose, "heartbeat", json!({ "heartbeat": hex(bytes) }), context);
    };
    let good = beat(world.bus()).sign(&world.guard);
    put("heartbeat", "ok", "a guard's heartbeat", &good);
    put(
        "heartbeat_by_another",
        "wrong_role",
        "signed by a key that is no guard's",
        &beat(world.bus()).sign(&key("collector")),
    );
    put(
        "heartbeat_other_bus",
        "wrong_bus",
        "of another bus",
        &beat(World::on("staging").bus()).sign(&world.guard),
    );
    let mut flipped = good.clone();
    flipped[40] ^= 1;
    put("heartbeat_flipped", "bad_signature", "one bit of the body", &flipped);
    put("heartbeat_truncated", "truncated", "the last byte is missing", &good[..good.len() - 1]);
    put("heartbeat_trailing_byte", "trailing_bytes", "a byte follows", &[&good[..], &[0]].concat());
}

pub(super) fn auth_tokens(make: &mut Make<'_, '_>) {
    let world = make.world;
    let collector = &world.agents["collector"].member;
    let mut put = |name: &str, code: &str, purpose: &str, text: &str| {
        make.put(
            name,
            code,
            purpose,
            "auth_token",
            json!({ "auth_token": text }),
            json!({ "roots": roots(world) }),
        );
    };
    let token = |credential: &Credential, certificate: &SessionCertificate| AuthToken {
        credential: credential.as_str().to_owned(),
        certificate: ByteBuf::from(certificate.as_bytes()),
    };
    let good = token(collector.credential(), collector.certificate()).to_text().unwrap();
    put("auth_token", "ok", "what CONNECT carries", &good);
    let mixed = token(world.agents["clerk"].member.credential(), collector.certificate());
    put(
        "auth_token_mixed",
        "wrong_sender",
        "one agent's credential with another's session",
        &mixed.to_text().unwrap(),
    );
    put("auth_token_not_base64", "malformed", "no base64url", "a+b");
    put("auth_token_too_large", "too_large", "more than a CONNECT can carry", &"A".repeat(3585));
    let raw = BASE64URL_NOPAD.decode(good.as_bytes()).unwrap();
    put(
        "auth_token_trailing_byte",
        "trailing_bytes",
        "a byte follows",
        &BASE64URL_NOPAD.encode(&[&raw[..], &[0]].concat()),
    );
    put(
        "auth_token_truncated",
        "malformed",
        "the last byte is missing",
        &BASE64URL_NOPAD.encode(&raw[..raw.len() - 1]),
    );
    put(
        "auth_token_three_elements",
        "malformed",
        "an element too many",
        &BASE64URL_NOPAD.encode(&[&[0x93][..], &raw[1..], &[0xc0]].concat()),
    );
    put(
        "auth_token_not_shortest",
        "bad_encoding",
        "the array's length in three bytes instead of one",
        &BASE64URL_NOPAD.encode(&[&[0xdc, 0, 2][..], &raw[1..]].concat()),
    );
}

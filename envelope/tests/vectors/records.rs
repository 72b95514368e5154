//! Everything that is no envelope: credentials, certificates, keys, grants, status, policy, statements.

use data_encoding::BASE64URL_NOPAD;
use sealbus_envelope::{
    control::{AuthToken, GuardEpoch, Heartbeat, LiveKey, SessionStatement},
    hash::{self, Context, Hash, hex},
    identity::{Credential, KeyKind, Purpose, Role, SessionCertificate, SigningKey, sign_jwt},
    keys::{self, BoxKey, Grant, ReaderKey, ReaderSecret, SenderKey},
    policy::{BundleHead, Excerpt, ExcerptRecord, HeadFields, Leaves, Records},
    proof::batch,
    time::{Millis, Validity},
};
use serde_bytes::ByteBuf;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{
    Vectors,
    file::Vector,
    scene::{Scene, array, bin, labelled, refused, roots, str, uint},
    world::{DAY, NOW, Rng, World, key, label, name, secret, sessions},
};

struct Make<'w, 'v> {
    world: &'w World,
    vectors: &'v mut Vectors,
}

impl Make<'_, '_> {
    fn put(&mut self, name: &str, code: &str, purpose: &str, kind: &str, input: Value, context: Value) {
        let vector = Vector {
            purpose: purpose.to_owned(),
            kind: kind.to_owned(),
            input,
            context,
            expect: refused(code),
        };
        if code == "ok" { self.vectors.good(name, vector) } else { self.vectors.hostile(name, vector) }
    }
}

pub(crate) fn make(world: &World, vectors: &mut Vectors) {
    let mut make = Make { world, vectors };
    credentials(&mut make);
    certificates(&mut make);
    reader_keys(&mut make);
    box_keys(&mut make);
    grants(&mut make);
    statuses(&mut make);
    bundles(&mut make);
    excerpts(&mut make);
    statements(&mut make);
    heartbeats(&mut make);
    auth_tokens(&mut make);
}

fn credentials(make: &mut Make<'_, '_>) {
    let world = make.world;
    let good = world.agents["collector"].member.credential().as_str().to_owned();
    let context = |now: u64| json!({ "roots": roots(world), "now": now });
    let mut put = |name: &str, code: &str, purpose: &str, text: &str, now: u64| {
        make.put(name, code, purpose, "credential", json!({ "credential": text }), context(now));
    };
    put("credential", "ok", "an agent's credential", &good, NOW);
    let zoned = world.credential(&key("collector"), "collector", "collectors", Role::Agent, |claims| {
        claims.zones = ["lab", "edge"].map(name).into();
    });
    put("credential_zones", "ok", "a credential for two zones", zoned.as_str(), NOW);
    put("credential_last_moment", "ok", "the last millisecond of validity", &good, NOW + 30 * DAY - 1);
    put(
        "credential_expired",
        "credential_expired",
        "the first millisecond after validity",
        &good,
        NOW + 30 * DAY,
    );
    put("credential_not_yet_valid", "not_yet_valid", "a millisecond too early", &good, NOW - 30 * DAY - 1);

    let (head, rest) = good.split_once('.').unwrap();
    let (body, signature) = rest.split_once('.').unwrap();
    for (name, header) in [
        ("credential_alg_none", r#"{"typ":"JWT","alg":"none"}"#),
        ("credential_alg_hs256", r#"{"typ":"JWT","alg":"HS256"}"#),
        ("credential_alg_other_case", r#"{"typ":"JWT","alg":"ED25519-NKEY"}"#),
        ("credential_alg_missing", r#"{"typ":"JWT"}"#),
        ("credential_alg_twice", r#"{"typ":"JWT","alg":"none","alg":"ed25519-nkey"}"#),
        ("credential_typ_missing", r#"{"alg":"ed25519-nkey"}"#),
    ] {
        let signed = format!("{}.{body}", BASE64URL_NOPAD.encode(header.as_bytes()));
        let text = format!("{signed}.{}", BASE64URL_NOPAD.encode(&world.issuer.sign_raw(signed.as_bytes())));
        put(
            name,
            "credential_invalid",
            "the header does not name the one algorithm, though the issuer signed it",
            &text,
            NOW,
        );
    }
    put(
        "credential_unsigned",
        "credential_invalid",
        "the signature is empty",
        &format!("{head}.{body}."),
        NOW,
    );
    put(
        "credential_two_parts",
        "credential_invalid",
        "two parts instead of three",
        &format!("{head}.{body}"),
        NOW,
    );
    put(
        "credential_padded",
        "credential_invalid",
        "base64url with padding",
        &format!("{head}.{body}.{signature}=="),
        NOW,
    );
    put(
        "credential_not_base64",
        "credential_invalid",
        "a character that base64url does not have",
        &format!("{head}+.{body}.{signature}"),
        NOW,
    );
    put(
        "credential_too_large",
        "too_large",
        "a text of more than 2,048 bytes",
        &format!("{good}{}", "A".repeat(2048)),
        NOW,
    );
    let forged = sign_jwt(&claims(body), &key("policy 1"));
    put(
        "credential_other_issuer",
        "bad_signature",
        "signed by a policy key instead of the issuer",
        &forged,
        NOW,
    );
    let self_signed = sign_jwt(&claims(body), &key("collector"));
    put("credential_self_signed", "bad_signature", "signed by the agent itself", &self_signed, NOW);
    let other = World::on("staging").agents["collector"].member.credential().as_str().to_owned();
    put("credential_other_bus", "wrong_bus", "for another bus of the same issuer", &other, NOW);

    let mut changed = |name: &str, purpose: &str, change: &dyn Fn(&mut Value)| {
        let mut claims = claims(body);
        change(&mut claims);
        put(name, "credential_invalid", purpose, &sign_jwt(&claims, &world.issuer), NOW);
    };
    let account = key("collector").public().to_nkey(KeyKind::Account);
    changed("credential_subject_is_an_account", "the subject is an account nkey, not a user's", &|c| {
        c["sub"] = json!(account)
    });
    changed("credential_subject_checksum", "the subject's checksum is wrong", &|c| {
        let mut text = c["sub"].as_str().unwrap().to_owned();
        let last = if text.ends_with('A') { 'B' } else { 'A' };
        text.pop();
        text.push(last);
        c["sub"] = json!(text);
    });
    changed("credential_subject_low_order", "the subject is a point of small order", &|c| {
        c["sub"] = json!(low_order_nkey())
    });
    changed("credential_other_iss", "the claims name another issuer than the one that signed", &|c| {
        c["iss"] = json!(account)
    });
    changed("credential_name_with_dot", "a name with a dot would be two subject tokens", &|c| {
        c["name"] = json!("a.b")
    });
    changed("credential_without_sealbus", "a NATS user JWT without our claims", &|c| {
        c.as_object_mut().unwrap().remove("sealbus");
    });
    changed("credential_unknown_claim", "a claim of ours that is not defined", &|c| {
        c["sealbus"]["admin"] = json!(true)
    });
    changed("credential_unknown_role", "a role that is not defined", &|c| {
        c["sealbus"]["role"] = json!("root")
    });
    changed("credential_level_16", "a level above 15", &|c| c["sealbus"]["level"] = json!(16));
    changed("credential_compartment_64", "a compartment above 63", &|c| {
        c["sealbus"]["compartments"] = json!([64])
    });
    changed("credential_nine_zones", "more zones than allowed", &|c| {
        c["sealbus"]["zones"] = json!(["a", "b", "c", "d", "e", "f", "g", "h", "i"])
    });
    changed("credential_never_valid", "it ends before it begins", &|c| c["exp"] = c["nbf"].clone());
    changed("credential_without_expiry", "no expiry", &|c| {
        c.as_object_mut().unwrap().remove("exp");
    });
    changed("credential_expiry_as_text", "the expiry is a text", &|c| c["exp"] = json!("1900000000"));
    let twice = String::from_utf8(BASE64URL_NOPAD.decode(body.as_bytes()).unwrap()).unwrap().replacen(
        '{',
        r#"{"name":"root","#,
        1,
    );
    let signed = format!("{head}.{}", BASE64URL_NOPAD.encode(twice.as_bytes()));
    let text = format!("{signed}.{}", BASE64URL_NOPAD.encode(&world.issuer.sign_raw(signed.as_bytes())));
    put(
        "credential_name_twice",
        "credential_invalid",
        "a claim that stands twice would be read in two ways",
        &text,
        NOW,
    );
}

fn claims(body: &str) -> Value {
    serde_json::from_slice(&BASE64URL_NOPAD.decode(body.as_bytes()).unwrap()).unwrap()
}

/// A user nkey, checksum and all, of the identity element.
fn low_order_nkey() -> String {
    let mut raw = vec![20 << 3, 1];
    raw.resize(33, 0);
    let crc = crc::Crc::<u16>::new(&crc::CRC_16_XMODEM).checksum(&raw);
    raw.extend(crc.to_le_bytes());
    data_encoding::BASE32_NOPAD.encode(&raw)
}

fn certificates(make: &mut Make<'_, '_>) {
    let world = make.world;
    let (identity, session) = (key("collector"), key("collector session"));
    let mut put = |name: &str, code: &str, purpose: &str, bytes: &[u8], now: u64| {
        let context = json!({ "roots": roots(world), "now": now });
        make.put(name, code, purpose, "certificate", json!({ "certificate": hex(bytes) }), context);
    };
    let good = world.agents["collector"].member.certificate().as_bytes().to_vec();
    let validity = sessions();
    put("certificate", "ok", "a session certificate", &good, NOW);
    put(
        "certificate_expired",
        "certificate_expired",
        "the first millisecond after validity",
        &good,
        validity.not_after.0,
    );
    put(
        "certificate_not_yet_valid",
        "not_yet_valid",
        "a millisecond too early",
        &good,
        validity.not_before.0 - 1,
    );
    put("certificate_truncated", "truncated", "the last byte is missing", &good[..good.len() - 1], NOW);
    put("certificate_trailing_byte", "trailing_bytes", "a byte follows", &[&good[..], &[0]].concat(), NOW);
    put("certificate_too_large", "too_large", "more than 512 bytes", &[&good[..], &[0; 300]].concat(), NOW);
    let other = World::on("staging").agents["collector"].member.certificate().as_bytes().to_vec();
    put("certificate_other_bus", "wrong_bus", "for another bus", &other, NOW);

    let body = |version: u64, identity: &[u8], session: &[u8], from: u64, until: u64| {
        array(&[
            uint(version),
            bin(world.bus().as_bytes()),
            bin(identity),
            bin(session),
            uint(from),
            uint(until),
        ])
    };
    let (from, until) = (validity.not_before.0, validity.not_after.0);
    let (ours, theirs) = (*identity.public().as_bytes(), *session.public().as_bytes());
    let sign = |body: &[u8], possession: (&SigningKey, Purpose), signature: (&SigningKey, Purpose)| {
        array(&[
            bin(body),
            bin(&possession.0.sign(possession.1, body)),
            bin(&signature.0.sign(signature.1, body)),
        ])
    };
    let held = (&session, Purpose::SessionPossession);
    let vouched = (&identity, Purpose::SessionCertificate);
    let right = body(1, &ours, &theirs, from, until);
    assert_eq!(sign(&right, held, vouched), good);
    put(
        "certificate_version_two",
        "unsupported_version",
        "a version that is not known",
        &sign(&body(2, &ours, &theirs, from, until), held, vouched),
        NOW,
    );
    put(
        "certificate_not_held",
        "bad_signature",
        "nobody proved to hold the session key",
        &sign(&right, (&identity, Purpose::SessionPossession), vouched),
        NOW,
    );
    put(
        "certificate_not_vouched",
        "bad_signature",
        "the session key vouches for itself",
        &sign(&right, held, (&session, Purpose::SessionCertificate)),
        NOW,
    );
    put(
        "certificate_swapped_signatures",
        "bad_signature",
        "the two signatures changed places",
        &array(&[
            bin(&right),
            bin(&identity.sign(Purpose::SessionCertificate, &right)),
            bin(&session.sign(Purpose::SessionPossession, &right)),
        ]),
        NOW,
    );
    put(
        "certificate_other_purpose",
        "bad_signature",
        "the identity signed it as a box key",
        &sign(&right, held, (&identity, Purpose::BoxKey)),
        NOW,
    );
    put(
        "certificate_session_is_identity",
        "certificate_invalid",
        "the session key is the identity key",
        &sign(&body(1, &ours, &ours, from, until), (&identity, Purpose::SessionPossession), vouched),
        NOW,
    );
    let mut low = [0; 32];
    low[0] = 1;
    put(
        "certificate_low_order_key",
        "weak_key",
        "the session key is the identity element",
        &sign(&body(1, &ours, &low, from, until), held, vouched),
        NOW,
    );
    let mut non_canonical = [0xff; 32];
    (non_canonical[0], non_canonical[31]) = (0xf0, 0x7f);
    put(
        "certificate_non_canonical_key",
        "weak_key",
        "the identity key is not canonical: y is above the prime",
        &sign(&body(1, &non_canonical, &theirs, from, until), held, vouched),
        NOW,
    );
    put(
        "certificate_never_valid",
        "bad_time",
        "it ends when it begins",
        &sign(&body(1, &ours, &theirs, from, from), held, vouched),
        NOW,
    );
    put(
        "certificate_eight_days",
        "bad_time",
        "longer than 7 days by a millisecond",
        &sign(&body(1, &ours, &theirs, from, from + 7 * DAY + 1), held, vouched),
        NOW,
    );
    let mut malformed = right.clone();
    malformed.push(0);
    put(
        "certificate_body_trailing_byte",
        "trailing_bytes",
        "a byte follows inside the signed body",
        &sign(&malformed, held, vouched),
        NOW,
    );
}

fn reader_validity() -> Validity {
    Validity::starting(Millis(NOW - 600_000), 3_600_000)
}

fn reader_secret() -> ReaderSecret {
    ReaderSecret::from_seed(&secret("analyst reader key"))
}

fn record_body(world: &World, owner: &[u8], from: u64, until: u64, public: &[u8]) -> Vec<u8> {
    array(&[uint(1), bin(world.bus().as_bytes()), bin(owner), uint(from), uint(until), bin(public)])
}

fn reader_keys(make: &mut Make<'_, '_>) {
    let world = make.world;
    let analyst = &world.agents["analyst"];
    let session = analyst.member.session();
    let validity = reader_validity();
    let good = ReaderKey::issue(world.bus(), session, &analyst.session, &reader_secret(), validity).unwrap();
    let scene = Scene::new(world, "reader");
    let mut context = scene.context();
    context["me"] = super::scene::member(&world.agents["collector"].member);
    (context["rule"], context["label"], context["for_reply"]) =
        (json!("notes"), json!([1, 1, 0]), json!(false));
    let input = |bytes: &[u8]| {
        let mut input = super::scene::member(&analyst.member);
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
    let mut input = super::scene::member(&observer.member);
    input["reader_key"] = json!(hex(good.as_bytes()));
    put("reader_is_an_observer", "wrong_role", "an observer is no reader of messages", input, &context);
}

fn box_keys(make: &mut Make<'_, '_>) {
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

fn grants(make: &mut Make<'_, '_>) {
    let world = make.world;
    let (collector, analyst) = (&world.agents["collector"], &world.agents["analyst"]);
    let reader = ReaderKey::issue(
        world.bus(),
        analyst.member.session(),
        &analyst.session,
        &reader_secret(),
        reader_validity(),
    )
    .unwrap();
    let sender_key = world.sender_key("collector", "notes", label(1, 0b01, 0));
    let mut rng = Rng::new("grants");
    let mut seal = |key: &SenderKey, by: &SigningKey, readers: usize| {
        let list: Vec<(Hash, _)> = (0..readers).map(|_| (reader.digest(), reader.public())).collect();
        keys::grant(key, by, &list, &mut rng).unwrap()
    };
    let alone = seal(&sender_key, &collector.session, 1).remove(0);
    let batch = seal(&sender_key, &collector.session, 3).remove(2);
    let mut context = Scene::new(world, "grant").context();
    context["keys"] = json!([]);
    context["sender"] = super::scene::member(&collector.member);
    context["reader_keys"] =
        json!([{ "digest": hex(&reader.digest()), "seed": hex(&*reader_secret().to_seed()) }]);
    let other_label =
        seal(&world.sender_key("collector", "notes", label(1, 0b10, 0)), &collector.session, 1).remove(0);
    let undeclared =
        seal(&world.sender_key("collector", "anything", label(5, 0, 0)), &collector.session, 1).remove(0);
    let above =
        seal(&world.sender_key("collector", "anything", label(2, 0, 0)), &collector.session, 1).remove(0);
    let closed =
        seal(&world.sender_key("collector", "closed", label(1, 0, 0)), &collector.session, 1).remove(0);
    let memos =
        seal(&world.sender_key("collector", "memos", label(1, 0, 0)), &collector.session, 1).remove(0);
    let unknown =
        seal(&world.sender_key("collector", "nothing", label(1, 0, 0)), &collector.session, 1).remove(0);
    let reply =
        seal(&world.sender_key("collector", "look-up", label(1, 0, 0)), &collector.session, 1).remove(0);
    let other_signer = seal(&sender_key, &world.agents["gatherer"].session, 1).remove(0);
    let elsewhere = {
        let staging = World::on("staging");
        let mut scope = sender_key.scope().clone();
        scope.bus = staging.bus();
        let key = SenderKey::new(Zeroizing::new(secret("elsewhere")), scope);
        seal(&key, &collector.session, 1).remove(0)
    };
    // Two readers, two secrets, one key id: the committing id refuses the second.
    let second = SenderKey::new(Zeroizing::new(secret("a second key")), sender_key.scope().clone());
    let lying = bend(
        &seal(&second, &collector.session, 1).remove(0),
        &sender_key,
        &collector.session,
        &reader,
        &mut Rng::new("lying"),
    );

    let mut put = |name: &str, code: &str, purpose: &str, bytes: &[u8], context: &Value| {
        make.put(name, code, purpose, "grant", json!({ "grant": hex(bytes) }), context.clone());
    };
    put("grant", "ok", "a key granted to one reader", &alone, &context);
    put("grant_in_a_batch", "ok", "the third of three grants signed at once", &batch, &context);
    put(
        "grant_for_replies",
        "ok",
        "one who may answer grants a key for replies to one who may ask",
        &reply,
        &context,
    );
    put("grant_truncated", "truncated", "the last byte is missing", &alone[..alone.len() - 1], &context);
    put("grant_trailing_byte", "trailing_bytes", "a byte follows", &[&alone[..], &[0]].concat(), &context);
    put(
        "grant_too_large",
        "too_large",
        "more than 2,048 bytes",
        &[&alone[..], &[0; 1024]].concat(),
        &context,
    );
    put(
        "grant_other_signer",
        "bad_signature",
        "signed by another session than it names",
        &other_signer,
        &context,
    );
    put("grant_other_bus", "wrong_bus", "for a key of another bus", &elsewhere, &context);
    let mut others = context.clone();
    others["sender"] = super::scene::member(&world.agents["gatherer"].member);
    put(
        "grant_of_another_session",
        "wrong_session",
        "handed over with another agent's certificate",
        &alone,
        &others,
    );
    let mut revoked = context.clone();
    revoked["status"] =
        json!(hex(&world.status(&[key("collector").public()]).sign(&world.status_key).unwrap()));
    put("grant_from_revoked", "revoked", "the sender is revoked", &alone, &revoked);
    let mut late = context.clone();
    late["now"] = json!(sessions().not_after.0);
    put("grant_after_session", "certificate_expired", "the sender's session is over", &alone, &late);
    let mut role = context.clone();
    role["sender"] = super::scene::member(&world.agents["rogue"].member);
    put("grant_from_a_guard", "wrong_role", "a guard grants keys", &alone, &role);
    put("grant_unknown_rule", "unknown_rule", "for a rule that the policy does not have", &unknown, &context);
    put(
        "grant_rule_of_another_team",
        "not_publisher",
        "the sender may not publish under the rule",
        &memos,
        &context,
    );
    put(
        "grant_rule_not_read",
        "not_publisher",
        "the reader may not subscribe to the rule",
        &closed,
        &context,
    );
    put(
        "grant_label_out_of_range",
        "label_out_of_range",
        "for a label that the rule does not take",
        &other_label,
        &context,
    );
    put(
        "grant_label_undeclared",
        "label_unknown",
        "for a level that the policy does not declare",
        &undeclared,
        &context,
    );
    put(
        "grant_above_clearance",
        "above_clearance",
        "for a label above the reader's clearance",
        &above,
        &context,
    );
    let mut foreign = context.clone();
    foreign["reader_keys"][0]["digest"] = json!(hex(&[3; 32]));
    put(
        "grant_for_another_reader",
        "wrong_reader",
        "sealed to a reader key that this reader does not have",
        &alone,
        &foreign,
    );
    let mut seed = context.clone();
    seed["reader_keys"][0]["seed"] = json!(hex(&secret("another seed")));
    put("grant_does_not_open", "bad_grant", "sealed to another public key than the record's", &alone, &seed);
    put(
        "grant_two_keys_one_id",
        "key_mismatch",
        "a second key sealed under the first key's id, as if one ciphertext could open as two texts",
        &lying,
        &context,
    );

    let raw = |change: &dyn Fn(&mut Vec<Vec<u8>>), purpose: Purpose| {
        let mut elements = grant_elements(&alone);
        change(&mut elements);
        let body = array(&elements);
        let digest = hash::hash(Context::Grant, &[&body]);
        let proof =
            batch::sign(&collector.session, purpose, collector.member.session().as_bytes(), &[digest])
                .remove(0);
        array(&[bin(&body), bin(&proof.encode())])
    };
    assert_eq!(raw(&|_| (), Purpose::Grant), alone);
    put(
        "grant_other_purpose",
        "bad_signature",
        "signed as a batch of envelopes",
        &raw(&|_| (), Purpose::Batch),
        &context,
    );
    put(
        "grant_version_two",
        "unsupported_version",
        "a version that is not known",
        &raw(&|e| e[0] = uint(2), Purpose::Grant),
        &context,
    );
    put(
        "grant_other_epoch",
        "bad_grant",
        "the epoch is not the one that it was sealed for",
        &raw(&|e| e[5] = uint(1), Purpose::Grant),
        &context,
    );
    put(
        "grant_other_label",
        "bad_grant",
        "the label is not the one that it was sealed for",
        &raw(&|e| e[4] = labelled(label(1, 0, 0)), Purpose::Grant),
        &context,
    );
    put(
        "grant_epoch_above_32_bits",
        "too_large",
        "an epoch that would be 0 if it were cut",
        &raw(&|e| e[5] = uint(1 << 32), Purpose::Grant),
        &context,
    );
    put(
        "grant_low_order_point",
        "weak_key",
        "the X25519 half of the encapsulation is of small order",
        &raw(
            &|e| {
                let mut enc = e[8].clone();
                let at = enc.len() - 32;
                enc[at..].fill(0);
                e[8] = enc;
            },
            Purpose::Grant,
        ),
        &context,
    );
    put(
        "grant_short_enc",
        "bad_length",
        "an encapsulation of 1,119 bytes",
        &raw(&|e| e[8] = bin(&[1; 1119]), Purpose::Grant),
        &context,
    );
    put(
        "grant_rule_bad_name",
        "bad_name",
        "a rule name with a star",
        &raw(&|e| e[3] = str("*"), Purpose::Grant),
        &context,
    );
    put(
        "grant_label_bad",
        "bad_label",
        "a level above 15",
        &raw(&|e| e[4] = array(&[uint(16), uint(0), uint(0)]), Purpose::Grant),
        &context,
    );
}

/// The ten elements of a grant's body, as they are written.
fn grant_elements(grant: &[u8]) -> Vec<Vec<u8>> {
    let read = Grant::decode(grant).unwrap();
    let scope = read.scope();
    // enc and sealed have no accessor, for nobody should want them: they end the body.
    let body_len = usize::from(u16::from_be_bytes([grant[2], grant[3]]));
    let body = &grant[4..4 + body_len];
    let sealed = &body[body.len() - 48..];
    let enc = &body[body.len() - 48 - 2 - 1120..body.len() - 50];
    vec![
        uint(1),
        bin(scope.bus.as_bytes()),
        bin(scope.session.as_bytes()),
        str(scope.rule.as_str()),
        labelled(scope.label),
        uint(u64::from(scope.epoch)),
        bin(read.key_id().as_bytes()),
        bin(&read.reader()),
        bin(enc),
        bin(sealed),
    ]
}

/// A grant whose key id is `named`'s, though the key inside is another: made with HPKE by hand.
fn bend(_: &[u8], named: &SenderKey, session: &SigningKey, reader: &ReaderKey, rng: &mut Rng) -> Vec<u8> {
    use hpke::{
        Deserializable as _, Kem, OpModeS, Serializable as _, aead::ChaCha20Poly1305, kdf::HkdfSha256,
        kem::XWing,
    };
    let scope = named.scope();
    let encoded = array(&[
        bin(scope.bus.as_bytes()),
        bin(scope.session.as_bytes()),
        str(scope.rule.as_str()),
        labelled(scope.label),
        uint(u64::from(scope.epoch)),
    ]);
    let info = array(&[bin(&encoded), bin(named.id().as_bytes()), bin(&reader.digest())]);
    let public = <XWing as Kem>::PublicKey::from_bytes(reader.public().as_bytes()).unwrap();
    let mut buffer = secret("a second key");
    let (enc, tag) = hpke::single_shot_seal_inout_detached_with_rng::<ChaCha20Poly1305, HkdfSha256, XWing>(
        &OpModeS::Base,
        &public,
        &info,
        buffer.as_mut_slice().into(),
        &[],
        rng,
    )
    .unwrap();
    let body = array(&[
        uint(1),
        bin(scope.bus.as_bytes()),
        bin(scope.session.as_bytes()),
        str(scope.rule.as_str()),
        labelled(scope.label),
        uint(u64::from(scope.epoch)),
        bin(named.id().as_bytes()),
        bin(&reader.digest()),
        bin(&enc.to_bytes()),
        bin(&[&buffer[..], &tag.to_bytes()].concat()),
    ]);
    let digest = hash::hash(Context::Grant, &[&body]);
    let proof = batch::sign(session, Purpose::Grant, scope.session.as_bytes(), &[digest]).remove(0);
    array(&[bin(&body), bin(&proof.encode())])
}

fn statuses(make: &mut Make<'_, '_>) {
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

fn bundles(make: &mut Make<'_, '_>) {
    let world = make.world;
    let mut put = |name: &str, code: &str, purpose: &str, bytes: &[u8]| {
        make.put(
            name,
            code,
            purpose,
            "bundle",
            json!({ "bundle": hex(bytes) }),
            json!({ "roots": roots(world) }),
        );
    };
    let good = world.bundle(world.tables(), 3).encode();
    put("bundle", "ok", "a policy signed by two of three", &good);
    let records = world.records(world.tables());
    let leaves = records.leaves();
    let fields = records.head(3, Millis(NOW - 10 * DAY));
    let sign = |keys: &[&SigningKey], purpose: Purpose| head(&fields, keys, purpose);
    let [one, two, three] = [0, 1, 2].map(|n| &world.policy_keys[n]);
    put(
        "bundle_three_signatures",
        "ok",
        "all three sign",
        &whole(&sign(&[three, one, two], Purpose::Bundle), &leaves),
    );
    put(
        "bundle_quorum_one_short",
        "policy_invalid",
        "one signature where two are needed",
        &whole(&sign(&[one], Purpose::Bundle), &leaves),
    );
    put(
        "bundle_one_key_twice",
        "policy_invalid",
        "one key signs twice",
        &whole(&sign(&[one, one], Purpose::Bundle), &leaves),
    );
    put("bundle_unsigned", "policy_invalid", "no signature", &whole(&sign(&[], Purpose::Bundle), &leaves));
    put(
        "bundle_foreign_key",
        "policy_invalid",
        "two good signatures and one by a key that is no policy key",
        &whole(&sign(&[one, two, &world.issuer], Purpose::Bundle), &leaves),
    );
    put(
        "bundle_other_purpose",
        "policy_invalid",
        "signed as orders",
        &whole(&sign(&[one, two], Purpose::Order), &leaves),
    );
    let signed = sign(&[one, three], Purpose::Bundle);
    assert_eq!(whole(&signed, &leaves), good);
    let mut bent = |name: &str, purpose: &str, change: &dyn Fn(&mut Leaves)| {
        let mut leaves = leaves.clone();
        change(&mut leaves);
        put(name, "policy_invalid", purpose, &whole(&signed, &leaves));
    };
    bent("bundle_rule_missing", "a rule was left out", &|leaves| _ = leaves.rules.remove(0));
    bent("bundle_rules_swapped", "two rules changed places", &|leaves| leaves.rules.swap(0, 1));
    bent("bundle_tables_changed", "the tables are not the ones that were signed", &|leaves| {
        leaves.tables =
            sealbus_envelope::policy::Tables { max_readers: 1_000_000, ..world.tables() }.encode();
    });
    put("bundle_trailing_byte", "trailing_bytes", "a byte follows", &[&good[..], &[0]].concat());
    put("bundle_truncated", "truncated", "the last byte is missing", &good[..good.len() - 1]);
    let doubled =
        Records { rules: [world.rules(), vec![world.rules().remove(0)]].concat(), ..records.clone() };
    put(
        "bundle_rule_name_twice",
        "policy_invalid",
        "two rules of one name, which the quorum signed",
        &signed_whole(world, &doubled),
    );
    let staging = World::on("staging");
    put(
        "bundle_other_bus",
        "wrong_bus",
        "the same quorum signed it for another bus",
        &signed_whole(world, &staging.records(staging.tables())),
    );
}

/// A head with the signatures of these keys.
fn head(fields: &HeadFields, keys: &[&SigningKey], purpose: Purpose) -> Vec<u8> {
    let signatures: Vec<_> =
        keys.iter().map(|key| (key.public().clone(), key.sign(purpose, &fields.encode()))).collect();
    BundleHead::assemble(fields, &signatures)
}

/// A bundle of a head and leaves, whatever they are.
fn whole(head: &[u8], leaves: &Leaves) -> Vec<u8> {
    let list = |leaves: &[Vec<u8>]| array(&leaves.iter().map(|leaf| bin(leaf)).collect::<Vec<_>>());
    array(&[bin(head), bin(&leaves.tables), list(&leaves.rules), list(&leaves.grants)])
}

/// Whatever the records say, a quorum signed them.
fn signed_whole(world: &World, records: &Records) -> Vec<u8> {
    let keys = [&world.policy_keys[0], &world.policy_keys[1]];
    whole(&head(&records.head(3, Millis(NOW)), &keys, Purpose::Bundle), &records.leaves())
}

fn excerpts(make: &mut Make<'_, '_>) {
    let world = make.world;
    let bundle = world.bundle(world.tables(), 3);
    let good = bundle.excerpt(|rule| rule.name.as_str() != "closed");
    let mut put = |name: &str, code: &str, purpose: &str, excerpt: &Excerpt| {
        let path = |path: &[Hash]| path.iter().map(|hash| hex(hash)).collect::<Vec<_>>();
        let records = |records: &[ExcerptRecord]| {
            let show = |record: &ExcerptRecord| {
                json!({
                    "index": record.index, "record": hex(&record.record), "path": path(&record.path),
                })
            };
            records.iter().map(show).collect::<Vec<_>>()
        };
        let input = json!({
            "head": hex(&excerpt.head),
            "tables": hex(&excerpt.tables),
            "tables_path": path(&excerpt.tables_path),
            "rules": records(&excerpt.rules),
            "grants": records(&excerpt.grants),
        });
        make.put(name, code, purpose, "excerpt", input, json!({ "roots": roots(world) }));
    };
    put("excerpt", "ok", "the rules that concern one client, each provable alone", &good);
    put("excerpt_tables_only", "ok", "no rule concerns the client", &bundle.excerpt(|_| false));
    let mut bent = good.clone();
    (bent.tables, bent.tables_path) = (bent.rules[0].record.clone(), bent.rules[0].path.clone());
    put("excerpt_rule_as_tables", "policy_invalid", "a rule's leaf passed off as the tables", &bent);
    let mut bent = good.clone();
    (bent.rules[0].index, bent.rules[0].record, bent.rules[0].path) =
        (0, good.tables.clone(), good.tables_path.clone());
    put("excerpt_tables_as_rule", "policy_invalid", "the tables passed off as a rule", &bent);
    let mut bent = good.clone();
    bent.rules[0].index = 2;
    put("excerpt_other_index", "policy_invalid", "a rule at another rule's place", &bent);
    let mut bent = good.clone();
    bent.rules[0].path[0][0] ^= 1;
    put("excerpt_forged_path", "policy_invalid", "a sibling is not the one that was signed", &bent);
    let mut bent = good.clone();
    bent.rules[0].record[20] ^= 1;
    put("excerpt_forged_rule", "policy_invalid", "a rule is not the one that was signed", &bent);
    let mut bent = good;
    bent.rules[0].index = 1 + u32::try_from(world.rules().len() + world.grants().len()).unwrap();
    put("excerpt_index_out_of_range", "policy_invalid", "an index that is the number of leaves", &bent);
}

fn statements(make: &mut Make<'_, '_>) {
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

fn heartbeats(make: &mut Make<'_, '_>) {
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

fn auth_tokens(make: &mut Make<'_, '_>) {
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

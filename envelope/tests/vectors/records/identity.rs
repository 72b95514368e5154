//! Credentials and session certificates.

use data_encoding::BASE64URL_NOPAD;
use sealbus_envelope::{
    hash::hex,
    identity::{KeyKind, Purpose, Role, SigningKey, sign_jwt},
};
use serde_json::{Value, json};

use super::Make;
use crate::{
    scene::{array, bin, roots, uint},
    world::{DAY, NOW, World, key, name, sessions},
};

pub(super) fn credentials(make: &mut Make<'_, '_>) {
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

pub(super) fn certificates(make: &mut Make<'_, '_>) {
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

//! Sender keys sealed to readers.

use sealbus_envelope::{
    hash::{self, Context, Hash, hex},
    identity::{Purpose, SigningKey},
    keys::{self, Grant, ReaderKey, SenderKey},
    policy::Tables,
    proof::batch,
};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{
    Make,
    keys::{reader_secret, reader_validity},
};
use crate::{
    scene::{Scene, array, bin, labelled, str, uint},
    world::{Rng, World, key, label, secret, sessions},
};

pub(super) fn put(make: &mut Make<'_, '_>) {
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
    context["sender"] = crate::scene::member(&collector.member);
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
    let watched =
        seal(&world.sender_key("collector", "watched", label(1, 0, 0)), &collector.session, 1).remove(0);
    let mut everywhere = context.clone();
    let tables = Tables { observe: true, ..world.tables() };
    everywhere["policy"] = json!(hex(&world.bundle(tables, 3).encode()));
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
    others["sender"] = crate::scene::member(&world.agents["gatherer"].member);
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
    role["sender"] = crate::scene::member(&world.agents["rogue"].member);
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

    for (name, code, purpose, bytes, context) in [
        ("grant_observed_by_rule", "ok", "an observed rule does not name the sender", &watched, &context),
        (
            "grant_observed_label",
            "ok",
            "a label that the rule does not take, on a bus that is observed",
            &other_label,
            &everywhere,
        ),
        (
            "grant_observed_rule_not_read",
            "not_publisher",
            "observed or not, the reader may not subscribe to the rule",
            &closed,
            &everywhere,
        ),
        (
            "grant_observed_label_undeclared",
            "label_unknown",
            "observed or not, the policy does not declare the level",
            &undeclared,
            &everywhere,
        ),
        (
            "grant_observed_above_clearance",
            "above_clearance",
            "observed or not, the label is above the reader's clearance",
            &above,
            &everywhere,
        ),
    ] {
        put(name, code, purpose, bytes, context);
    }

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

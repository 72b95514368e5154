//! Proofs of sending and of admission that do not prove it.

use data_encoding::BASE64URL_NOPAD;
use sealbus_envelope::{
    identity::Purpose,
    proof::{admission, admission::Verdict, batch},
    subject::Partition,
    time::Millis,
};

use super::Make;
use crate::{
    scene::{array, bin, uint},
    world::{NOW, World, key, secret},
};

/// `[size, index, path, signature]`, whatever they are.
fn raw_proof(size: u64, index: u64, path: &[u8], signature: &[u8]) -> Vec<u8> {
    array(&[uint(size), uint(index), bin(path), bin(signature)])
}

pub(super) fn sending(make: &mut Make<'_, '_>) {
    let scene = make.scene().with(|s| (s.before, s.after) = (2, 3));
    let (.., proof) = scene.parts();
    let path = proof.path.concat();
    let sig = proof.signature;
    let mut put = |name: &str, code: &str, purpose: &str, bytes: Vec<u8>| {
        make.proof(name, code, purpose, &scene, &bytes);
    };
    put("proof_size_zero", "bad_proof", "a tree of no leaves", raw_proof(0, 0, &[], &sig));
    put("proof_size_257", "bad_proof", "a tree above the largest batch", raw_proof(257, 2, &path, &sig));
    put("proof_index_out_of_range", "bad_proof", "the index is the size", raw_proof(6, 6, &path, &sig));
    put("proof_index_far_out", "bad_proof", "an index far above the size", raw_proof(6, 65_535, &path, &sig));
    put(
        "proof_size_above_16_bits",
        "too_large",
        "a size that would be 6 if it were cut to 16 bits",
        raw_proof(65_542, 2, &path, &sig),
    );
    put("proof_path_too_short", "bad_proof", "a sibling is missing", raw_proof(6, 2, &path[32..], &sig));
    put(
        "proof_path_too_long",
        "bad_proof",
        "a sibling too many",
        raw_proof(6, 2, &[&path[..], &[0; 32]].concat(), &sig),
    );
    put(
        "proof_path_nine",
        "too_large",
        "a path longer than any batch has",
        raw_proof(6, 2, &[0; 9 * 32], &sig),
    );
    put(
        "proof_path_ragged",
        "bad_proof",
        "a path that is no whole number of hashes",
        raw_proof(6, 2, &path[..95], &sig),
    );
    put(
        "proof_path_for_one_leaf",
        "bad_proof",
        "a tree of one has no siblings",
        raw_proof(1, 0, &[7; 32], &sig),
    );
    let mut forged = path.clone();
    forged[40] ^= 1;
    put(
        "proof_forged_path",
        "bad_signature",
        "a sibling is not the one that was signed",
        raw_proof(6, 2, &forged, &sig),
    );
    put(
        "proof_other_index",
        "bad_signature",
        "the index of the sibling leaf, with this leaf's path",
        raw_proof(6, 3, &path, &sig),
    );
    put(
        "proof_other_size",
        "bad_signature",
        "another size for the same root: the size is signed too",
        raw_proof(8, 2, &path, &sig),
    );
    let other = scene.proof(&[8; 32]);
    put(
        "proof_of_another_envelope",
        "bad_signature",
        "a leaf replayed: the proof of another envelope of the same size of batch",
        other.encode(),
    );
    put("signature_of_63_bytes", "bad_length", "a signature of 63 bytes", raw_proof(6, 2, &path, &sig[..63]));
    put(
        "proof_trailing_byte",
        "trailing_bytes",
        "a byte follows the proof",
        [proof.encode(), vec![0]].concat(),
    );
    put("proof_too_large", "too_large", "a proof longer than any", vec![0; 333]);
    let mut flipped = sig;
    flipped[3] ^= 1;
    put("signature_flipped", "bad_signature", "one bit of the signature", raw_proof(6, 2, &path, &flipped));
    // S + L: the same equation holds, so only a check of S's range refuses it (malleability).
    const L: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let (mut malleable, mut carry) = (sig, 0u16);
    for (s, l) in malleable.iter_mut().skip(32).zip(L) {
        let sum = u16::from(*s) + u16::from(l) + carry;
        *s = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    put(
        "signature_not_canonical",
        "bad_signature",
        "S + L instead of S: malleable",
        raw_proof(6, 2, &path, &malleable),
    );
    let mut low_order = [0; 64];
    low_order[0] = 1;
    put(
        "signature_low_order_point",
        "bad_signature",
        "R is the identity element and S is zero",
        raw_proof(6, 2, &path, &low_order),
    );
    put("signature_zero", "bad_signature", "64 zero bytes", raw_proof(6, 2, &path, &[0; 64]));

    let scene = make.scene().with(|s| s.purpose = Purpose::Grant);
    make.put(
        "signature_for_another_purpose",
        "bad_signature",
        "the session signed it as a batch of grants",
        &scene,
    );
    let scene = make.scene().with(|s| s.scope = *s.world.agents["gatherer"].member.session().as_bytes());
    make.put(
        "batch_of_another_session",
        "bad_signature",
        "the right key signed it in the scope of another session",
        &scene,
    );
    let scene = make.scene().with(|s| s.signer = key("gatherer session"));
    make.put("signed_by_anothers_session", "bad_signature", "another agent's session signed it", &scene);
    let scene = make.scene().with(|s| s.signer = key("collector"));
    make.put(
        "signed_by_the_identity",
        "bad_signature",
        "the identity key signed what the session must",
        &scene,
    );
}

pub(super) fn admission(make: &mut Make<'_, '_>) {
    let scene = make.scene();
    let digest = scene.digest();
    let good = scene.admission(&digest);
    let raw = BASE64URL_NOPAD.decode(good.encode().as_bytes()).unwrap();
    let text = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);

    make.admission("admission_missing", "not_admitted", "no proof of admission at all", None);
    make.admission("admission_empty", "bad_admission", "an empty header", Some(""));
    make.admission(
        "admission_not_base64",
        "bad_admission",
        "characters that base64url does not have",
        Some("a+b/"),
    );
    make.admission(
        "admission_padded",
        "bad_admission",
        "base64url with padding",
        Some(&format!("{}=", text(&raw[..raw.len() - 1]))),
    );
    make.admission(
        "admission_truncated",
        "bad_admission",
        "the last byte is missing",
        Some(&text(&raw[..raw.len() - 1])),
    );
    make.admission(
        "admission_trailing_byte",
        "bad_admission",
        "a byte follows",
        Some(&text(&[&raw[..], &[0]].concat())),
    );
    make.admission("admission_too_large", "bad_admission", "longer than any", Some(&"A".repeat(685)));
    let mut version = raw.clone();
    version[1] = 2;
    make.admission(
        "admission_version_two",
        "unsupported_version",
        "a version that is not known",
        Some(&text(&version)),
    );
    let mut verdict = raw.clone();
    verdict[36] = 3;
    make.admission(
        "admission_verdict_three",
        "bad_admission",
        "a verdict that is not known",
        Some(&text(&verdict)),
    );
    make.admission(
        "admission_replayed_leaf",
        "bad_admission",
        "the admission of another envelope",
        Some(&scene.admission(&[5; 32]).encode()),
    );
    let denied = make.scene().with(|s| s.decision.verdict = Verdict::Deny);
    make.admission(
        "admission_denied",
        "denied",
        "a denial that the guard signed",
        Some(&denied.admission(&digest).encode()),
    );
    let mut passed_off = denied.admission(&digest);
    passed_off.decision.verdict = Verdict::Admit;
    make.admission(
        "admission_denied_passed_off",
        "bad_admission",
        "a denied leaf passed off as admitted",
        Some(&passed_off.encode()),
    );
    let mut observed = good.clone();
    observed.decision.observed = true;
    make.admission(
        "admission_observed_flipped",
        "bad_admission",
        "the observed bit is not as it was signed",
        Some(&observed.encode()),
    );
    let mut later = good.clone();
    later.decision.time = Millis(later.decision.time.0 + 1);
    make.admission(
        "admission_time_changed",
        "bad_admission",
        "the guard's time is not as it was signed",
        Some(&later.encode()),
    );
    let mut forged = admission::sign(
        &scene.guard,
        make.world.bus(),
        &[(digest, scene.decision), ([1; 32], scene.decision)],
    )
    .remove(0);
    forged.proof.path[0][0] ^= 1;
    make.admission(
        "admission_forged_path",
        "bad_admission",
        "a sibling is not the one that was signed",
        Some(&forged.encode()),
    );
    let other = World::on("staging");
    let elsewhere = admission::sign(&scene.guard, other.bus(), &[(digest, scene.decision)]).remove(0);
    make.admission(
        "admission_of_another_bus",
        "bad_admission",
        "the same guard admitted it on another bus",
        Some(&elsewhere.encode()),
    );
    let mut batch_purpose = good.clone();
    let leaf = admission::Admission::leaf(make.world.bus(), &digest, &scene.decision);
    batch_purpose.proof =
        batch::sign(&scene.guard, Purpose::Batch, make.world.bus().as_bytes(), &[leaf]).remove(0);
    make.admission(
        "admission_for_another_purpose",
        "bad_admission",
        "the guard signed it as a batch of envelopes",
        Some(&batch_purpose.encode()),
    );
    let mut stranger = good;
    stranger.guard = *key("analyst").public().as_bytes();
    make.admission(
        "admission_names_another_key",
        "wrong_role",
        "the admission names a key that is no guard's",
        Some(&stranger.encode()),
    );

    let scene = make.scene().with(|s| {
        s.guard = key("collector");
        s.tables.guards.push(key("collector").public().clone());
        s.guards.push(s.members[0].credential().clone());
        let digest = s.world.bundle(s.tables.clone(), 3).head().fields().root;
        s.policies[1].1 = digest;
        s.decision.policy_digest = digest;
    });
    make.put(
        "admission_signed_by_an_agent",
        "wrong_role",
        "an agent's credential signs admissions, though the policy lists its key",
        &scene,
    );
    let scene = make.scene().with(|s| {
        s.guard = key("rogue");
        s.guards.push(s.world.agents["rogue"].member.credential().clone());
    });
    make.put(
        "admission_by_a_guard_not_in_policy",
        "wrong_role",
        "a guard's credential that the policy does not name",
        &scene,
    );
    let scene = make.scene().with(|s| s.guards.clear());
    make.put(
        "admission_by_a_guard_without_credential",
        "bad_admission",
        "the policy names the key, but no credential is known",
        &scene,
    );
    let scene = make.scene().with(|s| s.revoked.push(s.guard.public().clone()));
    make.put("admission_by_a_revoked_guard", "revoked", "the guard is revoked", &scene);
    let scene = make.scene().with(|s| {
        let mut claims = s.guards[0].claims().clone();
        claims.validity.not_after = Millis(NOW - 1_000);
        s.guards[0] = sealbus_envelope::identity::Credential::issue(&claims, &s.world.issuer).unwrap();
    });
    make.put(
        "admission_by_an_expired_guard",
        "credential_expired",
        "the guard's credential was over when it admitted",
        &scene,
    );
    let scene = make.scene().with(|s| s.decision.partition = (s.decision.partition + 1) % Partition::COUNT);
    make.put("admission_other_partition", "bad_admission", "the partition is not the sender's", &scene);
    let scene = make.scene().with(|s| s.epochs = vec![(s.decision.partition, 3)]);
    make.put("admission_old_epoch", "old_epoch", "admitted by a guard whose lease is over", &scene);
    let scene = make.scene().with(|s| s.decision.policy_version = 4);
    make.put(
        "admission_new_policy",
        "new_policy",
        "admitted under a policy that the reader has not got yet",
        &scene,
    );
    let scene = make.scene().with(|s| s.policies.clear());
    make.put("admission_without_policy", "no_policy", "the reader has no policy at all", &scene);
    let scene = make.scene().with(|s| s.policies.push((4, secret("policy 4"), NOW - 900 - 30_001)));
    make.put(
        "admission_old_policy",
        "old_policy",
        "admitted under version 3 thirty seconds and one millisecond after version 4 came",
        &scene,
    );
    let scene = make.scene().with(|s| s.decision.policy_version = 1);
    make.put(
        "admission_forgotten_policy",
        "old_policy",
        "admitted under a version that the reader never had",
        &scene,
    );
    let scene = make.scene().with(|s| s.decision.policy_digest = [6; 32]);
    make.put("admission_forged_policy", "bad_admission", "another policy under the version's number", &scene);
}

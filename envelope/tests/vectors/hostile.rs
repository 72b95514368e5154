//! Deliveries that a reader refuses, each for one fault.

use data_encoding::BASE64URL_NOPAD;
use sealbus_envelope::{
    identity::{Member, Purpose, SessionCertificate},
    label::Integrity,
    proof::{
        admission::{self, Verdict},
        batch,
    },
    subject::{Partition, WireSubjects},
    time::{Millis, Validity},
};

use super::{
    Vectors,
    scene::{Scene, array, at, bin, content, labelled, nil, parents, plaintext, refused, str, uint},
    world::{DAY, NOW, Rng, World, clearance, envelope_digest, key, label, name, secret},
};

struct Make<'w, 'v> {
    world: &'w World,
    vectors: &'v mut Vectors,
}

impl<'w> Make<'w, '_> {
    /// A scene that is good as it is.
    fn scene(&self) -> Scene<'w> {
        Scene::new(self.world, "hostile")
    }

    fn put(&mut self, name: &str, code: &str, purpose: &str, scene: &Scene<'_>) {
        let admission = scene.admission(&scene.digest()).encode();
        self.vectors.hostile(name, scene.vector(purpose, &scene.envelope(), Some(&admission), refused(code)));
    }

    /// Bytes that are no envelope, or not this one. The admission is for the digest that a reader finds.
    fn bytes(&mut self, name: &str, code: &str, purpose: &str, bytes: &[u8]) {
        let scene = self.scene();
        let admission = scene.admission(&scene.digest()).encode();
        self.vectors.hostile(name, scene.vector(purpose, bytes, Some(&admission), refused(code)));
    }

    fn header(&mut self, name: &str, code: &str, purpose: &str, place: usize, element: Vec<u8>) {
        let scene = self.scene().set(place, element);
        self.put(name, code, purpose, &scene);
    }

    /// The proof is replaced; digest and admission stay right.
    fn proof(&mut self, name: &str, code: &str, purpose: &str, scene: &Scene<'_>, proof: &[u8]) {
        let (header, ciphertext, digest, _) = scene.parts();
        let bytes = scene.frame(&header, &ciphertext, proof);
        let admission = scene.admission(&digest).encode();
        self.vectors.hostile(name, scene.vector(purpose, &bytes, Some(&admission), refused(code)));
    }

    fn admission(&mut self, name: &str, code: &str, purpose: &str, admission: Option<&str>) {
        let scene = self.scene();
        self.vectors.hostile(name, scene.vector(purpose, &scene.envelope(), admission, refused(code)));
    }
}

pub(crate) fn make(world: &World, vectors: &mut Vectors) {
    let mut make = Make { world, vectors };
    frames(&mut make);
    headers(&mut make);
    proofs(&mut make);
    admissions(&mut make);
    senders(&mut make);
    policy(&mut make);
    sealing(&mut make);
}

fn frames(make: &mut Make<'_, '_>) {
    let scene = make.scene();
    let (header, ciphertext, _, proof) = scene.parts();
    let proof = proof.encode();
    let good = scene.envelope();

    make.bytes("empty", "truncated", "no bytes at all", &[]);
    make.bytes("truncated", "truncated", "the last byte is missing", &good[..good.len() - 1]);
    make.bytes("truncated_in_the_middle", "truncated", "the ciphertext ends early", &good[..240]);
    make.bytes(
        "trailing_byte",
        "trailing_bytes",
        "one byte follows the envelope",
        &[&good[..], &[0]].concat(),
    );
    make.bytes("twice", "trailing_bytes", "two envelopes in one message", &[&good[..], &good].concat());
    let five = array(&[uint(1), bin(&header), bin(&ciphertext), bin(&proof), nil()]);
    make.bytes("arity_five", "wrong_arity", "an envelope of five elements", &five);
    let three = array(&[uint(1), bin(&header), bin(&ciphertext)]);
    make.bytes("arity_three", "wrong_arity", "an envelope without a proof", &three);
    let version = array(&[uint(2), bin(&header), bin(&ciphertext), bin(&proof)]);
    make.bytes("version_two", "unsupported_version", "a version that is not known", &version);
    make.bytes("map", "bad_encoding", "a map instead of an array", &[&[0x84][..], &good[1..]].concat());
    make.bytes(
        "array_not_shortest",
        "bad_encoding",
        "the array's length in three bytes instead of one",
        &[&[0xdc, 0, 4][..], &good[1..]].concat(),
    );
    make.bytes(
        "array_32",
        "bad_encoding",
        "an array with a length of four bytes, which nothing here needs",
        &[&[0xdd, 0, 0, 0, 4][..], &good[1..]].concat(),
    );
    make.bytes(
        "number_not_shortest",
        "bad_encoding",
        "the version in two bytes instead of one",
        &[&[0x94, 0xcc, 1][..], &good[2..]].concat(),
    );
    let text = array(&[uint(1), str("header"), bin(&ciphertext), bin(&proof)]);
    make.bytes("text_for_bytes", "bad_encoding", "the header is a text, not a byte string", &text);
    let bomb = [&[0x94, 1, 0xc6, 0xff, 0xff, 0xff, 0xff][..], &header].concat();
    make.bytes("length_bomb_header", "too_large", "the header claims four gigabytes", &bomb);
    let bomb = [&[0x94, 1][..], &bin(&header), &[0xc6, 0x7f, 0xff, 0xff, 0xff]].concat();
    make.bytes("length_bomb_ciphertext", "too_large", "the ciphertext claims two gigabytes", &bomb);
    let bomb = [&[0x94, 1][..], &bin(&header), &[0xc6, 0x00, 0x0f, 0x00, 0x00], &ciphertext].concat();
    make.bytes(
        "length_bomb_within_limit",
        "truncated",
        "the ciphertext claims a megabyte that is not there",
        &bomb,
    );
    let swapped = array(&[uint(1), bin(&ciphertext), bin(&header), bin(&proof)]);
    make.bytes(
        "swapped_header_and_ciphertext",
        "bad_encoding",
        "header and ciphertext changed places",
        &swapped,
    );
    let short = array(&[uint(1), bin(&header), bin(&ciphertext[..15]), bin(&proof)]);
    make.bytes("ciphertext_below_tag", "truncated", "the ciphertext is shorter than its tag", &short);
    let large = array(&[uint(1), bin(&vec![0; 16 * 1024 + 1]), bin(&ciphertext), bin(&proof)]);
    make.bytes("header_too_large", "too_large", "a header above 16 KiB", &large);
    let not_shortest = [
        &[0x94, 1, 0xc6, 0, 0][..],
        &u16::try_from(header.len()).unwrap().to_be_bytes(),
        &header,
        &bin(&ciphertext),
        &bin(&proof),
    ]
    .concat();
    make.bytes(
        "bytes_not_shortest",
        "bad_encoding",
        "a byte string's length in four bytes instead of two",
        &not_shortest,
    );
}

fn headers(make: &mut Make<'_, '_>) {
    let mut scene = make.scene();
    scene.header[at::FLAGS] = vec![];
    make.put("header_truncated", "truncated", "the header ends before its last element", &scene);
    let mut scene = make.scene();
    scene.header.push(nil());
    make.put("header_arity_sixteen", "wrong_arity", "a header of sixteen elements", &scene);
    let mut scene = make.scene();
    scene.header.pop();
    make.put("header_arity_fourteen", "wrong_arity", "a header without flags", &scene);
    let scene = make.scene();
    let trailing = [scene.header[at::FLAGS].clone(), vec![0xc0]].concat();
    make.header(
        "header_trailing_byte",
        "trailing_bytes",
        "a byte follows inside the header",
        at::FLAGS,
        trailing,
    );

    make.header("bus_of_31_bytes", "bad_length", "a bus id of 31 bytes", at::BUS, bin(&[1; 31]));
    make.header("id_of_17_bytes", "bad_length", "an envelope id of 17 bytes", at::ID, bin(&[1; 17]));
    let mut swapped = make.scene();
    swapped.header.swap(at::BUS, at::SESSION);
    make.put(
        "swapped_bus_and_session",
        "wrong_bus",
        "bus and session changed places: both have 32 bytes",
        &swapped,
    );
    let mut swapped = make.scene();
    swapped.header.swap(at::SESSION, at::KEY);
    make.put("swapped_session_and_key", "unknown_sender", "session and key id changed places", &swapped);
    let mut swapped = make.scene();
    swapped.header.swap(at::SENDER, at::RULE);
    make.put("swapped_sender_and_rule", "bad_name", "sender and rule changed places", &swapped);

    for (name, subject, purpose) in [
        ("subject_empty", "", "an empty subject"),
        ("subject_wildcard_star", "collect.*", "a wildcard in a published subject"),
        ("subject_wildcard_rest", "collect.>", "a wildcard for all that follows in a published subject"),
        ("subject_wildcard_inside", "collect.a*", "a star inside a token, which people read as a wildcard"),
        ("subject_nul", "collect.\0", "NUL in a subject"),
        ("subject_line_break", "collect.a\r\nPUB x", "a line break, which would be a command to nats-server"),
        ("subject_space", "collect.a b", "a space, which divides arguments of commands"),
        ("subject_system", "$JS.API.STREAM.DELETE.X", "a subject of nats-server's own"),
        ("subject_empty_token", "collect..raw", "an empty token"),
        ("subject_leading_dot", ".collect", "a dot in front"),
        ("subject_not_ascii", "collect.\u{e9}", "a character beyond ASCII"),
        ("subject_delete", "collect.\u{7f}", "the control character DEL"),
        ("subject_17_tokens", "a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a", "17 tokens"),
    ] {
        make.header(name, "bad_subject", purpose, at::SUBJECT, str(subject));
    }
    make.header(
        "subject_oversize",
        "bad_subject",
        "a subject of 201 bytes",
        at::SUBJECT,
        str(&"a".repeat(201)),
    );
    make.header(
        "subject_not_utf8",
        "bad_encoding",
        "bytes that are no UTF-8",
        at::SUBJECT,
        vec![0xa2, 0xff, 0xfe],
    );
    make.header(
        "subject_not_shortest",
        "bad_encoding",
        "a text's length in two bytes instead of one",
        at::SUBJECT,
        [&[0xd9, 1][..], b"a"].concat(),
    );
    make.header(
        "rule_upper_case",
        "bad_name",
        "an upper-case letter in a rule's name",
        at::RULE,
        str("Notes"),
    );
    make.header("rule_empty", "bad_name", "an empty rule name", at::RULE, str(""));
    make.header("rule_oversize", "too_large", "a rule name of 49 bytes", at::RULE, str(&"a".repeat(49)));
    make.header(
        "sender_without_id",
        "bad_name",
        "a sender without its short id",
        at::SENDER,
        str("collector"),
    );
    make.header(
        "flow_grant_bad_name",
        "bad_name",
        "a flow grant whose name has a dot",
        at::FLOW_GRANT,
        str("a.b"),
    );

    let bad = |level: u64, integrity: u64| array(&[uint(level), uint(0), uint(integrity)]);
    make.header("label_level_16", "bad_label", "a level above 15", at::LABEL, bad(16, 0));
    make.header(
        "label_level_256",
        "bad_label",
        "a level that would be 0 if it were cut to a byte",
        at::LABEL,
        bad(256, 0),
    );
    make.header("label_integrity_8", "bad_label", "an integrity rank above 7", at::LABEL, bad(0, 8));
    make.header(
        "label_arity",
        "wrong_arity",
        "a label of two numbers",
        at::LABEL,
        array(&[uint(0), uint(0)]),
    );
    make.header(
        "label_negative",
        "bad_encoding",
        "a negative level",
        at::LABEL,
        array(&[vec![0xff], uint(0), uint(0)]),
    );
    make.header(
        "label_null_for_zero",
        "bad_encoding",
        "nil where a number must be",
        at::LABEL,
        array(&[nil(), uint(0), uint(0)]),
    );

    let parent = ([3; 32], label(0, 0, 7));
    make.header(
        "parents_duplicate",
        "duplicate_parent",
        "one parent twice",
        at::PARENTS,
        parents(&[parent, parent]),
    );
    let lower = ([2; 32], label(0, 0, 7));
    make.header(
        "parents_unsorted",
        "bad_encoding",
        "parents not in ascending order",
        at::PARENTS,
        parents(&[parent, lower]),
    );
    let many: Vec<_> = (0..257u16)
        .map(|n| {
            let mut digest = [0; 32];
            digest[..2].copy_from_slice(&n.to_be_bytes());
            (digest, label(0, 0, 0))
        })
        .collect();
    make.header(
        "parents_257",
        "too_many_parents",
        "one parent more than allowed",
        at::PARENTS,
        parents(&many),
    );
    make.header(
        "parents_bomb",
        "too_many_parents",
        "65,535 parents are announced",
        at::PARENTS,
        vec![0xdc, 0xff, 0xff],
    );
    make.header(
        "parents_bomb_within_limit",
        "truncated",
        "200 parents are announced, with too few bytes for them",
        at::PARENTS,
        vec![0xdc, 0, 200],
    );
    make.header(
        "parent_bad_label",
        "bad_label",
        "a parent with a level above 15",
        at::PARENTS,
        array(&[array(&[bin(&[1; 32]), bad(16, 0)])]),
    );
    make.header(
        "parent_short_digest",
        "bad_length",
        "a parent's digest of 20 bytes",
        at::PARENTS,
        array(&[array(&[bin(&[1; 20]), labelled(label(0, 0, 0))])]),
    );
    make.header(
        "request_short_digest",
        "bad_length",
        "a request digest of 31 bytes",
        at::REQUEST,
        bin(&[1; 31]),
    );

    make.header("ttl_zero", "bad_time", "a time-to-live of nothing", at::TTL, uint(0));
    make.header("ttl_above_limit", "bad_time", "a time-to-live above 7 days", at::TTL, uint(7 * DAY + 1));
    make.header(
        "ttl_overflow",
        "bad_time",
        "a time-to-live that would be 1 if it were cut to 32 bits",
        at::TTL,
        uint((1 << 32) + 1),
    );
    make.header("flags_unknown", "bad_flags", "a flag that is not defined", at::FLAGS, uint(2));
    make.header("flags_large", "too_large", "flags that do not fit a byte", at::FLAGS, uint(256));
    make.header("flags_boolean", "bad_encoding", "a boolean where a number must be", at::FLAGS, vec![0xc3]);
    make.header(
        "sequence_not_shortest",
        "bad_encoding",
        "the sequence number in nine bytes instead of one",
        at::SEQUENCE,
        vec![0xcf, 0, 0, 0, 0, 0, 0, 0, 7],
    );
    make.header(
        "sequence_float",
        "bad_encoding",
        "the sequence number as a float",
        at::SEQUENCE,
        vec![0xcb, 0x40, 0x1c, 0, 0, 0, 0, 0, 0],
    );
}

/// `[size, index, path, signature]`, whatever they are.
fn raw_proof(size: u64, index: u64, path: &[u8], signature: &[u8]) -> Vec<u8> {
    array(&[uint(size), uint(index), bin(path), bin(signature)])
}

fn proofs(make: &mut Make<'_, '_>) {
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

fn admissions(make: &mut Make<'_, '_>) {
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

fn senders(make: &mut Make<'_, '_>) {
    let other = World::on("staging");
    make.header("other_bus", "wrong_bus", "made for another bus", at::BUS, bin(other.bus().as_bytes()));
    let scene = make.scene().with(|s| s.members.clear());
    make.put("sender_unknown", "unknown_sender", "no credential is known for the session", &scene);
    let gatherer = make.world.agents["gatherer"].member.clone();
    let scene = make
        .scene()
        .with(|s| s.members.push(gatherer.clone()))
        .set(at::SESSION, bin(gatherer.session().as_bytes()));
    make.put("others_session", "wrong_sender", "the header names the session of another agent", &scene);
    let scene = make.scene().set(at::SENDER, str(gatherer.token().as_str()));
    make.put("others_name", "wrong_sender", "the header names another agent as the sender", &scene);
    for (name, agent, purpose) in [
        ("sender_is_an_observer", "watcher", "an observer publishes"),
        ("sender_is_a_guard", "rogue", "a guard publishes"),
    ] {
        let scene = Scene::from_to(
            make.world,
            "hostile",
            agent,
            "notes",
            "collect.web.raw",
            label(1, 0b01, 0),
            "analyst",
        );
        make.put(name, "wrong_role", purpose, &scene);
    }
    let scene = make.scene().with(|s| s.revoked.push(key("collector").public().clone()));
    make.put("sender_revoked", "revoked", "the sender's identity is revoked", &scene);
    let scene = make.scene().sender_claims(|claims| claims.validity.not_after = Millis(NOW - 1_000));
    make.put(
        "sender_credential_expired",
        "credential_expired",
        "the sender's credential was over when the guard admitted",
        &scene,
    );
    let scene = make.scene().sender_claims(|claims| claims.validity.not_before = Millis(NOW));
    make.put("sender_not_yet_valid", "not_yet_valid", "the sender's credential was not valid yet", &scene);
    for (name, code, validity, purpose) in [
        (
            "session_over",
            "certificate_expired",
            Validity::starting(Millis(NOW - DAY - 900), DAY),
            "the session was over when the guard admitted, to the millisecond",
        ),
        (
            "session_not_yet_valid",
            "not_yet_valid",
            Validity::starting(Millis(NOW), DAY),
            "the session had not begun",
        ),
    ] {
        let mut scene = make.scene();
        let certificate = SessionCertificate::issue(
            make.world.bus(),
            &key("collector"),
            &key("collector session"),
            validity,
        )
        .unwrap();
        scene.scope = *certificate.id().as_bytes();
        scene.header[at::SESSION] = bin(certificate.id().as_bytes());
        scene.members[0] = Member::new(scene.members[0].credential().clone(), certificate).unwrap();
        make.put(name, code, purpose, &scene);
    }
}

fn policy(make: &mut Make<'_, '_>) {
    let world = make.world;
    let between = |from: &str, rule: &str, subject: &str, label| {
        Scene::from_to(world, "hostile", from, rule, subject, label, "analyst")
    };
    make.put(
        "rule_unknown",
        "unknown_rule",
        "the policy has no such rule",
        &between("collector", "nothing", "collect.web.raw", label(1, 1, 0)),
    );
    make.put(
        "rule_of_another_team",
        "not_publisher",
        "the rule names clerks as publishers",
        &between("collector", "memos", "memo.x", label(1, 1, 0)),
    );
    make.put(
        "rule_of_another_agent",
        "not_publisher",
        "the rule names one other agent",
        &between("collector", "named", "named.x", label(1, 1, 0)),
    );
    make.put(
        "sender_without_team",
        "not_publisher",
        "the sender's team is not in the policy",
        &between("stranger", "notes", "collect.web.raw", label(1, 1, 0)),
    );
    let scene = make.scene().sender_claims(|claims| claims.name = name("gatherer"));
    let named = Scene {
        header: {
            let mut header = between("collector", "named", "named.x", label(1, 1, 0)).header;
            header[at::SENDER] = str(scene.members[0].token().as_str());
            header
        },
        ..between("collector", "named", "named.x", label(1, 1, 0))
    }
    .sender_claims(|claims| (claims.name, claims.team) = (name("gatherer"), name("nobody")))
    .with(|s| {
        s.subject = "sb.out.1.named.x".to_owned();
        s.decision.partition = Partition::of(s.members[0].token()).number();
    });
    make.put(
        "team_unknown",
        "unknown_team",
        "the rule names the agent, but the policy does not know its team",
        &named,
    );
    make.put(
        "subject_outside_rule",
        "subject_outside_rule",
        "the rule covers other subjects",
        &between("collector", "notes", "any.thing", label(1, 1, 0)),
    );
    make.put(
        "subject_too_deep_for_rule",
        "subject_outside_rule",
        "a star matches one token only",
        &between("collector", "anything", "any.thing.else", label(1, 1, 0)),
    );
    make.put(
        "label_undeclared_level",
        "label_unknown",
        "a level that the policy does not declare",
        &between("collector", "anything", "any.x", label(3, 0, 0)),
    );
    make.put(
        "label_undeclared_compartment",
        "label_unknown",
        "a compartment that the policy does not declare",
        &between("collector", "anything", "any.x", label(0, 0b100, 0)),
    );
    make.put(
        "label_undeclared_integrity",
        "label_unknown",
        "an integrity rank that the policy does not declare",
        &between("collector", "anything", "any.x", label(0, 0, 3)),
    );
    make.put(
        "label_out_of_range",
        "label_out_of_range",
        "a compartment that the rule does not take",
        &between("collector", "notes", "collect.x", label(1, 0b10, 0)),
    );
    make.put(
        "label_above_clearance",
        "above_clearance",
        "a level above the sender's team",
        &between("collector", "anything", "any.x", label(2, 0, 0)),
    );
    make.put(
        "label_above_integrity",
        "above_integrity",
        "more integrity than the sender's team may vouch for",
        &between("collector", "anything", "any.x", label(1, 0, 2)),
    );
    let scene = make.scene().sender_claims(|claims| claims.clearance = clearance(1, 0));
    make.put(
        "label_above_own_clearance",
        "above_clearance",
        "the team has the compartment, the sender has not",
        &scene,
    );
    let scene = make
        .scene()
        .sender_claims(|claims| claims.integrity_ceiling = Integrity::LOWEST)
        .set(at::LABEL, labelled(label(1, 1, 1)));
    make.put(
        "label_above_own_integrity",
        "above_integrity",
        "the team may vouch for it, the sender may not",
        &scene,
    );
    make.put(
        "reader_not_subscriber",
        "not_subscriber",
        "the rule does not name the reader",
        &between("collector", "closed", "collect.x", label(1, 1, 0)),
    );
    make.put(
        "reader_below_level",
        "above_clearance",
        "the label is above the reader's team",
        &between("clerk", "memos", "memo.x", label(2, 0, 0)),
    );
    let scene = make.scene().reader_claims(|claims| claims.clearance = clearance(1, 0));
    make.put(
        "reader_without_compartment",
        "above_clearance",
        "the reader lacks the compartment, though its team has it",
        &scene,
    );

    let scene = make.scene().set(at::REQUEST, bin(&[9; 32]));
    make.put(
        "reply_on_a_stream_rule",
        "wrong_pattern",
        "a publisher of a stream replies: streams are not answered",
        &scene,
    );
    let scene =
        Scene::from_to(world, "hostile", "analyst", "notes", "collect.x", label(1, 1, 0), "collector")
            .set(at::REQUEST, bin(&[9; 32]));
    make.put(
        "reply_from_a_subscriber_of_a_stream",
        "wrong_pattern",
        "a subscriber of a stream replies to its publisher",
        &scene,
    );
    let scene = make.scene().with(|s| s.subject = "sb.out.1.collect.web.other".to_owned());
    make.put("wire_subject_other", "wrong_subject", "delivered on another logical subject", &scene);
    let scene = make.scene().with(|s| s.subject = "sb.out.0.collect.web.raw".to_owned());
    make.put(
        "wire_subject_lower_level",
        "wrong_subject",
        "delivered on the subject of a lower level",
        &scene,
    );
    let scene = make.scene().with(|s| s.subject = "sb.out.01.collect.web.raw".to_owned());
    make.put(
        "wire_subject_other_spelling",
        "wrong_subject",
        "the level is spelled with a zero in front",
        &scene,
    );
    let scene = between("collector", "review", "ask.review", label(1, 0, 0));
    make.put("request_to_everybody", "wrong_subject", "a request delivered as a stream message", &scene);
    let own_box = |scene: &Scene<'_>, kind: &str| {
        WireSubjects::default().session_box(scene.me.token(), &scene.me.session(), kind)
    };
    let scene = make.scene().with(|s| s.subject = own_box(s, "request"));
    make.put("stream_message_in_the_box", "wrong_subject", "a stream message delivered as a request", &scene);
    let reply = |asked: bool| {
        between("collector", "look-up", "ask.look-up", label(1, 0, 0)).with(|s| {
            s.header[at::REQUEST] = bin(&[9; 32]);
            s.subject = own_box(s, "reply");
            s.asked = if asked { vec![[9; 32]] } else { vec![[8; 32]] };
        })
    };
    make.put(
        "reply_not_asked_for",
        "no_request",
        "the reply to a request that this reader has not open",
        &reply(false),
    );
    let scene = reply(true).with(|s| s.subject = own_box(s, "request"));
    make.put("reply_as_request", "wrong_subject", "a reply delivered as a request", &scene);
}

fn sealing(make: &mut Make<'_, '_>) {
    let scene = make.scene().with(|s| s.read.push(7));
    make.put("replay", "replay", "the sequence number was read before", &scene);
    let scene = make.scene().with(|s| s.read = vec![7 + 1024]);
    make.put("replay_too_old", "replay", "older than the window: it cannot be known to be new", &scene);
    let scene = make.scene().with(|s| s.now = NOW - 900 - 30_001);
    make.put(
        "admitted_in_the_future",
        "from_future",
        "the guard's time is more than the skew ahead of the reader's",
        &scene,
    );
    let scene = make.scene().with(|s| s.now = NOW - 900 + 60_000 + 30_001);
    make.put("expired", "expired", "time-to-live and skew are over by a millisecond", &scene);
    let scene = make.scene().with(|s| s.has_key = false);
    make.put("key_unknown", "unknown_key", "the reader was not granted the key", &scene);
    let scene = make.scene().with(|s| {
        let key = s.world.sender_key("collector", "drafts", label(1, 0b01, 0));
        s.secret = secret(&format!("collector drafts {:?}", label(1, 0b01, 0)));
        s.header[at::KEY] = bin(key.id().as_bytes());
        s.key = key;
    });
    make.put("key_of_another_rule", "key_mismatch", "sealed with the key of another rule", &scene);
    let scene = make.scene().with(|s| {
        let key = s.world.sender_key("collector", "notes", label(1, 0, 0));
        s.secret = secret(&format!("collector notes {:?}", label(1, 0, 0)));
        s.header[at::KEY] = bin(key.id().as_bytes());
        s.key = key;
    });
    make.put(
        "key_of_a_lower_label",
        "key_mismatch",
        "sealed with the key of a lower label, which more may read",
        &scene,
    );
    let scene = make.scene().with(|s| {
        let key = s.world.sender_key("gatherer", "notes", label(1, 0b01, 0));
        s.secret = secret(&format!("gatherer notes {:?}", label(1, 0b01, 0)));
        s.header[at::KEY] = bin(key.id().as_bytes());
        s.key = key;
    });
    make.put(
        "key_of_another_session",
        "key_mismatch",
        "sealed with the key of another agent's session",
        &scene,
    );

    let scene = make.scene();
    let (header, ciphertext, ..) = scene.parts();
    let mut resigned = |name: &str, purpose: &str, header: &[u8], ciphertext: &[u8]| {
        let digest = envelope_digest(header, ciphertext);
        let bytes = scene.frame(header, ciphertext, &scene.proof(&digest).encode());
        let admission = scene.admission(&digest).encode();
        make.vectors
            .hostile(name, scene.vector(purpose, &bytes, Some(&admission), refused("decrypt_failed")));
    };
    let mut flipped = ciphertext.clone();
    flipped[0] ^= 1;
    resigned(
        "ciphertext_flipped",
        "one bit of the ciphertext, signed and admitted as it is",
        &header,
        &flipped,
    );
    resigned("ciphertext_without_tag", "the tag is missing", &header, &ciphertext[..ciphertext.len() - 16]);
    let other = make_other_header(&scene);
    resigned(
        "header_not_the_sealed_one",
        "sealed under another time-to-live than the header says",
        &other,
        &ciphertext,
    );
    let scene = make.scene().with(|s| s.id = Rng::new("another id").bytes());
    make.put(
        "nonce_of_another_id",
        "decrypt_failed",
        "sealed under the nonce of another envelope id",
        &scene,
    );
    let scene = make.scene();
    let (header, ..) = scene.parts();
    let two_keys = make.scene().with(|s| s.secret = secret("a second key"));
    let ciphertext = two_keys.ciphertext(&header);
    let digest = envelope_digest(&header, &ciphertext);
    let bytes = scene.frame(&header, &ciphertext, &scene.proof(&digest).encode());
    let admission = scene.admission(&digest).encode();
    make.vectors.hostile(
        "two_keys_for_one_ciphertext",
        scene.vector(
            "a ciphertext under a second key, in the name of the first key's id: the id commits to one key",
            &bytes,
            Some(&admission),
            refused("decrypt_failed"),
        ),
    );
    let mut context = two_keys.vector(
        "the reader holds the second key instead: its id is not the one that the header names",
        &bytes,
        Some(&admission),
        refused("unknown_key"),
    );
    context.context["keys"][0]["secret"] = sealbus_envelope::hash::hex(&two_keys.secret).into();
    make.vectors.hostile("two_keys_second_reader", context);

    let inner = content("text/plain", None, b"hello, analyst!");
    let mut padded = |name: &str, code: &str, purpose: &str, text: Vec<u8>| {
        let scene = make.scene().with(|s| s.plaintext = text);
        make.put(name, code, purpose, &scene);
    };
    let mut dirty = plaintext(&inner);
    let last = dirty.len() - 1;
    assert!(last > inner.len() + 4, "there must be padding to spoil");
    dirty[last] = 1;
    padded("padding_not_zero", "bad_padding", "a padding byte that is not zero", dirty);
    padded(
        "padding_missing",
        "bad_padding",
        "no padding",
        [&u32::try_from(inner.len()).unwrap().to_be_bytes()[..], &inner].concat(),
    );
    padded(
        "padding_too_long",
        "bad_padding",
        "one byte of padding too many",
        [plaintext(&inner), vec![0]].concat(),
    );
    padded("padding_length_beyond", "bad_padding", "the length inside is above what is there", {
        let mut text = plaintext(&inner);
        text[0] = 0xff;
        text
    });
    padded("padding_no_length", "bad_padding", "three bytes in all", vec![0; 3]);
    padded(
        "content_trailing_byte",
        "trailing_bytes",
        "a byte follows the content, inside the length",
        plaintext(&[&inner[..], &[0]].concat()),
    );
    padded(
        "content_arity",
        "wrong_arity",
        "a content of two elements",
        plaintext(&array(&[str("a/b"), bin(b"x")])),
    );
    padded(
        "content_type_line_break",
        "bad_encoding",
        "a line break in the content type would forge a log line",
        plaintext(&content("a/b\nadmin=1", None, b"")),
    );
    padded(
        "content_type_oversize",
        "too_large",
        "a content type of 129 bytes",
        plaintext(&content(&"a".repeat(129), None, b"")),
    );
    padded(
        "traceparent_oversize",
        "too_large",
        "a trace context of 65 bytes",
        plaintext(&content("a/b", Some(&"a".repeat(65)), b"")),
    );
    padded(
        "payload_is_text",
        "bad_encoding",
        "the payload is a text, not a byte string",
        plaintext(&array(&[str("a/b"), nil(), str("x")])),
    );
}

fn make_other_header(scene: &Scene<'_>) -> Vec<u8> {
    let mut header = scene.header.clone();
    header[at::TTL] = uint(59_999);
    array(&header)
}

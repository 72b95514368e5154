//! Envelopes whose bytes are not as they must be.

use super::Make;
use crate::{
    scene::{array, at, bin, labelled, nil, parents, str, uint},
    world::{DAY, label},
};

pub(super) fn frames(make: &mut Make<'_, '_>) {
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

pub(super) fn headers(make: &mut Make<'_, '_>) {
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

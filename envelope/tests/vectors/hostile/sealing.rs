//! Messages that do not open: replays, ages, keys, ciphertexts and what is inside.

use super::Make;
use crate::{
    scene::{Scene, array, at, bin, content, nil, plaintext, refused, str, uint},
    world::{NOW, Rng, envelope_digest, label, secret},
};

pub(super) fn put(make: &mut Make<'_, '_>) {
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

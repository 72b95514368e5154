//! Attacks on bytes: what is altered, cut, swollen or timed wrongly on a good connection.

use sealbus_envelope::{
    identity::Purpose,
    proof::batch::{self, BatchProof},
    reason::Reason,
    wire::{MAX_ENVELOPE, codec::Writer},
};
use sealbus_guard::clock;
use sealbus_tests::hostile::{arena::Arena, forge::Parts};

/// One byte anywhere breaks the signature; none of it is the agent's fault, for a server could have done it.
#[tokio::test(flavor = "multi_thread")]
async fn altered_envelopes_are_dropped_and_held_against_nobody() {
    let mut arena = Arena::open().await;
    let (mut mallory, mut key) = arena.publisher().await;
    let me = mallory.token();
    let good = Parts::of(&mallory.envelope(&mut key, "tips.a", b"to be altered"));
    let other = Parts::of(&mallory.envelope(&mut key, "tips.a", b"another one"));

    let mut fields = mallory.fields(&key, "tips.b");
    fields.sequence = key.next;
    let header = Parts { header: fields.encode().unwrap(), ..good.clone() };
    let mut ciphertext = good.clone();
    *ciphertext.ciphertext.first_mut().unwrap() ^= 1;
    let mut proof = good.clone();
    *proof.proof.last_mut().unwrap() ^= 1;
    let swapped = Parts { proof: other.proof.clone(), ..good.clone() };
    for (attack, subject, forged, reason) in [
        ("alter the header", "tips.b", header, Reason::BadSignature),
        ("alter the ciphertext", "tips.a", ciphertext, Reason::BadSignature),
        ("alter the signature", "tips.a", proof, Reason::BadSignature),
        ("take the proof of another envelope", "tips.a", swapped, Reason::BadSignature),
    ] {
        mallory.send(subject, &forged.bytes()).await.unwrap();
        arena.guard_refused(attack, &me, reason).await;
    }

    // Proofs of a batch of four, bent one by one.
    let digests = [good.digest(), other.digest(), [1; 32], [2; 32]];
    let session = mallory.papers.session();
    let proofs = batch::sign(&mallory.papers.key, Purpose::Batch, session.as_bytes(), &digests);
    let straight = proofs.first().unwrap().clone();
    let bent = |change: &dyn Fn(&mut BatchProof)| {
        let mut proof = straight.clone();
        change(&mut proof);
        Parts { proof: proof.encode(), ..good.clone() }.bytes()
    };
    for (attack, forged, reason) in [
        ("forge the index in the batch", bent(&|proof| proof.index = 1), Reason::BadSignature),
        ("forge an index outside the batch", bent(&|proof| proof.index = 4), Reason::BadProof),
        ("forge the batch's size", bent(&|proof| proof.size = 3), Reason::BadSignature),
        ("forge the path", bent(&|proof| *proof.path.first_mut().unwrap() = [0; 32]), Reason::BadSignature),
        ("lengthen the path", bent(&|proof| proof.path.push([0; 32])), Reason::BadProof),
        ("shorten the path", bent(&|proof| proof.path.truncate(1)), Reason::BadProof),
    ] {
        mallory.send("tips.a", &forged).await.unwrap();
        arena.guard_refused(attack, &me, reason).await;
    }
    // A signature over the same tree, made for grants.
    let wrong = batch::sign(&mallory.papers.key, Purpose::Grant, session.as_bytes(), &[good.digest()]);
    let forged = Parts { proof: wrong.first().unwrap().encode(), ..good.clone() }.bytes();
    mallory.send("tips.a", &forged).await.unwrap();
    arena.guard_refused("sign an envelope as if it were a grant", &me, Reason::BadSignature).await;

    // The straight one is taken: the forgeries cost it neither its place nor its name.
    let honest = Parts { proof: straight.encode(), ..good }.bytes();
    mallory.send("tips.a", &honest).await.unwrap();
    assert_eq!(arena.delivered().await.pop().unwrap().payload, honest);
    assert!(arena.watch.said("quarantine", &me).is_empty());
    arena.close().await;
}

/// Bytes that are no envelope, or claim to be larger than they are.
#[tokio::test(flavor = "multi_thread")]
async fn malformed_envelopes_are_dropped() {
    let mut arena = Arena::open().await;
    let (mut mallory, mut key) = arena.publisher().await;
    let me = mallory.token();
    let good = mallory.envelope(&mut key, "tips.a", b"whole");
    let mut trailing = good.clone();
    trailing.push(0);
    let mut version = good.clone();
    *version.get_mut(1).unwrap() = 2;
    let bomb = |lead: &[u8]| {
        let mut bytes = vec![0x94, 1];
        bytes.extend_from_slice(lead);
        bytes
    };
    let mut oversize = vec![0; MAX_ENVELOPE + 1];
    *oversize.first_mut().unwrap() = 0x94;
    let mut headerless = Writer::with_capacity(64);
    headerless.array(4).uint(1u8).bin(&[]).bin(&[0; 16]).bin(&[]);
    let large_header = Parts { header: vec![0x9f; 17_000], ..Parts::of(&good) }.bytes();
    for (attack, bytes, reason) in [
        ("send nothing", vec![], Reason::Truncated),
        ("send half an envelope", good.get(..good.len() / 2).unwrap().to_vec(), Reason::Truncated),
        ("send all but the last byte", good.get(..good.len() - 1).unwrap().to_vec(), Reason::Truncated),
        ("send a byte too many", trailing, Reason::TrailingBytes),
        ("send another version", version, Reason::UnsupportedVersion),
        ("send text", b"{\"to\":\"everybody\"}".to_vec(), Reason::BadEncoding),
        ("send three parts", vec![0x93, 1, 0xc4, 0, 0xc4, 0], Reason::WrongArity),
        ("claim a header of 4 GiB", bomb(&[0xc6, 0xff, 0xff, 0xff, 0xff]), Reason::TooLarge),
        ("claim four billion elements", vec![0xdd, 0xff, 0xff, 0xff, 0xff], Reason::BadEncoding),
        ("nest ten thousand arrays", vec![0x91; 10_000], Reason::WrongArity),
        ("send a header above its limit", large_header, Reason::TooLarge),
        ("send an empty header", headerless.into_bytes(), Reason::Truncated),
        ("send more than an envelope may have", oversize, Reason::TooLarge),
    ] {
        mallory.send("tips.a", &bytes).await.unwrap();
        let said = arena.watch.event(attack, |event| {
            event.get("kind") == Some(&"denied".into()) && event.get("agent") == Some(&me.as_str().into())
        });
        let said = said.await;
        assert_eq!(said.get("reason"), Some(&reason.code().into()), "{attack}: {said}");
        assert_eq!(said.get("signed"), Some(&false.into()));
        arena.came_to_nothing(attack).await;
        sealbus_tests::hostile::arena::report(
            attack,
            sealbus_tests::hostile::arena::By::Guard,
            reason.code(),
        );
    }
    assert!(arena.watch.said("quarantine", &me).is_empty());
    mallory.send("tips.a", &good).await.unwrap();
    assert_eq!(arena.delivered().await.pop().unwrap().payload, good);
    arena.close().await;
}

/// Envelopes of another time.
#[tokio::test(flavor = "multi_thread")]
async fn untimely_envelopes_are_dropped() {
    let mut arena = Arena::open().await;
    let (mut mallory, mut key) = arena.publisher().await;
    let me = mallory.token();
    let now = clock::now();
    for (attack, issued, ttl, reason) in [
        ("publish what was sealed a minute ago", now.minus(60_000), 3_600_000, Reason::Stale),
        ("publish what will be sealed in a minute", now.plus(60_000), 3_600_000, Reason::FromFuture),
        ("publish what is of no use any more", now.minus(5_000), 1_000, Reason::Expired),
        ("publish from the beginning of time", sealbus_envelope::time::Millis(0), 1, Reason::Stale),
        ("publish from the end of time", sealbus_envelope::time::Millis(u64::MAX), 1, Reason::FromFuture),
    ] {
        let mut fields = mallory.fields(&key, "tips.a");
        (fields.issued_at, fields.ttl_ms) = (issued, ttl);
        let envelope = mallory.seal(&mut key, &fields, b"late or early");
        mallory.send("tips.a", &envelope).await.unwrap();
        arena.guard_refused(attack, &me, reason).await;
    }
    arena.close().await;
}

//! Attacks on key grants: to readers that may not, of keys that are not one's own.

use sealbus_envelope::{
    control::{Grants, ReaderRecord, Want, kind, verb},
    identity::Role,
    label::Clearance,
    reason::Reason,
};
use sealbus_tests::hostile::{
    arena::{Arena, label},
    hand::Hand,
};

fn record(hand: &Hand) -> ReaderRecord {
    ReaderRecord {
        credential: hand.papers.credential.as_str().to_owned(),
        certificate: hand.papers.certificate.as_bytes().to_vec().into(),
        reader_key: hand.papers.reader_key().as_bytes().to_vec().into(),
    }
}

/// A session and the reader key that the guard knows of it.
async fn reader(arena: &Arena, name: &str, team: &str, clearance: Clearance) -> (Hand, ReaderRecord) {
    let mut hand = Hand::join(&arena.bus.agent_with(name, team, Role::Agent, clearance)).await;
    // Each call signs a new record, so the one to be granted to is announced.
    let record = record(&hand);
    let notice = sealbus_envelope::control::ReaderKeyNotice { reader_key: record.reader_key.clone() };
    hand.say(verb::READER, &notice).await.unwrap();
    (hand, record)
}

/// Keys go to those whom the rule names and who said that they read, and to nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn keys_are_granted_to_readers_of_the_rule_only() {
    let mut arena = Arena::open().await;
    let (mut mallory, key) = arena.publisher().await;
    let me = mallory.token();
    let all = sealbus_tests::bus::everything();
    let (mut accomplice, accomplices) = reader(&arena, "accomplice", "mob", all).await;
    let (mut silent, silents) = reader(&arena, "silent", "canary", all).await;
    let (mut low, lows) = reader(&arena, "low", "canary", Clearance::default()).await;
    assert_eq!(low.declare("tips", "tips.>", false).await, None);
    let mut mid = mallory.make_key("tips", label(1, 0, 0), None);
    let readers = mallory.announce(&mid).await;
    assert!(readers.readers.is_empty(), "the guard names nobody whose clearance is too low: {readers:?}");
    for (attack, of, to) in [
        ("grant a key to an accomplice whom the rule does not name", &key, &accomplices),
        ("grant a key to who declared no reading", &key, &silents),
        ("grant a key above its reader's clearance", &mid, &lows),
    ] {
        let grants = mallory.grants(of, std::slice::from_ref(to));
        mallory.say(verb::GRANT, &grants).await.unwrap();
        arena.guard_refused(attack, &me, Reason::NotSubscriber).await;
    }
    for hand in [&mut accomplice, &mut silent, &mut low] {
        let heard = hand.heard().await;
        assert!(!heard.iter().any(|message| message.subject.ends_with(".grant")), "{heard:?}");
    }
    // The key above the reader's clearance is of use still: nobody reads, and that is all.
    mallory.publish(&mut mid, "tips.mid", b"for nobody").await;
    assert_eq!(arena.delivered().await.len(), 1);
    arena.close().await;
}

/// Grants that are not the sender's own, or not as it signed them.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_grants_the_keys_of_another() {
    let mut arena = Arena::open().await;
    let (mut victim, victims) = arena.publisher().await;
    let (mut mallory, key) = arena.publisher().await;
    let me = mallory.token();
    let (mut reader, record) = reader(&arena, "reader", "canary", sealbus_tests::bus::everything()).await;
    assert_eq!(reader.declare("tips", "tips.>", false).await, None);
    let to = std::slice::from_ref(&record);
    let stolen = victim.grants(&victims, to);
    let own = mallory.grants(&key, to);
    let unopened = mallory.make_key("tips", label(0, 0, 0), None);
    let mut bent = own.clone();
    let last = bent.grants.first_mut().unwrap().last_mut().unwrap();
    *last ^= 1;
    let mut resealed = own.clone();
    let enc = resealed.grants.first_mut().unwrap();
    let middle = enc.len() / 2;
    *enc.get_mut(middle).unwrap() ^= 1;
    for (attack, grants, reason) in [
        ("pass on another's grant", stolen.clone(), Reason::UnknownKey),
        (
            "grant one's own key under another's key id",
            Grants { key: stolen.key, ..own.clone() },
            Reason::BadGrant,
        ),
        (
            "pass on another's grant under one's own key id",
            Grants { key: own.key, ..stolen.clone() },
            Reason::BadGrant,
        ),
        ("grant a key that was never opened", mallory.grants(&unopened, to), Reason::UnknownKey),
        ("alter a grant's signature", bent, Reason::BadSignature),
        ("alter what a grant seals", resealed, Reason::BadSignature),
        (
            "send bytes that are no grant",
            Grants { key: own.key, grants: vec![vec![0xc0].into()] },
            Reason::BadEncoding,
        ),
    ] {
        mallory.say(verb::GRANT, &grants).await.unwrap();
        arena.guard_refused(attack, &me, reason).await;
    }
    for (attack, session, key, reason) in [
        ("want a key of a session that is not", vec![9; 32], own.key, Reason::UnknownSession),
        ("want a key that is not", victim.papers.session().as_bytes().to_vec(), own.key, Reason::UnknownKey),
        (
            "want a key under a rule that does not name it",
            victim.papers.session().as_bytes().to_vec(),
            stolen.key,
            Reason::NotSubscriber,
        ),
        ("want a key of half a session id", vec![9; 16], own.key, Reason::Malformed),
    ] {
        mallory.say(verb::WANT, &Want { session: session.into(), key }).await.unwrap();
        arena.guard_refused(attack, &me, reason).await;
    }
    // Nothing of it reached the reader; the honest grant does, as often as it is sent.
    let heard = reader.heard().await;
    assert!(!heard.iter().any(|message| message.subject.ends_with(".grant")), "{heard:?}");
    for _ in 0..2 {
        mallory.say(verb::GRANT, &own).await.unwrap();
        reader.told(kind::GRANT).await;
    }
    // A sender is asked for its key on behalf of a reader, and of nobody else.
    let asked = victim.heard().await;
    let readers = asked.iter().filter(|message| message.subject.ends_with(".readers")).count();
    assert_eq!(readers, 1, "once, for the reader that declared: {asked:?}");
    arena.close().await;
}

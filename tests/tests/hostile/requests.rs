//! Attacks on requests: replies that nobody asked for, twice, late, by others, to others.

use sealbus_envelope::{control::kind, hash::Hash, reason::Reason, wire::HeaderFields};
use sealbus_tests::{
    bus::soon,
    hostile::{
        arena::{Arena, label},
        forge::Parts,
        hand::Hand,
        papers::Key,
    },
};

/// Somebody who asks, somebody who serves, and somebody who may serve but does not say so.
struct Cast {
    arena: Arena,
    asker: Hand,
    responder: Hand,
    idler: Hand,
    ask: Key,
    subject: String,
}

/// `rule` is also the first token of its subject.
async fn cast(rule: &str) -> Cast {
    let subject = format!("{rule}.it");
    let arena = Arena::open().await;
    let mut responder = Hand::join(&arena.bus.agent("vault-1", "vault")).await;
    assert_eq!(responder.declare(rule, &subject, true).await, None);
    let idler = Hand::join(&arena.bus.agent("vault-2", "vault")).await;
    let mut asker = Hand::join(&arena.bus.agent("asker", "mob")).await;
    let ask = asker.open(rule, label(0, 0, 0)).await;
    responder.told(kind::GRANT).await;
    Cast { arena, asker, responder, idler, ask, subject }
}

impl Cast {
    /// Asks; gives the digest of the request, once the responder has it.
    async fn ask(&mut self) -> Hash {
        let envelope = self.asker.publish(&mut self.ask, &self.subject, b"what is the secret?").await;
        let request = self.responder.told(kind::REQUEST).await;
        assert_eq!(request, envelope, "the responder gets what was asked");
        Parts::of(&envelope).digest()
    }
}

/// Opens a key for replies to `asker` and grants it.
async fn reply_key(rule: &str, responder: &mut Hand, asker: &Hand) -> Key {
    let key = responder.make_key(rule, label(0, 0, 0), Some(asker.papers.session()));
    let readers = responder.announce(&key).await;
    assert_eq!((readers.refused, readers.readers.len()), (None, 1));
    responder.grant(&key, &readers.readers).await;
    key
}

fn reply(hand: &Hand, key: &Key, request: Hash) -> HeaderFields {
    let subject = format!("{}.it", key.sender.scope().rule);
    HeaderFields { request: Some(request), ..hand.fields(key, &subject) }
}

/// One request, one reply, from who was asked, in time.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_has_one_reply_from_who_was_asked() {
    let mut cast = cast("ask").await;
    let request = cast.ask().await;
    let me = cast.responder.token();
    let mut key = reply_key("ask", &mut cast.responder, &cast.asker).await;

    let fields = reply(&cast.responder, &key, [5; 32]);
    let envelope = cast.responder.seal(&mut key, &fields, b"you did not ask, but");
    cast.responder.send("ask.it", &envelope).await.unwrap();
    cast.arena.guard_refused("reply to what was never asked", &me, Reason::NoRequest).await;

    let mut idle_key = reply_key("ask", &mut cast.idler, &cast.asker).await;
    let fields = reply(&cast.idler, &idle_key, request);
    let envelope = cast.idler.seal(&mut idle_key, &fields, b"let me answer that");
    cast.idler.send("ask.it", &envelope).await.unwrap();
    let idler = cast.idler.token();
    cast.arena.guard_refused("reply though somebody else was asked", &idler, Reason::NoRequest).await;

    let other = cast.other_asker().await;
    let mut stray = reply_key("ask", &mut cast.responder, &other).await;
    let fields = reply(&cast.responder, &stray, request);
    let envelope = cast.responder.seal(&mut stray, &fields, b"sealed to somebody else");
    cast.responder.send("ask.it", &envelope).await.unwrap();
    cast.arena.guard_refused("reply under a key that another asker reads", &me, Reason::WrongReader).await;

    let fields = reply(&cast.responder, &key, request);
    let envelope = cast.responder.seal(&mut key, &fields, b"the honest answer");
    cast.responder.send("ask.it", &envelope).await.unwrap();
    assert_eq!(cast.asker.told(kind::REPLY).await, envelope);

    let fields = reply(&cast.responder, &key, request);
    let envelope = cast.responder.seal(&mut key, &fields, b"and another thing");
    cast.responder.send("ask.it", &envelope).await.unwrap();
    cast.arena.guard_refused("reply a second time", &me, Reason::NoRequest).await;

    // None of the false replies reached the asker.
    let heard = cast.asker.heard().await;
    assert!(!heard.iter().any(|message| message.subject.ends_with(".reply")), "{heard:?}");
    cast.arena.close().await;
}

impl Cast {
    /// Somebody else who may ask.
    async fn other_asker(&mut self) -> Hand {
        Hand::join(&self.arena.bus.agent("asker-2", "mob")).await
    }
}

/// After the deadline nothing is accepted, and nobody answers their own questions.
#[tokio::test(flavor = "multi_thread")]
async fn late_replies_and_replies_to_oneself_are_refused() {
    let mut cast = cast("brief").await;
    let request = cast.ask().await;
    let asked = cast.responder.heartbeat().await.time;
    let mut key = reply_key("brief", &mut cast.responder, &cast.asker).await;
    // The rule's deadline is a second; the guard's own clock says when it is over.
    let over = async { while cast.responder.heartbeat().await.time.since(asked) < 1_500 {} };
    soon("the deadline to pass", over).await;
    let fields = reply(&cast.responder, &key, request);
    let envelope = cast.responder.seal(&mut key, &fields, b"sorry that it took so long");
    cast.responder.send("brief.it", &envelope).await.unwrap();
    let me = cast.responder.token();
    cast.arena.guard_refused("reply after the deadline", &me, Reason::NoRequest).await;

    let request = cast.ask().await;
    let mut fields = reply(&cast.asker, &cast.ask, request);
    fields.sequence = cast.ask.next;
    let envelope = cast.asker.seal(&mut cast.ask, &fields, b"I say so myself");
    cast.asker.send("brief.it", &envelope).await.unwrap();
    let asker = cast.asker.token();
    cast.arena.guard_refused("answer one's own request", &asker, Reason::NotSubscriber).await;
    cast.arena.watch.quarantined(&asker).await;
    cast.arena.close().await;
}

/// A request goes to who serves it and holds its key, or to nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_goes_to_nobody_who_does_not_serve() {
    let mut arena = Arena::open().await;
    let mut idler = Hand::join(&arena.bus.agent("vault-2", "vault")).await;
    let mut asker = Hand::join(&arena.bus.agent("asker", "mob")).await;
    let mut ask = asker.open("ask", label(0, 0, 0)).await;
    asker.publish(&mut ask, "ask.it", b"is anybody there?").await;
    arena.guard_refused("ask where nobody serves", &asker.token(), Reason::NoResponder).await;

    // A responder that was never granted the key is none either.
    assert_eq!(idler.declare("ask", "ask.it", true).await, None);
    let mut secret = asker.make_key("ask", label(0, 0, 0), None);
    assert_eq!(asker.announce(&secret).await.refused, None);
    asker.publish(&mut secret, "ask.it", b"under a key that nobody has").await;
    arena.guard_refused("ask under a key that nobody was granted", &asker.token(), Reason::NoResponder).await;
    let heard = idler.heard().await;
    assert!(!heard.iter().any(|message| message.subject.ends_with(".request")), "{heard:?}");

    let mut vault = Hand::join(&arena.bus.agent("vault-3", "vault")).await;
    let key = vault.make_key("ask", label(0, 0, 0), None);
    assert_eq!(vault.announce(&key).await.refused, Some(Reason::NotPublisher));
    arena
        .guard_refused("open a key to ask where one may only answer", &vault.token(), Reason::NotPublisher)
        .await;
    let own = vault.papers.session();
    let key = vault.make_key("ask", label(0, 0, 0), Some(own));
    assert_eq!(vault.announce(&key).await.refused, Some(Reason::WrongPattern));
    arena.guard_refused("open a reply key to oneself", &vault.token(), Reason::WrongPattern).await;
    arena.close().await;
}

//! Attacks on who speaks: names, sessions and papers of others under a connection that is good.

use sealbus_envelope::{
    control::{Hello, Open, kind, verb},
    reason::Reason,
    time::Validity,
};
use sealbus_guard::clock;
use sealbus_tests::{
    bus::TestBus,
    hostile::{
        arena::{Arena, By, POLICY, label, report},
        forge::Parts,
        hand::Hand,
        papers::{Papers, fresh_key},
    },
};

/// An envelope that names somebody else, or somebody else's session, whoever signed it.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_speaks_as_another() {
    let mut arena = Arena::open().await;
    let (victim, victim_key) = arena.publisher().await;

    let (mut mallory, key) = arena.publisher().await;
    let mut fields = mallory.fields(&key, "tips.a");
    fields.sender = victim.token();
    let forged = Parts::signed(&fields, mallory.papers.session(), &mallory.papers.key).bytes();
    mallory.send("tips.a", &forged).await.unwrap();
    let me = mallory.token();
    arena
        .guard_refused("name another agent as the sender, signed by oneself", &me, Reason::WrongSender)
        .await;
    // The signature proves who lied, so this is evidence.
    arena.watch.quarantined(&me).await;

    let (mut mallory, _) = arena.publisher().await;
    let mut fields = victim.fields(&victim_key, "tips.a");
    let forged = Parts::signed(&fields, victim.papers.session(), &mallory.papers.key).bytes();
    mallory.send("tips.a", &forged).await.unwrap();
    let me = mallory.token();
    arena.guard_refused("name another agent and its session", &me, Reason::UnknownSession).await;

    fields.sender = me.clone();
    let forged = Parts::signed(&fields, victim.papers.session(), &mallory.papers.key).bytes();
    mallory.send("tips.a", &forged).await.unwrap();
    arena.guard_refused("claim another agent's session", &me, Reason::UnknownSession).await;

    let (mut mallory, key) = arena.publisher().await;
    let fields = mallory.fields(&key, "tips.a");
    let forged = Parts::signed(&fields, mallory.papers.session(), &fresh_key()).bytes();
    mallory.send("tips.a", &forged).await.unwrap();
    let me = mallory.token();
    arena.guard_refused("sign with a key that is not the session's", &me, Reason::BadSignature).await;

    let mut fields = mallory.fields(&key, "tips.a");
    fields.bus = sealbus_envelope::identity::BusId::from_bytes([9; 32]);
    let forged = Parts::signed(&fields, mallory.papers.session(), &mallory.papers.key).bytes();
    mallory.send("tips.a", &forged).await.unwrap();
    arena.guard_refused("name another bus", &me, Reason::WrongBus).await;

    // The victim was named in half of it, and is in good standing.
    assert!(arena.watch.said("quarantine", &victim.token()).is_empty());
    arena.close().await;
}

/// A session of the same agent that is not the one of the connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_said_no_hello_is_nobody() {
    let mut arena = Arena::open().await;
    let credentials = arena.mobster();
    let mut mallory = Hand::join(&credentials).await;
    let me = mallory.token();
    // A second session, with papers as good as the first's, that is only talked about.
    let other = Papers::new(&credentials);
    let key = mallory.open("tips", label(0, 0, 0)).await;
    let mut fields = mallory.fields(&key, "tips.a");
    fields.session = other.session();
    let forged = Parts::signed(&fields, other.session(), &other.key).bytes();
    mallory.send("tips.a", &forged).await.unwrap();
    arena
        .guard_refused("publish in a session of its own that said no hello", &me, Reason::UnknownSession)
        .await;

    // Two live sessions of one agent do not mix either.
    let mut second = Hand::join(&credentials).await;
    let mut key = second.open("tips", label(0, 0, 0)).await;
    let envelope = second.envelope(&mut key, "tips.a", b"through the other session's connection");
    mallory.send("tips.a", &envelope).await.unwrap();
    // The same agent signed it and speaks: that is allowed, once.
    assert_eq!(arena.delivered().await.pop().unwrap().payload, envelope);
    second.send("tips.a", &envelope).await.unwrap();
    arena.guard_refused("replay through another session of the same agent", &me, Reason::Replay).await;
    arena.close().await;
}

/// Hello with papers that are not one's own.
#[tokio::test(flavor = "multi_thread")]
async fn hello_takes_only_ones_own_papers() {
    let mut arena = Arena::open().await;
    let victim = arena.attacker().await;
    let mobster = arena.mobster();
    let mut mallory = Hand::connect(Papers::new(&mobster), &mobster).await.unwrap();
    mallory.listen().await;
    let guard = mallory.heartbeat().await.guard;
    let me = mallory.token();
    let own = mallory.hello_message(guard, &[]);

    let stolen = victim.hello_message(guard, &[]);
    mallory.say(verb::HELLO, &stolen).await.unwrap();
    arena.guard_refused("say hello with another agent's papers", &me, Reason::WrongSender).await;

    let mixed = Hello { certificate: stolen.certificate.clone(), ..own.clone() };
    mallory.say(verb::HELLO, &mixed).await.unwrap();
    arena.guard_refused("say hello with another agent's certificate", &me, Reason::WrongSender).await;

    let mixed = Hello { statement: stolen.statement.clone(), ..own.clone() };
    mallory.say(verb::HELLO, &mixed).await.unwrap();
    arena.guard_refused("say hello with another session's statement", &me, Reason::BadSignature).await;

    let mixed = Hello { reader_key: stolen.reader_key.clone(), ..own.clone() };
    mallory.say(verb::HELLO, &mixed).await.unwrap();
    arena.guard_refused("say hello with another session's reader key", &me, Reason::BadSignature).await;

    let other = Hand::connect(Papers::new(&mobster), &mobster).await.unwrap();
    mallory.say(verb::HELLO, &other.hello_message(guard, &[])).await.unwrap();
    arena.guard_refused("say hello for another session of its own", &me, Reason::WrongSession).await;

    let now = clock::now();
    for (attack, validity, reason) in [
        (
            "say hello with a certificate that is over",
            Validity { not_before: now.minus(60_000), not_after: now.minus(1_000) },
            Reason::CertificateExpired,
        ),
        (
            "say hello with a certificate of tomorrow",
            Validity::starting(now.plus(3_600_000), 3_600_000),
            Reason::NotYetValid,
        ),
    ] {
        let untimely = Papers::valid(&mobster, validity);
        let hello = Hello {
            certificate: untimely.certificate.as_bytes().to_vec().into(),
            statement: untimely.statement(guard, vec![]),
            ..own.clone()
        };
        mallory.say(verb::HELLO, &hello).await.unwrap();
        arena.guard_refused(attack, &me, reason).await;
    }

    let elsewhere = TestBus::prepare(POLICY, sealbus_tests::server::ServerSpec::default()).await;
    let foreign = elsewhere.agent("mob", "mob");
    let theirs = Papers::new(&foreign);
    let hello = Hello {
        credential: theirs.credential.as_str().to_owned(),
        certificate: theirs.certificate.as_bytes().to_vec().into(),
        statement: theirs.statement(guard, vec![]),
        reader_key: None,
    };
    mallory.say(verb::HELLO, &hello).await.unwrap();
    // Another bus has another issuer.
    arena.guard_refused("say hello with papers of another bus", &me, Reason::BadSignature).await;

    let mut old = guard;
    old.epoch -= 1;
    let hello = mallory.hello_message(old, &[]);
    mallory.say(verb::HELLO, &hello).await.unwrap();
    arena.guard_refused("say hello to a guard that is gone", &me, Reason::OldEpoch).await;
    let mut unasked = guard;
    unasked.challenge = [0; 16];
    let hello = mallory.hello_message(unasked, &[]);
    mallory.say(verb::HELLO, &hello).await.unwrap();
    arena.guard_refused("say hello to another challenge", &me, Reason::OldEpoch).await;

    // With its own papers it is welcome still.
    mallory.say(verb::HELLO, &own).await.unwrap();
    mallory.told(kind::WELCOME).await;
    arena.close().await;
}

/// Logins with a connection that the guard turns away: that they come to nothing beside live traffic. What
/// each is told is `auth_login`'s to try.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_logs_in_with_papers_that_are_not_good() {
    let mut arena = Arena::open().await;
    let (victim, mobster) = (arena.attacker().await, arena.mobster());
    let mut stolen = Papers::new(&mobster);
    stolen.credential = victim.papers.credential.clone();
    let mut thief = Papers::new(&mobster);
    thief.key = fresh_key();
    let elsewhere = TestBus::prepare(POLICY, sealbus_tests::server::ServerSpec::default()).await;
    let foreign = Papers::new(&elsewhere.agent("mob", "mob"));
    let twin = victim.papers.twin();
    for (attack, papers, reason) in [
        ("log in with another's credential", stolen, Reason::CertificateInvalid),
        ("log in with papers seen on the wire", thief, Reason::BadSignature),
        ("log in with papers of another bus", foreign, Reason::BadSignature),
        ("log in twice with one session", twin, Reason::SessionInUse),
    ] {
        let outcome = Hand::connect(papers, &mobster).await.map(|_| ());
        assert!(outcome.unwrap_err().says("authorization violation"), "{attack}");
        let event = arena
            .watch
            .event(attack, |event| {
                event.get("kind") == Some(&"connection".into())
                    && event.get("reason") == Some(&reason.code().into())
            })
            .await;
        assert!(event.get("detail").unwrap().as_str().unwrap().starts_with("refused"), "{event}");
        arena.came_to_nothing(attack).await;
        report(attack, By::Guard, reason.code());
    }
    arena.close().await;
}

/// `open` of keys that are another session's.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_opens_keys_for_another() {
    let mut arena = Arena::open().await;
    let (mut victim, _) = arena.publisher().await;
    let (mut mallory, _) = arena.publisher().await;
    let (me, guard) = (mallory.token(), mallory.guard.unwrap());
    let key = victim.make_key("tips", label(0, 0, 0), None);

    let statement = victim.papers.statement(guard, vec![key.live()]);
    mallory.say(verb::OPEN, &Open { statement }).await.unwrap();
    arena.guard_refused("open a key with another session's statement", &me, Reason::BadSignature).await;

    let statement = sealbus_envelope::control::SessionStatement {
        bus: mallory.papers.bus(),
        session: victim.papers.session(),
        guard,
        keys: vec![key.live()],
    };
    let statement = statement.sign(&mallory.papers.key).into();
    mallory.say(verb::OPEN, &Open { statement }).await.unwrap();
    arena.guard_refused("open a key in another session's name", &me, Reason::WrongSession).await;

    let mut old = guard;
    old.challenge = [7; 16];
    let own = mallory.make_key("tips", label(0, 0, 0), None);
    let statement = mallory.papers.statement(old, vec![own.live()]);
    mallory.say(verb::OPEN, &Open { statement }).await.unwrap();
    arena
        .guard_refused("open a key with a statement for another start of the guard", &me, Reason::OldEpoch)
        .await;

    for (attack, rule, of, reason) in [
        ("open a key under a rule that does not name it", "secrets", label(2, 0, 0), Reason::NotPublisher),
        ("open a key under a rule that is not", "nothing", label(0, 0, 0), Reason::UnknownRule),
        ("open a key above its clearance", "tips", label(2, 0, 0), Reason::AboveClearance),
        ("open a key above its integrity ceiling", "tips", label(0, 0, 2), Reason::AboveIntegrity),
        ("open a key outside the rule's range", "tips", label(0, 2, 0), Reason::LabelOutOfRange),
        ("open a key for a level that is not", "tips", label(9, 0, 0), Reason::LabelUnknown),
    ] {
        let key = mallory.make_key(rule, of, None);
        assert_eq!(mallory.announce(&key).await.refused, Some(reason), "{attack}");
        arena.guard_refused(attack, &me, reason).await;
    }
    let key = mallory.make_key("tips", label(0, 0, 0), Some(victim.papers.session()));
    assert_eq!(mallory.announce(&key).await.refused, Some(Reason::WrongPattern));
    arena.guard_refused("open a reply key under a stream rule", &me, Reason::WrongPattern).await;
    arena.close().await;
}

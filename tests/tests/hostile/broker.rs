//! Attacks by the server itself: envelopes and proofs put straight before a reader, behind the guard's back.
//! Here the reader refuses.

use sealbus_client::{Client, Credentials, ErrorKind, Event, Events, Subscription};
use sealbus_envelope::{
    control::{self, DeniedNotice, Granted, ReaderRecord, Readers, VerdictNotice, kind},
    identity::{Credential, Role, SigningKey},
    label::Level,
    name::{AgentToken, Name},
    proof::admission::{self, Admission, Decision, Verdict},
    reason::Reason,
    wire::Flags,
};
use sealbus_guard::clock;
use sealbus_tests::{
    bus::soon,
    hostile::{
        arena::{Arena, By, label, report},
        forge::Parts,
        hand::Hand,
        papers::{Key, fresh_key},
        server::{HostileServer, admission_of},
    },
    raw::RawMessage,
};

/// A reader with the real client, a sender whose key it holds, one envelope of it that was delivered, and a
/// server that may do anything.
struct Scene {
    arena: Arena,
    server: HostileServer,
    sender: Hand,
    key: Key,
    reader: Client,
    events: Events,
    messages: Subscription,
    delivery: RawMessage,
}

async fn scene() -> Scene {
    let mut arena = Arena::open().await;
    let mut sender = arena.attacker().await;
    let reader = Client::connect(arena.bus.agent("reader", "canary")).await.unwrap();
    let mut messages = reader.subscribe("tips.>").await.unwrap();
    let mut key = sender.open("tips", label(0, 0, 0)).await;
    let envelope = sender.publish(&mut key, "tips.a", b"honest").await;
    let delivery = arena.delivered().await.pop().unwrap();
    assert_eq!(delivery.payload, envelope);
    assert_eq!(soon("the honest one", messages.next()).await.unwrap().payload(), b"honest");
    let server = HostileServer::enter(&mut arena.bus).await;
    let events = reader.events();
    Scene { arena, server, sender, key, reader, events, messages, delivery }
}

impl Scene {
    /// The reader says that it refused something for this reason.
    async fn reader_refused(&mut self, attack: &str, reason: Reason) {
        let refused = async {
            loop {
                if let Event::Refused { reason, .. } = self.events.next().await.unwrap() {
                    break reason;
                }
            }
        };
        let given = soon(&format!("the reader to refuse: {attack}"), refused).await;
        assert_eq!(given, reason, "{attack}");
        report(attack, By::Reader, reason.code());
    }

    async fn inject(
        &mut self,
        attack: &str,
        subject: &str,
        admission: Option<&str>,
        bytes: &[u8],
        reason: Reason,
    ) {
        self.server.inject(subject, admission, bytes).await.unwrap();
        self.reader_refused(attack, reason).await;
    }

    /// A decision as the guard would make it, but for `change`.
    fn decision(&self, change: impl Fn(&mut Decision)) -> Decision {
        let mut decision = Admission::decode(&admission_of(&self.delivery)).unwrap().decision;
        decision.position += 1_000;
        decision.time = clock::now();
        change(&mut decision);
        decision
    }

    /// Of all that was injected nothing was read; the next honest envelope is.
    async fn nothing_read(mut self) {
        // The canary has no eyes for who is right: it heard all of it, so it is read out before the honest one.
        self.arena.delivered().await;
        self.sender.publish(&mut self.key, "tips.a", b"honest again").await;
        let message = soon("the next honest one", self.messages.next()).await.unwrap();
        assert_eq!(message.payload(), b"honest again", "something injected was read");
        self.reader.close().await.unwrap();
        self.arena.close().await;
    }
}

/// What the guard admitted, put before the reader again or elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_takes_nothing_twice_and_nothing_from_elsewhere() {
    let mut scene = scene().await;
    let (bytes, admission) = (scene.delivery.payload.clone(), admission_of(&scene.delivery));
    let own = scene.delivery.subject.clone();
    let elsewhere = scene.sender.wire().delivery(Level::new(0).unwrap(), "tips.b");
    let above = scene.sender.wire().delivery(Level::new(1).unwrap(), "tips.a");
    let some = Some(admission.as_str());
    scene.inject("replay an admitted envelope to a live reader", &own, some, &bytes, Reason::Replay).await;
    scene
        .inject(
            "move an admitted envelope to another subject",
            &elsewhere,
            some,
            &bytes,
            Reason::WrongSubject,
        )
        .await;
    scene
        .inject("move an admitted envelope to another level", &above, some, &bytes, Reason::WrongSubject)
        .await;
    scene.inject("strip the proof of admission", &own, None, &bytes, Reason::NotAdmitted).await;
    scene.inject("send a proof that is none", &own, Some("AAAA"), &bytes, Reason::BadAdmission).await;
    let cut = bytes.get(..bytes.len() - 1).unwrap();
    scene.inject("cut an admitted envelope", &own, some, cut, Reason::Truncated).await;
    let mut altered = Parts::of(&bytes);
    *altered.ciphertext.first_mut().unwrap() ^= 1;
    scene.inject("alter an admitted envelope", &own, some, &altered.bytes(), Reason::BadAdmission).await;
    scene.nothing_read().await;
}

/// Envelopes that no guard admitted, with proofs that somebody made or borrowed.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_takes_nothing_that_no_guard_of_the_policy_admitted() {
    let mut scene = scene().await;
    let own = scene.delivery.subject.clone();
    let stolen = admission_of(&scene.delivery);
    let fresh = scene.sender.envelope(&mut scene.key, "tips.a", b"never shown to the guard");
    let digest = Parts::of(&fresh).digest();
    let bus = scene.sender.papers.bus();
    let decision = scene.decision(|_| {});
    let by = |key: &sealbus_envelope::identity::SigningKey| {
        admission::sign(key, bus, &[(digest, decision)]).pop().unwrap().encode()
    };
    let mut as_guard = Admission::decode(&by(&fresh_key())).unwrap();
    as_guard.guard = *scene.arena.bus.guard_key().public().as_bytes();
    let (agents, unlisted) = (by(&scene.sender.papers.key), by(&fresh_key()));
    for (attack, admission, reason) in [
        ("pass another envelope's proof on", stolen.clone(), Reason::BadAdmission),
        ("admit it with an agent's key", agents, Reason::WrongRole),
        ("admit it with a key that the policy does not name", unlisted, Reason::WrongRole),
        ("admit it in the guard's name with another key", as_guard.encode(), Reason::BadAdmission),
    ] {
        scene.inject(attack, &own, Some(&admission), &fresh, reason).await;
    }
    // Bend what the guard did sign.
    let mut bent = Admission::decode(&stolen).unwrap();
    bent.decision.position += 1;
    let bytes = scene.delivery.payload.clone();
    scene
        .inject("alter the position in the log", &own, Some(&bent.encode()), &bytes, Reason::BadAdmission)
        .await;
    scene.nothing_read().await;
}

/// The guard's signed "no" is a proof as well: of the opposite.
#[tokio::test(flavor = "multi_thread")]
async fn a_denial_is_no_admission() {
    let mut scene = scene().await;
    let own = scene.delivery.subject.clone();
    let mut fields = scene.sender.fields(&scene.key, "tips.a");
    fields.flags = Flags::CONFIRM;
    // A grant that the policy does not have: denied under a valid signature, with a signed verdict.
    fields.flow_grant = Some(Name::parse("made-up").unwrap());
    let envelope = scene.sender.seal(&mut scene.key, &fields, b"denied");
    scene.sender.send("tips.a", &envelope).await.unwrap();
    let verdict: VerdictNotice = control::decode(&scene.sender.told(kind::VERDICT).await).unwrap();
    assert_eq!(verdict.refused, Some(Reason::FlowGrantUnknown));
    let denied = Admission::decode(&verdict.admission).unwrap();
    assert_eq!(denied.decision.verdict, Verdict::Deny);
    let mut turned = denied.clone();
    turned.decision.verdict = Verdict::Admit;
    scene
        .inject(
            "pass a denied envelope on with its denial",
            &own,
            Some(&denied.encode()),
            &envelope,
            Reason::Denied,
        )
        .await;
    scene
        .inject(
            "turn a denial into an admission",
            &own,
            Some(&turned.encode()),
            &envelope,
            Reason::BadAdmission,
        )
        .await;
    scene.nothing_read().await;
}

/// A guard whose key was stolen signs whatever it is told; policy and cryptography hold without it.
#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_guard_adds_no_publisher_and_no_reader() {
    let mut scene = scene().await;
    let own = scene.delivery.subject.clone();
    let bus = scene.sender.papers.bus();
    let guard_key = SigningKey::from_seed(&scene.arena.bus.guard_key().to_seed());
    let admitted = |envelope: &[u8], decision: Decision| {
        admission::sign(&guard_key, bus, &[(Parts::of(envelope).digest(), decision)]).pop().unwrap().encode()
    };

    let mut fields = scene.sender.fields(&scene.key, "tips.a");
    fields.label = label(2, 0, 0);
    let session = scene.sender.papers.session();
    let above = Parts::signed(&fields, session, &scene.sender.papers.key).bytes();
    let high = scene.sender.wire().delivery(Level::new(2).unwrap(), "tips.a");
    let proof = admitted(&above, scene.decision(|_| {}));
    scene
        .inject(
            "admit a label above the sender's clearance",
            &high,
            Some(&proof),
            &above,
            Reason::AboveClearance,
        )
        .await;

    let mut fields = scene.sender.fields(&scene.key, "secrets.a");
    (fields.rule, fields.label) = (sealbus_tests::bus::name("secrets"), label(2, 0, 0));
    let foreign = Parts::signed(&fields, session, &scene.sender.papers.key).bytes();
    let proof = admitted(&foreign, scene.decision(|_| {}));
    scene
        .inject(
            "admit a publisher whom the policy does not name",
            &own,
            Some(&proof),
            &foreign,
            Reason::NotPublisher,
        )
        .await;

    let unsigned = Parts::signed(&scene.sender.fields(&scene.key, "tips.a"), session, &fresh_key()).bytes();
    let proof = admitted(&unsigned, scene.decision(|_| {}));
    scene
        .inject("admit what its sender did not sign", &own, Some(&proof), &unsigned, Reason::BadSignature)
        .await;

    let fresh = scene.sender.envelope(&mut scene.key, "tips.a", b"admitted by a thief");
    for (attack, change, reason) in [
        (
            "admit under a policy that is not",
            Box::new(|d: &mut Decision| d.policy_digest = [0; 32]) as Box<dyn Fn(&mut Decision)>,
            Reason::BadAdmission,
        ),
        ("admit under a lease that is over", Box::new(|d: &mut Decision| d.epoch = 0), Reason::OldEpoch),
        (
            "admit in another partition",
            Box::new(|d: &mut Decision| d.partition = (d.partition + 1) % 64),
            Reason::BadAdmission,
        ),
        (
            "admit in the future",
            Box::new(|d: &mut Decision| d.time = clock::now().plus(120_000)),
            Reason::FromFuture,
        ),
    ] {
        let proof = admitted(&fresh, scene.decision(change));
        scene.inject(attack, &own, Some(&proof), &fresh, reason).await;
    }
    let proof = admitted(&scene.delivery.payload, scene.decision(|_| {}));
    let bytes = scene.delivery.payload.clone();
    scene.inject("admit an envelope a second time", &own, Some(&proof), &bytes, Reason::Replay).await;

    // A grant of a sender whom the rule does not name.
    let outsider = Hand::join(&scene.arena.bus.agent("outsider", "vault")).await;
    let mut puppet = outsider;
    let key = puppet.make_key("tips", label(0, 0, 0), None);
    let readers = {
        let shown = scene.sender.make_key("tips", label(0, 0, 0), None);
        scene.sender.announce(&shown).await.readers
    };
    let grants = puppet.grants(&key, &readers);
    let granted = Granted {
        credential: puppet.papers.credential.as_str().to_owned(),
        certificate: puppet.papers.certificate.as_bytes().to_vec().into(),
        grants: grants.grants,
    };
    let reader_box = |kind: &str| {
        let token = sealbus_envelope::name::AgentToken::parse(scene.reader.token()).unwrap();
        scene.sender.wire().session_box(&token, &scene.reader.session(), kind)
    };
    let subject = reader_box(kind::GRANT);
    let payload = control::encode(&granted).unwrap();
    scene
        .inject(
            "hand on a grant of a sender whom the rule does not name",
            &subject,
            None,
            &payload,
            Reason::NotPublisher,
        )
        .await;
    scene.nothing_read().await;
}

/// A hostile guard tells a sender of readers that the policy does not name: the sender checks them itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_sender_seals_to_no_reader_that_the_policy_does_not_name() {
    let mut arena = Arena::open().await;
    let client = Client::connect(arena.bus.agent("sender", "mob")).await.unwrap();
    client.publish_confirmed("tips.a", "honest").await.unwrap();
    let delivery = arena.delivered().await.pop().unwrap();
    let key = sealbus_envelope::wire::Decoded::decode(&delivery.payload).unwrap().claimed().key;
    let mut server = HostileServer::enter(&mut arena.bus).await;
    server.raw.subscribe("sb.ctl.>", None).await.unwrap();
    let token = sealbus_envelope::name::AgentToken::parse(client.token()).unwrap();
    let subject = arena.canary.wire().session_box(&token, &client.session(), kind::READERS);

    let spy = Hand::join(&arena.bus.agent("spy", "vault")).await;
    let low = arena.bus.agent_with("low", "canary", Role::Guard, sealbus_tests::bus::everything());
    let guard_like = sealbus_tests::hostile::papers::Papers::new(&low);
    let canary = Hand::join(&arena.bus.agent("reader", "canary")).await;
    let record = |papers: &sealbus_tests::hostile::papers::Papers| ReaderRecord {
        credential: papers.credential.as_str().to_owned(),
        certificate: papers.certificate.as_bytes().to_vec().into(),
        reader_key: papers.reader_key().as_bytes().to_vec().into(),
    };
    let mixed = ReaderRecord { reader_key: record(&spy.papers).reader_key, ..record(&canary.papers) };
    let swapped = ReaderRecord { certificate: record(&spy.papers).certificate, ..record(&canary.papers) };
    let mut events = client.events();
    for (attack, reader, reason) in [
        ("name a reader whom the rule does not name", record(&spy.papers), Reason::NotSubscriber),
        ("name a guard as a reader", record(&guard_like), Reason::WrongRole),
        ("put a spy's key under a reader's name", mixed, Reason::BadSignature),
        ("put a spy's certificate under a reader's name", swapped, Reason::WrongSender),
    ] {
        let readers = Readers { key, refused: None, readers: vec![reader], more: false };
        server.inject(&subject, None, &control::encode(&readers).unwrap()).await.unwrap();
        let refused = async {
            loop {
                if let Event::Refused { reason, .. } = events.next().await.unwrap() {
                    break reason;
                }
            }
        };
        assert_eq!(soon(attack, refused).await, reason, "{attack}");
        client.publish_confirmed("tips.a", "behind it").await.unwrap();
        let granted: Vec<_> = server
            .raw
            .arrived()
            .await
            .unwrap()
            .into_iter()
            .filter(|m| m.subject.ends_with(".grant"))
            .collect();
        assert!(granted.is_empty(), "{attack}: sealed a key to a spy");
        arena.delivered().await;
        report(attack, By::Reader, reason.code());
    }
    client.close().await.unwrap();
    arena.close().await;
}

/// A guard whose key is known to be stolen is revoked like anybody else, with one signature. It goes on
/// admitting, and nobody listens.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_takes_nothing_that_a_revoked_guard_admitted() {
    let mut scene = scene().await;
    let bus = &scene.arena.bus;
    let text = std::fs::read_to_string(&bus.config().keys.credential).unwrap();
    let (roots, key) = (bus.roots(), SigningKey::from_seed(&bus.guard_key().to_seed()));
    let credential = Credential::verify(text.trim(), roots.bus(), &roots.issuer).unwrap();
    let block = bus.agent("somebody", "mob").bus().clone();
    let guard = Credentials::new(block, credential, key).unwrap();
    scene.arena.bus.revoke(&guard);
    let told = async {
        loop {
            if let Event::StatusChanged { .. } = scene.events.next().await.unwrap() {
                break;
            }
        }
    };
    soon("the reader to be told of the status", told).await;
    scene.sender.publish(&mut scene.key, "tips.a", b"admitted by a thief").await;
    // Its heartbeats are refused from now on as well.
    let refused = async {
        loop {
            if let Event::Refused { reason, subject } = scene.events.next().await.unwrap()
                && subject == scene.delivery.subject
            {
                break reason;
            }
        }
    };
    // Not `revoked`: the client drops a revoked guard's credential, so it has none to judge the proof by.
    assert_eq!(soon("the reader to refuse", refused).await, Reason::BadAdmission);
    report("admit with the key of a revoked guard", By::Reader, Reason::BadAdmission.code());
}

/// A server that has the guard look at an admitted envelope once more gets no signature of its "no". The sender would
/// take that for the verdict, if the server kept the true one from it, and publish again.
#[tokio::test(flavor = "multi_thread")]
async fn no_denial_of_what_was_admitted_is_signed() {
    let mut arena = Arena::open().await;
    let (mut hand, mut key) = arena.publisher().await;
    let me = hand.token();
    let mut confirmed = |hand: &Hand, text: &str| {
        let mut fields = hand.fields(&key, "tips.a");
        fields.flags = Flags::CONFIRM;
        hand.seal(&mut key, &fields, text.as_bytes())
    };
    let (once, next) = (confirmed(&hand, "once"), confirmed(&hand, "next"));
    let mut server = HostileServer::enter(&mut arena.bus).await;
    hand.send("tips.a", &once).await.unwrap();
    let first: VerdictNotice = control::decode(&hand.told(kind::VERDICT).await).unwrap();
    assert_eq!((first.digest, first.refused), (Parts::of(&once).digest(), None));
    for (subject, reason) in [("tips.a", Reason::Replay), ("tips.b", Reason::WrongSubject)] {
        let wire = hand.wire().ingress(&me, subject);
        server.inject(&wire, None, &once).await.unwrap();
        arena.watch.denied(&me, reason).await;
    }
    hand.send("tips.a", &next).await.unwrap();
    let second: VerdictNotice = control::decode(&hand.told(kind::VERDICT).await).unwrap();
    assert_eq!((second.digest, second.refused), (Parts::of(&next).digest(), None), "a denial was signed");
    report("have the guard sign a denial of what it admitted", By::Guard, Reason::Replay.code());
    arena.close().await;
}

/// Denials that the server makes up about messages that are on their way. The guard is away meanwhile, so no verdict
/// overtakes them.
#[tokio::test(flavor = "multi_thread")]
async fn a_made_up_denial_has_nothing_published_twice() {
    let mut arena = Arena::open().await;
    let client = Client::connect(arena.bus.agent("sender", "mob")).await.unwrap();
    client.publish_confirmed("tips.first", "opens the key").await.unwrap();
    arena.delivered().await;
    let mut server = HostileServer::enter(&mut arena.bus).await;
    let token = AgentToken::parse(client.token()).unwrap();
    server.raw.subscribe(&format!("sb.in.*.{token}.>"), None).await.unwrap();
    let subject = arena.canary.wire().session_box(&token, &client.session(), kind::DENIED);
    let reasons = [
        Reason::WorkflowPaused,
        Reason::StaleKey,
        Reason::NoResponder,
        Reason::AboveClearance,
        Reason::UnknownSession,
    ];
    let mut events = client.events();
    arena.bus.kill_guard().await;

    let mut sending = Vec::new();
    for reason in reasons {
        let publisher = client.clone();
        sending.push((
            reason,
            tokio::spawn(async move { publisher.publish_confirmed("tips.rent", "900").await }),
        ));
        let sent = soon("the envelope", server.raw.next()).await.unwrap();
        let notice = DeniedNotice {
            reason,
            what: "made up".to_owned(),
            id: None,
            digest: Some(Parts::of(&sent.payload).digest().to_vec().into()),
            subject: sent.subject.clone(),
            time: clock::now(),
            count: 1,
        };
        server.inject(&subject, None, &control::encode(&notice).unwrap()).await.unwrap();
        let heard = async {
            while !matches!(events.next().await.unwrap(), Event::Denied { reason: given, .. } if given == reason)
            {
            }
        };
        soon("the made-up denial", heard).await;
    }

    arena.bus.start_guard().await;
    for (reason, sending) in sending {
        let error = soon("an end", sending).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{reason}: nobody knows what was admitted: {error}");
        report("make up a denial of a confirmed message", By::Reader, reason.code());
    }
    // Behind whatever would have been sent again.
    let last = async { while client.publish_confirmed("tips.last", "behind them").await.is_err() {} };
    soon("the guard to admit again", last).await;
    arena.greet_again().await;
    let delivered = arena.delivered().await;
    assert_eq!(delivered.len(), 1, "published again: {delivered:?}");
    client.close().await.unwrap();
    arena.close_after_outage().await;
}

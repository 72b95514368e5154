//! Attacks by the guard itself: it holds the guard's own key, sits on the server, and says what it likes to
//! the real clients. The policy is enforced twice, so what the quorum did not sign comes to nothing with them.

use sealbus_client::{Client, Event, Events, Publish, Subscription};
use sealbus_envelope::{
    approval::{self, Approval, SignedApproval},
    control::{self, Granted, ReaderRecord, Readers, Welcome, kind},
    identity::{KeyKind, Role, SigningKey},
    label::{Clearance, Compartments, Label, Level},
    name::AgentToken,
    policy::{FlowGrant, Records, Tables},
    proof::admission::{self, Decision, Verdict},
    reason::Reason,
    subject::{Partition, Subject},
    time::Millis,
    wire::{Decoded, HeaderFields, Parent},
};
use sealbus_guard::clock;
use sealbus_tests::{
    bus::{TestBus, everything, name, soon},
    hostile::{
        arena::{By, POLICY, label, report},
        forge::Parts,
        hand::Hand,
        papers::Key,
        server::HostileServer,
    },
    raw::RawMessage,
    server::ServerSpec,
};

/// Besides the arena's: grants of each kind that does not fit, one that does, and a rule that is observed.
const MORE: &str = r#"
[rules.watched]
pattern     = "watched.>"
publishers  = ["vault"]
subscribers = ["canary"]
labels      = { level = "low", integrity = "untrusted" }
observe     = true

[grants.release]
team       = "mob"
from       = "notes.>"
to         = "tips.>"
from_label = { level = "mid", compartments = ["red"] }
to_label   = { level = "low" }
expires    = 2099-12-31
reason     = "fits"

[grants.over]
team       = "mob"
from       = "notes.>"
to         = "tips.>"
from_label = { level = "mid", compartments = ["red"] }
to_label   = { level = "low" }
expires    = 2020-12-31
reason     = "is over"

[grants.foreign]
team       = "vault"
from       = "notes.>"
to         = "tips.>"
from_label = { level = "mid", compartments = ["red"] }
to_label   = { level = "low" }
expires    = 2099-12-31
reason     = "of another team"

[grants.elsewhere]
team       = "mob"
from       = "notes.>"
to         = "tips.only"
from_label = { level = "mid", compartments = ["red"] }
to_label   = { level = "low" }
expires    = 2099-12-31
reason     = "on other subjects"

[grants.tiny]
team       = "mob"
from       = "notes.>"
to         = "tips.>"
from_label = { level = "mid", compartments = ["red"] }
to_label   = { level = "low" }
max_bytes  = 1
expires    = 2099-12-31
reason     = "for less"
"#;

fn policy() -> String {
    format!("{POLICY}{MORE}{}", held())
}

/// People who may approve what is held: ann, bob, and carol, whose key is revoked. And nobody.
fn people() -> [SigningKey; 4] {
    [1, 2, 3, 4].map(|n| SigningKey::from_seed(&[n; 32]))
}

/// A flow grant that two of them must approve.
fn held() -> String {
    let [ann, bob, carol, _] = people().map(|key| key.public().to_nkey(KeyKind::User));
    format!(
        r#"
[approvers.people]
ann = "{ann}"
bob = "{bob}"
carol = "{carol}"

[grants.held]
team       = "mob"
from       = "notes.>"
to         = "tips.>"
from_label = {{ level = "mid", compartments = ["red"] }}
to_label   = {{ level = "low" }}
expires    = 2099-12-31
reason     = "fits, if two approve"
approval   = {{ approvals = 2, deadline = "10m", approvers = ["people"] }}
"#
    )
}

/// What is wrong with an envelope.
type Change = fn(&mut HeaderFields);
/// What is wrong with a policy.
type Doctor = fn(&mut Welcome, &Records);

/// The guard gone bad: its key, and the run of the server.
struct Guard {
    key: SigningKey,
    server: HostileServer,
    position: u64,
    version: u64,
    digest: [u8; 32],
}

impl Guard {
    async fn of(bus: &mut TestBus, welcome: &Welcome) -> Self {
        let (head, _) = welcome.policy.verify(bus.roots()).unwrap();
        let key = SigningKey::from_seed(&bus.guard_key().to_seed());
        let server = HostileServer::enter(bus).await;
        Self { key, server, position: 1_000, version: head.fields().version, digest: head.fields().root }
    }

    /// Its own proof that it admitted an envelope.
    fn proof(&mut self, sender: &Hand, envelope: &[u8], observed: bool) -> String {
        self.position += 1;
        let decision = Decision {
            verdict: Verdict::Admit,
            policy_version: self.version,
            policy_digest: self.digest,
            partition: Partition::of(&sender.token()).number(),
            epoch: sender.guard.unwrap().epoch,
            position: self.position,
            time: clock::now(),
            observed,
        };
        let digest = Parts::of(envelope).digest();
        admission::sign(&self.key, sender.papers.bus(), &[(digest, decision)]).pop().unwrap().encode()
    }

    /// Admits an envelope, whatever it is, and puts it on a subject that the reader hears.
    async fn admit(&mut self, sender: &Hand, subject: &str, envelope: &[u8], observed: bool) {
        let proof = self.proof(sender, envelope, observed);
        let subject = sender.wire().delivery(Level::LOWEST, subject);
        self.server.inject(&subject, Some(&proof), envelope).await.unwrap();
    }

    /// The same, with what people are said to have signed about it.
    async fn admit_approved(
        &mut self,
        sender: &Hand,
        subject: &str,
        envelope: &[u8],
        approvals: Option<&[SignedApproval]>,
    ) {
        let mut headers = self.proof(sender, envelope, false);
        if let Some(approvals) = approvals {
            headers = format!("{headers}\r\n{}: {}", approval::HEADER_NAME, approval::header(approvals));
        }
        let subject = sender.wire().delivery(Level::LOWEST, subject);
        self.server.inject(&subject, Some(&headers), envelope).await.unwrap();
    }

    async fn tell<T: serde::Serialize>(&mut self, client: &Client, kind: &str, message: &T) {
        let token = AgentToken::parse(client.token()).unwrap();
        let wire = sealbus_envelope::subject::WireSubjects::default();
        let subject = wire.session_box(&token, &client.session(), kind);
        self.server.inject(&subject, None, &control::encode(message).unwrap()).await.unwrap();
    }

    /// Hands a sender's key to a client, if need be behind the sender's back.
    async fn hand_on(&mut self, sender: &Hand, key: &Key, reader: &ReaderRecord, to: &Client) {
        let granted = Granted {
            credential: sender.papers.credential.as_str().to_owned(),
            certificate: sender.papers.certificate.as_bytes().to_vec().into(),
            grants: sender.grants(key, std::slice::from_ref(reader)).grants,
        };
        self.tell(to, kind::GRANT, &granted).await;
    }
}

/// The client says that it refused something, and why.
async fn refused(events: &mut Events, attack: &str, reason: Reason) {
    let given = async {
        loop {
            if let Event::Refused { reason, .. } = events.next().await.unwrap() {
                break reason;
            }
        }
    };
    assert_eq!(soon(&format!("the client to refuse: {attack}"), given).await, reason, "{attack}");
    report(attack, By::Reader, reason.code());
}

/// A reader with the real client, and a sender of team `mob` whose key under `tips` it holds.
struct Scene {
    bus: TestBus,
    guard: Guard,
    sender: Hand,
    key: Key,
    reader: Client,
    record: ReaderRecord,
    events: Events,
    messages: Subscription,
}

async fn scene() -> Scene {
    let mut bus = TestBus::prepare(&policy(), ServerSpec::default()).await;
    bus.revoke_key(people()[2].public());
    bus.start_guard().await;
    let (level, compartments) = (Level::new(1).unwrap(), Compartments::single(0).unwrap());
    let sender = bus.agent_with("sender", "mob", Role::Agent, Clearance { level, compartments });
    let mut sender = Hand::join(&sender).await;
    let reader = Client::connect(bus.agent("reader", "canary")).await.unwrap();
    let mut messages = reader.subscribe("tips.>").await.unwrap();
    let mut key = sender.make_key("tips", label(0, 0, 0), None);
    let named = sender.announce(&key).await.readers;
    sender.grant(&key, &named).await;
    sender.publish(&mut key, "tips.a", b"honest").await;
    assert_eq!(soon("the honest one", messages.next()).await.unwrap().payload(), b"honest");
    let welcome = sender.hello(&[&key]).await;
    let guard = Guard::of(&mut bus, &welcome).await;
    let (events, record) = (reader.events(), named.into_iter().next().unwrap());
    Scene { bus, guard, sender, key, reader, record, events, messages }
}

impl Scene {
    /// An envelope of the sender, with whatever is wrong with it.
    fn envelope(&mut self, change: impl FnOnce(&mut HeaderFields)) -> Vec<u8> {
        let mut fields = self.sender.fields(&self.key, "tips.a");
        change(&mut fields);
        let scope = self.key.sender.scope();
        if (&fields.rule, fields.label) == (&scope.rule, scope.label) {
            return self.sender.seal(&mut self.key, &fields, b"contraband");
        }
        Parts::signed(&fields, self.sender.papers.session(), &self.sender.papers.key).bytes()
    }

    async fn admit(&mut self, attack: &str, envelope: &[u8], reason: Reason) {
        for (how, observed) in [("", false), (", as if observed", true)] {
            self.guard.admit(&self.sender, "tips.a", envelope, observed).await;
            refused(&mut self.events, &format!("{attack}{how}"), reason).await;
        }
    }

    /// What a guard may admit is read; of all before, nothing was.
    async fn nothing_read(mut self) {
        let envelope = self.sender.envelope(&mut self.key, "tips.a", b"fine");
        self.guard.admit(&self.sender, "tips.a", &envelope, false).await;
        let message = soon("what is fine", self.messages.next()).await.unwrap();
        assert_eq!(message.payload(), b"fine", "something that the policy forbids was read");
        self.reader.close().await.unwrap();
        self.bus.stop_guard().await;
    }
}

fn told(level: u8, compartments: u64, integrity: u8) -> Vec<Parent> {
    vec![Parent { digest: [7; 32], label: label(level, compartments, integrity) }]
}

/// Publishers, labels and subjects that the signed policy does not allow, with the observed bit and without:
/// the policy does not observe them.
#[tokio::test(flavor = "multi_thread")]
async fn a_guard_admits_nothing_that_the_policy_forbids() {
    let mut scene = scene().await;
    let attacks: [(&str, Change, Reason); 6] = [
        ("admit an unnamed publisher", |f| f.rule = name("secrets"), Reason::NotPublisher),
        (
            "admit a subject outside the rule",
            |f| f.subject = Subject::parse("notes.a").unwrap(),
            Reason::SubjectOutsideRule,
        ),
        ("admit a compartment outside the rule", |f| f.label = label(0, 2, 0), Reason::LabelOutOfRange),
        ("admit a label above the sender's clearance", |f| f.label = label(2, 0, 0), Reason::AboveClearance),
        (
            "admit more integrity than the sender's team has",
            |f| f.label = label(0, 0, 2),
            Reason::AboveIntegrity,
        ),
        ("admit less than a parent's label", |f| f.parents = told(1, 0, 0), Reason::BelowParents),
    ];
    for (attack, change, reason) in attacks {
        let envelope = scene.envelope(change);
        scene.admit(attack, &envelope, reason).await;
    }
    scene.nothing_read().await;
}

/// What is held passes with the signatures of the people that the quorum named, and not by the guard's word.
#[tokio::test(flavor = "multi_thread")]
async fn a_guard_lets_nothing_pass_that_people_did_not_approve() {
    let mut scene = scene().await;
    let envelope = scene.envelope(|fields| {
        fields.flow_grant = Some(name("held"));
        fields.parents = told(1, 1, 0);
    });
    let (bus, digest) = (scene.sender.papers.bus(), Parts::of(&envelope).digest());
    let [ann, bob, carol, stranger] = people();
    let says = |key: &SigningKey, envelope, approve| {
        SignedApproval::sign(&Approval { bus, envelope, approve, time: clock::now() }, key)
    };
    let yes = |key: &SigningKey| says(key, digest, true);
    let attacks = [
        ("let pass what nobody approved", None, Reason::ApprovalMissing),
        ("let pass what one approved", Some(vec![yes(&ann)]), Reason::ApprovalMissing),
        ("count one person twice", Some(vec![yes(&ann), yes(&ann)]), Reason::ApprovalMissing),
        ("count who is no approver", Some(vec![yes(&ann), yes(&stranger)]), Reason::ApprovalMissing),
        ("count a revoked key", Some(vec![yes(&ann), yes(&carol)]), Reason::ApprovalMissing),
        ("count the guard itself", Some(vec![yes(&ann), yes(&scene.guard.key)]), Reason::ApprovalMissing),
        (
            "count an approval of something else",
            Some(vec![yes(&ann), says(&bob, [7; 32], true)]),
            Reason::ApprovalInvalid,
        ),
        ("count a denial", Some(vec![yes(&ann), says(&bob, digest, false)]), Reason::ApprovalInvalid),
    ];
    for (attack, approvals, reason) in attacks {
        scene.guard.admit_approved(&scene.sender, "tips.a", &envelope, approvals.as_deref()).await;
        refused(&mut scene.events, attack, reason).await;
    }
    let both = [yes(&ann), yes(&bob)];
    scene.guard.admit_approved(&scene.sender, "tips.a", &envelope, Some(&both)).await;
    let message = soon("what two approved", scene.messages.next()).await.unwrap();
    assert_eq!(message.digest(), digest);
    scene.nothing_read().await;
}

/// Flow grants that the quorum did not sign, or signed for something else.
#[tokio::test(flavor = "multi_thread")]
async fn a_guard_admits_nothing_by_a_flow_grant_that_does_not_fit() {
    let mut scene = scene().await;
    for (attack, grant, parents, reason) in [
        ("admit by a flow grant that nobody signed", "nobodys", told(1, 1, 0), Reason::FlowGrantUnknown),
        ("admit by a flow grant that is over", "over", told(1, 1, 0), Reason::FlowGrantExpired),
        ("admit by another team's flow grant", "foreign", told(1, 1, 0), Reason::FlowGrantMismatch),
        ("admit by a flow grant for other subjects", "elsewhere", told(1, 1, 0), Reason::FlowGrantMismatch),
        ("admit by a flow grant for less", "tiny", told(1, 1, 0), Reason::FlowGrantMismatch),
        ("admit more than a flow grant lifts", "release", told(2, 1, 0), Reason::BelowParents),
    ] {
        let envelope = scene.envelope(|fields| {
            (fields.flow_grant, fields.parents) = (Some(name(grant)), parents);
        });
        scene.admit(attack, &envelope, reason).await;
    }
    // The one that fits does what it says.
    let envelope = scene.envelope(|fields| {
        (fields.flow_grant, fields.parents) = (Some(name("release")), told(1, 1, 0));
    });
    scene.guard.admit(&scene.sender, "tips.a", &envelope, false).await;
    let message = soon("what a flow grant lifts", scene.messages.next()).await.unwrap();
    assert_eq!(message.payload(), b"contraband");
    scene.nothing_read().await;
}

/// Where the signed policy observes, only what is observed passes, and only with the bit that says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_guard_observes_only_where_the_policy_does() {
    let mut scene = scene().await;
    let mut watched = scene.reader.subscribe("watched.>").await.unwrap();
    let mut key = scene.sender.make_key("watched", label(0, 0, 0), None);
    let (record, reader) = (scene.record.clone(), &scene.reader);
    scene.guard.hand_on(&scene.sender, &key, &record, reader).await;
    let envelope = scene.sender.envelope(&mut key, "watched.a", b"watched");
    scene.guard.admit(&scene.sender, "watched.a", &envelope, false).await;
    refused(&mut scene.events, "admit unobserved what is only observed", Reason::NotPublisher).await;
    scene.guard.admit(&scene.sender, "watched.a", &envelope, true).await;
    assert_eq!(soon("what is observed", watched.next()).await.unwrap().payload(), b"watched");
    // Clearance is never only observed.
    let mut fields = scene.sender.fields(&key, "watched.a");
    fields.label = label(2, 0, 0);
    let session = scene.sender.papers.session();
    let above = Parts::signed(&fields, session, &scene.sender.papers.key).bytes();
    scene.guard.admit(&scene.sender, "watched.a", &above, true).await;
    let attack = "pass a label above the sender's clearance off as observed";
    refused(&mut scene.events, attack, Reason::AboveClearance).await;
    scene.nothing_read().await;
}

/// A policy that is not what the quorum signed: doctored in any part, or old.
#[tokio::test(flavor = "multi_thread")]
async fn a_guard_serves_no_policy_that_the_quorum_did_not_sign() {
    let mut scene = scene().await;
    let welcome = Hand::join(&scene.bus.agent("other", "canary")).await.hello(&[]).await;
    let (_, records) = welcome.policy.verify(scene.bus.roots()).unwrap();
    assert!(!welcome.policy.grants.is_empty() && welcome.policy.rules.len() > 1);

    let attacks: [(&str, Doctor); 7] = [
        ("add a publisher to a rule", |w, records| {
            let mut rule = records.rules.first().unwrap().clone();
            rule.publishers.extend(rule.subscribers.clone());
            w.policy.rules.first_mut().unwrap().record = rule.encode();
        }),
        ("serve a rule in the place of another", |w, _| {
            let second = w.policy.rules.get(1).unwrap().record.clone();
            w.policy.rules.first_mut().unwrap().record = second;
        }),
        ("serve a rule with another's inclusion path", |w, _| {
            let second = w.policy.rules.get(1).unwrap().path.clone();
            w.policy.rules.first_mut().unwrap().path = second;
        }),
        ("lengthen a flow grant", |w, records| {
            let grant = FlowGrant { expires: Millis(u64::MAX), ..records.grants.first().unwrap().clone() };
            w.policy.grants.first_mut().unwrap().record = grant.encode();
        }),
        ("add a flow grant of its own", |w, records| {
            let mut added = w.policy.grants.first().unwrap().clone();
            added.record =
                FlowGrant { name: name("own"), ..records.grants.first().unwrap().clone() }.encode();
            w.policy.grants.push(added);
        }),
        ("observe everything", |w, records| {
            w.policy.tables = Tables { observe: true, ..records.tables.clone() }.encode();
        }),
        ("shorten the tables' inclusion path", |w, _| {
            w.policy.tables_path.pop();
        }),
    ];
    for (attack, doctor) in attacks {
        let mut doctored = welcome.clone();
        doctor(&mut doctored, &records);
        scene.guard.tell(&scene.reader, kind::WELCOME, &doctored).await;
        refused(&mut scene.events, attack, Reason::PolicyInvalid).await;
    }

    // A change that costs nobody the connection.
    scene.bus.write_policy(&policy().replace("2099-12-31", "2098-12-31"));
    let changed = async {
        loop {
            if let Event::PolicyChanged { .. } = scene.events.next().await.unwrap() {
                break;
            }
        }
    };
    soon("the next policy", changed).await;
    scene.guard.tell(&scene.reader, kind::WELCOME, &welcome).await;
    refused(&mut scene.events, "serve the policy before", Reason::RolledBack).await;
    scene.reader.close().await.unwrap();
    scene.bus.stop_guard().await;
}

/// The sending client seals to nobody whom the signed policy does not let read, whatever the guard says.
#[tokio::test(flavor = "multi_thread")]
async fn a_guard_names_no_reader_that_the_policy_does_not_let_read() {
    let mut bus = TestBus::start(&policy()).await;
    let sender = Client::connect(bus.agent("sender", "mob")).await.unwrap();
    let mut canary = Hand::join(&bus.agent("canary", "canary")).await;
    let mid: Label = label(1, 1, 0);
    let tips = canary.wire().delivery(mid.level, "tips.>");
    canary.raw.subscribe(&tips, None).await.unwrap();
    sender.send_confirmed(Publish::new("tips.a", "for some").label(mid)).await.unwrap();
    let heard = canary.message(&|message: &RawMessage| message.subject.starts_with("sb.out.")).await;
    let key = Decoded::decode(&heard.payload).unwrap().claimed().key;

    let unnamed = Hand::join(&bus.agent("unnamed", "vault")).await;
    let low = bus.agent_with("low", "canary", Role::Agent, Clearance::default());
    let level = Level::new(2).unwrap();
    let outside = Clearance { level, compartments: Compartments::single(1).unwrap() };
    let outside = bus.agent_with("outside", "canary", Role::Agent, outside);
    let as_guard = bus.agent_with("warder", "canary", Role::Guard, everything());
    let papers = |credentials| sealbus_tests::hostile::papers::Papers::new(credentials);
    let record = |papers: &sealbus_tests::hostile::papers::Papers| ReaderRecord {
        credential: papers.credential.as_str().to_owned(),
        certificate: papers.certificate.as_bytes().to_vec().into(),
        reader_key: papers.reader_key().as_bytes().to_vec().into(),
    };
    let welcome = canary.hello(&[]).await;
    let mut guard = Guard::of(&mut bus, &welcome).await;
    guard.server.raw.subscribe("sb.ctl.>", None).await.unwrap();
    let mut events = sender.events();
    for (attack, reader, reason) in [
        ("name a reader whom the rule does not", record(&unnamed.papers), Reason::NotSubscriber),
        ("name a reader below the label's level", record(&papers(&low)), Reason::AboveClearance),
        ("name a reader outside the label's compartment", record(&papers(&outside)), Reason::AboveClearance),
        ("name a guard as a reader", record(&papers(&as_guard)), Reason::WrongRole),
    ] {
        let readers = Readers { key, refused: None, readers: vec![reader], more: false };
        guard.tell(&sender, kind::READERS, &readers).await;
        refused(&mut events, attack, reason).await;
        // What it publishes now goes out behind any key that it may have sealed.
        sender.send_confirmed(Publish::new("tips.a", "for some").label(mid)).await.unwrap();
        let said = guard.server.raw.arrived().await.unwrap();
        assert!(said.iter().all(|message| !message.subject.ends_with(".grant")), "{attack}: sealed a key");
    }
    sender.close().await.unwrap();
    bus.stop_guard().await;
}

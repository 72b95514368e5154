//! Envelopes that wait until people approve them, on a real bus with real agents.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::time::Duration;

use sealbus_client::{Client, ErrorKind, Event, Held, Publish, Sent, Subscription, credentials::Credentials};
use sealbus_envelope::{
    approval::{Approval, SignedApproval},
    control::{HeldReport, Submitted},
    hash::{Hash, hex},
    identity::{BusId, KeyKind, SigningKey},
    label::Label,
    reason::Reason,
};
use sealbus_guard::{
    audit::{
        entry::Body,
        search::{Filter, search},
    },
    clock::now,
};
use sealbus_tests::{
    bus::{TestBus, soon},
    hostile::{
        hand::Hand,
        watch::{Watch, page},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// People who may approve, with their keys.
struct People {
    ann: SigningKey,
    bob: SigningKey,
    carol: SigningKey,
}

impl People {
    fn new() -> Self {
        let [ann, bob, carol] = [1, 2, 3].map(|n| SigningKey::from_seed(&[n; 32]));
        Self { ann, bob, carol }
    }

    /// Payments wait for two people; what leaves by the flow grant waits for one.
    fn policy(&self, hold: &str) -> String {
        let [ann, bob, carol] =
            [&self.ann, &self.bob, &self.carol].map(|key| key.public().to_nkey(KeyKind::User));
        format!(
            r#"
levels       = ["public", "secret"]
compartments = []
integrity    = ["untrusted"]

[teams.desk]
clearance = {{ level = "secret" }}
[teams.bank]
clearance = {{ level = "secret" }}

[approvers.duty]
ann = "{ann}"
bob = "{bob}"
[approvers.board]
carol = "{carol}"

[rules.payments]
pattern     = "pay.>"
publishers  = ["desk"]
subscribers = ["bank"]
labels      = {{ level = {{ min = "public", max = "secret" }}, integrity = "untrusted" }}
default     = {{ level = "public" }}
hold        = {hold}

[rules.files]
pattern     = "files.>"
publishers  = ["bank"]
subscribers = ["desk"]
labels      = {{ level = {{ min = "public", max = "secret" }}, integrity = "untrusted" }}
default     = {{ level = "secret" }}

[rules.news]
pattern     = "news.>"
publishers  = ["desk"]
subscribers = ["bank"]
labels      = {{ level = {{ min = "public", max = "secret" }}, integrity = "untrusted" }}
default     = {{ level = "public" }}

[grants.release]
team       = "desk"
from       = "files.>"
to         = "news.>"
from_label = {{ level = "secret" }}
to_label   = {{ level = "public" }}
expires    = 2099-12-31
reason     = "press releases"
approval   = {{ approvals = 1, deadline = "10m", approvers = ["board"] }}
"#
        )
    }
}

const TWO: &str =
    r#"{ approvals = 2, deadline = "10m", approvers = ["duty", { list = "board", after = "5m" }] }"#;
const ONE: &str = r#"{ approvals = 1, deadline = "10m", approvers = ["duty"] }"#;

struct Scene {
    bus: TestBus,
    watch: Watch,
    people: People,
    paul: Credentials,
    desk: Client,
    bank: Client,
    paid: Subscription,
}

impl Scene {
    async fn start(hold: &str) -> Self {
        let people = People::new();
        let bus = TestBus::start(&people.policy(hold)).await;
        let watch = Watch::start(&bus).await;
        let paul = bus.agent("paul", "desk");
        let desk = Client::connect(paul.clone()).await.unwrap();
        let bank = Client::connect(bus.agent("bea", "bank")).await.unwrap();
        let paid = bank.subscribe("pay.>").await.unwrap();
        Self { bus, watch, people, paul, desk, bank, paid }
    }

    async fn hold(&self, payload: &str) -> Held {
        held(
            soon("the guard's answer", self.desk.send_or_held(Publish::new("pay.invoice", payload)))
                .await
                .unwrap(),
        )
    }

    fn id(&self) -> BusId {
        self.bus.roots().bus()
    }

    fn signed(&self, key: &SigningKey, digest: Hash, approve: bool) -> SignedApproval {
        SignedApproval::sign(&Approval { bus: self.id(), envelope: digest, approve, time: now() }, key)
    }

    async fn approve(&self, key: &SigningKey, digest: Hash) -> Submitted {
        self.submit(&self.signed(key, digest, true)).await.1
    }

    /// Hands in an approval at the guard's page.
    async fn submit(&self, approval: &SignedApproval) -> (u16, Submitted) {
        let body = approval.encode();
        let mut stream = TcpStream::connect(self.bus.http()).await.unwrap();
        let length = body.len();
        let head = format!("POST /approvals HTTP/1.0\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap())
    }

    async fn listed(&self) -> Vec<HeldReport> {
        let (code, body) = page(&self.bus, "/held").await;
        assert_eq!(code, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    fn logged(&self, digest: Hash) -> Vec<&'static str> {
        let entries = search(&self.bus.config().audit_dir, Filter::default()).unwrap();
        let of = |body: &Body<'_>| match body {
            Body::Held(held) => Some(held.digest.0),
            Body::Approval(approval) => Some(approval.digest.0),
            Body::HoldEnded(ended) => Some(ended.digest.0),
            Body::Admitted(admitted) => Some(admitted.digest.0),
            Body::Denied(denied) => denied.digest.map(|digest| digest.0),
            _ => None,
        };
        let bodies = entries.map(|found| found.unwrap().entry.body);
        bodies.filter(|body| of(body) == Some(digest)).map(|body| body.kind()).collect()
    }
}

fn held(sent: Sent) -> Held {
    match sent {
        Sent::Held(held) => Some(held),
        _ => None,
    }
    .unwrap()
}

/// What comes next, or nothing for as long as anything under way takes.
async fn nothing_comes(paid: &mut Subscription, desk: &Client) {
    desk.flush().await.unwrap();
    let next = tokio::time::timeout(Duration::from_millis(300), paid.next()).await;
    assert!(next.is_err(), "{next:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_people_approved_reaches_its_readers_and_they_count_again() {
    let mut scene = Scene::start(TWO).await;
    let mut events = scene.desk.events();
    let waits = scene.hold("pay 100").await;
    let digest = waits.digest();
    assert_eq!(waits.approvals(), 2);
    let told = async {
        loop {
            if let Event::Held { digest, approvals: 2, .. } = events.next().await.unwrap() {
                return digest;
            }
        }
    };
    assert_eq!(soon("the event", told).await, digest);
    let event = scene.watch.event("held", |event| event["kind"] == "held").await;
    assert!(event["detail"].as_str().unwrap().contains("list `duty` (ann, bob)"), "{event}");
    nothing_comes(&mut scene.paid, &scene.desk).await;

    let list = scene.listed().await;
    assert_eq!((list.len(), list[0].digest.as_str(), list[0].missing()), (1, hex(&digest).as_str(), 2));
    assert_eq!(list[0].sender, TestBus::token(&scene.paul).as_str());

    // Who is no approver, and who approves something else, changes nothing.
    let stranger = SigningKey::from_seed(&[9; 32]);
    let (code, answer) = scene.submit(&scene.signed(&stranger, digest, true)).await;
    assert_eq!((code, answer.refused), (403, Some(Reason::ApprovalInvalid)));
    assert_eq!(answer.envelope, hex(&digest));
    // It did not wait with what people sign, so it is told of when there is time.
    let told = |event: &serde_json::Value| event["kind"] == "approval" && event["what"] == "approval.key";
    scene.watch.event("the stranger's", told).await;
    let (code, answer) = scene.submit(&scene.signed(&scene.people.ann, [7; 32], true)).await;
    assert_eq!((code, answer.refused), (404, Some(Reason::NotHeld)));

    let first = scene.approve(&scene.people.ann, digest).await;
    assert_eq!((first.missing, first.again, first.state.as_deref()), (1, false, Some("waiting")));
    let approved = scene.watch.event("the approval", |event| event["by"] == "ann").await;
    assert_eq!((&approved["kind"], &approved["operation"]), (&"approval".into(), &"approve".into()));
    let again = scene.approve(&scene.people.ann, digest).await;
    assert_eq!((again.missing, again.again), (1, true), "one person is one");
    assert_eq!(scene.listed().await[0].holds[0].approved[0].as_str(), "ann");
    nothing_comes(&mut scene.paid, &scene.desk).await;

    // An approver elsewhere needs no access to the page; who brings it need not be trusted.
    let signed = scene.signed(&scene.people.carol, digest, true);
    let second = soon("the answer", scene.bank.submit_approval(&signed)).await.unwrap();
    assert_eq!(second.state.as_deref(), Some("released"), "{second:?}");
    let message = soon("the payment", scene.paid.next()).await.unwrap();
    assert_eq!((message.payload(), message.digest()), (&b"pay 100"[..], digest));
    let receipt = soon("the verdict", waits.decided()).await.unwrap();
    assert_eq!((receipt.digest, receipt.decision), (digest, *message.decision()));
    assert!(scene.listed().await.is_empty());
    assert_eq!(
        scene.logged(digest),
        ["held", "approval", "approval", "approval", "hold_ended", "admitted"],
        "the stranger's among them; what ann said twice is there once"
    );
    let (code, answer) = scene.submit(&scene.signed(&scene.people.bob, digest, true)).await;
    assert_eq!((code, answer.refused), (404, Some(Reason::NotHeld)), "a decision is used up once");
    let metrics = scene.bus.metrics().render();
    assert!(metrics.contains(r#"sealbus_holds_total{outcome="released"} 1"#), "{metrics}");
}

/// Payments that nobody holds any more.
fn unheld(policy: &str) -> String {
    policy.replace(&format!("hold        = {TWO}"), "")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_approver_counts_for_nothing_and_who_is_left_decides() {
    let mut scene = Scene::start(TWO).await;
    let waits = scene.hold("pay 100").await;
    let digest = waits.digest();
    assert_eq!(scene.approve(&scene.people.ann, digest).await.missing, 1);
    scene.bus.revoke_key(scene.people.ann.public());
    let changed = |what: &'static str| {
        move |event: &serde_json::Value| {
            event["kind"] == "changed" && event["detail"].as_str().is_some_and(|told| told.contains(what))
        }
    };
    scene.watch.event("the status", changed("status version 1 to 2")).await;
    assert_eq!(scene.listed().await[0].missing(), 2, "what it signed before counts no more");
    for approve in [true, false] {
        let (code, answer) = scene.submit(&scene.signed(&scene.people.ann, digest, approve)).await;
        assert_eq!((code, answer.refused), (403, Some(Reason::ApprovalInvalid)));
    }
    let brought = scene.signed(&scene.people.ann, digest, false);
    let brought = soon("the answer", scene.bank.submit_approval(&brought)).await.unwrap();
    assert_eq!(brought.refused, Some(Reason::ApprovalInvalid), "nor over the bus");

    // The policy names approvers no more: what waits goes on waiting for those it was held for.
    let policy = unheld(&scene.people.policy(TWO));
    scene.bus.write_policy(&policy);
    scene.watch.event("the policy", changed("bundle version 1 to 2")).await;
    assert_eq!(scene.approve(&scene.people.bob, digest).await.missing, 1);
    let last = scene.approve(&scene.people.carol, digest).await;
    assert_eq!(last.state.as_deref(), Some("released"), "{last:?}");
    let message = soon("the payment", scene.paid.next()).await.unwrap();
    assert_eq!(message.digest(), digest);
    soon("the verdict", waits.decided()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_no_is_enough_and_no_answer_is_a_no() {
    let mut scene = Scene::start(
        r#"{ approvals = 2, deadline = "3s", approvers = ["duty", { list = "board", after = "1s" }] }"#,
    )
    .await;
    let waits = scene.hold("pay 1").await;
    scene.approve(&scene.people.ann, waits.digest()).await;
    let (_, no) = scene.submit(&scene.signed(&scene.people.bob, waits.digest(), false)).await;
    assert_eq!((no.state.as_deref(), no.denied), (Some("denied"), Some(Reason::ApprovalDenied)));
    let denied = scene.watch.event("the denial", |event| event["by"] == "bob").await;
    assert_eq!((&denied["operation"], &denied["reason"]), (&"deny".into(), &"approval_denied".into()));
    let digest = waits.digest();
    let error = soon("the verdict", waits.decided()).await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Denied, Some(Reason::ApprovalDenied)));
    assert_eq!(scene.logged(digest), ["held", "approval", "approval", "hold_ended", "denied"]);

    // Who waits for people does so by default; the next list is asked, and then it is too late.
    let waiting = scene.desk.send_confirmed(Publish::new("pay.invoice", "pay 2"));
    let error = soon("the deadline", waiting).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::ApprovalExpired));
    let escalated = |event: &serde_json::Value| {
        event["kind"] == "held" && event["detail"].as_str().unwrap_or_default().contains("nobody answered")
    };
    let event = scene.watch.event("the escalation", escalated).await;
    assert!(event["detail"].as_str().unwrap().contains("`board` (carol)"), "{event}");

    // A sender's own time-to-live is never stretched.
    let short = Publish::new("pay.invoice", "pay 3").ttl(Duration::from_millis(500));
    let error = soon("its lifetime", scene.desk.send_confirmed(short)).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::Expired));
    nothing_comes(&mut scene.paid, &scene.desk).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_outlives_the_guard_and_the_sender() {
    let mut scene = Scene::start(TWO).await;
    let (first, second) = (scene.hold("first").await, scene.hold("second").await);
    scene.approve(&scene.people.ann, first.digest()).await;
    scene.approve(&scene.people.ann, second.digest()).await;
    scene.bus.kill_guard().await;
    scene.bus.start_guard().await;
    let list = scene.listed().await;
    assert_eq!(list.iter().map(HeldReport::missing).collect::<Vec<_>>(), [1, 1], "approvals are on disk");
    scene.desk.ready(Duration::from_secs(20)).await.unwrap();
    scene.bank.ready(Duration::from_secs(20)).await.unwrap();
    // Who comes late gets the key that is in use still, and reads what waited as all others do.
    let late = Client::connect(scene.bus.agent("late", "bank")).await.unwrap();
    let mut paid_late = late.subscribe("pay.>").await.unwrap();
    // The second goes first: people decide in any order.
    scene.approve(&scene.people.bob, second.digest()).await;
    let message = soon("the second", scene.paid.next()).await.unwrap();
    assert_eq!(message.payload(), b"second");
    soon("its verdict", second.decided()).await.unwrap();
    assert_eq!(soon("the second, to who came late", paid_late.next()).await.unwrap().payload(), b"second");
    // Its sender has gone; who reads it has its key.
    let digest = first.digest();
    scene.desk.clone().close().await.unwrap();
    let answer = scene.approve(&scene.people.bob, digest).await;
    assert_eq!(answer.state.as_deref(), Some("released"), "{answer:?}");
    for paid in [&mut scene.paid, &mut paid_late] {
        let message = soon("the first", paid.next()).await.unwrap();
        assert_eq!(message.payload(), b"first");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_meanwhile_is_looked_at_again() {
    let mut scene = Scene::start(TWO).await;
    let (gone, changed) = (scene.hold("no rule").await, scene.hold("one is enough").await);
    scene.approve(&scene.people.ann, changed.digest()).await;
    // Another policy wants one approval; readers count by it too.
    scene.bus.write_policy(&scene.people.policy(ONE));
    let message = soon("what has enough now", scene.paid.next()).await.unwrap();
    assert_eq!(message.payload(), b"one is enough");
    soon("its verdict", changed.decided()).await.unwrap();
    // Another one takes payments from nobody of the desk.
    let policy =
        scene.people.policy(ONE).replacen(r#"publishers  = ["desk"]"#, r#"publishers  = ["bank"]"#, 1);
    scene.bus.write_policy(&policy);
    let version = scene.bus.policy_version();
    let in_force = |event: &serde_json::Value| {
        event["detail"].as_str().is_some_and(|detail| detail.contains(&format!("to {version}")))
    };
    scene.watch.event("the policy", in_force).await;
    let answer = scene.approve(&scene.people.ann, gone.digest()).await;
    assert_eq!((answer.state.as_deref(), answer.denied), (Some("denied"), Some(Reason::NotPublisher)));
    let error = soon("the verdict", gone.decided()).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::NotPublisher));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_grant_waits_for_people_and_the_rest_of_its_rule_does_not() {
    let scene = Scene::start(TWO).await;
    let mut files = scene.desk.subscribe("files.>").await.unwrap();
    let mut news = scene.bank.subscribe("news.>").await.unwrap();
    scene.desk.publish_confirmed("news.weather", "rain").await.unwrap();
    assert_eq!(soon("the news", news.next()).await.unwrap().payload(), b"rain");
    scene.bank.publish_confirmed("files.merger", "they will merge").await.unwrap();
    let read = soon("the file", files.next()).await.unwrap();
    let release = Publish::new("news.merger", "a merger").parent(&read).flow_grant("release");
    let waits = held(soon("an answer", scene.desk.send_or_held(release)).await.unwrap());
    assert_eq!(scene.listed().await[0].holds[0].wanted_by, "flow grant release");
    let answer = scene.approve(&scene.people.ann, waits.digest()).await;
    assert_eq!(answer.refused, Some(Reason::ApprovalInvalid), "the duty list is of another hold");
    scene.approve(&scene.people.carol, waits.digest()).await;
    assert_eq!(soon("the release", news.next()).await.unwrap().payload(), b"a merger");
    soon("its verdict", waits.decided()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approver_who_is_a_reader_opens_it_before_anybody_else_does() {
    let mut scene = Scene::start(TWO).await;
    let waits = scene.hold("pay 100").await;
    let approver = Client::connect(scene.bus.agent("ann", "bank")).await.unwrap();
    let list = soon("the list", approver.held()).await.unwrap();
    assert_eq!((list.held.len(), list.more), (1, 0));
    let (report, sealed) = soon("it", approver.held_envelope(waits.digest())).await.unwrap();
    assert_eq!((report.digest, report.size), (hex(&waits.digest()), sealed.len() as u64));
    let opened = soon("opening", approver.open_held(&sealed, Duration::from_secs(10))).await.unwrap();
    assert_eq!((opened.payload(), opened.digest()), (&b"pay 100"[..], waits.digest()));
    assert_eq!(opened.sender_token(), TestBus::token(&scene.paul).as_str());

    // Bytes that were tampered with are not shown.
    let mut forged = sealed.clone();
    let place = forged.len() / 2;
    forged[place] ^= 1;
    assert!(soon("refusal", approver.open_held(&forged, Duration::from_secs(2))).await.is_err());
    // Who may not read the rule hears no more than if there were nothing.
    assert!(soon("the list", scene.desk.held()).await.unwrap().held.is_empty());
    let error = soon("it", scene.desk.held_envelope(waits.digest())).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::NotHeld));
    // Opening is not reading: the readers get it once, when it is released.
    nothing_comes(&mut scene.paid, &scene.desk).await;
    for key in [&scene.people.ann, &scene.people.bob] {
        scene.approve(key, waits.digest()).await;
    }
    assert_eq!(soon("the payment", scene.paid.next()).await.unwrap().payload(), b"pay 100");

    // When the sender has gone, nobody can hand over its key any more.
    let waits = scene.hold("pay 200").await;
    scene.desk.clone().close().await.unwrap();
    let late = Client::connect(scene.bus.agent("late", "bank")).await.unwrap();
    let (_, sealed) = soon("it", late.held_envelope(waits.digest())).await.unwrap();
    let error = soon("refusal", late.open_held(&sealed, Duration::from_secs(1))).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::UnknownKey), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_quarantined_sender_has_waiting_goes_to_nobody() {
    let mut scene = Scene::start(ONE).await;
    let waits = scene.hold("pay 100").await;
    // Hard evidence against the sender: it signs an envelope under a rule that does not name it.
    let mut paul = Hand::join(&scene.paul).await;
    let mut key = paul.make_key("files", Label::BOTTOM, None);
    let envelope = paul.envelope(&mut key, "pay.x", b"of a rule that does not name it");
    let ingress = paul.send("pay.x", &envelope).await;
    ingress.unwrap();
    scene.watch.quarantined(&TestBus::token(&scene.paul)).await;
    let gone = async {
        while !scene.listed().await.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    soon("its messages to be taken", gone).await;
    let answer = scene.approve(&scene.people.ann, waits.digest()).await;
    assert_eq!(answer.refused, Some(Reason::NotHeld));
    assert_eq!(scene.logged(waits.digest()), ["held", "hold_ended", "denied", "approval"]);
    nothing_comes(&mut scene.paid, &scene.bank).await;
}

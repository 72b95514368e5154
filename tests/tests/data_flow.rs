//! Data flow with real agents on a real bus: what an agent was given to read counts against what it writes,
//! flow grants are the way out, observe mode records and lets pass, and a rule takes so many at once.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use sealbus_client::{Client, Publish, Subscription};
use sealbus_envelope::{
    label::{Compartments, Integrity, Label, Level},
    reason::Reason,
};
use sealbus_tests::{
    bus::{TestBus, soon},
    hostile::watch::Watch,
};

const POLICY: &str = r#"
levels       = ["public", "internal", "secret"]
compartments = ["deals"]
integrity    = ["untrusted", "checked"]

[teams.desk]
clearance = { level = "secret", compartments = ["deals"] }
integrity = "checked"
[teams.press]
clearance = { level = "secret", compartments = ["deals"] }
integrity = "checked"
[teams.street]
clearance = { level = "public" }
[teams.trial]
clearance = { level = "public" }
observe = true
[teams.fleeting]
clearance = { level = "secret", compartments = ["deals"] }
taint = "session"

[rules.files]
pattern     = "files.>"
publishers  = ["desk"]
subscribers = ["press", "fleeting"]
labels      = { level = { min = "internal", max = "secret" }, allowed = ["deals"], integrity = "untrusted" }
default     = { level = "secret", compartments = ["deals"] }

[rules.news]
pattern     = "news.>"
publishers  = ["press", "fleeting"]
subscribers = ["street", "desk"]
labels      = { level = { min = "public", max = "internal" }, integrity = { min = "untrusted", max = "checked" } }
default     = { level = "public", integrity = "untrusted" }

[rules.narrow]
pattern     = "narrow.>"
publishers  = ["street"]
subscribers = ["street", "trial"]
labels      = { level = "public", integrity = "untrusted" }
fan_in      = 2

[grants.press-release]
team       = "press"
from       = "files.>"
to         = "news.release.>"
from_label = { level = "secret", compartments = ["deals"] }
to_label   = { level = "public" }
expires    = 2999-12-31
reason     = "an editor writes what may be told"
"#;

fn label(level: u8, compartments: u64, integrity: u8) -> Label {
    Label::new(
        Level::new(level).unwrap(),
        Compartments::from_bits(compartments),
        Integrity::new(integrity).unwrap(),
    )
}

async fn client(bus: &TestBus, name: &str, team: &str) -> Client {
    Client::connect(bus.agent(name, team)).await.unwrap()
}

async fn next(messages: &mut Subscription) -> Vec<u8> {
    soon("a message", messages.next()).await.unwrap().payload().to_vec()
}

/// The reason of a denial, be it the client's own or the guard's.
fn reason<T: std::fmt::Debug>(result: Result<T, sealbus_client::Error>) -> Option<Reason> {
    result.unwrap_err().reason()
}

/// Reads one message of the files, so that what is in the files counts.
async fn read_files(desk: &Client, reader: &Client) {
    let mut files = reader.subscribe("files.>").await.unwrap();
    let sent = desk.publish_confirmed("files.merger", "they will merge").await;
    sent.unwrap();
    assert_eq!(next(&mut files).await, b"they will merge");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_is_not_told_below_its_label_but_by_a_flow_grant() {
    let bus = TestBus::start(POLICY).await;
    let (desk, press) = (client(&bus, "dora", "desk").await, client(&bus, "paul", "press").await);
    let street = client(&bus, "sam", "street").await;
    let mut news = street.subscribe("news.>").await.unwrap();
    press.publish_confirmed("news.weather", "sunny").await.unwrap();
    assert_eq!(next(&mut news).await, b"sunny");
    assert_eq!(press.floor(), Label::BOTTOM);

    read_files(&desk, &press).await;
    assert_eq!(press.floor(), label(2, 1, 0));
    let told = press.publish_confirmed("news.weather", "sunny, and they will merge").await;
    assert_eq!(reason(told), Some(Reason::LabelOutOfRange), "its label is joined with what it read");
    let low = Publish::new("news.weather", "they will merge").label(label(0, 0, 0));
    assert_eq!(reason(press.send_confirmed(low).await), Some(Reason::BelowFloor));
    let elsewhere = Publish::new("news.weather", "they will merge").flow_grant("press-release");
    assert_eq!(reason(press.send_confirmed(elsewhere).await), Some(Reason::FlowGrantMismatch));

    let release = Publish::new("news.release.today", "no comment").flow_grant("press-release");
    press.send_confirmed(release).await.unwrap();
    assert_eq!(next(&mut news).await, b"no comment");

    let endorsed = Publish::new("news.release.today", "it is so").flow_grant("press-release");
    let endorsed = endorsed.label(label(0, 0, 1));
    assert_eq!(
        reason(press.send_confirmed(endorsed).await),
        Some(Reason::FlowGrantMismatch),
        "it declassifies and endorses nothing"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_floor_outlives_session_and_guard_or_ends_with_the_session_where_the_team_says_so() {
    let mut bus = TestBus::start(POLICY).await;
    let desk = client(&bus, "dora", "desk").await;
    let (paul, fran) = (bus.agent("paul", "press"), bus.agent("fran", "fleeting"));
    for credentials in [&paul, &fran] {
        let reader = Client::connect(credentials.clone()).await.unwrap();
        read_files(&desk, &reader).await;
        assert_eq!(reader.floor(), label(2, 1, 0));
        reader.close().await.unwrap();
    }
    for restart in [false, true] {
        if restart {
            bus.kill_guard().await;
            bus.start_guard().await;
        }
        let again = Client::connect(paul.clone()).await.unwrap();
        assert_eq!(again.floor(), label(2, 1, 0), "after a restart of the guard: {restart}");
        let low = Publish::new("news.weather", "they will merge").label(label(0, 0, 0));
        assert_eq!(reason(again.send_confirmed(low).await), Some(Reason::BelowFloor));
        again.close().await.unwrap();
        let fresh = Client::connect(fran.clone()).await.unwrap();
        assert_eq!(fresh.floor(), Label::BOTTOM, "its harness starts it with an empty memory");
        fresh.publish_confirmed("news.weather", "sunny").await.unwrap();
        fresh.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn observe_mode_records_and_lets_pass() {
    let bus = TestBus::start(POLICY).await;
    let mut watch = Watch::start(&bus).await;
    let (street, trial) = (client(&bus, "sam", "street").await, client(&bus, "tom", "trial").await);
    let mut narrow = street.subscribe("narrow.>").await.unwrap();
    // Not a publisher of the rule, and it claims more integrity than it may vouch for.
    let sent = trial.send_confirmed(Publish::new("narrow.try", "may I?")).await.unwrap();
    assert!(sent.decision.observed);
    assert_eq!(next(&mut narrow).await, b"may I?");
    let seen = watch.event("the observation", |event| event.get("kind") == Some(&"observed".into())).await;
    assert_eq!(seen.get("reason"), Some(&"not_publisher".into()));

    // Outside the rule's labels, within what it may see: it arrives all the same.
    let endorsed = Publish::new("narrow.try", "believe me").label(label(0, 0, 1));
    assert!(trial.send_confirmed(endorsed).await.unwrap().decision.observed);
    assert_eq!(next(&mut narrow).await, b"believe me");

    let unobserved = street.send_confirmed(Publish::new("narrow.own", "mine")).await.unwrap();
    assert!(!unobserved.decision.observed);
    let above = Publish::new("narrow.try", "x").label(label(1, 0, 0));
    assert_eq!(reason(trial.send_confirmed(above).await), Some(Reason::AboveClearance), "never let pass");
    // It may send, and is given nothing to read that no rule gives it.
    assert_eq!(reason(trial.subscribe("news.>").await), Some(Reason::NotSubscriber));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_takes_so_many_publishers_at_once() {
    let bus = TestBus::start(POLICY).await;
    let reader = client(&bus, "rita", "street").await;
    let mut narrow = reader.subscribe("narrow.>").await.unwrap();
    let (one, two) = (client(&bus, "one", "street").await, client(&bus, "two", "street").await);
    for sender in [&one, &two] {
        sender.publish_confirmed("narrow.x", "x").await.unwrap();
        next(&mut narrow).await;
    }
    let three = client(&bus, "three", "street").await;
    let refused = three.publish_confirmed("narrow.x", "x").await.unwrap_err();
    assert_eq!(refused.reason(), Some(Reason::FanInExceeded), "{refused}");
    two.close().await.unwrap();
    let takes_its_place = async { while three.publish_confirmed("narrow.x", "3").await.is_err() {} };
    soon("a place to be free", takes_its_place).await;
    assert_eq!(next(&mut narrow).await, b"3");
}

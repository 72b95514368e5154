//! The review of a small log: what stands first, and that nothing in a name becomes markup.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use sealbus_envelope::label::{Compartments, Integrity, Level};

use super::*;
use crate::audit::entry::{
    Admitted, Body, Connection, ConnectionResult, Denied, Entry, Held, HoldEnded, KeyGranted, Order,
    PolicyChange, Position, Quarantine, Workflow,
};

const DAY: u64 = 24 * 3_600_000;
const SINCE: Millis = Millis(1_800_000_000_000);

fn label(level: u8) -> Label {
    Label::new(Level::new(level).unwrap(), Compartments::EMPTY, Integrity::LOWEST)
}

#[derive(Default)]
struct Log(Vec<Entry<'static>>);

impl Log {
    fn push(&mut self, time: Millis, body: Body<'static>) {
        let position = Position { epoch: 1, n: u64::try_from(self.0.len()).unwrap() };
        self.0.push(Entry { time, position, body });
    }

    fn admitted(
        &mut self,
        time: Millis,
        sender: &str,
        rule: &str,
        level: u8,
        grant: Option<&str>,
        observed: bool,
    ) {
        self.push(
            time,
            Body::Admitted(Admitted {
                digest: [1; 32].into(),
                envelope: [2; 16].into(),
                sender: sender.to_owned().into(),
                session: [3; 32].into(),
                rule: rule.to_owned().into(),
                subject: format!("{rule}.a").into(),
                label: label(level),
                flow_grant: grant.map(|grant| grant.to_owned().into()),
                parents: vec![].into(),
                policy_version: 1,
                guard_time: time,
                confirm: false,
                observed: observed.then(|| "not_publisher".into()),
            }),
        );
    }

    fn denied(&mut self, time: Millis, sender: &str, count: u64) {
        let denied = Denied {
            reason: "above_clearance".into(),
            count,
            sender: Some(sender.to_owned().into()),
            rule: Some("pay".into()),
            envelope: Some([9; 16].into()),
            ..Denied::default()
        };
        self.push(time, Body::Denied(denied));
    }

    fn granted(&mut self, time: Millis, sender: &str, reader: &str) {
        self.push(
            time,
            Body::KeyGranted(KeyGranted {
                key: [4; 32].into(),
                sender: sender.to_owned().into(),
                sender_session: [3; 32].into(),
                reader: reader.to_owned().into(),
                reader_session: [5; 32].into(),
                rule: "pay".into(),
                label: label(1),
            }),
        );
    }

    fn connected(&mut self, time: Millis, agent: &str, server: &str, result: ConnectionResult) {
        let reason = (result != ConnectionResult::Accepted).then(|| "quarantined".into());
        let (agent, server) = (Some(agent.to_owned().into()), server.to_owned().into());
        self.push(
            time,
            Body::Connection(Connection { agent, server, result, reason, session: None, host: None }),
        );
    }
}

/// A week with a bit of everything, after a quiet one.
fn week() -> Log {
    let (mut log, before) = (Log::default(), |day| SINCE.minus(day * DAY));
    let at = |day: u64, minute: u64| SINCE.plus(day * DAY + minute * 60_000);
    log.connected(before(8), "alice-aaaaaaaaaa", "east", ConnectionResult::Accepted);
    for n in 0..30 {
        log.admitted(before(6).plus(n * 60_000), "alice-aaaaaaaaaa", "pay", 0, None, false);
    }
    log.granted(before(6), "alice-aaaaaaaaaa", "dora-dddddddddd");
    log.denied(before(5), "alice-aaaaaaaaaa", 1);

    for n in 0..200 {
        log.admitted(at(0, n), "alice-aaaaaaaaaa", "pay", 0, None, false);
    }
    log.admitted(at(1, 0), "alice-aaaaaaaaaa", "pay", 1, Some("publish-summary"), false);
    for _ in 0..24 {
        log.admitted(at(1, 1), "bob-bbbbbbbbbb", "chat", 0, None, true);
    }
    log.granted(at(1, 2), "alice-aaaaaaaaaa", "bob-bbbbbbbbbb");
    log.denied(at(2, 0), "mallory-mmmmmmmmmm", 14);
    let quarantine = |from: &'static str, to: &'static str, confirmed| {
        Body::Quarantine(Quarantine {
            agent: "mallory-mmmmmmmmmm".into(),
            from: from.into(),
            to: to.into(),
            reason: "above_clearance".into(),
            evidence: vec![[9; 32].into()],
            confirmed,
            detail: Some(if confirmed.is_none() { "header.label" } else { "no answer from: west" }.into()),
        })
    };
    log.push(at(2, 1), quarantine("normal", "watched", None));
    log.push(at(2, 2), quarantine("watched", "quarantined", None));
    log.push(at(2, 3), quarantine("watched", "quarantined", Some(false)));
    let workflow = |to: &'static str, trigger: &'static str| {
        Body::Workflow(Workflow {
            workflow: "rule:pay".into(),
            to: to.into(),
            trigger: trigger.into(),
            agent: Some("mallory-mmmmmmmmmm".into()),
            reason: Some("above_clearance".into()),
            evidence: None,
            detail: Some("mallory-mmmmmmmmmm deviated: a sender was quarantined [above_clearance]".into()),
        })
    };
    log.push(at(2, 2), workflow("paused", "breaker"));
    log.push(at(2, 30), workflow("resumed", "order"));
    let order = |accepted| {
        Body::Order(Order {
            order: "resume".into(),
            digest: [6; 32].into(),
            target: "rule:pay".into(),
            signers: vec!["UA".into()],
            accepted,
            reason: (!accepted).then(|| "order_replayed".into()),
            id: None,
            why: Some("looked into it".into()),
        })
    };
    log.push(at(2, 30), order(true));
    log.push(at(2, 31), order(false));
    let (digest, envelope) = ([8; 32].into(), [8; 16].into());
    log.push(
        at(3, 0),
        Body::Held(Held {
            digest,
            envelope,
            sender: "alice-aaaaaaaaaa".into(),
            session: [3; 32].into(),
            rule: "pay".into(),
            subject: "pay.a".into(),
            label: label(0),
            flow_grant: None,
            approvals: 1,
            until: at(3, 15),
            policy_version: 1,
        }),
    );
    log.push(
        at(3, 14),
        Body::HoldEnded(HoldEnded {
            digest,
            envelope,
            sender: "alice-aaaaaaaaaa".into(),
            rule: "pay".into(),
            subject: "pay.a".into(),
            released: true,
            reason: None,
            people: vec!["ann".into()],
            waited_ms: 14 * 60_000,
        }),
    );
    log.push(
        at(4, 0),
        Body::PolicyChange(PolicyChange {
            what: "bundle".into(),
            from: Some(1),
            to: 2,
            digest: [7; 32].into(),
        }),
    );
    log.connected(at(4, 1), "alice-aaaaaaaaaa", "west", ConnectionResult::Accepted);
    log.connected(at(4, 2), "mallory-mmmmmmmmmm", "east", ConnectionResult::Lobby);
    log.admitted(at(8, 0), "alice-aaaaaaaaaa", "late", 0, None, false);
    log
}

fn background() -> Background {
    let teams =
        [("alice-aaaaaaaaaa", "payer"), ("bob-bbbbbbbbbb", "research"), ("mallory-mmmmmmmmmm", "payer")];
    Background {
        bus: "demo".to_owned(),
        teams: teams.map(|(agent, team)| (agent.to_owned(), team.to_owned())).into(),
        open_ended: ["research".to_owned()].into(),
        rates: [("chat".to_owned(), Rate { per_second: 2, burst: 5 })].into(),
        grants: [("publish-summary".to_owned(), "the board reads it".to_owned())].into(),
        tables: None,
        team: None,
    }
}

fn review(log: &Log, background: Background) -> Review {
    let mut collector = Collector::new(background, SINCE, SINCE.plus(7 * DAY));
    log.0.iter().for_each(|entry| collector.enter(entry));
    collector.finish()
}

#[test]
fn a_week_in_review() {
    let review = review(&week(), background());
    insta::assert_snapshot!("review", markdown(&review));
    insta::assert_snapshot!("page", html(&review));
    let first = &review.findings[0];
    assert_eq!(
        (first.severity, first.title.as_str()),
        (Severity::Critical, "mallory-mmmmmmmmmm is in quarantine")
    );
    assert!(review.compared);
    assert_eq!(review.agents[0].before, 30);
    assert!(review.new_flows.iter().all(|flow| flow.rule != "late"), "after the period");
}

#[test]
fn one_team_alone() {
    let team = Some("research".to_owned());
    let review = review(&week(), Background { team, ..background() });
    let agents: Vec<_> = review.agents.iter().map(|did| did.agent.as_str()).collect();
    assert_eq!(agents, ["bob-bbbbbbbbbb"]);
    assert!(review.agents[0].open_ended && review.states.is_empty() && review.workflows.is_empty());
    assert_eq!(review.new_readers.len(), 1, "as a reader it is of the team too");
}

#[test]
fn an_empty_log_is_a_short_report() {
    let review = review(&Log::default(), background());
    assert!(review.findings.is_empty() && !review.compared);
    assert!(markdown(&review).contains("Nothing stands out."));
    assert!(html(&review).contains("Nothing stands out."));
}

#[test]
fn nothing_that_an_agent_chose_becomes_markup() {
    let evil = "<script>alert(1)</script>|`x` [a](http://evil.example)\n# h \u{202e}";
    let mut log = Log::default();
    log.admitted(SINCE.minus(DAY), "a-aaaaaaaaaa", "r", 0, None, false);
    log.admitted(SINCE.plus(1), evil, evil, 0, None, true);
    log.denied(SINCE.plus(2), evil, 100);
    let review = review(&log, background());
    let page = html(&review);
    assert!(!page.contains("<script") && !page.contains('\u{202e}') && page.contains("&lt;script&gt;"));
    assert!(!page.contains("href") && !page.contains("src="), "nothing leads anywhere");
    let text = markdown(&review).replace("\\<", "").replace("\\]", "");
    // Outside of code spans, where nothing is markup.
    let outside = |line: &&str| !line.trim_start().starts_with('`');
    assert!(!text.lines().filter(outside).any(|line| line.contains("<script") || line.contains("](http")));
    assert_eq!(text.lines().filter(|line| line.starts_with("# ")).count(), 1);
}

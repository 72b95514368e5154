#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::borrow::Cow;

use super::*;
use crate::audit::entry::{Denied, Position};

/// A log written line by line, at one second a line.
#[derive(Default)]
struct Log(Vec<Body<'static>>);

impl Log {
    fn sent(mut self, n: u8, sender: &'static str, rule: &'static str, parents: &[u8]) -> Self {
        let [session, ..] = *sender.as_bytes() else { panic!("a name") };
        self.0.push(Body::Admitted(Admitted {
            digest: [n; 32].into(),
            envelope: [n; 16].into(),
            sender: sender.into(),
            session: [session; 32].into(),
            rule: rule.into(),
            subject: rule.into(),
            label: Label::BOTTOM,
            flow_grant: None,
            parents: Cow::Owned(parents.iter().map(|parent| [*parent; 32].into()).collect()),
            policy_version: 1,
            guard_time: Millis(0),
            confirm: false,
            observed: None,
        }));
        self
    }

    fn key(mut self, sender: &'static str, rule: &'static str, reader: &'static str) -> Self {
        let [session, ..] = *sender.as_bytes() else { panic!("a name") };
        self.0.push(Body::KeyGranted(KeyGranted {
            key: [0; 32].into(),
            sender: sender.into(),
            sender_session: [session; 32].into(),
            reader: reader.into(),
            reader_session: [0; 32].into(),
            rule: rule.into(),
            label: Label::BOTTOM,
        }));
        self
    }

    fn read(self, agent: &str, since: u64) -> Suspects {
        let mut suspects = Suspects::of(agent, Millis(since));
        for (n, body) in (0..).zip(self.0) {
            let position = Position { epoch: 1, n };
            suspects.read(n, &Entry { time: Millis(n), position, body });
        }
        suspects
    }
}

fn leaves(envelopes: &[Envelope]) -> Vec<u64> {
    envelopes.iter().map(|envelope| envelope.leaf).collect()
}

#[test]
fn what_derives_from_a_suspect_is_suspect_whoever_sent_it() {
    let log = Log::default()
        .sent(1, "thief-x", "raw", &[])
        .sent(2, "thief-x", "raw", &[])
        .sent(3, "bob-x", "notes", &[1])
        .sent(4, "bob-x", "notes", &[2])
        .sent(5, "carol-x", "report", &[4, 9])
        .sent(6, "dave-x", "report", &[3]);
    let suspects = log.read("thief", 1);
    assert_eq!(leaves(&suspects.own), [1], "what was sent before is good");
    assert_eq!(leaves(&suspects.derived), [3, 4]);
}

#[test]
fn who_got_a_key_before_the_theft_reads_what_is_sent_after() {
    let log = Log::default()
        .key("thief-x", "raw", "bob-x")
        .key("thief-x", "other", "erin-x")
        .sent(1, "thief-x", "raw", &[])
        .sent(2, "bob-x", "notes", &[])
        .key("bob-x", "notes", "carol-x")
        .sent(3, "erin-x", "notes", &[])
        .key("erin-x", "notes", "frank-x");
    let suspects = log.read("thief-x", 2);
    let exposed: Vec<_> = suspects.exposed.keys().map(String::as_str).collect();
    assert_eq!(exposed, ["bob-x", "carol-x"], "erin had a key under which nothing suspect was sent");
    let bob = suspects.exposed.get("bob-x").unwrap();
    assert_eq!((bob.since, bob.from.as_str(), bob.sent), (Millis(2), "thief-x", 1));
    assert!(suspects.derived.is_empty(), "nothing was declared: exposure is what does not depend on that");
}

#[test]
fn the_log_says_what_the_thief_was_given_and_what_it_cannot_tell() {
    let denied =
        Denied { reason: "no_rule".into(), count: 7, sender: Some("thief-x".into()), ..Denied::default() };
    let mut log = Log::default().key("bob-x", "notes", "thief-x").key("bob-x", "notes", "thief-x");
    log.0.push(Body::Denied(denied));
    let suspects = log.read("thief", 1);
    assert_eq!(suspects.given.values().map(|(_, keys)| *keys).collect::<Vec<_>>(), [1]);
    assert_eq!((suspects.denied, suspects.entries), (7, 3));
    assert!(suspects.limits().iter().any(|limit| limit.contains("declare")));
    let late = Log::default().sent(1, "thief-x", "raw", &[]).read("thief", 0);
    assert!(!late.limits().iter().any(|limit| limit.contains("begins")));
    assert!(Suspects::of("thief", Millis(0)).limits().iter().any(|limit| limit == "the log is empty"));
}

#[test]
fn names_that_only_begin_alike_are_others() {
    let log = Log::default().sent(1, "thief-two-x", "raw", &[]).sent(2, "thie-x", "raw", &[]);
    assert!(log.read("thief", 0).own.is_empty());
}

//! What changes between two policies is told in flows, not in lines.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use sealbus_envelope::identity::{KeyKind, SigningKey};
use sealbus_guard::policy::{
    self, DEFAULT_POLICY,
    diff::{Diff, Effect, diff, text},
    source::PolicySource,
    trial::Trial,
};

const POLICY: &str = r#"
levels = ["public", "internal", "secret"]
compartments = ["deps", "code"]
integrity = ["untrusted", "trusted"]

[zones.lab]
ceiling = { level = "secret", compartments = ["deps", "code"] }
servers = ["n1", "n2"]
tls = "verified"

[teams.writer]
clearance = { level = "secret", compartments = ["deps"] }
integrity = "untrusted"

[teams.reader]
clearance = { level = "secret", compartments = ["deps", "code"] }
zone = "lab"

[rules.items]
pattern = "items.>"
publishers = ["writer"]
subscribers = ["reader"]
labels = { level = "internal", required = ["deps"], integrity = "untrusted" }
rate = { per_second = 10, burst = 20 }

[rules.ask]
pattern = "ask.writer"
publishers = ["reader"]
subscribers = ["writer"]
kind = "request"
labels = { level = "internal", required = ["deps"], integrity = "untrusted" }

[grants.publish]
team = "reader"
from = "items.>"
to = "ask.>"
from_label = { level = "internal", compartments = ["deps"] }
to_label = { level = "public" }
expires = 2027-06-30
reason = "so that there is one"
"#;

fn trial(text: &str) -> Trial {
    let checked = policy::check(&PolicySource::new("test.toml", text));
    let checked = checked.unwrap_or_else(|found| panic!("{:?}", miette::Report::new(found)));
    Trial::of_policy(&checked.policy).unwrap()
}

/// The difference that replacing text makes, there and back.
fn edited(edits: &[(&str, &str)]) -> (Diff, Diff) {
    let mut text = POLICY.to_owned();
    for (from, to) in edits {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    let (old, new) = (trial(POLICY), trial(&text));
    (diff(&old, &new), diff(&new, &old))
}

/// `from to subject lowest highest` of each flow that opens.
fn opened(diff: &Diff) -> Vec<String> {
    let tables = trial(POLICY);
    let show = |label| tables.tables().show(label);
    let mut all: Vec<String> = diff
        .opened
        .iter()
        .map(|flow| {
            let (from, to, subject) = (text(&flow.from), text(&flow.to), flow.subject.as_str());
            format!("{from} {to} {subject} {} {}", show(flow.labels.low), show(flow.labels.high))
        })
        .collect();
    all.sort();
    all
}

/// A limit that opens one way closes the other.
fn opens_only(edits: &[(&str, &str)], what: &str) {
    let (there, back) = edited(edits);
    let says = |diff: &Diff, effect| {
        diff.changes.iter().any(|change| change.effect == effect && change.what.contains(what))
    };
    assert!(says(&there, Effect::Opens), "{edits:?}: {there:?}");
    assert!(!says(&there, Effect::Closes), "{edits:?}: {there:?}");
    assert!(says(&back, Effect::Closes), "{edits:?}: {back:?}");
    assert!(there.opens() && !back.opens(), "{edits:?}: {there:?} {back:?}");
    assert!(there.opened.is_empty() && back.opened.is_empty(), "{edits:?}: {there:?}");
}

#[test]
fn the_same_policy_is_no_difference() {
    for text in [POLICY, DEFAULT_POLICY] {
        assert!(diff(&trial(text), &trial(text)).is_empty());
    }
}

#[test]
fn a_wider_range_opens_the_new_labels_only() {
    let (there, back) = edited(&[(
        "labels = { level = \"internal\", required = [\"deps\"], integrity = \"untrusted\" }\nrate",
        "labels = { level = { min = \"internal\", max = \"secret\" }, required = [\"deps\"], integrity = \"untrusted\" }\n\
         default = { level = \"internal\", compartments = [\"deps\"] }\nrate",
    )]);
    assert_eq!(opened(&there), ["writer reader items.> secret/deps/untrusted secret/deps/untrusted"]);
    assert!(there.closed.is_empty() && !back.opens());
    assert_eq!(back.closed.len(), 1);
}

#[test]
fn labels_that_nobody_writes_open_nothing() {
    let (there, _) = edited(&[(
        "integrity = \"untrusted\" }\nrate",
        "integrity = { min = \"untrusted\", max = \"trusted\" } }\nrate",
    )]);
    assert!(there.opened.is_empty(), "the publisher may claim `untrusted` at most: {there:?}");
}

#[test]
fn a_rule_that_is_renamed_opens_nothing() {
    let (there, back) = edited(&[("[rules.items]", "[rules.things]")]);
    assert!(!there.opens() && !back.opens(), "{there:?}");
    assert!(there.opened.is_empty() && there.closed.is_empty());
    assert_eq!(there.changes.len(), 1, "envelopes must name the new rule: {there:?}");
}

#[test]
fn a_rule_that_is_renamed_does_not_hide_a_higher_limit() {
    let (there, _) = edited(&[("[rules.items]", "[rules.things]"), ("per_second = 10", "per_second = 11")]);
    assert!(there.opens(), "{there:?}");
}

#[test]
fn a_rule_that_is_divided_opens_nothing() {
    let rule = POLICY.split_once("[rules.items]").unwrap().1.split_once("[rules.ask]").unwrap().0;
    let wide = rule.replace("level = \"internal\"", "level = { min = \"internal\", max = \"secret\" }")
        + "default = { level = \"secret\", compartments = [\"deps\"] }\n\n";
    let divided =
        format!("{rule}\n[rules.secrets]{}", rule.replace("level = \"internal\"", "level = \"secret\""));
    let (one, two) = (trial(&POLICY.replace(rule, &wide)), trial(&POLICY.replace(rule, &divided)));
    for diff in [diff(&one, &two), diff(&two, &one)] {
        assert!(diff.opened.is_empty() && diff.closed.is_empty() && !diff.opens(), "{diff:?}");
    }
}

#[test]
fn a_wider_pattern_and_another_reader_open_their_flows() {
    let (there, _) = edited(&[("\"items.>\"\npublishers", "\"*.>\"\npublishers")]);
    assert_eq!(opened(&there), ["writer reader *.> internal/deps/untrusted internal/deps/untrusted"]);
    let (there, _) = edited(&[("subscribers = [\"reader\"]", "subscribers = [\"reader\", \"writer\"]")]);
    assert_eq!(opened(&there), ["writer writer items.> internal/deps/untrusted internal/deps/untrusted"]);
}

#[test]
fn another_kind_is_another_flow() {
    let (there, _) = edited(&[("kind = \"request\"\n", "")]);
    assert_eq!(opened(&there), ["reader writer ask.writer internal/deps/untrusted internal/deps/untrusted"]);
    assert_eq!(there.closed.len(), 2, "the question and the answer");
}

#[test]
fn a_lower_clearance_closes_what_it_can_no_longer_read() {
    let (there, back) = edited(&[(
        "secret\", compartments = [\"deps\"] }\nintegrity",
        "internal\", compartments = [\"deps\"] }\nintegrity",
    )]);
    assert!(!there.opens() && !back.opens(), "no rule carries `secret`: {there:?} {back:?}");
}

#[test]
fn settings_open_one_way_and_close_the_other() {
    opens_only(&[("per_second = 10", "per_second = 11")], "rule items, rate");
    opens_only(&[("burst = 20 }", "burst = 20 }\nmax_bytes = 100000")], "rule items, size");
    opens_only(&[("burst = 20 }", "burst = 20 }\nobserve = true")], "rule items");
    opens_only(
        &[("integrity = \"untrusted\"\n\n", "integrity = \"untrusted\"\ntaint = \"session\"\n\n")],
        "team writer",
    );
    opens_only(&[("[\"n1\", \"n2\"]", "[\"n1\", \"n2\", \"n3\"]")], "servers");
    opens_only(&[("tls = \"verified\"", "tls = \"encrypted\"")], "TLS");
    opens_only(&[("zone = \"lab\"\n", "")], "servers");
    opens_only(&[("2027-06-30", "2027-07-01")], "flow grant publish");
    opens_only(&[("to = \"ask.>\"", "to = \">\"")], "flow grant publish");
}

#[test]
fn an_observed_sender_is_said_where_it_was_not() {
    let (there, back) = edited(&[("\nlevels", "\nobserve = true\nlevels")]);
    let first =
        |diff: &Diff| diff.changes.first().map(|change| (change.effect, change.what.clone())).unwrap();
    assert_eq!(first(&there).0, Effect::Opens);
    assert_eq!(first(&back).0, Effect::Closes);
}

fn says(diff: &Diff, effect: Effect, what: &str) -> bool {
    diff.changes.iter().any(|change| change.effect == effect && change.what.contains(what))
}

#[test]
fn what_comes_new_and_observed_lets_others_send() {
    // Nobody else is named, so nothing flows by the rule's own words.
    let rule = r#"
[rules.diary]
pattern = "diary.>"
publishers = [{ agent = "ada" }]
subscribers = [{ agent = "ada" }]
labels = { level = "internal", integrity = "untrusted" }
observe = true

[grants.publish]"#;
    let (there, _) = edited(&[("\n[grants.publish]", rule)]);
    assert!(there.opens() && says(&there, Effect::Opens, "rule diary"), "{there:?}");
    let team = "[teams.guest]\nclearance = { level = \"public\" }\nobserve = true\n\n[teams.reader]";
    let (there, _) = edited(&[("[teams.reader]", team)]);
    assert!(there.opens() && says(&there, Effect::Opens, "team guest"), "{there:?}");
}

#[test]
fn a_zone_of_no_team_is_told_too() {
    // Credentials may name it.
    let zone = |servers: &str| {
        format!("[zones.yard]\nceiling = {{ level = \"secret\" }}\n{servers}\n[teams.writer]")
    };
    let with = |servers| trial(&POLICY.replace("[teams.writer]", &zone(servers)));
    let (narrow, wide) = (with("servers = [\"n9\"]\n"), with(""));
    let there = diff(&narrow, &wide);
    assert!(there.opens() && says(&there, Effect::Opens, "zone yard: servers"), "{there:?}");
    assert!(says(&diff(&wide, &narrow), Effect::Closes, "zone yard: servers"));
}

#[test]
fn a_rule_that_is_renamed_does_not_hide_a_larger_burst() {
    let (there, _) = edited(&[
        ("[rules.items]", "[rules.things]"),
        ("per_second = 10, burst = 20", "per_second = 9, burst = 2000"),
    ]);
    assert!(says(&there, Effect::Opens, "rule things, rate"), "{there:?}");
}

#[test]
fn a_grant_inside_another_opens_nothing() {
    let grant = POLICY.split_once("[grants.publish]").unwrap().1;
    let narrow = format!("{grant}\n[grants.less]{}", grant.replace("to = \"ask.>\"", "to = \"ask.writer\""));
    let (there, back) = edited(&[(grant, &narrow)]);
    assert!(!there.opens() && !there.is_empty(), "{there:?}");
    assert!(!back.opens(), "{back:?}");
}

#[test]
fn what_people_watch_over_less_opens() {
    let directed = "rate = { per_second = 10, burst = 20 }\nmax_bytes = 4096\noversight = \"directed\"";
    let (there, back) = edited(&[("rate = { per_second = 10, burst = 20 }", directed)]);
    let says = |diff: &Diff, effect, what: &str| {
        diff.changes.iter().any(|change| change.effect == effect && change.what.contains(what))
    };
    assert!(says(&there, Effect::Closes, "rule items, oversight: none → directed"), "{there:?}");
    assert!(says(&back, Effect::Opens, "rule items, oversight: directed → none"), "{back:?}");
    opens_only(&[("zone = \"lab\"", "zone = \"lab\"\noversight = \"open-ended\"")], "oversight");
    // Another name does not hide it.
    let renamed = POLICY.replace("[rules.items]", "[rules.things]");
    let was = POLICY.replace("rate = { per_second = 10, burst = 20 }", directed);
    assert!(says(&diff(&trial(&was), &trial(&renamed)), Effect::Opens, "directed → none"));
}

#[test]
fn fewer_signatures_and_a_duller_detector_open() {
    let with = |tail: &str| trial(&format!("{POLICY}\n{tail}"));
    let opens = |from: &str, to: &str, what: &str| {
        let (there, back) = (diff(&with(from), &with(to)), diff(&with(to), &with(from)));
        let says = |diff: &Diff, effect| {
            diff.changes.iter().any(|change| change.effect == effect && change.what.contains(what))
        };
        assert!(says(&there, Effect::Opens), "{there:?}");
        assert!(says(&back, Effect::Closes) && !back.opens(), "{back:?}");
    };
    opens("[orders]\nresume = 3", "[orders]\nresume = 2", "signatures on resume");
    opens("[orders]\nrelease = 3", "", "signatures on release");
    opens("", "[anomaly]\nquarantine = 5.0", "quarantined from score");
    opens("[anomaly]\nhalf_life = \"20m\"", "", "half-life");
    opens("", "[anomaly.weights]\nlabel-up = 0.0", "weight of label-up");
}

/// With this hold on the items, and three people who may be named.
fn held(hold: &str) -> Trial {
    let key = |n| SigningKey::from_seed(&[n; 32]).public().to_nkey(KeyKind::User);
    let lists = format!(
        "[approvers.duty]\nann = \"{}\"\nbob = \"{}\"\n[approvers.board]\ncarol = \"{}\"\n",
        key(1),
        key(2),
        key(3)
    );
    let rate = "rate = { per_second = 10, burst = 20 }";
    trial(&POLICY.replacen(rate, &format!("{rate}\n{hold}"), 1).replacen(
        "[zones.lab]",
        &format!("{lists}[zones.lab]"),
        1,
    ))
}

#[test]
fn a_hold_that_is_weakened_opens_and_one_that_is_tightened_closes() {
    let two = r#"hold = { approvals = 2, deadline = "10m", approvers = ["duty"] }"#;
    for (what, weaker) in [
        ("none", ""),
        ("fewer approvals", r#"hold = { approvals = 1, deadline = "10m", approvers = ["duty"] }"#),
        ("more people", r#"hold = { approvals = 2, deadline = "10m", approvers = ["duty", "board"] }"#),
        ("more time", r#"hold = { approvals = 2, deadline = "11m", approvers = ["duty"] }"#),
    ] {
        let (strict, weak) = (held(two), held(weaker));
        assert!(
            says(&diff(&strict, &weak), Effect::Opens, "rule items, hold: 2 of ann, bob within 10 min"),
            "{what}"
        );
        assert!(says(&diff(&weak, &strict), Effect::Closes, "2 of ann, bob within 10 min"), "{what}");
    }
    let (one, other) = (
        held(r#"hold = { approvals = 1, deadline = "10m", approvers = ["duty"] }"#),
        held(r#"hold = { approvals = 1, deadline = "10m", approvers = ["board"] }"#),
    );
    assert!(diff(&one, &other).opens() && diff(&other, &one).opens(), "other people are other people");
    let later =
        r#"hold = { approvals = 2, deadline = "10m", approvers = [{ list = "duty", after = "1m" }] }"#;
    let asked = diff(&held(two), &held(later));
    assert!(!asked.opens() && says(&asked, Effect::Changes, "hold"), "asked later, they may as before");
}

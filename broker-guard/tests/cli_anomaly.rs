//! `sealbus anomaly replay` on series and on logs, as a user sees it.
//!
//! After a change of wording run with `INSTA_UPDATE=always` and read the difference.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "what the tests of other commands need besides")]
mod cli;
#[expect(dead_code, reason = "what the tests of other commands need besides")]
#[path = "cli/look.rs"]
mod look;

use std::{fmt::Write as _, io::Write as _, process::Stdio};

use cli::{Place, text};
use sealbus_envelope::{identity::SigningKey, label::Label, time::Millis};
use sealbus_guard::audit::{
    entry::{Admitted, Body, Denied, Held, Hex, HoldEnded, KeyGranted, Record},
    note::SignWith,
    store::{AuditLog, Options},
};

/// Monday, the first of January 2024.
const BEGIN: u64 = 1_704_067_200;
const HOUR: u64 = 3_600;

fn snapshot(name: &str, shown: &str) {
    insta::with_settings!({
        snapshot_path => "cli/snapshots", prepend_module_to_snapshot => false, omit_expression => true,
    }, { insta::assert_snapshot!(name, shown) });
}

fn all(place: &Place, runs: &[&[&str]]) -> String {
    runs.iter().map(|args| place.see(args)).collect::<Vec<_>>().join("\n\n")
}

/// Two publishers for thirty hours, one row in five minutes; then one of them sends a thousand times as much.
fn traffic() -> String {
    let mut csv = String::from("time,publisher,count,size,subject\n");
    for row in 0..30 * 12 {
        let time = BEGIN + row * 300;
        writeln!(csv, "{time},web.collector,{},900,pages.new", 20 + row % 5).unwrap();
        writeln!(csv, "{time},calm-abcdefghij,3,1200,notes.a").unwrap();
    }
    for minute in 0..5 {
        let time = BEGIN + 30 * HOUR + minute * 60;
        writeln!(csv, "{time},web.collector,20000,900,pages.new").unwrap();
        writeln!(csv, "{time},calm-abcdefghij,1,1200,notes.a").unwrap();
    }
    writeln!(csv, "{},calm-abcdefghij,3,1200,notes.a", BEGIN + 36 * HOUR).unwrap();
    csv
}

#[test]
fn a_flood_in_a_recorded_series_is_told_and_nothing_else() {
    let place = Place::new();
    place.write("traffic.csv", traffic());
    let all_calm = traffic();
    let (calm, _) = all_calm.split_at(all_calm.find(&format!("{},web", BEGIN + 30 * HOUR)).unwrap());
    place.write("calm.csv", calm);
    // The same with other names of columns in another order, by semicolons, from a spreadsheet.
    let mut other = String::from("\u{feff}Publisher;When;Size\n");
    for line in traffic().lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        if let [time, publisher, _, size, _] = fields.as_slice() {
            let time = jiff::Timestamp::from_second(time.parse().unwrap()).unwrap();
            writeln!(other, "{publisher};{time};{size}\r").unwrap();
        }
    }
    place.write("sizes.csv", &other);
    snapshot(
        "anomaly-traffic",
        &all(
            &place,
            &[
                &["anomaly", "replay", "traffic.csv"],
                &["anomaly", "replay", "traffic.csv", "--json"],
                &["anomaly", "replay", "traffic.csv", "--watch", "5", "--quarantine", "9"],
                &["anomaly", "replay", "calm.csv"],
                &["anomaly", "replay", "calm.csv", "--json"],
                &["anomaly", "replay", "sizes.csv", "--time-column", "when"],
            ],
        ),
    );
    let mut piped = place.command(&["anomaly", "replay", "-"]);
    let mut child = piped.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(traffic().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(text(&output.stdout), text(&place.run(&["anomaly", "replay", "traffic.csv"]).stdout));
}

#[test]
fn thresholds_are_tried_from_a_policy_file() {
    let place = Place::with_bus();
    place.write("traffic.csv", traffic());
    let stricter =
        format!("{}\n[anomaly]\nwatch = 0.5\n[anomaly.weights]\nrate = 0.3\n", place.read("bus/policy.toml"));
    place.write("strict.toml", stricter);
    place.write("wrong.toml", "[anomaly]\nwatch = -1\n");
    snapshot(
        "anomaly-policy",
        &all(
            &place,
            &[
                &["anomaly", "replay", "traffic.csv", "--policy", "strict.toml"],
                &[
                    "anomaly",
                    "replay",
                    "traffic.csv",
                    "--policy",
                    "strict.toml",
                    "--watch",
                    "0.1",
                    "--quarantine",
                    "0.2",
                ],
            ],
        ),
    );
    let refused = place.run(&["anomaly", "replay", "traffic.csv", "--policy", "wrong.toml"]);
    assert_ne!(refused.status.code(), Some(0));
}

#[test]
fn any_column_of_numbers_has_a_score_for_each_row() {
    let place = Place::new();
    let mut csv = String::from("timestamp,host,cpu\n");
    for row in 0_u64..44 {
        let time = jiff::Timestamp::from_second((BEGIN + row * 300).try_into().unwrap()).unwrap();
        let value = match row {
            30 => "97.5".to_owned(),
            33 => String::new(),
            34 => "NaN".to_owned(),
            _ => format!("{:.1}", 20.0 + f64::from(u8::try_from(row * 7 % 5).unwrap()) / 10.0),
        };
        writeln!(csv, "{time},db-1,{value}").unwrap();
    }
    place.write("cpu.csv", &csv);
    place.write("short.csv", "value\n1\n2\n");
    snapshot(
        "anomaly-values",
        &all(
            &place,
            &[
                &["anomaly", "replay", "cpu.csv", "--value-column", "cpu"],
                &["anomaly", "replay", "short.csv", "--value-column", "value", "--json"],
            ],
        ),
    );
    let lines = |args: &[&str]| text(&place.run(args).stdout).lines().map(str::to_owned).collect::<Vec<_>>();
    let alarms = |threshold: &str| {
        let args =
            ["anomaly", "replay", "cpu.csv", "--value-column", "cpu", "--threshold", threshold, "--json"];
        lines(&args).into_iter().filter(|line| line.contains("\"alarm\":true")).count()
    };
    assert_eq!((alarms("0.5"), alarms("1.1")), (1, 0));
    assert!(alarms("0") > 40);
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_line() {
    let place = Place::new();
    let files: [(&str, &[u8]); 10] = [
        ("empty.csv", b""),
        ("header.csv", b"time,publisher,count\n"),
        ("when.csv", b"time,publisher,count\n1704067200,a,1\n\nnoon,a,1\n"),
        ("past.csv", b"time,publisher,count\n-5,a,1\n"),
        ("count.csv", b"time,publisher,count\n1704067200,a,1\n1704067201,a,-1\n"),
        ("size.csv", b"time,publisher,size\n1704067200,a,\"12,5\"\n"),
        ("nobody.csv", b"time,publisher,count\n1704067200,,1\n"),
        ("neither.csv", b"time,publisher,bytes\n1704067200,a,1\n"),
        ("columns.csv", b"when,who,count\n1704067200,a,1\n"),
        ("latin1.csv", b"time,publisher,count\n1704067200,J\xfcrgen,1\n"),
    ];
    for (name, bytes) in files {
        place.write(name, bytes);
    }
    place.write("value.csv", "time,value\n1704067200,1\n1704067201,many\n");
    place.write("value-time.csv", "time,value\n1704067200,1\nlater,2\n");
    let runs: Vec<Vec<&str>> = files.iter().map(|(name, _)| vec!["anomaly", "replay", *name]).collect();
    let mut runs: Vec<&[&str]> = runs.iter().map(Vec::as_slice).collect();
    let more: [&[&str]; 8] = [
        &["anomaly", "replay", "value.csv", "--value-column", "value"],
        &["anomaly", "replay", "value-time.csv", "--value-column", "value"],
        &["anomaly", "replay", "value.csv", "--value-column", "cpu"],
        &["anomaly", "replay", "missing.csv"],
        &["anomaly", "replay", "header.csv", "--watch", "0"],
        &["anomaly", "replay", "header.csv", "--watch", "2", "--quarantine", "1"],
        &["anomaly", "replay", "header.csv", "--log", "somewhere"],
        &["anomaly", "replay", "--log", "nowhere"],
    ];
    runs.extend(more);
    snapshot("anomaly-refused", &all(&place, &runs));
}

fn admitted(digest: u8, sender: &'static str, session: u8, parents: &[u8], at: u64) -> Body<'static> {
    let parents: Vec<Hex<32>> = parents.iter().map(|parent| Hex([*parent; 32])).collect();
    Body::Admitted(Admitted {
        digest: Hex([digest; 32]),
        envelope: Hex([digest; 16]),
        sender: sender.into(),
        session: Hex([session; 32]),
        rule: "notes".into(),
        subject: "notes.a".into(),
        label: Label::BOTTOM,
        flow_grant: None,
        parents: parents.into(),
        policy_version: 1,
        guard_time: Millis(at * 1_000),
        confirm: false,
        observed: None,
    })
}

/// Ann is read by bob; eve names what ann wrote and never was given it; mallory contradicts itself; pays waits for
/// people, and is let go a day's worth at once.
fn log() -> Vec<(u64, Body<'static>)> {
    let (ann, bob, eve, pays) = ("ann-abcdefghij", "bob-abcdefghij", "eve-abcdefghij", "pays-abcdefghij");
    let granted = Body::KeyGranted(KeyGranted {
        key: Hex([9; 32]),
        sender: ann.into(),
        sender_session: Hex([1; 32]),
        reader: bob.into(),
        reader_session: Hex([2; 32]),
        rule: "notes".into(),
        label: Label::BOTTOM,
    });
    let mut entries = vec![(BEGIN, granted)];
    for n in 0..30 * 60 {
        let at = BEGIN + n * 60;
        entries.extend(
            [(ann, 1), (bob, 2), (eve, 3)].map(|(who, session)| (at, admitted(0, who, session, &[], at))),
        );
        let digest = |n: u64| {
            let mut digest = [4; 32];
            digest.iter_mut().zip(n.to_be_bytes()).for_each(|(to, from)| *to = from);
            Hex(digest)
        };
        if n % 10 == 0 {
            let held = Held {
                digest: digest(n),
                envelope: Hex([4; 16]),
                sender: pays.into(),
                session: Hex([4; 32]),
                rule: "pay".into(),
                subject: "pay.now".into(),
                label: Label::BOTTOM,
                flow_grant: None,
                approvals: 1,
                until: Millis((at + 48 * HOUR) * 1_000),
                policy_version: 1,
            };
            entries.push((at, Body::Held(held)));
        }
        if n == 29 * 60 {
            for n in (0..n).filter(|n| n % 10 == 0) {
                let ended = HoldEnded {
                    digest: digest(n),
                    envelope: Hex([4; 16]),
                    sender: pays.into(),
                    rule: "pay".into(),
                    subject: "pay.now".into(),
                    released: true,
                    reason: None,
                    people: vec!["ann".into()],
                    waited_ms: 0,
                };
                let Body::Admitted(released) = admitted(4, pays, 4, &[], at) else { continue };
                let released =
                    Admitted { digest: digest(n), rule: "pay".into(), subject: "pay.now".into(), ..released };
                entries.extend([(at, Body::HoldEnded(ended)), (at, Body::Admitted(released))]);
            }
        }
    }
    let at = BEGIN + 30 * HOUR;
    entries.extend([
        (at, admitted(1, ann, 1, &[], at)),
        (at + 1, admitted(2, bob, 2, &[1], at + 1)),
        (at + 2, admitted(3, eve, 3, &[1, 7], at + 2)),
        (at + 3, admitted(5, eve, 3, &[1], at + 3)),
    ]);
    let denied = Denied {
        reason: "wrong_sender".into(),
        count: 1,
        digest: Some(Hex([6; 32])),
        envelope: None,
        sender: Some("mallory-abcdefghij".into()),
        session: None,
        rule: None,
        subject: None,
        label: None,
        detail: None,
    };
    let junk = Denied { digest: None, sender: Some(bob.into()), count: 500, ..denied.clone() };
    entries.extend([(at + 4, Body::Denied(denied)), (at + 5, Body::Denied(junk))]);
    entries
}

#[test]
fn a_log_is_replayed_as_the_guard_saw_it() {
    let place = Place::new();
    let key = SigningKey::from_seed(&[7; 32]);
    let mut options = Options::new("sealbus/demo/guard-1");
    options.reserve_bytes = 0;
    let signer = SignWith { public: *key.public().as_bytes(), sign: move |text: &[u8]| key.sign_raw(text) };
    let mut audit = AuditLog::open(&place.path("audit"), options, Box::new(signer)).unwrap();
    let records: Vec<Record<'_>> =
        log().into_iter().map(|(at, body)| Record { time: Millis(at * 1_000), body }).collect();
    for part in records.chunks(1_000) {
        audit.append_batch(part).unwrap();
    }
    audit.close().unwrap();
    snapshot(
        "anomaly-log",
        &all(
            &place,
            &[&["anomaly", "replay", "--log", "audit"], &["anomaly", "replay", "--log", "audit", "--json"]],
        ),
    );
}

//! Cases for a policy: the shipped ones pass, and those that are malformed are refused with their place.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use miette::{GraphicalReportHandler, GraphicalTheme};
use sealbus_envelope::time::Millis;
use sealbus_guard::policy::{self, DEFAULT_POLICY, cases::Cases, source::PolicySource, trial::Trial};

fn default_policy() -> Trial {
    let checked = policy::check(&PolicySource::new("default.toml", DEFAULT_POLICY)).unwrap();
    Trial::of_policy(&checked.policy).unwrap()
}

#[test]
fn the_shipped_cases_pass_on_the_default_policy() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/policy-cases.toml");
    let source = PolicySource::new("policy-cases.toml", std::fs::read_to_string(path).unwrap());
    let trial = default_policy();
    let cases = Cases::read(&trial, &source, |_| None)
        .unwrap_or_else(|found| panic!("{:?}", miette::Report::new(found)));
    let results = cases.run(&trial, Millis(0));
    assert!(results.len() >= 15);
    for result in results {
        assert!(result.wrong.is_empty(), "{}: {:?}", result.name, result.wrong);
    }
}

#[test]
fn a_case_that_is_not_as_expected_says_in_what() {
    let trial = default_policy();
    let text = r#"
        [[case]]
        name = "allowed"
        team = "collector"
        publish = "deps.item.x"
        expect = "deny"
        [[case]]
        name = "denied"
        team = "collector"
        publish = "findings.x"
        expect = "allow"
        [[case]]
        name = "for another reason"
        team = "collector"
        publish = "findings.x"
        expect = "deny"
        reason = "above_clearance"
        [[case]]
        name = "by another rule"
        team = "collector"
        publish = "deps.item.x"
        expect = "allow"
        expect_rule = "hello"
    "#;
    let cases = Cases::read(&trial, &PolicySource::new("cases.toml", text), |_| None).unwrap();
    let wrong: Vec<_> = cases.run(&trial, Millis(0)).into_iter().flat_map(|result| result.wrong).collect();
    assert_eq!(
        wrong,
        [
            "it is allowed",
            "it is denied: not_publisher",
            "the reason is not_publisher, not above_clearance",
            "the rule is deps-item, not hello",
        ]
    );
}

#[test]
fn malformed_cases_are_told_with_their_place() {
    let trial = default_policy();
    let case = "[[case]]\nname = \"c\"\nteam = \"analyst\"\npublish = \"hello.x\"\nexpect = \"deny\"\n";
    let mut shown = Vec::new();
    for text in [
        String::new(),
        "[[case]\n".to_owned(),
        case.replace("expect", "expects"),
        case.replace("team = \"analyst\"\n", ""),
        case.replace("team = \"analyst\"", "agent = \"alice\""),
        case.replace("publish = \"hello.x\"", "publish = \"hello.>\""),
        case.replace("publish = \"hello.x\"\n", ""),
        format!("{case}subscribe = \"hello.>\"\n"),
        format!("{case}label = \"topsecret\"\nparents = [\"public/x\"]\nfloor = [\"public\"]\n"),
        format!("{case}reason = \"bellow_floor\"\nat = \"tomorrow\"\nflow_grant = \"A B\"\n"),
        case.replace("\"deny\"", "\"denied\""),
    ] {
        let found = Cases::read(&trial, &PolicySource::new("cases.toml", text), |_| None).unwrap_err();
        let mut message = String::new();
        GraphicalReportHandler::new_themed(GraphicalTheme::none())
            .with_width(80)
            .render_report(&mut message, &found)
            .expect("a report can be rendered");
        shown.push(message.lines().map(str::trim_end).collect::<Vec<_>>().join("\n"));
    }
    insta::assert_snapshot!(shown.join("\n\n----\n\n"));
}

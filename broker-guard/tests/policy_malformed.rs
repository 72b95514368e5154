//! Every policy in `policies/malformed` is refused with the message beside it, and every one in
//! `policies/warned` is accepted with the warning beside it.
//!
//! Each file has one fault and is named for it. After a change of wording run with `INSTA_UPDATE=always`
//! and read the difference.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::{fmt::Write as _, path::Path};

use miette::{GraphicalReportHandler, GraphicalTheme};
use sealbus_envelope::time::Millis;
use sealbus_guard::policy::{
    self, DEFAULT_POLICY,
    diagnostic::{Code, Findings},
    source::PolicySource,
};

/// The day that the warned policies are reviewed on.
const TODAY: Millis = Millis::from_seconds(1_767_225_600); // 2026-01-01
/// When the example's flow grants were written: they are for less than a year.
const WRITTEN: Millis = Millis::from_seconds(1_793_491_200); // 2026-11-01

#[test]
fn every_malformed_policy_is_refused_with_its_message() {
    let shown = each("policies/malformed", |name, source| match policy::check(&source) {
        Ok(_) => panic!("`{name}` was accepted"),
        Err(findings) => findings,
    });
    assert!(shown >= 90, "only {shown} cases were found");
}

#[test]
fn every_policy_that_is_hardly_meant_so_is_accepted_with_a_warning() {
    let shown = each("policies/warned", |name, source| {
        assert!(policy::check(&source).is_ok_and(|checked| checked.warnings.is_empty()), "{name}");
        let reviewed = policy::review(&source, TODAY);
        let warnings =
            reviewed.unwrap_or_else(|found| panic!("{name}: {:?}", miette::Report::new(found))).warnings;
        assert!(!warnings.is_empty(), "`{name}` is not warned of");
        warnings
    });
    assert!(shown >= 20, "only {shown} cases were found");
}

/// Renders what `find` says of each file of a folder beside the file. Gives how many there are.
fn each(folder: &str, find: impl Fn(&str, PolicySource) -> Findings) -> usize {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let mut files: Vec<_> = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    for path in &files {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        let findings = find(name, PolicySource::new(format!("{name}.toml"), text));
        let mut message = String::new();
        GraphicalReportHandler::new_themed(GraphicalTheme::none())
            .with_width(80)
            .render_report(&mut message, &findings)
            .expect("a report can be rendered");
        // Trailing spaces are layout, and editors remove them.
        let message = message.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
        insta::with_settings!({
            snapshot_path => folder,
            prepend_module_to_snapshot => false,
            omit_expression => true,
        }, {
            insta::assert_snapshot!(name, message);
        });
    }
    files.len()
}

#[test]
fn a_team_whose_permissions_do_not_fit_into_a_login_is_an_error() {
    let mut text = String::from(
        "levels = [\"public\"]\nintegrity = [\"untrusted\"]\n\n[teams.busy]\nclearance = { level = \"public\" }\n",
    );
    for n in 0..1_000 {
        let _ = write!(
            text,
            "\n[rules.r{n}]\npattern = \"{}.{n}\"\npublishers = [\"busy\"]\nsubscribers = [\"busy\"]\n\
             labels = {{ level = \"public\" }}\n",
            "long".repeat(40)
        );
    }
    let source = PolicySource::new("busy.toml", text);
    assert!(policy::check(&source).is_ok());
    let found = policy::review(&source, TODAY).unwrap_err();
    let [finding] = found.as_slice() else { panic!("{:?}", miette::Report::new(found)) };
    assert_eq!(finding.code, Code::PermissionsTooLarge);
}

#[test]
fn the_shipped_policies_are_meant_as_they_are() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/policy-example.toml");
    let example = std::fs::read_to_string(example).unwrap();
    for (name, text) in [("default.toml", DEFAULT_POLICY), ("policy-example.toml", &example)] {
        let reviewed = policy::review(&PolicySource::new(name, text), WRITTEN);
        let reviewed = reviewed.unwrap_or_else(|found| panic!("{:?}", miette::Report::new(found)));
        assert!(reviewed.warnings.is_empty(), "{:?}", miette::Report::new(reviewed.warnings));
    }
}

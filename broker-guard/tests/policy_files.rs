//! The policies that come with Sealbus are sound.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use sealbus_guard::policy::{self, DEFAULT_POLICY, source::PolicySource};

fn shipped() -> [PolicySource; 2] {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/policy-example.toml");
    [
        PolicySource::new("default.toml", DEFAULT_POLICY),
        PolicySource::new("policy-example.toml", std::fs::read_to_string(example).unwrap()),
    ]
}

#[test]
fn they_are_accepted_without_a_warning() {
    for source in shipped() {
        let checked =
            policy::check(&source).unwrap_or_else(|found| panic!("{:?}", miette::Report::new(found)));
        assert!(checked.warnings.is_empty(), "{:?}", miette::Report::new(checked.warnings));
        assert!(checked.policy.rules().len() >= 6);
    }
}

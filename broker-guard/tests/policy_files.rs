//! The policies that come with Sealbus are sound.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use sealbus_envelope::identity::{Roots, SigningKey};
use sealbus_envelope::name::Name;
use sealbus_envelope::reason::Reason;
use sealbus_envelope::time::Millis;
use sealbus_guard::policy::bundle::{self, BundleError, ServiceKeys};
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

/// What people have a say in, by example: rules and grants that wait for them, modes, lists that are asked in turn.
#[test]
fn the_example_of_oversight_is_accepted_without_a_warning() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/policy-oversight.toml");
    let source = PolicySource::new("policy-oversight.toml", std::fs::read_to_string(path).unwrap());
    let checked = policy::check(&source).unwrap_or_else(|found| panic!("{:?}", miette::Report::new(found)));
    assert!(checked.warnings.is_empty(), "{:?}", miette::Report::new(checked.warnings));
    let rules = checked.policy.rules();
    let payments = rules.iter().find(|rule| rule.record.name.as_str() == "payments").unwrap();
    assert_eq!(
        payments.record.hold.as_ref().unwrap().to_string(),
        "2 of ann, bob, carol, dave within 15 min"
    );
}

struct Keys {
    policy: [SigningKey; 2],
    service: ServiceKeys,
    roots: Roots,
}

/// Two policy keys, both of which must sign.
fn keys() -> Keys {
    let [issuer, status, guard, one, two] = [1, 2, 3, 4, 5].map(|n| SigningKey::from_seed(&[n; 32]));
    Keys {
        service: ServiceKeys { status: status.public().clone(), guards: vec![guard.public().clone()] },
        roots: Roots {
            name: Name::parse("test").unwrap(),
            issuer: issuer.public().clone(),
            policy_keys: vec![one.public().clone(), two.public().clone()],
            quorum: 2,
        },
        policy: [one, two],
    }
}

#[test]
fn they_survive_signing_and_loading_unchanged() {
    let Keys { policy: [one, two], service, roots } = keys();
    for source in shipped() {
        let policy = policy::check(&source).unwrap().policy;
        let bundle = bundle::sign(&policy, &service, 7, Millis(1), &[&one, &two], &roots).unwrap();
        let (loaded, compiled) = bundle::load(&bundle.encode(), &roots, 6).unwrap();
        assert_eq!(loaded, bundle);
        assert_eq!(compiled.version(), 7);
        assert_eq!(*compiled.digest(), bundle.head().fields().root);
        assert_eq!(compiled.tables().levels, policy.levels());
        assert_eq!(compiled.tables().guards, service.guards);
        assert_eq!(compiled.rules().len(), policy.rules().len());
        for (written, (signed, compiled)) in
            policy.rules().iter().zip(loaded.rules().iter().zip(compiled.rules()))
        {
            assert_eq!(written.record, *signed);
            assert_eq!((&signed.name, &signed.pattern), (&compiled.name, &compiled.pattern));
            assert!(compiled.labels.contains(compiled.default_label));
        }
        for team in policy.teams() {
            let compiled = compiled.team_named(team.record.name.as_str()).unwrap();
            assert_eq!(compiled.clearance, team.record.clearance);
            assert_eq!(compiled.integrity_ceiling, team.record.integrity_ceiling);
        }
    }
}

#[test]
fn a_bundle_needs_the_quorum_and_never_goes_back() {
    let Keys { policy: [one, two], service, roots } = keys();
    let [source, _] = shipped();
    let policy = policy::check(&source).unwrap().policy;
    let alone = bundle::sign(&policy, &service, 7, Millis(1), &[&one], &roots);
    assert!(matches!(alone, Err(BundleError::Refused(refused)) if refused.reason == Reason::PolicyInvalid));
    let bytes = bundle::sign(&policy, &service, 7, Millis(1), &[&one, &two], &roots).unwrap().encode();
    assert!(bundle::load(&bytes, &roots, 7).is_ok());
    assert_eq!(
        bundle::load(&bytes, &roots, 8).map(|_| ()),
        Err(BundleError::RolledBack { offered: 7, in_force: 8 })
    );
    let mut other = roots.clone();
    other.name = Name::parse("production").unwrap();
    assert!(bundle::load(&bytes, &other, 0).is_err(), "a policy of one bus is none of another");
}

#[test]
fn any_changed_byte_of_a_bundle_is_refused() {
    let Keys { policy: [one, two], service, roots } = keys();
    let [source, _] = shipped();
    let policy = policy::check(&source).unwrap().policy;
    let bytes = bundle::sign(&policy, &service, 1, Millis(1), &[&one, &two], &roots).unwrap().encode();
    for at in (0..bytes.len()).step_by(7) {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert!(bundle::load(&changed, &roots, 0).is_err(), "byte {at}");
    }
}

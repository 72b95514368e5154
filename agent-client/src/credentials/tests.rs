#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use sealbus_envelope::{
    identity::{Claims, Role},
    label::{Clearance, Integrity},
    name::Name,
    reason::Reason,
    subject::WireSubjects,
    time::{Millis, Validity},
};

use super::*;

fn credentials() -> Credentials {
    let (issuer, policy, agent) =
        (SigningKey::from_seed(&[1; 32]), SigningKey::from_seed(&[2; 32]), SigningKey::from_seed(&[3; 32]));
    let roots = Roots {
        name: Name::parse("demo").unwrap(),
        issuer: issuer.public().clone(),
        policy_keys: vec![policy.public().clone()],
        quorum: 1,
    };
    let claims = Claims {
        bus: roots.bus(),
        identity: agent.public().clone(),
        name: Name::parse("collector").unwrap(),
        team: Name::parse("collectors").unwrap(),
        role: Role::Agent,
        clearance: Clearance::default(),
        integrity_ceiling: Integrity::LOWEST,
        zones: vec![],
        validity: Validity { not_before: Millis(1_000), not_after: Millis(9_000) },
    };
    let credential = Credential::issue(&claims, &issuer).unwrap();
    let urls = vec!["nats://127.0.0.1:4222".to_owned(), "tls://bus.example:4222".to_owned()];
    Credentials::new(Bus::new(roots, urls).unwrap(), credential, agent).unwrap()
}

fn problem(text: &str) -> (Option<&'static str>, Problem) {
    Credentials::parse(text).unwrap_err().into_parts()
}

#[test]
fn what_is_written_reads_back() {
    let mut credentials = credentials();
    credentials.bus = credentials.bus.with_ca(Ca::Pem("-----PEM-----".into()));
    credentials.bus = credentials.bus.with_subjects(WireSubjects::new("prod.sb").unwrap());
    let again = Credentials::parse(&credentials.render()).unwrap();
    assert_eq!(again.bus(), credentials.bus());
    assert_eq!(again.credential(), credentials.credential());
    assert_eq!(again.identity().public(), credentials.identity().public());
}

#[test]
fn a_file_comes_back_once_and_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("collector.creds");
    credentials().write(&path).unwrap();
    assert_eq!(Credentials::load(&path).unwrap().credential(), credentials().credential());
    let error = credentials().write(&path).unwrap_err();
    assert!(matches!(error.problem(), Problem::Exists), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays");
}

#[cfg(unix)]
#[test]
fn a_file_that_others_can_read_is_refused_by_name_with_the_remedy() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("collector.creds");
    credentials().write(&path).unwrap();
    let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    for bits in [0o640, 0o604, 0o620, 0o602] {
        mode(bits);
        let error = Credentials::load(&path).unwrap_err();
        assert!(matches!(error.problem(), Problem::Open { mode } if *mode == bits));
        let text = error.to_string();
        assert!(text.contains("collector.creds") && text.contains("chmod 600"), "{text}");
    }
    mode(0o400);
    assert!(Credentials::load(&path).is_ok());
}

#[test]
fn each_malformed_part_is_named() {
    let good = credentials().render().to_string();
    let (block, found) = problem("");
    assert!(matches!((block, found), (Some(BUS), Problem::Missing)));
    let (block, found) = problem(&good.replace("END USER NKEY SEED", "END"));
    assert!(matches!((block, found), (Some(SEED), Problem::NoEnd)));
    let (block, found) = problem(&format!("{good}{good}"));
    assert!(matches!((block, found), (Some(JWT), Problem::Twice)));
    let (block, found) = problem(&good.replace("SUA", "SUB"));
    assert!(matches!((block, found), (Some(SEED), Problem::Seed)));
    let (block, found) = problem(&good.replace("\"quorum\": 1", "\"quorum\": 2"));
    assert!(matches!((block, found), (Some(BUS), Problem::Roots(_))));
    let (block, found) = problem(&good.replace("\"quorum\": 1", "\"quorum\": one"));
    assert!(matches!((block, found), (Some(BUS), Problem::Bus(_))));
    let (block, found) = problem(&good.replace("nats://", "http://"));
    assert!(matches!((block, found), (Some(BUS), Problem::Urls(_))));
    let (block, found) = problem(&good.replace("\"demo\"", "\"other\""));
    assert!(matches!((block, found), (Some(JWT), Problem::Credential(r)) if r.reason == Reason::WrongBus));
    let other = SigningKey::from_seed(&[9; 32]).to_nkey_seed(KeyKind::User);
    let seed = credentials().identity().to_nkey_seed(KeyKind::User);
    let (block, found) = problem(&good.replace(seed.as_str(), &other));
    assert!(matches!((block, found), (Some(SEED), Problem::SeedMismatch)));
}

#[test]
fn debug_shows_no_seed() {
    let seed = credentials().identity().to_nkey_seed(KeyKind::User);
    assert!(!format!("{:?}", credentials()).contains(seed.as_str()));
}

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use sealbus_envelope::{
    identity::{BusId, Role, SigningKey},
    label::{Compartments, Integrity, Level},
    name::Name,
    policy::{TaintScope, Team},
    time::{Millis, Validity},
};

use super::*;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn clearance(level: u8) -> Clearance {
    Clearance { level: Level::new(level).unwrap(), compartments: Compartments::EMPTY }
}

fn zone(zone: &str, change: impl FnOnce(&mut Zone)) -> Zone {
    let mut zone = Zone {
        name: name(zone),
        ceiling: clearance(1),
        servers: vec![],
        cluster: None,
        tags: vec![],
        tls: ZoneTls::Any,
        ca: None,
    };
    change(&mut zone);
    zone
}

/// What a member of a team in `of_team`, with a credential for `claimed`, gets.
fn verdict(zones: Vec<Zone>, of_team: Option<&str>, claimed: &[&str], place: &Place) -> Result<(), Reason> {
    let key = SigningKey::from_seed(&[1; 32]);
    let bus = BusId::new(key.public(), &name("test"));
    let tables = Tables {
        bus,
        levels: vec![name("low"), name("high")],
        compartments: vec![],
        integrity: vec![name("untrusted")],
        teams: vec![Team {
            name: name("team"),
            clearance: clearance(1),
            integrity_ceiling: Integrity::LOWEST,
            zone: of_team.map(name),
            taint: TaintScope::Agent,
            oversight: None,
            observe: false,
        }],
        zones,
        status_key: key.public().clone(),
        guards: vec![],
        freshness_ms: 1,
        max_readers: 1,
        observe: false,
    };
    let claims = Claims {
        bus,
        identity: key.public().clone(),
        name: name("agent"),
        team: name("team"),
        role: Role::Agent,
        clearance: clearance(1),
        integrity_ceiling: Integrity::LOWEST,
        zones: claimed.iter().map(|zone| name(zone)).collect(),
        validity: Validity::starting(Millis(0), 1),
    };
    check(&tables, &claims, clearance(1), place).map_err(|refused| refused.reason)
}

fn place(change: impl FnOnce(&mut Place)) -> Place {
    let mut place = Place { server: "n1".to_owned(), ..Place::default() };
    change(&mut place);
    place
}

#[test]
fn each_demand_of_a_zone_is_met_or_the_agent_stays_out() {
    type Demand = (&'static str, fn(&mut Zone), fn(&mut Place));
    let demands: [Demand; 6] = [
        ("server", |zone| zone.servers = vec!["n2".into(), "n3".into()], |place| place.server = "n3".into()),
        ("cluster", |zone| zone.cluster = Some("east".into()), |place| place.cluster = Some("east".into())),
        (
            "tags",
            |zone| zone.tags = vec!["hsm".into(), "Floor-2".into()],
            |place| place.tags = vec!["floor-2".into(), "hsm".into(), "x".into()],
        ),
        ("encryption", |zone| zone.tls = ZoneTls::Encrypted, |place| place.encrypted = true),
        (
            "a chain",
            |zone| zone.tls = ZoneTls::Verified,
            |place| (place.encrypted, place.verified) = (true, vec![[3; 32]]),
        ),
        (
            "the zone's own CA",
            |zone| (zone.tls, zone.ca) = (ZoneTls::Verified, Some([9; 32])),
            |place| (place.encrypted, place.verified) = (true, vec![[3; 32], [9; 32]]),
        ),
    ];
    for (what, demand, meet) in demands {
        let met = verdict(vec![zone("vault", demand)], Some("vault"), &[], &place(meet));
        assert_eq!(met, Ok(()), "{what}");
        let unmet = verdict(vec![zone("vault", demand)], Some("vault"), &[], &place(|_| {}));
        assert_eq!(unmet, Err(Reason::WrongZone), "{what}");
    }
    let foreign = place(|place| (place.encrypted, place.verified) = (true, vec![[3; 32]]));
    let vault = zone("vault", |zone| (zone.tls, zone.ca) = (ZoneTls::Verified, Some([9; 32])));
    assert_eq!(verdict(vec![vault], Some("vault"), &[], &foreign), Err(Reason::WrongZone), "another CA");
    let half = place(|place| place.tags = vec!["hsm".into()]);
    let vault = zone("vault", |zone| zone.tags = vec!["hsm".into(), "floor-2".into()]);
    assert_eq!(verdict(vec![vault], Some("vault"), &[], &half), Err(Reason::WrongZone), "half of the tags");
}

#[test]
fn team_and_credential_must_agree_on_the_zone() {
    let east = || zone("east", |zone| zone.servers = vec!["n1".into()]);
    let west = || zone("west", |zone| zone.servers = vec!["n2".into()]);
    let here = place(|_| {});
    assert_eq!(verdict(vec![], None, &[], &here), Ok(()), "no zone is asked for");
    assert_eq!(verdict(vec![east(), west()], Some("east"), &["east"], &here), Ok(()));
    assert_eq!(verdict(vec![east(), west()], Some("east"), &["west"], &here), Err(Reason::WrongZone));
    assert_eq!(verdict(vec![east(), west()], None, &["west", "east"], &here), Ok(()), "one of its own");
    assert_eq!(verdict(vec![east(), west()], None, &["west"], &here), Err(Reason::WrongZone));
    assert_eq!(
        verdict(vec![east()], None, &["nowhere"], &here),
        Err(Reason::WrongZone),
        "unknown to the policy"
    );
    assert_eq!(verdict(vec![], Some("east"), &[], &here), Err(Reason::WrongZone));
}

#[test]
fn nobody_runs_above_the_ceiling_of_its_zone() {
    let low = |name: &str| zone(name, |zone| zone.ceiling = clearance(0));
    let here = place(|_| {});
    assert_eq!(verdict(vec![low("yard")], Some("yard"), &[], &here), Err(Reason::AboveCeiling));
    assert_eq!(verdict(vec![low("yard")], None, &["yard"], &here), Err(Reason::AboveCeiling));
    let two = vec![zone("hall", |_| {}), low("yard")];
    assert_eq!(verdict(two, None, &["hall", "yard"], &here), Ok(()), "the place is in both");
}

//! The one small bus that all vectors play on: made from fixed seeds, so that it is the same at each run.

use std::collections::BTreeMap;

use sealbus_envelope::{
    hash::{self, Context, Hash},
    identity::{
        BusId, Claims, Credential, Member, PublicKey, Revocation, Role, Roots, SessionCertificate,
        SigningKey, Status,
    },
    keys::{KeyScope, SenderKey},
    label::{Clearance, Compartments, Integrity, Label, LabelRange, Level},
    name::Name,
    order::OrderKind,
    policy::{
        AnomalyRecord, ApproverList, Bundle, FlowGrant, Hold, MessageKind, Oversight, Party, Rate, Records,
        Rule, Supervision, Tables, TaintScope, Team, Who, Zone, ZoneTls,
    },
    subject::Pattern,
    time::{Millis, Validity},
};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// The readers' clock.
pub(crate) const NOW: u64 = 1_800_000_000_000;
pub(crate) const DAY: u64 = 86_400_000;
/// When the guard admits what scenes deliver.
pub(crate) const ADMITTED: u64 = NOW - 900;
/// The size of a scene's envelope under the rule `brief` on the subject `brief.x`, in bytes.
pub(crate) const PLAIN: u32 = 296;
/// The size of a scene's plain envelope without parents that names a flow grant of eight letters, in bytes.
pub(crate) const NAMING_EIGHT: u32 = 312;

/// Random bytes that are the same at each run: SHA-256 over a name and a counter.
pub(crate) struct Rng {
    state: Hash,
    counter: u64,
    left: Vec<u8>,
}

impl Rng {
    pub(crate) fn new(name: &str) -> Self {
        Self { state: Sha256::digest(name).into(), counter: 0, left: Vec::new() }
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| {
            if self.left.is_empty() {
                let block = Sha256::new().chain_update(self.state).chain_update(self.counter.to_be_bytes());
                self.left = block.finalize().to_vec();
                self.counter += 1;
            }
            self.left.remove(0)
        })
    }
}

impl rand_core::TryRng for Rng {
    type Error = std::convert::Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok(u32::from_le_bytes(self.bytes()))
    }
    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(u64::from_le_bytes(self.bytes()))
    }
    fn try_fill_bytes(&mut self, into: &mut [u8]) -> Result<(), Self::Error> {
        for byte in into {
            [*byte] = self.bytes();
        }
        Ok(())
    }
}
impl rand_core::TryCryptoRng for Rng {}

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// A signing key that is the same at each run.
pub(crate) fn key(name: &str) -> SigningKey {
    SigningKey::from_seed(&Sha256::digest(format!("sealbus vector key {name}")).into())
}

pub(crate) fn secret(name: &str) -> Hash {
    Sha256::digest(format!("sealbus vector secret {name}")).into()
}

pub(crate) fn label(level: u8, compartments: u64, integrity: u8) -> Label {
    Label::new(
        Level::new(level).unwrap(),
        Compartments::from_bits(compartments),
        Integrity::new(integrity).unwrap(),
    )
}

pub(crate) fn clearance(level: u8, compartments: u64) -> Clearance {
    Clearance { level: Level::new(level).unwrap(), compartments: Compartments::from_bits(compartments) }
}

/// One agent: its session's key, credential and session.
pub(crate) struct Agent {
    pub(crate) session: SigningKey,
    pub(crate) member: Member,
}

pub(crate) struct World {
    pub(crate) roots: Roots,
    pub(crate) issuer: SigningKey,
    pub(crate) policy_keys: Vec<SigningKey>,
    pub(crate) status_key: SigningKey,
    pub(crate) guard: SigningKey,
    pub(crate) guard_credential: Credential,
    pub(crate) agents: BTreeMap<&'static str, Agent>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::on("vectors")
    }

    /// The same agents and keys on another bus.
    pub(crate) fn on(bus: &str) -> Self {
        let issuer = key("issuer");
        let policy_keys: Vec<_> = ["policy 1", "policy 2", "policy 3"].map(key).into();
        let roots = Roots {
            name: name(bus),
            issuer: issuer.public().clone(),
            policy_keys: policy_keys.iter().map(|key| key.public().clone()).collect(),
            quorum: 2,
        };
        let guard = key("guard");
        let mut world = Self {
            guard_credential: credential(&roots, &issuer, &guard, "guard-1", "guards", Role::Guard, |_| ()),
            roots,
            issuer,
            policy_keys,
            status_key: key("status"),
            guard,
            agents: BTreeMap::new(),
        };
        for (agent, team, role) in [
            ("collector", "collectors", Role::Agent),
            ("gatherer", "collectors", Role::Agent),
            ("analyst", "analysts", Role::Agent),
            ("clerk", "clerks", Role::Agent),
            ("stranger", "nobody", Role::Agent),
            ("watcher", "collectors", Role::Observer),
            ("rogue", "collectors", Role::Guard),
        ] {
            let made = world.agent(agent, team, role, |_| (), sessions());
            world.agents.insert(agent, made);
        }
        world
    }

    pub(crate) fn bus(&self) -> BusId {
        self.roots.bus()
    }

    pub(crate) fn credential(
        &self,
        identity: &SigningKey,
        agent: &str,
        team: &str,
        role: Role,
        change: impl FnOnce(&mut Claims),
    ) -> Credential {
        credential(&self.roots, &self.issuer, identity, agent, team, role, change)
    }

    pub(crate) fn agent(
        &self,
        agent: &str,
        team: &str,
        role: Role,
        change: impl FnOnce(&mut Claims),
        validity: Validity,
    ) -> Agent {
        let (identity, session) = (key(agent), key(&format!("{agent} session")));
        let credential = self.credential(&identity, agent, team, role, change);
        let certificate = SessionCertificate::issue(self.bus(), &identity, &session, validity).unwrap();
        Agent { session, member: Member::new(credential, certificate).unwrap() }
    }

    pub(crate) fn tables(&self) -> Tables {
        let team = |team: &str, level, compartments, integrity| Team {
            name: name(team),
            clearance: clearance(level, compartments),
            integrity_ceiling: Integrity::new(integrity).unwrap(),
            zone: (team == "clerks").then(|| name("vault")),
            oversight: (team == "collectors").then_some(Oversight::Directed),
            taint: if team == "collectors" { TaintScope::Session } else { TaintScope::Agent },
            observe: team == "clerks",
        };
        Tables {
            bus: self.bus(),
            levels: ["public", "internal", "secret"].map(name).into(),
            compartments: ["deps", "findings"].map(name).into(),
            integrity: ["untrusted", "checked", "trusted"].map(name).into(),
            teams: vec![
                team("analysts", 1, 0b11, 2),
                team("clerks", 2, 0b11, 2),
                team("collectors", 1, 0b11, 1),
            ],
            zones: vec![Zone {
                name: name("vault"),
                ceiling: clearance(2, 0b11),
                servers: vec!["n1".into()],
                cluster: Some("east".into()),
                tags: vec!["hsm".into()],
                tls: ZoneTls::Verified,
                ca: Some([7; 32]),
            }],
            status_key: self.status_key.public().clone(),
            guards: vec![self.guard.public().clone()],
            freshness_ms: 60_000,
            max_readers: 1_000,
            observe: false,
        }
    }

    pub(crate) fn rules(&self) -> Vec<Rule> {
        let team = |team: &str| Party { who: Who::Team(name(team)), queue: None };
        let rule = |rule: &str, pattern: &str, from: &str, to: &str| Rule {
            name: name(rule),
            pattern: Pattern::parse(pattern).unwrap(),
            kind: MessageKind::Stream,
            publishers: vec![team(from)],
            subscribers: vec![team(to)],
            labels: LabelRange { low: label(0, 0, 7), high: label(2, 0b01, 0) },
            default_label: label(0, 0, 0),
            max_bytes: 1_000_000,
            rate: None,
            fan_in: (rule == "drafts").then_some(3),
            hold: None,
            oversight: (rule == "drafts").then_some(Oversight::OpenEnded),
            observe: false,
        };
        let request = MessageKind::Request { deadline_ms: 5_000 };
        let everything = LabelRange { low: label(0, 0, 7), high: Label::TOP };
        vec![
            Rule {
                rate: Some(Rate { per_second: 10, burst: 20 }),
                ..rule("notes", "collect.>", "collectors", "analysts")
            },
            rule("drafts", "collect.>", "collectors", "analysts"),
            Rule { labels: everything, ..rule("anything", "any.*", "collectors", "analysts") },
            Rule { labels: everything, ..rule("memos", "memo.>", "clerks", "analysts") },
            rule("closed", "collect.>", "collectors", "clerks"),
            Rule { kind: request, ..rule("review", "ask.review", "collectors", "analysts") },
            Rule { kind: request, ..rule("look-up", "ask.look-up", "analysts", "collectors") },
            Rule {
                publishers: vec![Party { who: Who::Agent(name("gatherer")), queue: None }],
                subscribers: vec![Party { who: Who::Team(name("analysts")), queue: Some(name("desk")) }],
                ..rule("named", "named.>", "collectors", "analysts")
            },
            Rule { max_bytes: PLAIN, ..rule("brief", "brief.*", "collectors", "analysts") },
            Rule { observe: true, ..rule("watched", "watch.>", "clerks", "analysts") },
            Rule { hold: Some(hold(2)), ..rule("orders", "order.>", "collectors", "analysts") },
        ]
    }

    pub(crate) fn grants(&self) -> Vec<FlowGrant> {
        let declassify = FlowGrant {
            name: name("publish-notes"),
            team: name("collectors"),
            from: Pattern::parse("memo.>").unwrap(),
            to: Pattern::parse("collect.web.>").unwrap(),
            from_label: label(2, 0b01, 0),
            to_label: label(0, 0b01, 0),
            max_bytes: None,
            rate: Some(Rate { per_second: 1, burst: 2 }),
            expires: Millis(NOW + DAY),
            approval: None,
        };
        let like = |grant: &str| FlowGrant { name: name(grant), rate: None, ..declassify.clone() };
        vec![
            declassify.clone(),
            FlowGrant { from_label: label(2, 0b10, 0), to_label: label(1, 0b01, 0), ..like("findings") },
            FlowGrant { from_label: label(1, 0b01, 0), to_label: label(1, 0b01, 1), ..like("endorse") },
            FlowGrant { team: name("clerks"), ..like("clerks-only") },
            FlowGrant { max_bytes: Some(NAMING_EIGHT), ..like("just-fit") },
            FlowGrant { max_bytes: Some(NAMING_EIGHT - 1), ..like("too-tiny") },
            FlowGrant { expires: Millis(ADMITTED), ..like("over") },
            FlowGrant { expires: Millis(ADMITTED + 1), ..like("last") },
            FlowGrant { approval: Some(hold(1)), ..like("approved") },
        ]
    }

    pub(crate) fn records(&self, tables: Tables) -> Records {
        Records { tables, rules: self.rules(), grants: self.grants(), supervision: Some(supervision()) }
    }

    pub(crate) fn bundle(&self, tables: Tables, version: u64) -> Bundle {
        let keys = [&self.policy_keys[0], &self.policy_keys[2]];
        Bundle::sign(self.records(tables), version, Millis(NOW - 10 * DAY), &keys, &self.roots).unwrap()
    }

    pub(crate) fn status(&self, revoked: &[&PublicKey]) -> Status {
        Status {
            bus: self.bus(),
            version: 4,
            policy_version: 3,
            issued: Millis(NOW - DAY),
            valid_until: Millis(NOW + 6 * DAY),
            revoked: revoked
                .iter()
                .map(|identity| Revocation { identity: (*identity).clone(), at: Millis(NOW - 2 * DAY) })
                .collect(),
        }
    }

    pub(crate) fn scope(&self, agent: &str, rule: &str, label: Label) -> KeyScope {
        KeyScope {
            bus: self.bus(),
            session: self.agents[agent].member.session(),
            rule: name(rule),
            label,
            epoch: 0,
        }
    }

    /// The sender key of `agent` for a rule and label, the same at each run.
    pub(crate) fn sender_key(&self, agent: &str, rule: &str, label: Label) -> SenderKey {
        SenderKey::new(
            Zeroizing::new(secret(&format!("{agent} {rule} {label:?}"))),
            self.scope(agent, rule, label),
        )
    }
}

pub(crate) fn sessions() -> Validity {
    Validity::starting(Millis(NOW - 3_600_000), DAY)
}

fn credential(
    roots: &Roots,
    issuer: &SigningKey,
    identity: &SigningKey,
    agent: &str,
    team: &str,
    role: Role,
    change: impl FnOnce(&mut Claims),
) -> Credential {
    let mut claims = Claims {
        bus: roots.bus(),
        identity: identity.public().clone(),
        name: name(agent),
        team: name(team),
        role,
        clearance: clearance(2, 0b11),
        integrity_ceiling: Integrity::new(2).unwrap(),
        zones: vec![],
        validity: Validity { not_before: Millis(NOW - 30 * DAY), not_after: Millis(NOW + 30 * DAY) },
    };
    change(&mut claims);
    Credential::issue(&claims, issuer).unwrap()
}

pub(crate) fn envelope_digest(header: &[u8], ciphertext: &[u8]) -> Hash {
    hash::hash(Context::Envelope, &[header, ciphertext])
}

/// Two people on the first list; `ann` again, with another key, and `eve` on the second.
pub(crate) fn hold(approvals: u8) -> Hold {
    let person = |person: &str, of: &str| (name(person), key(of).public().clone());
    let list = |list: &str, after_ms, people| ApproverList { name: name(list), after_ms, people };
    Hold {
        approvals,
        deadline_ms: 900_000,
        lists: vec![
            list("duty", 0, vec![person("ann", "ann"), person("bob", "bob")]),
            list("board", 300_000, vec![person("ann", "ann at home"), person("eve", "eve")]),
        ],
    }
}

fn supervision() -> Supervision {
    let anomaly =
        AnomalyRecord { weights: vec![("replay".parse().unwrap(), 50)], ..AnomalyRecord::default() };
    Supervision { quorums: vec![(OrderKind::Release, 2)], anomaly }
}

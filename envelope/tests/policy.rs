//! The records of a policy read back as they were written, whole and in no other way; and flow, judged for whatever
//! labels, parents and grants, is what its definition says.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use proptest::{
    collection::{btree_map, vec},
    option,
    prelude::*,
};
use sealbus_envelope::{
    hash::Hash,
    identity::{BusId, Claims, Role, Roots, SessionId, SigningKey},
    keys::KeyId,
    label::{Clearance, Compartments, Integrity, Label, LabelRange, Level},
    name::{AgentToken, Name},
    order::OrderKind,
    policy::{
        AnomalyRecord, ApproverList, Bundle, Faults, FlowGrant, Hold, MAX_HOLD_MS, MessageKind, Oversight,
        Party, Rate, Records, Rule, Supervision, Tables, TaintScope, Team, Who, Zone, ZoneTls, check_flow,
    },
    reason::{Reason, Refused},
    subject::{Pattern, Subject},
    time::{Millis, Validity},
    wire::{EnvelopeId, Flags, Header, HeaderFields, Parent},
};

fn key(n: u8) -> SigningKey {
    SigningKey::from_seed(&[n; 32])
}

fn roots() -> Roots {
    Roots {
        name: Name::parse("test").unwrap(),
        issuer: key(1).public().clone(),
        policy_keys: vec![key(2).public().clone()],
        quorum: 1,
    }
}

fn names() -> impl Strategy<Value = Name> {
    "[a-z][a-z0-9-]{0,47}".prop_map(|text| Name::parse(&text).unwrap())
}

fn patterns() -> impl Strategy<Value = Pattern> {
    "([a-c*]\\.){0,3}[a-c*>]".prop_map(|text| Pattern::parse(&text).unwrap())
}

fn clearances() -> impl Strategy<Value = Clearance> {
    (0u8..16, any::<u64>()).prop_map(|(level, compartments)| Clearance {
        level: Level::new(level).unwrap(),
        compartments: Compartments::from_bits(compartments),
    })
}

fn label(level: u8, compartments: u64, integrity: u8) -> Label {
    Label::new(
        Level::new(level).unwrap(),
        Compartments::from_bits(compartments),
        Integrity::new(integrity).unwrap(),
    )
}

fn labels() -> impl Strategy<Value = Label> {
    (0u8..16, any::<u64>(), 0u8..8)
        .prop_map(|(level, compartments, integrity)| label(level, compartments, integrity))
}

/// Few enough that labels often dominate each other, and often do not.
fn small_labels() -> impl Strategy<Value = Label> {
    (0u8..3, 0u64..4, 0u8..3)
        .prop_map(|(level, compartments, integrity)| label(level, compartments, integrity))
}

fn rates() -> impl Strategy<Value = Rate> {
    (any::<u32>(), any::<u32>()).prop_map(|(per_second, burst)| Rate { per_second, burst })
}

prop_compose! {
    fn teams()(
        clearance in clearances(),
        integrity in 0u8..8,
        zone in option::of(names()),
        session: bool,
        observe: bool,
    ) -> Team {
        Team {
            name: Name::parse("team").unwrap(),
            clearance,
            integrity_ceiling: Integrity::new(integrity).unwrap(),
            zone,
            taint: if session { TaintScope::Session } else { TaintScope::Agent },
            observe,
            oversight: observe.then_some(Oversight::Directed),
        }
    }
}

prop_compose! {
    fn zones()(
        ceiling in clearances(),
        servers in vec("\\PC{0,8}", 0..4),
        cluster in option::of("\\PC{0,32}"),
        tags in vec("\\PC{0,8}", 0..4),
        tls in prop::sample::select(vec![ZoneTls::Any, ZoneTls::Encrypted, ZoneTls::Verified]),
        ca: Option<Hash>,
    ) -> Zone {
        Zone { name: Name::parse("zone").unwrap(), ceiling, servers, cluster, tags, tls, ca }
    }
}

prop_compose! {
    fn tables()(
        [levels, compartments, integrity] in [vec(names(), 0..9), vec(names(), 0..9), vec(names(), 0..9)],
        teams in btree_map(names(), teams(), 0..4),
        zones in btree_map(names(), zones(), 0..3),
        guards in 0u8..5,
        freshness_ms: u32,
        max_readers: u32,
        observe: bool,
    ) -> Tables {
        Tables {
            bus: roots().bus(),
            levels,
            compartments,
            integrity,
            teams: teams.into_iter().map(|(name, team)| Team { name, ..team }).collect(),
            zones: zones.into_iter().map(|(name, zone)| Zone { name, ..zone }).collect(),
            status_key: key(3).public().clone(),
            guards: (0..guards).map(|n| key(10 + n).public().clone()).collect(),
            freshness_ms,
            max_readers,
            observe,
        }
    }
}

fn parties() -> impl Strategy<Value = Vec<Party>> {
    let party = (any::<bool>(), names(), option::of(names())).prop_map(|(team, name, queue)| Party {
        who: if team { Who::Team(name) } else { Who::Agent(name) },
        queue,
    });
    vec(party, 0..5)
}

prop_compose! {
    fn rules()(
        name in names(),
        pattern in patterns(),
        deadline_ms: u32,
        [publishers, subscribers] in [parties(), parties()],
        [low, high, default_label] in [labels(), labels(), labels()],
        max_bytes: u32,
        rate in option::of(rates()),
        fan_in: Option<u32>,
        observe: bool,
        hold in option::of(holds()),
        oversight in option::of(oversights()),
    ) -> Rule {
        let kind = if deadline_ms == 0 { MessageKind::Stream } else { MessageKind::Request { deadline_ms } };
        let labels = LabelRange { low, high };
        Rule {
            name, pattern, kind, publishers, subscribers, labels, default_label, max_bytes, rate, fan_in, observe, hold,
            oversight,
        }
    }
}

fn oversights() -> impl Strategy<Value = Oversight> {
    proptest::sample::select(vec![Oversight::Directed, Oversight::OpenEnded])
}

prop_compose! {
    fn holds()(
        approvals in 1u8..=2,
        deadline_ms in 1..=MAX_HOLD_MS,
        escalations in vec(any::<u32>(), 1..4),
    ) -> Hold {
        let people = |list: u8| {
            (0..2)
                .map(|n| (Name::parse(&format!("p{list}{n}")).unwrap(), key(10 + 2 * list + n).public().clone()))
                .collect()
        };
        let lists = escalations
            .iter()
            .zip(0..)
            .map(|(after_ms, n)| ApproverList {
                name: Name::parse(&format!("l{n}")).unwrap(),
                after_ms: *after_ms,
                people: people(n),
            })
            .collect();
        Hold { approvals, deadline_ms, lists }
    }
}

prop_compose! {
    fn supervisions()(
        quorums in btree_map(0..OrderKind::ALL.len(), 0u8..=16, 0..4),
        watch in 1u32..1_000,
        more: u16,
        half_life_ms in 1u32..,
        [warm_up_ms, warm_up_messages] in [any::<u32>(), any::<u32>()],
        divert: bool,
        weights in btree_map(names(), any::<u32>(), 0..4),
    ) -> Supervision {
        Supervision {
            quorums: quorums.into_iter().map(|(n, keys)| (OrderKind::ALL[n], keys)).collect(),
            anomaly: AnomalyRecord {
                watch,
                quarantine: watch + u32::from(more),
                half_life_ms,
                warm_up_ms,
                warm_up_messages,
                divert,
                weights: weights.into_iter().collect(),
            },
        }
    }
}

prop_compose! {
    fn grants()(
        [name, team] in [names(), names()],
        [from, to] in [patterns(), patterns()],
        [from_label, to_label] in [labels(), labels()],
        max_bytes: Option<u32>,
        rate in option::of(rates()),
        expires: u64,
        approval in option::of(holds()),
    ) -> FlowGrant {
        FlowGrant { name, team, from, to, from_label, to_label, max_bytes, rate, expires: Millis(expires), approval }
    }
}

/// What was written reads back as it was, and nothing shorter or longer reads at all.
fn reads_back<T: PartialEq + std::fmt::Debug>(
    record: &T,
    bytes: &[u8],
    decode: fn(&[u8]) -> Result<T, Refused>,
) -> Result<(), TestCaseError> {
    prop_assert_eq!(&decode(bytes).unwrap(), record);
    for length in 0..bytes.len() {
        prop_assert!(decode(&bytes[..length]).is_err(), "{length} of {} bytes", bytes.len());
    }
    let longer = decode(&[bytes, &[0xc0]].concat()).unwrap_err();
    prop_assert_eq!(longer.reason, Reason::TrailingBytes);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn records_read_back_and_no_record_is_another(tables in tables(), rule in rules(), grant in grants()) {
        let (of_tables, of_rule, of_grant) = (tables.encode(), rule.encode(), grant.encode());
        reads_back(&tables, &of_tables, Tables::decode)?;
        reads_back(&rule, &of_rule, Rule::decode)?;
        reads_back(&grant, &of_grant, FlowGrant::decode)?;
        let arity = Some(Reason::WrongArity);
        for bytes in [&of_rule, &of_grant] {
            prop_assert_eq!(Tables::decode(bytes).err().map(|refused| refused.reason), arity);
        }
        for bytes in [&of_tables, &of_grant] {
            prop_assert_eq!(Rule::decode(bytes).err().map(|refused| refused.reason), arity);
        }
        for bytes in [&of_tables, &of_rule] {
            prop_assert_eq!(FlowGrant::decode(bytes).err().map(|refused| refused.reason), arity);
        }
    }

    #[test]
    fn every_part_of_a_bundle_is_provable_alone_and_as_nothing_else(
        tables in tables(),
        rules in btree_map(names(), rules(), 0..6),
        grants in btree_map(names(), grants(), 0..6),
        wanted: u8,
        supervision in option::of(supervisions()),
    ) {
        let records = Records {
            supervision,
            tables,
            rules: rules.into_iter().map(|(name, rule)| Rule { name, ..rule }).collect(),
            grants: grants.into_iter().map(|(name, grant)| FlowGrant { name, ..grant }).collect(),
        };
        let bundle = Bundle::sign(records.clone(), 1, Millis(1), &[&key(2)], &roots()).unwrap();
        prop_assert_eq!(bundle.records(), &records);
        prop_assert_eq!(&Bundle::verify(&bundle.encode(), &roots()).unwrap(), &bundle);

        let of_interest = |rule: &Rule| {
            let place = records.rules.iter().position(|other| other.name == rule.name).unwrap();
            wanted >> place & 1 == 1
        };
        let excerpt = bundle.excerpt(of_interest);
        let (head, part) = excerpt.verify(&roots()).unwrap();
        let expected: Vec<_> = records.rules.iter().filter(|rule| of_interest(rule)).cloned().collect();
        let of_use = |grant: &&FlowGrant| expected.iter().any(|rule| grant.to.overlaps(&rule.pattern));
        let lifting: Vec<_> = records.grants.iter().filter(of_use).cloned().collect();
        prop_assert_eq!(&part.tables, &records.tables);
        prop_assert_eq!(part.rules, expected);
        prop_assert_eq!(part.grants, lifting);
        // At any other place, or as the other kind of record, no leaf is one.
        for shown in excerpt.rules.iter().chain(&excerpt.grants) {
            for index in (0..head.fields().leaves + 1).filter(|index| *index != shown.index) {
                prop_assert!(head.rule(&shown.record, index, &shown.path).is_err());
                prop_assert!(head.grant(&shown.record, index, &shown.path).is_err());
            }
        }
        for rule in &excerpt.rules {
            prop_assert!(head.grant(&rule.record, rule.index, &rule.path).is_err());
        }
        for grant in &excerpt.grants {
            prop_assert!(head.rule(&grant.record, grant.index, &grant.path).is_err());
        }
    }
}

/// One question about flow.
#[derive(Debug, Clone)]
struct Asked {
    fields: HeaderFields,
    grant: Option<FlowGrant>,
    team: Name,
    size: usize,
    now: Millis,
}

impl Asked {
    fn claims(&self) -> Claims {
        Claims {
            bus: roots().bus(),
            identity: key(4).public().clone(),
            name: Name::parse("agent").unwrap(),
            team: self.team.clone(),
            role: Role::Agent,
            clearance: Clearance::default(),
            integrity_ceiling: Integrity::HIGHEST,
            zones: vec![],
            validity: Validity { not_before: Millis(0), not_after: Millis(u64::MAX) },
        }
    }

    fn answer(&self, faults: &mut Faults) -> Result<bool, Reason> {
        let bytes = self.fields.encode().unwrap();
        let header = Header::decode(&bytes).unwrap();
        check_flow(&header, self.grant.as_ref(), &self.claims(), self.size, self.now, faults)
            .map(|used| used.is_some())
            .map_err(|refused| refused.reason)
    }

    /// The faults, in order: SPEC.md in other words than the code's.
    fn faults(&self) -> Vec<Reason> {
        let mut faults = Vec::new();
        let own = self.fields.label;
        let mut lifts = None;
        if self.fields.flow_grant.is_some() {
            match &self.grant {
                None => faults.push(Reason::FlowGrantUnknown),
                Some(grant)
                    if grant.team != self.team
                        || !grant.to.matches(&self.fields.subject)
                        || own.join(grant.to_label) != own
                        || grant.max_bytes.is_some_and(|most| self.size > most as usize) =>
                {
                    faults.push(Reason::FlowGrantMismatch);
                }
                Some(grant) if grant.expires <= self.now => faults.push(Reason::FlowGrantExpired),
                Some(grant) => lifts = Some(grant.from_label),
            }
        }
        let escapes = |parent: Label| {
            let above = |label: Label| label.join(parent) == label;
            !above(own) && !lifts.is_some_and(above)
        };
        if self.fields.parents.iter().any(|parent| escapes(parent.label)) {
            faults.push(Reason::BelowParents);
        }
        faults
    }
}

prop_compose! {
    fn asked()(
        own in small_labels(),
        parents in btree_map(any::<Hash>(), small_labels(), 0..4),
        named: bool,
        known in prop::bool::weighted(0.9),
        [from_label, to_label] in [small_labels(), small_labels()],
        team in prop::sample::select(vec!["one", "one", "two"]),
        to in prop::sample::select(vec!["a.b", "a.>", "a.*", "b.>"]),
        max_bytes in option::of(99u32..102),
        [expires, now] in [9u64..12, 10..11],
    ) -> Asked {
        let name = |text: &str| Name::parse(text).unwrap();
        let parents = parents.into_iter().map(|(digest, label)| Parent { digest, label }).collect();
        Asked {
            fields: HeaderFields {
                bus: BusId::from_bytes([1; 32]),
                id: EnvelopeId::from_bytes([2; 16]),
                sender: AgentToken::parse("agent-aaaaaaaaaa").unwrap(),
                session: SessionId::from_bytes([3; 32]),
                rule: name("rule"),
                subject: Subject::parse("a.b").unwrap(),
                label: own,
                flow_grant: named.then(|| name("grant")),
                key: KeyId::from_bytes([4; 32]),
                sequence: 0,
                issued_at: Millis(1),
                ttl_ms: 1,
                parents,
                request: None,
                flags: Flags::NONE,
            },
            grant: known.then(|| FlowGrant {
                name: name("grant"),
                team: name(team),
                from: Pattern::parse(">").unwrap(),
                to: Pattern::parse(to).unwrap(),
                from_label,
                to_label,
                max_bytes,
                rate: None,
                expires: Millis(expires),
                approval: None,
            }),
            team: name("one"),
            size: 100,
            now: Millis(now),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn flow_is_what_its_definition_says(asked in asked()) {
        let faults = asked.faults();
        let usable = asked.fields.flow_grant.is_some()
            && faults.iter().all(|reason| *reason == Reason::BelowParents);
        // Enforced, the first fault ends it.
        let enforced = asked.answer(&mut Faults::enforced());
        prop_assert_eq!(enforced, faults.first().map_or(Ok(usable), |first| Err(*first)));
        // Observed, none does: the first is kept, and a grant that may not be used is not used.
        let mut observing = Faults::observing(true);
        prop_assert_eq!(asked.answer(&mut observing), Ok(usable));
        prop_assert_eq!(observing.observed().map(|fault| fault.reason), faults.first().copied());
    }

    #[test]
    fn no_parent_more_and_no_grant_less_lets_more_pass(asked in asked(), parent: prop::sample::Index) {
        let passes = |asked: &Asked| asked.answer(&mut Faults::enforced()).is_ok();
        if !asked.fields.parents.is_empty() && passes(&asked) {
            let mut fewer = asked.clone();
            fewer.fields.parents.remove(parent.index(asked.fields.parents.len()));
            prop_assert!(passes(&fewer));
        }
        let mut unnamed = asked.clone();
        unnamed.fields.flow_grant = None;
        let dominated = asked.fields.parents.iter().all(|parent| asked.fields.label.dominates(parent.label));
        prop_assert_eq!(passes(&unnamed), dominated, "without a grant, the label alone must do");
    }
}

/// What observe mode may let pass is written down here a second time: a reason that joins the list by mistake is
/// an enforcement that is gone.
#[test]
fn only_faults_of_senders_against_rules_and_labels_are_observable() {
    let observable = [
        Reason::NotPublisher,
        Reason::LabelOutOfRange,
        Reason::AboveIntegrity,
        Reason::BelowParents,
        Reason::BelowFloor,
        Reason::FlowGrantUnknown,
        Reason::FlowGrantMismatch,
        Reason::FlowGrantExpired,
        Reason::FanInExceeded,
        Reason::RateLimited,
        Reason::TooBigForRule,
    ];
    for reason in Reason::ALL {
        assert_eq!(reason.is_observable(), observable.contains(reason), "{reason}");
        let mut faults = Faults::observing(true);
        assert_eq!(faults.found(*reason, "it").is_ok(), observable.contains(reason), "{reason}");
        assert_eq!(faults.observed().is_some(), observable.contains(reason), "{reason}");
        assert!(Faults::enforced().found(*reason, "it").is_err(), "{reason}");
    }
    let mut faults = Faults::observing(true);
    for reason in observable {
        faults.found(reason, "it").unwrap();
    }
    assert_eq!(faults.observed(), Some(Refused::new(observable[0], "it")), "the first is kept");
}

/// A policy observes by its tables, its rule or the sender's team, and by nothing else of it.
#[test]
fn observing_is_for_the_bus_a_rule_or_a_team() {
    let name = |text: &str| Name::parse(text).unwrap();
    let team = |team: &str| Team {
        name: name(team),
        clearance: Clearance::default(),
        integrity_ceiling: Integrity::LOWEST,
        zone: None,
        taint: TaintScope::Agent,
        oversight: None,
        observe: team == "watched",
    };
    let tables = Tables {
        bus: roots().bus(),
        levels: vec![],
        compartments: vec![],
        integrity: vec![],
        teams: vec![team("enforced"), team("watched")],
        zones: vec![],
        status_key: key(3).public().clone(),
        guards: vec![],
        freshness_ms: 0,
        max_readers: 0,
        observe: false,
    };
    let rule = |observe| Rule {
        name: name("rule"),
        pattern: Pattern::parse("a").unwrap(),
        kind: MessageKind::Stream,
        // The team that publishes or subscribes does not matter: only the sender's own does.
        publishers: vec![Party { who: Who::Team(name("watched")), queue: None }],
        subscribers: vec![Party { who: Who::Team(name("watched")), queue: None }],
        labels: LabelRange { low: Label::BOTTOM, high: Label::TOP },
        default_label: Label::BOTTOM,
        max_bytes: 0,
        rate: None,
        fan_in: None,
        hold: None,
        oversight: None,
        observe,
    };
    let everywhere = Tables { observe: true, ..tables.clone() };
    for (team, own) in [("enforced", false), ("watched", true), ("unknown", false)] {
        let asked = Asked { team: name(team), ..some_asked() };
        assert_eq!(tables.observes(&rule(false), &asked.claims()), own, "{team}");
        assert!(tables.observes(&rule(true), &asked.claims()), "{team}");
        assert!(everywhere.observes(&rule(false), &asked.claims()), "{team}");
    }
}

fn some_asked() -> Asked {
    use proptest::{strategy::ValueTree as _, test_runner::TestRunner};
    asked().new_tree(&mut TestRunner::deterministic()).unwrap().current()
}

//! The pure functions of label flow over every label of a small lattice (two levels, one compartment, two ranks),
//! held against what the policy says in plain words.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use sealbus_envelope::identity::{BusId, Claims, Role, Roots, SessionId, SigningKey};
use sealbus_envelope::keys::KeyId;
use sealbus_envelope::label::{Clearance, Compartments, Integrity, Label, LabelRange, Level};
use sealbus_envelope::name::Name;
use sealbus_envelope::policy::{
    self, Bundle, Faults, FlowGrant, MessageKind, Party, Records, Rule, Tables, TaintScope, Team, Who,
};
use sealbus_envelope::reason::Reason;
use sealbus_envelope::subject::{Pattern, Subject};
use sealbus_envelope::time::{Millis, Validity};
use sealbus_envelope::wire::{EnvelopeId, Flags, Header, HeaderFields, Parent};
use sealbus_guard::policy::compile::CompiledPolicy;
use sealbus_guard::taint::Floor;

const NOW: Millis = Millis(1_000);

/// Secret or not, in the compartment or not, trusted or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Plain {
    secret: bool,
    inside: bool,
    trusted: bool,
}

impl Plain {
    fn all() -> impl Iterator<Item = Self> + Clone {
        (0..8_u8).map(|n| Self { secret: n & 1 != 0, inside: n & 2 != 0, trusted: n & 4 != 0 })
    }

    /// Nothing secret is told as open, nothing inside as outside, nothing untrusted as trusted.
    fn may_tell(self, other: Self) -> bool {
        let open = other.secret && !self.secret;
        let outside = other.inside && !self.inside;
        let passed_off = self.trusted && !other.trusted;
        !(open || outside || passed_off)
    }

    fn label(self) -> Label {
        Label::new(
            Level::new(u8::from(self.secret)).unwrap(),
            Compartments::from_bits(u64::from(self.inside)),
            Integrity::new(u8::from(self.trusted)).unwrap(),
        )
    }

    fn clearance(self) -> Clearance {
        Clearance { level: self.label().level, compartments: self.label().compartments }
    }
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}

fn rule(called: &str, on: &str) -> Rule {
    let party = |team| Party { who: Who::Team(name(team)), queue: None };
    Rule {
        name: name(called),
        pattern: pattern(on),
        kind: MessageKind::Stream,
        publishers: vec![party("team")],
        subscribers: vec![party("team")],
        labels: LabelRange { low: Label::BOTTOM, high: Label::TOP },
        default_label: Plain { secret: false, inside: false, trusted: true }.label(),
        max_bytes: 100,
        rate: None,
        fan_in: None,
        hold: None,
        oversight: None,
        observe: false,
    }
}

fn grant(called: String, from: &str, from_label: Plain, to_label: Plain) -> FlowGrant {
    FlowGrant {
        name: Name::parse(&called).unwrap(),
        team: name("team"),
        from: pattern(from),
        to: pattern("out.>"),
        from_label: from_label.label(),
        to_label: to_label.label(),
        max_bytes: Some(50),
        rate: None,
        expires: NOW.plus(1),
        approval: None,
    }
}

fn tables(bus: BusId, team: Plain) -> Tables {
    Tables {
        bus,
        levels: vec![name("open"), name("secret")],
        compartments: vec![name("inside")],
        integrity: vec![name("untrusted"), name("trusted")],
        teams: vec![Team {
            name: name("team"),
            clearance: team.clearance(),
            integrity_ceiling: team.label().integrity,
            zone: None,
            taint: TaintScope::Agent,
            oversight: None,
            observe: false,
        }],
        zones: vec![],
        status_key: SigningKey::from_seed(&[3; 32]).public().clone(),
        guards: vec![],
        freshness_ms: 1,
        max_readers: 1,
        observe: false,
    }
}

fn claims(bus: BusId, team: &str, has: Plain) -> Claims {
    Claims {
        bus,
        identity: SigningKey::from_seed(&[9; 32]).public().clone(),
        name: name("ada"),
        team: name(team),
        role: Role::Agent,
        clearance: has.clearance(),
        integrity_ceiling: has.label().integrity,
        zones: vec![],
        validity: Validity { not_before: Millis(0), not_after: Millis(9_000) },
    }
}

const ALL: Plain = Plain { secret: true, inside: true, trusted: true };

fn range(rule: Rule) -> Rule {
    let low = Plain { secret: false, inside: false, trusted: true }.label();
    let high = Plain { secret: true, inside: true, trusted: false }.label();
    Rule { labels: LabelRange { low, high }, ..rule }
}

/// A floor of two rules, one of which the policy has no longer; grants that cover one rule, or everything.
#[test]
fn a_floor_is_kept_but_for_exactly_what_a_grant_lifts() {
    let key = SigningKey::from_seed(&[2; 32]);
    let roots = Roots {
        name: name("test"),
        issuer: key.public().clone(),
        policy_keys: vec![key.public().clone()],
        quorum: 1,
    };
    let froms = [("a.>", true, false), (">", true, true)];
    let grants: Vec<(FlowGrant, Plain, bool, bool)> = froms
        .iter()
        .flat_map(|&(from, of_a, of_b)| Plain::all().map(move |label| (from, of_a, of_b, label)))
        .zip(0..)
        .map(|((from, of_a, of_b, label), n)| (grant(format!("g{n}"), from, label, ALL), label, of_a, of_b))
        .collect();
    let records = Records {
        supervision: None,
        tables: tables(roots.bus(), ALL),
        rules: vec![range(rule("a", "a.x")), range(rule("b", "*.x"))],
        grants: grants.iter().map(|(grant, ..)| grant.clone()).collect(),
    };
    let bundle = Bundle::sign(records, 1, Millis(1), &[&key], &roots).unwrap();
    let policy = CompiledPolicy::compile(&bundle).unwrap();
    let maybe = || std::iter::once(None).chain(Plain::all().map(Some));
    let mut cases = 0_u32;
    for (a, b, gone) in maybe().flat_map(|a| maybe().flat_map(move |b| maybe().map(move |gone| (a, b, gone))))
    {
        let mut floor = Floor::default();
        for (rule, on, read) in [("a", "a.x", a), ("b", "*.x", b), ("gone", "a.x", gone)] {
            read.map(|read| floor.raise(&name(rule), &pattern(on), read.label()));
        }
        for label in Plain::all() {
            let told = |read: Option<Plain>| read.is_none_or(|read| label.may_tell(read));
            let kept = policy.check_floor(&floor, label.label(), None);
            assert_eq!(kept.is_ok(), told(a) && told(b) && told(gone), "{label:?} over {a:?} {b:?} {gone:?}");
            for (grant, up_to, of_a, of_b) in &grants {
                let lifted = |read: Option<Plain>| read.is_none_or(|read| up_to.may_tell(read));
                let expected =
                    (told(a) || (*of_a && lifted(a))) && (told(b) || (*of_b && lifted(b))) && told(gone);
                let compiled = policy.grant(grant.name.as_str()).unwrap();
                let kept = policy.check_floor(&floor, label.label(), Some(compiled));
                assert_eq!(kept.is_ok(), expected, "{label:?} over {a:?} {b:?} {gone:?} by {grant:?}");
                cases += 1;
            }
        }
    }
    assert_eq!(cases, 9 * 9 * 9 * 8 * 16);
}

fn header(label: Plain, parents: &[Plain], grant: Option<&str>, subject: &str) -> Vec<u8> {
    let told = (1..).zip(parents).map(|(n, parent)| Parent { digest: [n; 32], label: parent.label() });
    let fields = HeaderFields {
        bus: BusId::from_bytes([0; 32]),
        id: EnvelopeId::from_bytes([1; 16]),
        sender: claims(BusId::from_bytes([0; 32]), "team", ALL).token(),
        session: SessionId::from_bytes([2; 32]),
        rule: name("a"),
        subject: Subject::parse(subject).unwrap(),
        label: label.label(),
        flow_grant: grant.map(name),
        key: KeyId::from_bytes([3; 32]),
        sequence: 0,
        issued_at: NOW,
        ttl_ms: 1,
        parents: told.collect(),
        request: None,
        flags: Flags::NONE,
    };
    fields.encode().unwrap()
}

/// Every label, every one or two parents, every grant; a grant that is not there, another team's, for other
/// subjects, for less, or over.
#[test]
fn parents_are_kept_but_for_exactly_what_a_grant_lifts() {
    let bus = BusId::from_bytes([0; 32]);
    let (member, stranger) = (claims(bus, "team", ALL), claims(bus, "other", ALL));
    let pairs = Plain::all().flat_map(|p| Plain::all().map(move |q| vec![p, q]));
    let families: Vec<Vec<Plain>> =
        std::iter::once(vec![]).chain(Plain::all().map(|p| vec![p])).chain(pairs).collect();
    let steps: Vec<_> = Plain::all().flat_map(|from| Plain::all().map(move |to| (from, to))).collect();
    for label in Plain::all() {
        for parents in &families {
            let told = parents.iter().all(|parent| label.may_tell(*parent));
            let flow = |bytes: &[u8], found: Option<&FlowGrant>, claims: &Claims, size, now, observing| {
                let mut faults = Faults::observing(observing);
                let header = Header::decode(bytes).unwrap();
                let usable = policy::check_flow(&header, found, claims, size, now, &mut faults);
                let usable = usable.map(|grant| grant.is_some()).map_err(|refused| refused.reason);
                (usable, faults.observed().map(|fault| fault.reason))
            };
            let check =
                |bytes: &[u8], found: Option<&FlowGrant>, claims, size, now, faults: &[Reason], used| {
                    let first = faults.first().copied();
                    let enforced = flow(bytes, found, claims, size, now, false);
                    assert_eq!(enforced, (first.map_or(Ok(used), Err), None), "{label:?} of {parents:?}");
                    let observed = flow(bytes, found, claims, size, now, true);
                    assert_eq!(observed, (Ok(used), first), "{label:?} of {parents:?}, observed");
                };
            let below = |told: bool| if told { vec![] } else { vec![Reason::BelowParents] };
            let then = |fault: Reason| [vec![fault], below(told)].concat();

            check(&header(label, parents, None, "out.x"), None, &member, 1, NOW, &below(told), false);
            let (inside, outside) =
                (header(label, parents, Some("g"), "out.x"), header(label, parents, Some("g"), "in.x"));
            check(&inside, None, &member, 1, NOW, &then(Reason::FlowGrantUnknown), false);
            for &(from, to) in &steps {
                let grant = &grant("g".to_owned(), "a.>", from, to);
                let found = Some(grant);
                let misfit = &then(Reason::FlowGrantMismatch);
                if label.may_tell(to) {
                    let lifted = parents.iter().all(|p| label.may_tell(*p) || from.may_tell(*p));
                    check(&inside, found, &member, 50, NOW, &below(lifted), true);
                    check(&inside, found, &member, 50, NOW.plus(1), &then(Reason::FlowGrantExpired), false);
                } else {
                    check(&inside, found, &member, 50, NOW, misfit, false);
                }
                check(&inside, found, &stranger, 50, NOW, misfit, false);
                check(&inside, found, &member, 51, NOW, misfit, false);
                check(&outside, found, &member, 50, NOW, misfit, false);
            }
        }
    }
}

/// Every label against every range, clearance and ceiling, of credential and team.
#[test]
fn publishing_is_as_the_rule_says_and_only_what_may_be_is_observed() {
    const NOTED: [Reason; 3] = [Reason::NotPublisher, Reason::LabelOutOfRange, Reason::AboveIntegrity];
    let bus = BusId::from_bytes([0; 32]);
    let (inside, outside) = (Subject::parse("a.x").unwrap(), Subject::parse("b.x").unwrap());
    let teams: Vec<_> = Plain::all().map(|team| (team, tables(bus, team))).collect();
    let people: Vec<_> = Plain::all().map(|has| (has, claims(bus, "team", has))).collect();
    for (low, high) in Plain::all().flat_map(|low| Plain::all().map(move |high| (low, high))) {
        let labels = LabelRange { low: low.label(), high: high.label() };
        let named = Rule { labels, ..rule("a", "a.x") };
        let unnamed = Rule { publishers: vec![], ..named.clone() };
        for (team, tables) in &teams {
            for (has, claims) in &people {
                for label in Plain::all() {
                    let cleared = |by: &Plain| (by.secret || !label.secret) && (by.inside || !label.inside);
                    let mut faults = vec![];
                    if !(label.may_tell(low) && high.may_tell(label)) {
                        faults.push(Reason::LabelOutOfRange);
                    }
                    if !(cleared(team) && cleared(has)) {
                        faults.push(Reason::AboveClearance);
                    }
                    if label.trusted && !(team.trusted && has.trusted) {
                        faults.push(Reason::AboveIntegrity);
                    }
                    let elsewhere = [vec![Reason::SubjectOutsideRule], faults.clone()].concat();
                    let by_nobody = [vec![Reason::NotPublisher], faults.clone()].concat();
                    let cases = [
                        (&named, &inside, faults),
                        (&named, &outside, elsewhere),
                        (&unnamed, &inside, by_nobody),
                    ];
                    for (rule, subject, faults) in cases {
                        let check = |observing| {
                            let mut found = Faults::observing(observing);
                            let label = label.label();
                            let checked = policy::check_publish(
                                tables, rule, claims, subject, label, false, &mut found,
                            );
                            (checked.err().map(|r| r.reason), found.observed().map(|fault| fault.reason))
                        };
                        assert_eq!(check(false), (faults.first().copied(), None));
                        let refused = faults.iter().position(|fault| !NOTED.contains(fault));
                        let noted = faults.first().copied().filter(|_| refused != Some(0));
                        assert_eq!(check(true), (refused.and_then(|n| faults.get(n).copied()), noted));
                    }
                }
            }
        }
    }
}

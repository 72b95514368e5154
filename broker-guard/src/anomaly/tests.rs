//! Properties of the whole detector, whatever it is told and whenever.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use proptest::prelude::*;
use sealbus_envelope::label::{Compartments, Integrity, Label, Level};

use super::*;

const HOUR: u64 = 3_600_000;
const MINUTE: u64 = 60_000;
/// A Monday.
const BEGIN: u64 = 1_704_067_200_000;
const SUBJECTS: [&str; 4] = ["notes.a", "notes.b", "mail.x", "jobs"];
const RULES: [&str; 3] = ["notes", "mail", "jobs"];
/// What one agent may take, in memory and saved.
const MOST_BYTES: usize = 6 << 10;

/// What the detector is told, owned.
#[derive(Debug, Clone)]
enum Told {
    Sent {
        sealed: u64,
        subject: usize,
        rule: usize,
        label: Label,
        size: u32,
        count: u32,
        gap: u64,
        session: u64,
        mark: u64,
    },
    BadContent,
    SignedDenial,
    Replayed(Option<u64>),
    Junk,
    Connected {
        session: u64,
        place: u64,
    },
    Left(u64),
    FailedLogin,
    Granted(u8),
    Asked(u8),
    UntrueParents,
    Tick,
    Release,
}

impl Told {
    /// Whether somebody who holds no key of the agent can bring it about at will.
    const fn is_servers(&self) -> bool {
        matches!(
            self,
            Self::Replayed(_)
                | Self::Junk
                | Self::Connected { .. }
                | Self::Left(_)
                | Self::FailedLogin
                | Self::Granted(_)
                | Self::Asked(_)
                | Self::Tick
        )
    }

    fn tell(&self, detector: &mut Detector, agent: &str, now: Millis) -> Vec<(String, Finding)> {
        let name;
        let mark = |number: u64| Mark { number, envelope: number };
        let observation = match self {
            Self::Sent { sealed, subject, rule, label, size, count, gap, session, mark: number } => {
                Observation::Sent(Sent {
                    sealed: Millis(*sealed),
                    subject: SUBJECTS.get(*subject).unwrap(),
                    rule: RULES.get(*rule).unwrap(),
                    label: *label,
                    size: *size,
                    count: *count,
                    gap: *gap,
                    session: *session,
                    mark: Some(mark(*number)),
                })
            }
            Self::BadContent => Observation::BadContent,
            Self::SignedDenial => Observation::SignedDenial,
            Self::Replayed(number) => Observation::Replayed { mark: number.map(mark) },
            Self::Junk => Observation::Junk,
            Self::Connected { session, place } => Observation::Connected { session: *session, place: *place },
            Self::Left(session) => Observation::Left { session: *session },
            Self::FailedLogin => Observation::FailedLogin,
            Self::Granted(reader) => {
                name = format!("reader{reader}-abcdefghij");
                Observation::Granted { reader: &name }
            }
            Self::Asked(rule) => {
                name = format!("rule{rule}");
                Observation::Asked { rule: &name }
            }
            Self::UntrueParents => Observation::UntrueParents,
            Self::Tick => {
                let findings = detector.tick(now).into_iter();
                return findings.map(|(agent, finding)| (agent.as_str().to_owned(), finding)).collect();
            }
            Self::Release => {
                detector.release(agent, now);
                return Vec::new();
            }
        };
        let finding = detector.observe(agent, observation, now);
        finding.into_iter().map(|finding| (agent.to_owned(), finding)).collect()
    }
}

fn labels() -> impl Strategy<Value = Label> {
    (0_u8..16, any::<u64>(), 0_u8..8).prop_map(|(level, bits, integrity)| {
        Label::new(
            Level::new(level).unwrap(),
            Compartments::from_bits(bits),
            Integrity::new(integrity).unwrap(),
        )
    })
}

fn told() -> impl Strategy<Value = Told> {
    let few = 0_u64..12;
    let counts = prop_oneof![4 => Just(1_u32), 1 => any::<u32>()];
    let gaps = prop_oneof![4 => Just(0_u64), 1 => any::<u64>()];
    let sealed = prop_oneof![4 => Just(0_u64), 1 => any::<u64>()];
    let sent = (sealed, 0_usize..4, 0_usize..3, labels(), any::<u32>(), counts, gaps, few.clone(), 0_u64..80);
    prop_oneof![
        12 => sent.prop_map(|(sealed, subject, rule, label, size, count, gap, session, mark)| Told::Sent {
            sealed, subject, rule, label, size, count, gap, session, mark
        }),
        1 => Just(Told::BadContent),
        2 => Just(Told::SignedDenial),
        2 => proptest::option::of(0_u64..80).prop_map(Told::Replayed),
        1 => Just(Told::Junk),
        2 => (few.clone(), few.clone()).prop_map(|(session, place)| Told::Connected { session, place }),
        1 => few.prop_map(Told::Left),
        1 => Just(Told::FailedLogin),
        1 => any::<u8>().prop_map(Told::Granted),
        2 => any::<u8>().prop_map(Told::Asked),
        1 => Just(Told::UntrueParents),
        4 => Just(Told::Tick),
        1 => Just(Told::Release),
    ]
}

/// How time goes on: a little, an hour, far ahead, and back.
fn step(now: u64, (kind, by): (u8, u64)) -> u64 {
    match kind {
        0..=5 => now.saturating_add(by % (2 * MINUTE)),
        6 | 7 => now.saturating_add(by % (3 * HOUR)),
        8 => now.saturating_sub(by % (30 * HOUR)),
        9 => now.saturating_add(by % (4_000 * HOUR)),
        _ => by,
    }
}

type Story = Vec<(u16, Told, (u8, u64))>;

fn story(agents: u16, most: usize) -> impl Strategy<Value = Story> {
    proptest::collection::vec((0..agents, told(), (0_u8..40, any::<u64>())), 1..most)
}

fn agent(n: u16) -> String {
    let letter = |n: u16| char::from(b'a' + u8::try_from(n % 26).unwrap());
    format!("agent-{}{}abcdefgh", letter(n), letter(n / 26))
}

/// Plays a story: what was found, and whether all is as it must be after each step.
fn play(detector: &mut Detector, story: &Story, mut now: u64) -> Vec<(String, Finding)> {
    let mut found = Vec::new();
    for (who, told, time) in story {
        now = step(now, (time.0.min(10), time.1));
        let told = match told {
            // Most say what time it is.
            Told::Sent { sealed: 0, subject, rule, label, size, count, gap, session, mark } => {
                let (subject, rule, label) = (*subject, *rule, *label);
                let (size, count, gap, session, mark) = (*size, *count, *gap, *session, *mark);
                Told::Sent { sealed: now, subject, rule, label, size, count, gap, session, mark }
            }
            told => told.clone(),
        };
        found.extend(told.tell(detector, &agent(*who), Millis(now)));
        if let Some((score, signed)) = detector.score(&agent(*who)) {
            assert!(score.is_finite() && signed >= 0.0 && signed <= score + 1e-4, "{score} {signed}");
        }
    }
    found
}

fn bytes_of(detector: &mut Detector) -> Vec<(AgentToken, Vec<u8>)> {
    let mut saved = detector.save(true);
    saved.sort();
    saved
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_it_is_told_it_stays_whole_and_small_and_says_the_same_again(story in story(300, 400)) {
        let (mut one, mut two) = (Detector::default(), Detector::default());
        let found = play(&mut one, &story, BEGIN);
        prop_assert_eq!(&found, &play(&mut two, &story, BEGIN), "each map has its own order");
        prop_assert_eq!(bytes_of(&mut one), bytes_of(&mut two));
        for (_, finding) in &found {
            let parts = finding.signals.iter().all(|(_, score)| score.is_finite() && *score > 0.0);
            prop_assert!(parts && finding.score.is_finite() && finding.score >= 0.0, "{:?}", finding);
        }
        prop_assert!(one.len() <= 300);
        for (agent, saved) in bytes_of(&mut one) {
            prop_assert!(saved.len() <= MOST_BYTES, "{}: {}", agent.as_str(), saved.len());
        }
    }

    #[test]
    fn a_guard_that_was_restarted_goes_on_where_it_stood(
        before in story(3, 300),
        after in proptest::collection::vec((0_u16..3, told(), 0_u64..10 * MINUTE), 1..100),
    ) {
        let mut one = Detector::default();
        play(&mut one, &before, BEGIN);
        let mut now = BEGIN + 9_000 * HOUR;
        let mut two = Detector::default();
        for (agent, saved) in one.save(true) {
            prop_assert!(two.restore(agent, &saved, Millis(now)));
        }
        prop_assert_eq!(bytes_of(&mut one), bytes_of(&mut two));
        // What rests on the hour under way, or on who is connected, begins anew: all else is the same.
        for (who, told, by) in after {
            now += by;
            if matches!(
                told,
                Told::Sent { .. } | Told::Tick | Told::Asked(_) | Told::Connected { .. } | Told::Replayed(Some(_))
            ) {
                continue;
            }
            let (a, b) = (told.tell(&mut one, &agent(who), Millis(now)), told.tell(&mut two, &agent(who), Millis(now)));
            prop_assert_eq!(a, b);
        }
    }

    #[test]
    fn while_it_warms_up_only_proof_counts(story in story(5, 300)) {
        let settings = Settings::default();
        let mut detector = Detector::new(settings);
        let mut marks = std::collections::HashSet::new();
        for (who, told, (_, by)) in &story {
            // A number that was used, and another envelope under it, is proof; here each has one envelope.
            if let Told::Sent { mark, .. } = told { marks.insert(*mark); }
            let now = Millis(BEGIN + by % settings.warm_up_ms);
            let soft = !matches!(told, Told::BadContent);
            if soft {
                prop_assert_eq!(told.tell(&mut detector, &agent(*who), now), vec![]);
            }
        }
        prop_assert!(detector.publishers.values().all(|one| one.scores.is_zero()));
        let found = Told::BadContent.tell(&mut detector, &agent(0), Millis(BEGIN));
        prop_assert_eq!(found.first().map(|(_, finding)| finding.action), Some(Action::Quarantine));
    }
}

/// An agent that seals so many envelopes an hour, evenly, and what a server makes of them.
struct Framed {
    detector: Detector,
    sequence: u64,
    next: u64,
    sent: Vec<(u64, u64)>,
    found: Vec<Finding>,
    ticked: u64,
}

impl Framed {
    fn tick(&mut self, until: u64) {
        while self.ticked + MINUTE <= until {
            self.ticked += MINUTE;
            self.found
                .extend(self.detector.tick(Millis(self.ticked)).into_iter().map(|(_, finding)| finding));
        }
    }

    /// The guard's checks: what is not the next of its numbers, or later, came before.
    fn arrives(&mut self, sealed: u64, number: u64, now: u64) {
        let observation = if number < self.next {
            Observation::Replayed { mark: Some(Mark { number, envelope: number }) }
        } else {
            let gap = number - self.next;
            self.next = number + 1;
            self.sent.push((sealed, number));
            let mark = Some(Mark { number, envelope: number });
            let (session, label) = (1, Label::BOTTOM);
            let plain = Sent::plain(Millis(sealed), "notes.a", 1_000);
            Observation::Sent(Sent { rule: "notes", label, gap, session, mark, ..plain })
        };
        self.found.extend(self.detector.observe(&agent(0), observation, Millis(now)));
    }
}

/// What a server does for a while.
#[derive(Debug, Clone)]
enum Trick {
    /// Passes on only one in so many.
    Drop(u64),
    /// Holds everything back until the end of each such period, shorter than what is fresh.
    Bunch(u64),
    /// Lets every other one overtake the one before it.
    Swap,
    /// Delivers each so often.
    Repeat(u8),
    /// Anything that it can make up.
    MakeUp(Vec<Told>),
}

fn tricks() -> impl Strategy<Value = Vec<(Trick, u64)>> {
    let made_up = told().prop_filter("what a server can make up", Told::is_servers);
    let trick = prop_oneof![
        (1_u64..50).prop_map(Trick::Drop),
        (1_000_u64..30_000).prop_map(Trick::Bunch),
        Just(Trick::Swap),
        (1_u8..6).prop_map(Trick::Repeat),
        proptest::collection::vec(made_up, 1..40).prop_map(Trick::MakeUp),
    ];
    proptest::collection::vec((trick, 5_u64..120), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn nothing_that_a_server_alone_can_do_has_an_honest_agent_quarantined(
        tricks in tricks(), every in 4_000_u64..60_000
    ) {
        let mut framed = Framed {
            detector: Detector::default(), sequence: 0, next: 0, sent: vec![], found: vec![], ticked: BEGIN,
        };
        let mut sealed = BEGIN;
        // Honest days, so that everything is learned; then the server begins.
        while sealed < BEGIN + 30 * HOUR {
            framed.tick(sealed);
            framed.sequence += 1;
            framed.arrives(sealed, framed.sequence, sealed);
            sealed += every;
        }
        prop_assert_eq!(&framed.found, &vec![]);
        for (trick, minutes) in tricks {
            let until = sealed + minutes * MINUTE;
            let mut held: Vec<(u64, u64)> = Vec::new();
            while sealed < until {
                framed.sequence += 1;
                let (number, now) = (framed.sequence, sealed);
                framed.tick(now);
                match &trick {
                    Trick::Drop(share) if number % share != 0 => {}
                    Trick::Bunch(period) => {
                        held.push((now, number));
                        if (now + every) / period != now / period {
                            let late = held.first().map_or(now, |(first, _)| (first + 30_000).max(now).min(now + every));
                            held.drain(..).for_each(|(sealed, number)| framed.arrives(sealed, number, late));
                        }
                    }
                    Trick::Swap => {
                        if let Some((before, first)) = held.pop() {
                            framed.arrives(now, number, now);
                            framed.arrives(before, first, now);
                        } else {
                            held.push((now, number));
                        }
                    }
                    Trick::Repeat(times) => (0..=*times).for_each(|_| framed.arrives(now, number, now)),
                    Trick::MakeUp(things) => {
                        framed.arrives(now, number, now);
                        // A replay is of what was sent: it has no mark of an envelope that never was.
                        let repeated = framed.sent.get(usize::try_from(number).unwrap() / 2).copied();
                        for thing in things {
                            if let (Told::Replayed(Some(_)), Some((sealed, number))) = (thing, repeated) {
                                framed.arrives(sealed, number, now);
                            } else if !matches!(thing, Told::Replayed(Some(_))) {
                                let found = thing.tell(&mut framed.detector, &agent(0), Millis(now));
                                framed.found.extend(found.into_iter().map(|(_, finding)| finding));
                            }
                        }
                    }
                    Trick::Drop(_) => framed.arrives(now, number, now),
                }
                sealed += every;
            }
        }
        let worst = framed.found.iter().find(|finding| finding.action == Action::Quarantine);
        prop_assert!(worst.is_none(), "{:?}", worst);
    }
}

/// Regular traffic for so many hours, one in twenty seconds.
fn live(detector: &mut Detector, from: u64, hours: u64) -> Vec<Finding> {
    let mut found = Vec::new();
    for n in 0..hours * 180 {
        let now = Millis(from + n * 20_000);
        found.extend(detector.observe("ann-abcdefghij", Observation::Sent(Sent::plain(now, "a", 100)), now));
        found.extend(detector.tick(now).into_iter().map(|(_, finding)| finding));
    }
    found
}

#[test]
fn a_clock_that_was_ahead_and_is_set_back_is_nobodys_fault() {
    let mut detector = Detector::default();
    assert_eq!(live(&mut detector, BEGIN, 30), []);
    assert_eq!(live(&mut detector, BEGIN + 200 * HOUR, 1), [], "two hundred hours ahead");
    assert_eq!(live(&mut detector, BEGIN + 31 * HOUR, 24), [], "and back");
    for _ in 0..14 {
        detector.observe("ann-abcdefghij", Observation::SignedDenial, Millis(BEGIN + 200 * HOUR));
    }
    let score = |detector: &Detector| detector.score("ann-abcdefghij").unwrap().0;
    assert!(score(&detector) > 1.0);
    live(&mut detector, BEGIN + 55 * HOUR, 4);
    assert!(
        score(&detector) < 0.1,
        "what was held against it at a time to come passes, too: {}",
        score(&detector)
    );
}

#[test]
fn no_more_agents_are_followed_than_there_is_room_for() {
    let mut detector = Detector::default();
    let name = |n: usize| format!("agent{n}-abcdefghij");
    let say = |detector: &mut Detector, n: usize, now: u64| {
        detector.observe(&name(n), Observation::Sent(Sent::plain(Millis(now), "a", 1)), Millis(now))
    };
    for n in 0..MAX_PUBLISHERS + 50 {
        assert_eq!(say(&mut detector, n, BEGIN), None);
    }
    assert_eq!(detector.len(), MAX_PUBLISHERS);
    assert_eq!(detector.score(&name(MAX_PUBLISHERS)), None, "the last is not followed");
    assert!(!detector.restore(AgentToken::parse(&name(MAX_PUBLISHERS)).unwrap(), &[], Millis(BEGIN)));
    // A week later who said nothing makes room.
    say(&mut detector, 0, BEGIN + 160 * HOUR);
    say(&mut detector, MAX_PUBLISHERS, BEGIN + 170 * HOUR);
    assert_eq!(detector.len(), 2);
}

#[test]
fn an_agent_takes_no_more_than_is_said() {
    // Labels, places and sessions in lists beside it.
    let beside = 24 * 64 + 8 * 16 + 8 * 32;
    assert!(size_of::<Publisher>() + beside <= MOST_BYTES, "{}", size_of::<Publisher>());
}

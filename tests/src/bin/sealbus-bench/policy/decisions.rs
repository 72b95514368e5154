//! How long one decision takes.
#![expect(clippy::expect_used, reason = "a benchmark that cannot be set up stops")]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use rand_core::{Rng as _, UnwrapErr};
use sealbus_guard::policy::{compile::CompiledPolicy, decide::Principal};

use super::fixture::{Attempt, Signed, allowed, denied};
use crate::{report::Row, samples::Samples};

/// Decisions to a reading of the clock, which takes about as long as one decision.
pub(crate) const BATCH: usize = 64;
/// The fewest decisions in a turn, so that a few rules have time to become hot.
const TURN: usize = 4_096;
const SINGLES: usize = 512;

/// Rows for a policy of `rules` rules: one rule asked for all the time, a hundred in turn, all in turn.
pub(crate) fn measure(rules: usize, budget: Duration) -> Vec<Row> {
    let bench = Bench::new(rules);
    let mut counts = vec![1, rules.min(100), rules];
    counts.dedup();
    let share = budget / u32::try_from(counts.len()).unwrap_or(u32::MAX);
    counts.into_iter().flat_map(|count| bench.measure(count, share)).collect()
}

struct Bench {
    rules: usize,
    policy: CompiledPolicy,
    principals: Vec<Principal>,
    #[cfg(feature = "peers")]
    cedar: super::cedar::Cedar,
    clock: Duration,
}

/// What was found for one set of rules in turn.
#[derive(Default)]
struct Found {
    batches: Samples,
    singles: Samples,
    #[cfg(feature = "peers")]
    cedar: Samples,
    #[cfg(feature = "peers")]
    sliced: Samples,
}

impl Bench {
    fn new(rules: usize) -> Self {
        let signed = Signed::new(rules);
        let policy = CompiledPolicy::compile(&signed.bundle).expect("a policy");
        let principals = signed.principals(&policy);
        #[cfg(feature = "peers")]
        let cedar = super::cedar::Cedar::new(rules);
        let bench = Self {
            rules,
            policy,
            principals,
            #[cfg(feature = "peers")]
            cedar,
            clock: clock(),
        };
        bench.check();
        bench
    }

    /// Both engines say the same, of what is allowed and of what is not.
    fn check(&self) {
        for rule in [0, self.rules / 2, self.rules - 1] {
            let good = (allowed(rule, self.rules), None);
            let bad = denied(rule, self.rules).into_iter().map(|(attempt, reason)| (attempt, Some(reason)));
            for (attempt, reason) in bad.chain([good]) {
                let decided = decide(&self.policy, self.principal(&attempt), &attempt);
                assert_eq!(decided.err(), reason, "{attempt:?}");
                #[cfg(feature = "peers")]
                {
                    let asked = super::cedar::Asked::new(&attempt);
                    assert!(self.cedar.decides(&asked, reason.is_none()), "{attempt:?}");
                }
            }
        }
    }

    fn principal(&self, attempt: &Attempt) -> &Principal {
        self.principals.get(attempt.team).expect("a team's agent")
    }

    fn measure(&self, count: usize, budget: Duration) -> Vec<Row> {
        let mut order: Vec<usize> = (0..self.rules).collect();
        shuffle(&mut order);
        let attempts: Vec<_> = order.into_iter().take(count).map(|rule| allowed(rule, self.rules)).collect();
        #[cfg(feature = "peers")]
        let requests: Vec<_> = attempts.iter().map(super::cedar::Asked::new).collect();
        #[cfg(feature = "peers")]
        let mut asked = requests.iter().cycle();
        let (mut found, begun) = (Found::default(), Instant::now());
        while found.batches.len() == 0 || begun.elapsed() < budget {
            self.turn(&attempts, &mut found);
            #[cfg(feature = "peers")]
            self.cedar_turn(&mut asked, &mut found);
        }
        self.rows(count, &found)
    }

    /// Each of the rules once at least: first unmeasured, because the peer has just filled the caches, and
    /// then measured.
    fn turn(&self, attempts: &[Attempt], found: &mut Found) {
        let count = attempts.len().max(TURN);
        let mut asked = attempts.iter().cycle();
        self.batches(&mut asked, count, &mut Samples::default());
        self.batches(&mut asked, count, &mut found.batches);
        for attempt in asked.take(SINGLES) {
            let (who, attempt) = (self.principal(attempt), attempt.clone());
            let begun = Instant::now();
            let decided = black_box(decide(&self.policy, who, &attempt));
            found.singles.push(begun.elapsed().saturating_sub(self.clock));
            decided.expect("an allowed attempt");
        }
    }

    fn batches<'a>(&self, asked: &mut impl Iterator<Item = &'a Attempt>, count: usize, found: &mut Samples) {
        let mut batch: Vec<(&Principal, Attempt)> = Vec::with_capacity(BATCH);
        for _ in 0..count.div_ceil(BATCH) {
            batch.clear();
            batch.extend(asked.take(BATCH).map(|attempt| (self.principal(attempt), attempt.clone())));
            let begun = Instant::now();
            let allowed = batch
                .iter()
                .filter(|(who, attempt)| black_box(decide(&self.policy, who, black_box(attempt))).is_ok());
            let allowed = allowed.count();
            found.push(begun.elapsed().saturating_sub(self.clock) / u32::try_from(BATCH).unwrap_or(1));
            assert_eq!(allowed, BATCH, "a denial would be cheaper");
        }
    }

    /// As many decisions of Cedar's as fit in a few milliseconds, at least one.
    #[cfg(feature = "peers")]
    fn cedar_turn<'a>(&self, asked: &mut impl Iterator<Item = &'a super::cedar::Asked>, found: &mut Found) {
        const SHARE: Duration = Duration::from_millis(4);
        type Decide = fn(&super::cedar::Cedar, &super::cedar::Asked) -> bool;
        let whole: Decide = super::cedar::Cedar::decide;
        let sliced: Decide = super::cedar::Cedar::decide_sliced;
        for (decide, samples) in [(whole, &mut found.cedar), (sliced, &mut found.sliced)] {
            let Some(first) = asked.next() else { return };
            black_box(decide(&self.cedar, first));
            let turn = Instant::now();
            for asked in asked.by_ref() {
                let begun = Instant::now();
                let allowed = black_box(decide(&self.cedar, asked));
                samples.push(begun.elapsed().saturating_sub(self.clock));
                assert!(allowed, "a denial would be another thing");
                if turn.elapsed() >= SHARE {
                    break;
                }
            }
        }
    }

    fn rows(&self, count: usize, found: &Found) -> Vec<Row> {
        let row = |what: &str, samples: &Samples| {
            Row::new(what)
                .with("rules", self.rules)
                .with("rules_in_turn", count)
                .measured("p50_ns", samples.p50_us() * 1e3)
                .measured("p99_ns", samples.p99_us() * 1e3)
        };
        let own = row("sealbus decision", &found.batches)
            .measured("single_p99_ns", found.singles.p99_us() * 1e3)
            .with("decisions", found.batches.len() * BATCH);
        #[cfg(feature = "peers")]
        let peers = [("cedar, all policies", &found.cedar), ("cedar, one policy", &found.sliced)];
        #[cfg(not(feature = "peers"))]
        let peers: [(&str, &Samples); 0] = [];
        let peers = peers.map(|(what, samples)| {
            row(what, samples)
                .with("decisions", samples.len())
                .measured("p50_times_sealbus", samples.p50_us() / found.batches.p50_us())
        });
        std::iter::once(own).chain(peers).collect()
    }
}

fn decide(
    policy: &CompiledPolicy,
    who: &Principal,
    attempt: &Attempt,
) -> Result<(), sealbus_envelope::reason::Reason> {
    let Attempt { rule, subject, label, bytes, .. } = attempt;
    policy.may_publish(who, rule, subject, *label, *bytes).map(|rule| {
        black_box(rule);
    })
}

/// What reading the clock twice takes, with nothing in between.
fn clock() -> Duration {
    let mut times: Vec<_> = (0..1_001).map(|_| Instant::now().elapsed()).collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Fisher and Yates.
fn shuffle(numbers: &mut [usize]) {
    let mut random = UnwrapErr(getrandom::SysRng);
    for end in (1..numbers.len()).rev() {
        let bound = u64::try_from(end + 1).unwrap_or(u64::MAX);
        let place = usize::try_from(random.next_u64() % bound).unwrap_or(0);
        numbers.swap(end, place);
    }
}

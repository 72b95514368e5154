#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use proptest::prelude::*;
use sealbus_envelope::{control::verb, policy::Rate};

use super::*;

const NOW: Millis = Millis(1_000_000);
const WIDE: Bound = Bound { messages: None, kib: None };

fn name(n: usize) -> AgentToken {
    let id: String = (0..10).map(|d| char::from(b'a' + u8::try_from(n >> (3 * d) & 7).unwrap())).collect();
    AgentToken::parse(&format!("a-{id}")).unwrap()
}

fn wide(agents: usize) -> Fair<(usize, u32)> {
    let mut fair = Fair::default();
    (0..agents).for_each(|n| fair.bind(&name(n), WIDE));
    fair
}

#[test]
fn who_sends_little_does_not_wait_behind_who_sends_much() {
    let mut fair = wide(2);
    for n in 0..10_000 {
        assert_eq!(fair.offer(name(0).as_str(), Lane::Envelope, 100, (0, n), NOW), Offered::Queued);
    }
    fair.take();
    assert_eq!(fair.offer(name(1).as_str(), Lane::Envelope, 100, (1, 0), NOW), Offered::Queued);
    let turn = fair.take();
    assert!(turn.envelopes.contains(&(1, 0)), "it is in the next turn");
    assert!(turn.envelopes.len() <= TURN);
}

#[test]
fn a_flood_of_hellos_leaves_each_turn_to_the_others() {
    let mut fair = wide(2);
    for n in 0..100 {
        fair.offer(name(0).as_str(), Lane::Control("hello"), 3_000, (0, n), NOW);
    }
    for n in 0..100 {
        fair.offer(name(1).as_str(), Lane::Envelope, 1_000, (1, n), NOW);
    }
    let (mut hellos, mut envelopes) = (0, 0);
    while envelopes < 100 {
        let turn = fair.take();
        hellos += turn.control.len();
        envelopes += turn.envelopes.len();
    }
    assert!(hellos <= 1, "{hellos}");
}

/// The turn ends in the middle of the same agent's share again and again: it must not have a new one each time.
#[test]
fn who_is_served_when_a_turn_ends_gains_nothing() {
    let mut fair = wide(3);
    let sizes = [14_337, 19_457, 19_457];
    for n in 0..3_000 {
        for (who, bytes) in sizes.into_iter().enumerate() {
            fair.offer(name(who).as_str(), Lane::Envelope, bytes, (who, n), NOW);
        }
    }
    let mut served = [0; 3];
    for _ in 0..20 {
        for (who, _) in fair.take().envelopes {
            served[who] += envelope_cost(sizes[who]);
        }
    }
    let (least, most) = (served.iter().min().unwrap(), served.iter().max().unwrap());
    assert!(most - least <= QUANTUM + 64, "{served:?}");
}

#[test]
fn a_flood_fills_a_turn_only_if_nobody_else_waits() {
    let mut fair = wide(2);
    for n in 0..1_000 {
        fair.offer(name(0).as_str(), Lane::Envelope, 1_000, (0, n), NOW);
    }
    assert_eq!(fair.take().envelopes.len(), TURN);
    fair.offer(name(1).as_str(), Lane::Envelope, 1_000, (1, 0), NOW);
    let turn = fair.take().envelopes;
    assert!(turn.contains(&(1, 0)) && turn.len() <= 33, "{}", turn.len());
    assert_eq!(fair.take().envelopes.len(), TURN);
}

#[test]
fn hellos_are_bounded_by_themselves() {
    let mut fair = wide(1);
    let mut offer = |verb| fair.offer(name(0).as_str(), Lane::Control(verb), 100, (0, 0), NOW);
    assert_eq!((0..100).filter(|_| offer(verb::HELLO) == Offered::Queued).count(), 32);
    assert_eq!(offer(verb::GRANT), Offered::Queued, "who said too many hellos goes on as it was");
}

#[test]
fn one_agent_gets_half_of_the_room_and_the_next_still_finds_some() {
    let mut fair = wide(3);
    let fill = |fair: &mut Fair<_>, who: usize| {
        (0..100_000)
            .take_while(|n| {
                fair.offer(name(who).as_str(), Lane::Envelope, 10, (who, *n), NOW) == Offered::Queued
            })
            .count()
    };
    assert_eq!(fill(&mut fair, 0), ROOM / 2);
    assert_eq!(fill(&mut fair, 1), ROOM / 4);
    assert_eq!(fair.offer(name(2).as_str(), Lane::Envelope, 10, (2, 0), NOW), Offered::Queued);
    let large = ROOM_BYTES / 4 + 1;
    let mut fair = wide(2);
    let fits = (0..4).map(|n| fair.offer(name(0).as_str(), Lane::Envelope, large, (0, n), NOW));
    assert_eq!(fits.filter(|offered| *offered == Offered::Queued).count(), 2);
}

#[test]
fn a_flood_is_found_once_and_again_if_it_goes_on() {
    let mut fair = Fair::default();
    let rate = Rate { per_second: 400, burst: 2_000 };
    fair.bind(&name(0), Bound { messages: Some(rate), kib: None });
    let mut flood = |count: u32, now| {
        let offers = (0..count).map(|n| fair.offer(name(0).as_str(), Lane::Envelope, 16, (0, n), now));
        offers
            .enumerate()
            .filter(|(_, offered)| *offered == Offered::Flood)
            .map(|(n, _)| n)
            .collect::<Vec<_>>()
    };
    assert_eq!(flood(50_000, NOW), [2_200], "the burst and the patience");
    assert!(flood(50_000, NOW.plus(100)).is_empty(), "what was on its way");
    assert_eq!(flood(50_000, NOW.plus(1_000)).len(), 1);
    let dropped = fair.dropped();
    assert_eq!(dropped.len(), 1);
    assert!(fair.dropped().is_empty());
}

#[test]
fn junk_is_found_out_before_the_rate_is() {
    let mut fair = wide(2);
    for n in 0..150 {
        fair.offer(name(0).as_str(), Lane::Envelope, 16, (0, n), NOW);
    }
    let found = (0..150).filter(|_| fair.junk(name(0).as_str(), 16, NOW)).count();
    assert_eq!(found, 1);
    assert_eq!(fair.waiting(), 0, "what waits is as likely junk");
    assert!(fair.take().is_empty());
    // A trickle is never too much, and large junk is sooner.
    assert!((0..1_000).all(|n| !fair.junk(name(1).as_str(), 16, NOW.plus(n * 100))));
    assert!((0..8).any(|_| fair.junk(name(1).as_str(), 1 << 20, NOW.plus(1_000_000))));
}

#[test]
fn saying_hello_again_gives_no_second_burst() {
    let mut fair = Fair::default();
    let bound = Bound { messages: Some(Rate { per_second: 1, burst: 10 }), kib: None };
    let mut queued = 0;
    for n in 0..20 {
        fair.bind(&name(0), bound);
        queued += u32::from(fair.offer(name(0).as_str(), Lane::Envelope, 1, (0, n), NOW) == Offered::Queued);
    }
    assert_eq!(queued, 10);
}

#[test]
fn what_nobody_uses_is_forgotten() {
    let mut fair = Fair::default();
    fair.bind(&name(0), Bound::STRANGER);
    fair.offer(name(1).as_str(), Lane::Envelope, 1, (1, 0), NOW);
    fair.offer("no agent", Lane::Envelope, 1, (2, 0), NOW);
    assert_eq!(fair.take().envelopes.len(), 2);
    fair.prune(|_| true, NOW.plus(60_000));
    assert_eq!(fair.agents(), 1, "who is known stays");
    fair.prune(|_| false, NOW.plus(60_000));
    assert_eq!((fair.agents(), fair.waiting()), (0, 0));
}

proptest! {
    /// Whatever comes: nothing is lost or made up, each agent's messages keep their order, its control messages
    /// come before envelopes that came after them, and the books agree.
    #[test]
    fn order_is_kept_and_nothing_queued_is_lost(
        steps in prop::collection::vec((0usize..5, any::<bool>(), 0usize..40_000, 0u8..8), 1..600)
    ) {
        let mut fair = wide(4);
        let (mut sent, mut got) = (vec![vec![]; 6], vec![vec![]; 6]);
        let mut number = 0;
        for (who, control, bytes, take) in steps {
            number += 1;
            let lane = if control { Lane::Control(["want", "hello"][bytes % 2]) } else { Lane::Envelope };
            let agent = if who == 4 { "?".to_owned() } else { name(who).to_string() };
            if fair.offer(&agent, lane, bytes, (who, number), NOW) == Offered::Queued {
                sent[who].push((control, number));
            }
            if take == 0 {
                collect(fair.take(), &mut got);
            }
        }
        loop {
            let turn = fair.take();
            if turn.is_empty() {
                break;
            }
            prop_assert!(turn.envelopes.len() <= TURN && turn.control.len() <= CONTROL_TURN);
            collect(turn, &mut got);
        }
        prop_assert_eq!((fair.waiting(), fair.bytes, fair.round.len()), (0, 0, 0));
        for (sent, got) in sent.iter().zip(&got) {
            let lane = |all: &[(bool, u32)], control| {
                all.iter().filter(|(c, _)| *c == control).map(|(_, n)| *n).collect::<Vec<_>>()
            };
            prop_assert_eq!(lane(sent, true), lane(got, true));
            prop_assert_eq!(lane(sent, false), lane(got, false));
            let mut seen = 0;
            for (control, number) in got {
                // Every control message that came before an envelope was handled before it.
                let before = lane(sent, true).iter().filter(|n| *n < number).count();
                prop_assert!(*control || seen >= u32::try_from(before).unwrap());
                seen += u32::from(*control);
            }
        }
    }

    /// Among agents that always have something waiting, none is ahead by more than a round and a message.
    #[test]
    fn turns_are_shared_evenly(sizes in prop::collection::vec(1usize..64_000, 2..6), turns in 5usize..40) {
        let mut fair = wide(sizes.len());
        for (who, bytes) in sizes.iter().enumerate() {
            for n in 0..(48 << 20) / sizes.iter().sum::<usize>().max(100_000) {
                fair.offer(name(who).as_str(), Lane::Envelope, *bytes, (who, u32::try_from(n).unwrap()), NOW);
            }
        }
        let mut served = vec![0u64; sizes.len()];
        let mut left: Vec<_> = sizes.iter().enumerate().map(|(who, _)| fair.agents[name(who).as_str()].waiting()).collect();
        for _ in 0..turns {
            for (who, _) in fair.take().envelopes {
                served[who] += envelope_cost(sizes[who]);
                left[who] -= 1;
            }
            if left.contains(&0) {
                break;
            }
            let (least, most) = (served.iter().min().unwrap(), served.iter().max().unwrap());
            prop_assert!(most - least <= QUANTUM + 64, "{served:?}");
        }
    }
}

fn collect(turn: Turn<(usize, u32)>, got: &mut [Vec<(bool, u32)>]) {
    for (who, number) in turn.control {
        got[who].push((true, number));
    }
    for (who, number) in turn.envelopes {
        got[who].push((false, number));
    }
}

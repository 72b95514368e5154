#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;
use sealbus_envelope::{
    approval::{self, Approval},
    identity::{BusId, Revocation, SigningKey, Status},
    label::Label,
    policy::{ApproverList, Hold},
    wire::EnvelopeId,
};

use super::*;

const BUS: BusId = BusId::from_bytes([1; 32]);

fn key(n: u8) -> SigningKey {
    SigningKey::from_seed(&[n; 32])
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// Each list is a name, a delay and the numbers of its people, whose names are `p` and the number.
fn hold(approvals: u8, deadline_ms: u32, lists: &[(&str, u32, &[u8])]) -> Hold {
    let person = |n: &u8| (name(&format!("p{n}")), key(*n).public().clone());
    let list = |(of, after_ms, people): &(&str, u32, &[u8])| ApproverList {
        name: name(of),
        after_ms: *after_ms,
        people: people.iter().map(person).collect(),
    };
    Hold { approvals, deadline_ms, lists: lists.iter().map(list).collect() }
}

fn held(n: u8, agent: &str, received: u64, ttl_ms: u32, holds: Vec<Hold>) -> Held {
    let by = |(n, hold)| Wanted { by: WantedBy::Rule(name(&format!("r{n}"))), hold };
    Held {
        digest: [n; 32],
        id: EnvelopeId::from_bytes([n; 16]),
        agent: AgentToken::parse(agent).unwrap(),
        session: SessionId::from_bytes([5; 32]),
        rule: name("r0"),
        flow_grant: None,
        subject: "a.b".to_owned(),
        label: Label::BOTTOM,
        key: KeyId::from_bytes([6; 32]),
        sequence: u64::from(n),
        sealed: Millis(received),
        ttl_ms,
        confirm: false,
        received: Millis(received),
        policy: [0; 32],
        credential: String::new(),
        certificate: vec![],
        wanted: holds.into_iter().enumerate().map(by).collect(),
        approvals: vec![],
    }
}

fn signed(n: u8, envelope: u8, approve: bool) -> SignedApproval {
    SignedApproval::sign(&Approval { bus: BUS, envelope: [envelope; 32], approve, time: Millis(1) }, &key(n))
}

/// The status statement that revokes these.
fn status(revoked: &[u8]) -> Status {
    let mut revoked: Vec<Revocation> =
        revoked.iter().map(|n| Revocation { identity: key(*n).public().clone(), at: Millis(1) }).collect();
    revoked.sort_by_key(|one| *one.identity.as_bytes());
    Status { bus: BUS, version: 1, policy_version: 1, issued: Millis(0), valid_until: Millis(9), revoked }
}

const ALICE: &str = "alice-abcdefghij";

#[test]
fn different_people_are_counted_and_one_no_is_enough() {
    let mut holds = Holds::default();
    holds.insert(
        held(1, ALICE, 0, 1_000_000, vec![hold(2, 60_000, &[("duty", 0, &[1, 2, 3])])]),
        Bytes::new(),
    );
    assert_eq!(holds.judge(&signed(1, 1, true)), Ok(Judged::Counts { missing: 1 }));
    assert_eq!(holds.get(&[1; 32]).unwrap().missing(), 2, "judged is not taken");
    holds.approve(signed(1, 1, true));
    assert_eq!(holds.judge(&signed(1, 1, true)), Ok(Judged::Again));
    assert_eq!(holds.judge(&signed(9, 1, true)).unwrap_err().reason, Reason::ApprovalInvalid);
    assert_eq!(holds.judge(&signed(2, 2, true)).unwrap_err().reason, Reason::NotHeld);
    assert_eq!(holds.judge(&signed(1, 1, false)), Ok(Judged::Denies), "one may change one's mind to no");
    assert_eq!(holds.judge(&signed(2, 1, true)), Ok(Judged::Counts { missing: 0 }));
    assert!(holds.tick(Millis(1)).complete.is_empty());
    holds.approve(signed(2, 1, true));
    assert_eq!(holds.tick(Millis(2)).complete, [[1; 32]]);
}

#[test]
fn lists_are_asked_in_their_turn_and_each_once() {
    let mut holds = Holds::default();
    let lists: &[(&str, u32, &[u8])] = &[("duty", 0, &[1]), ("board", 500, &[2]), ("owner", 900, &[3])];
    holds.insert(held(1, ALICE, 1_000, 1_000_000, vec![hold(1, 2_000, lists)]), Bytes::new());
    let asked = |due: Due| due.asked.iter().map(|asked| asked.list.to_string()).collect::<Vec<_>>();
    assert_eq!(holds.ask(&[1; 32], Millis(1_000))[0].list.as_str(), "duty");
    assert!(asked(holds.tick(Millis(1_499))).is_empty());
    assert_eq!(asked(holds.tick(Millis(1_500))), ["board"]);
    assert_eq!(asked(holds.tick(Millis(2_900))), ["owner"]);
    assert!(asked(holds.tick(Millis(2_999))).is_empty());
    assert_eq!(holds.tick(Millis(3_000)).over, [([1; 32], End::Deadline)]);
}

#[test]
fn a_time_to_live_is_not_stretched() {
    let short = held(1, ALICE, 1_000, 300, vec![hold(1, 2_000, &[("duty", 0, &[1])])]);
    assert_eq!(short.until(), (Millis(1_300), End::Lifetime));
    assert_eq!(End::Lifetime.reason(), Reason::Expired);
    let two = vec![hold(1, 2_000, &[("duty", 0, &[1])]), hold(1, 700, &[("duty", 0, &[1])])];
    assert_eq!(held(1, ALICE, 1_000, 90_000, two).until(), (Millis(1_700), End::Deadline));
}

#[test]
fn there_is_room_for_so_much_and_it_is_given_back() {
    let mut holds = Holds::default();
    let alice = AgentToken::parse(ALICE).unwrap();
    let one = |n: u8| held(n, ALICE, u64::from(n), 1_000_000, vec![hold(1, 60_000, &[("duty", 0, &[1])])]);
    let size = MAX_OF_SENDER.1 / 2;
    holds.insert(one(1), Bytes::from(vec![0; size]));
    holds.insert(one(1), Bytes::from(vec![0; size]));
    assert_eq!(holds.len(), 1, "the same is one");
    assert!(holds.check_room(&alice, size, &[]).is_ok());
    assert_eq!(holds.check_room(&alice, size + 1, &[]).unwrap_err().reason, Reason::HoldFull);
    assert!(holds.check_room(&AgentToken::parse("bob-abcdefghij").unwrap(), size, &[]).is_ok());
    holds.remove(&[1; 32]).unwrap();
    assert!(holds.remove(&[1; 32]).is_none(), "a decision is used up once");
    assert!(holds.check_room(&alice, size + 1, &[]).is_ok() && holds.is_empty() && holds.oldest().is_none());
    assert!(
        holds.of_sender.is_empty() && holds.of_key.is_empty() && holds.order.is_empty() && holds.bytes == 0
    );
    let many = Wanted { by: WantedBy::Rule(name("r")), hold: hold(9, 1, &[]) };
    let refused = holds.check_room(&alice, 1, &[many.clone(), many]).unwrap_err();
    assert_eq!(refused.reason, Reason::PolicyInvalid, "no reader takes more than 16");
}

#[test]
fn what_went_past_it_is_known_as_far_as_readers_know() {
    let mut holds = Holds::default();
    let one = held(3, ALICE, 0, 1_000_000, vec![hold(1, 60_000, &[("duty", 0, &[1])])]);
    let (session, key) = (one.session, one.key);
    holds.insert(one, Bytes::new());
    holds.passed(session, KeyId::from_bytes([7; 32]), u64::MAX);
    holds.passed(session, key, 2 + ReplayWindow::WIDTH);
    assert!(!holds.is_overtaken(&[3; 32]));
    holds.passed(session, key, 3 + ReplayWindow::WIDTH);
    assert!(holds.is_overtaken(&[3; 32]));
}

/// Whoever stole an approver's key approves nothing once it is revoked, nor does what it signed before count.
#[test]
fn a_revoked_key_approves_nothing() {
    let mut wanted = held(1, ALICE, 0, 1_000_000, vec![hold(2, 60_000, &[("duty", 0, &[1, 2, 3])])]);
    wanted.approvals = vec![signed(1, 1, true), signed(2, 1, true)];
    assert_eq!(wanted.missing(), 0);
    strike(&mut wanted.wanted, &status(&[2]));
    assert_eq!((wanted.missing(), wanted.approved_by(), wanted.proof().len()), (1, vec![name("p1")], 1));
    let mut holds = Holds::default();
    holds.insert(wanted, Bytes::new());
    assert!(holds.tick(Millis(1)).complete.is_empty());
    assert_eq!(holds.judge(&signed(2, 1, true)).unwrap_err().reason, Reason::ApprovalInvalid);
    assert_eq!(holds.judge(&signed(2, 1, false)).unwrap_err().reason, Reason::ApprovalInvalid, "nor denies");
    assert_eq!(holds.judge(&signed(3, 1, true)), Ok(Judged::Counts { missing: 0 }));
}

/// How far readers are is known of the key, not of each envelope that waits under it.
#[test]
fn what_comes_to_wait_late_is_behind_what_went_on_before() {
    let mut holds = Holds::default();
    let one = |n| held(n, ALICE, 0, 1_000_000, vec![hold(1, 60_000, &[("duty", 0, &[1])])]);
    let (session, key) = (one(1).session, one(1).key);
    holds.insert(one(1), Bytes::new());
    holds.passed(session, key, 2 + ReplayWindow::WIDTH);
    holds.insert(one(2), Bytes::new());
    holds.insert(one(3), Bytes::new());
    assert_eq!([1, 2, 3].map(|n| holds.is_overtaken(&[n; 32])), [true, true, false]);
    // Until none waits.
    [1, 2, 3].iter().for_each(|n| drop(holds.remove(&[*n; 32])));
    holds.insert(one(1), Bytes::new());
    assert!(!holds.is_overtaken(&[1; 32]));
}

/// One thing that happens to what is held.
#[derive(Debug, Clone)]
enum Step {
    Approval { person: u8, envelope: u8, approve: bool },
    Time(u64),
    Decide(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0u8..6, 0u8..4, prop::bool::weighted(0.9))
            .prop_map(|(person, envelope, approve)| Step::Approval { person, envelope, approve }),
        2 => (0u64..400).prop_map(Step::Time),
        1 => (0u8..4).prop_map(Step::Decide),
    ];
    prop::collection::vec(step, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever comes in whatever order: what is complete has approvals of enough different approvers, which readers
    /// count as such; what is not, has not; nothing is complete after its time, nor asked of anybody twice.
    #[test]
    fn only_what_enough_people_approved_is_complete(steps in steps(), needed in 1u8..4) {
        let mut holds = Holds::default();
        let first = hold(needed, 1_000, &[("duty", 0, &[0, 1, 2]), ("board", 300, &[2, 3])]);
        let second = hold(1, 1_500, &[("board", 0, &[3, 4])]);
        for n in 0..4 {
            let wanted = if n % 2 == 0 { vec![first.clone()] } else { vec![first.clone(), second.clone()] };
            holds.insert(held(n, ALICE, u64::from(n) * 100, 1_000_000, wanted), Bytes::new());
        }
        let mut yes: HashMap<u8, HashSet<u8>> = HashMap::new();
        let mut gone: HashSet<u8> = HashSet::new();
        let mut asked = HashSet::new();
        let mut now = 0;
        for step in steps {
            match step {
                Step::Approval { person, envelope, approve } => {
                    let signed = signed(person, envelope, approve);
                    let may = person < 4 || (envelope % 2 == 1 && person == 4);
                    match holds.judge(&signed) {
                        Err(refused) => {
                            let expected = if gone.contains(&envelope) { Reason::NotHeld } else { Reason::ApprovalInvalid };
                            prop_assert_eq!(refused.reason, expected);
                            prop_assert!(gone.contains(&envelope) || !may);
                        }
                        Ok(Judged::Denies) => {
                            prop_assert!(!approve && may);
                            holds.remove(&[envelope; 32]);
                            gone.insert(envelope);
                        }
                        Ok(Judged::Again) => prop_assert!(yes.get(&envelope).is_some_and(|who| who.contains(&person))),
                        Ok(Judged::Counts { .. }) => {
                            prop_assert!(yes.entry(envelope).or_default().insert(person));
                            holds.approve(signed);
                        }
                    }
                }
                Step::Time(ms) => now += ms,
                Step::Decide(envelope) => {
                    prop_assert_eq!(holds.remove(&[envelope; 32]).is_some(), gone.insert(envelope));
                }
            }
            let due = holds.tick(Millis(now));
            for one in due.asked {
                prop_assert!(asked.insert((one.digest, one.by, one.list)));
            }
            for (digest, end) in due.over {
                prop_assert_eq!(end, End::Deadline);
                prop_assert!(now >= u64::from(digest[0]) * 100 + 1_000);
                holds.remove(&digest);
                gone.insert(digest[0]);
            }
            for n in 0..4 {
                let who = yes.get(&n).cloned().unwrap_or_default();
                let of = |people: &[u8]| who.iter().filter(|person| people.contains(person)).count();
                let enough = of(&[0, 1, 2, 3]) >= usize::from(needed) && (n % 2 == 0 || of(&[3, 4]) >= 1);
                let complete = due.complete.contains(&[n; 32]);
                prop_assert_eq!(complete, enough && !gone.contains(&n));
                if complete {
                    let header = approval::header(&holds.get(&[n; 32]).unwrap().proof());
                    for wanted in &holds.get(&[n; 32]).unwrap().wanted {
                        prop_assert!(approval::check(&wanted.hold, &status(&[]), &[n; 32], &header).is_ok());
                    }
                }
            }
        }
        prop_assert_eq!(holds.len() + gone.len(), 4);
    }
}

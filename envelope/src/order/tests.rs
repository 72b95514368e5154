#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use proptest::prelude::*;

use super::*;
use crate::name::{AgentToken, Name};

const NOW: Millis = Millis(1_700_000_000_000);

fn key(n: u8) -> SigningKey {
    SigningKey::from_seed(&[n; 32])
}

/// Keys 1, 2 and 3, two of which must sign.
fn roots() -> Roots {
    Roots {
        name: Name::parse("test").unwrap(),
        issuer: key(9).public().clone(),
        policy_keys: [1, 2, 3].map(|n| key(n).public().clone()).to_vec(),
        quorum: 2,
    }
}

fn order() -> Order {
    Order {
        bus: roots().bus(),
        id: OrderId::from_bytes([5; 16]),
        kind: OrderKind::ClearTaint,
        target: agent(&key(7)),
        reason: "emptied".to_owned(),
        issued: NOW,
        valid_until: NOW.plus(600_000),
    }
}

fn agent(key: &SigningKey) -> Target {
    let token = AgentToken::new(&Name::parse("reader").unwrap(), key.public());
    Target::Agent { token, identity: key.public().clone() }
}

/// As `signers` sign these bytes, whatever they are.
fn assembled(body: &[u8], signers: &[u8]) -> Vec<u8> {
    let mut w = Writer::default();
    w.array(2).bin(body).array(signers.len());
    for n in signers {
        let key = key(*n);
        w.array(2).bin(key.public().as_bytes()).bin(&key.sign(Purpose::Order, body));
    }
    w.into_bytes()
}

fn signed_by(signers: &[u8]) -> Vec<u8> {
    assembled(&order().encode(), signers)
}

fn refused(bytes: &[u8]) -> Refused {
    SignedOrder::verify(bytes, &roots()).unwrap_err()
}

fn refused_body(change: impl FnOnce(&mut Order)) -> Reason {
    let mut order = order();
    change(&mut order);
    refused(&assembled(&order.encode(), &[1, 2])).reason
}

#[test]
fn a_quorum_collects_its_signatures_one_by_one() {
    let (roots, order) = (roots(), order());
    let mut draft = Draft::new(order.clone(), &roots).unwrap();
    assert_eq!(draft.missing(&roots), 2);
    assert!(draft.sign(&key(3), &roots).unwrap());
    assert!(!draft.sign(&key(3), &roots).unwrap(), "one key's signature counts once");
    let mut draft = Draft::decode(&draft.encode(), &roots).unwrap();
    assert!(draft.sign(&key(1), &roots).unwrap());
    let signed = SignedOrder::verify(&draft.encode(), &roots).unwrap();
    assert_eq!(signed.order(), &order);
    assert_eq!(signed.signers().collect::<Vec<_>>(), [key(3).public(), key(1).public()]);
    let other = SignedOrder::verify(&signed_by(&[2, 1]), &roots).unwrap();
    assert_eq!(signed.digest(), other.digest(), "whoever signed");
    assert_eq!(draft.sign(&key(4), &roots).unwrap_err().reason, Reason::OrderInvalid);
}

#[test]
fn too_few_or_foreign_signatures_are_refused() {
    for signers in [&[][..], &[1], &[1, 1], &[1, 4], &[1, 2, 4], &[9, 1]] {
        assert_eq!(refused(&signed_by(signers)).reason, Reason::OrderInvalid, "{signers:?}");
    }
    let body = order().encode();
    let one = key(1).sign(Purpose::Order, &body);
    let two = key(2).sign(Purpose::Bundle, &body);
    let mut w = Writer::default();
    w.array(2).bin(&body).array(2);
    w.array(2).bin(key(1).public().as_bytes()).bin(&one);
    w.array(2).bin(key(2).public().as_bytes()).bin(&two);
    assert_eq!(refused(&w.into_bytes()).what, "order.signature", "signed as something else");
    let mut nobody = roots();
    nobody.quorum = 0;
    assert_eq!(SignedOrder::verify(&signed_by(&[]), &nobody).unwrap_err().what, "order.quorum");
}

#[test]
fn one_person_takes_away_and_a_quorum_gives_back() {
    for kind in OrderKind::ALL {
        let alone =
            matches!(kind, OrderKind::Quarantine | OrderKind::Revoke | OrderKind::Pause | OrderKind::Resume);
        let workflow = Target::Workflow(Workflow::Team(Name::parse("payers").unwrap()));
        let target = if kind.is_of_workflow() { workflow } else { agent(&key(7)) };
        let order = Order { kind, target, ..order() };
        let one = SignedOrder::verify(&assembled(&order.encode(), &[1]), &roots());
        assert_eq!(one.is_ok(), alone, "{kind}");
        let Ok(one) = one else { continue };
        let more = Supervision { quorums: vec![(kind, 2)], ..Supervision::default() };
        assert!(one.check_quorum(&Supervision::default()).is_ok());
        assert_eq!(one.check_quorum(&more).unwrap_err().what, "order.quorum", "the policy asks for more");
    }
}

#[test]
fn what_a_quorum_must_not_sign_is_refused_though_it_did() {
    let other = BusId::new(key(8).public(), &Name::parse("test").unwrap());
    assert_eq!(refused_body(|order| order.bus = other), Reason::WrongBus);
    let foreign = |order: &mut Order| {
        if let Target::Agent { identity, .. } = &mut order.target {
            *identity = key(6).public().clone();
        }
    };
    assert_eq!(refused_body(foreign), Reason::OrderInvalid);
    let workflow = Target::Workflow(Workflow::parse("rule:pay").unwrap());
    assert_eq!(refused_body(|order| order.target = workflow), Reason::OrderInvalid, "not an agent");
    assert_eq!(refused_body(|order| order.kind = OrderKind::Pause), Reason::OrderInvalid, "not a workflow");
    for reason in ["", "  ", "\u{a0}\u{3000}", "line\nline", "\u{1b}[2J", "\u{200b}", "a\u{202e}b", "a\u{85}"]
    {
        assert_eq!(
            refused_body(|order| order.reason = reason.to_owned()),
            Reason::OrderInvalid,
            "{reason:?}"
        );
    }
    assert_eq!(refused_body(|order| order.reason = "x".repeat(MAX_ORDER_REASON + 1)), Reason::TooLarge);
    for valid_until in [NOW, NOW.minus(1), NOW.plus(MAX_ORDER_MS + 1)] {
        assert_eq!(refused_body(|order| order.valid_until = valid_until), Reason::BadTime);
    }
}

#[test]
fn an_unknown_kind_or_version_is_refused() {
    let body = order().encode();
    let kind = [&[0xc4, 16][..], &[5; 16], &[0x91, 1]].concat();
    let at = body.windows(kind.len()).position(|window| window == kind).unwrap() + kind.len();
    let with = |replaced: &[u8]| [&body[..at - 2], replaced, &body[at..]].concat();
    let reason = |body: &[u8]| refused(&assembled(body, &[1, 2])).reason;
    assert_eq!(reason(&with(&[0x91, 99])), Reason::OrderUnknown);
    assert_eq!(reason(&with(&[0x92, 99, 0])), Reason::OrderUnknown);
    assert_eq!(reason(&with(&[0x92, 1, 0])), Reason::WrongArity);
    let newer = [&[0x98, 2][..], &body[2..]].concat();
    assert_eq!(reason(&newer), Reason::UnsupportedVersion);
}

#[test]
fn bytes_that_follow_are_refused() {
    let mut outside = signed_by(&[1, 2]);
    outside.push(0);
    assert_eq!(refused(&outside).reason, Reason::TrailingBytes);
    let inside = [order().encode(), vec![0]].concat();
    assert_eq!(refused(&assembled(&inside, &[1, 2])).reason, Reason::TrailingBytes);
    assert_eq!(refused(&[0; MAX_ORDER + 1]).reason, Reason::TooLarge);
}

#[test]
fn an_order_has_its_time() {
    let signed = SignedOrder::verify(&signed_by(&[1, 2]), &roots()).unwrap();
    let reason = |now| signed.check_time(now).err().map(|refused| refused.reason);
    assert_eq!(reason(NOW.minus(ORDER_SKEW_MS)), None, "the clock of who made it may be ahead");
    assert_eq!(reason(NOW.minus(ORDER_SKEW_MS + 1)), Some(Reason::NotYetValid));
    assert_eq!(reason(NOW.plus(599_999)), None);
    assert_eq!(reason(NOW.plus(600_000)), Some(Reason::OrderExpired));
}

proptest! {
    #[test]
    fn what_is_written_reads_back(
        id: [u8; 16], seed: [u8; 32], reason in "[ -~à-ÿ]{0,200}[!-~]", issued in 0..u64::MAX / 2,
        lifetime in 1..=MAX_ORDER_MS, signers in prop::sample::subsequence(vec![1u8, 2, 3], 2..=3),
        kind in 0..OrderKind::ALL.len(), team: bool,
    ) {
        let kind = OrderKind::ALL[kind];
        let target = match (kind.is_of_workflow(), team) {
            (false, _) => agent(&SigningKey::from_seed(&seed)),
            (true, true) => Target::Workflow(Workflow::parse("team:payers").unwrap()),
            (true, false) => Target::Workflow(Workflow::parse("rule:pay").unwrap()),
        };
        let order = Order {
            id: OrderId::from_bytes(id), reason, issued: Millis(issued),
            valid_until: Millis(issued).plus(lifetime),
            kind, target, ..order()
        };
        let mut draft = Draft::new(order.clone(), &roots()).unwrap();
        for n in signers {
            draft.sign(&key(n), &roots()).unwrap();
        }
        let bytes = draft.encode();
        let signed = SignedOrder::verify(&bytes, &roots()).unwrap();
        prop_assert_eq!(signed.order(), &order);
        prop_assert_eq!(Draft::decode(&bytes, &roots()).unwrap().encode(), bytes);
    }

    #[test]
    fn no_changed_byte_is_accepted(at: prop::sample::Index, by in 1..=255u8) {
        let mut bytes = signed_by(&[1, 2]);
        let at = at.index(bytes.len());
        bytes[at] ^= by;
        prop_assert!(SignedOrder::verify(&bytes, &roots()).is_err());
    }
}

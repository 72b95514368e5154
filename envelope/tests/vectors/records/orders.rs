//! Orders of policy keys, and approvals of people.

use sealbus_envelope::{
    approval::{Approval, SignedApproval},
    hash::hex,
    identity::{BusId, Purpose, SigningKey},
    name::{AgentToken, Name},
    order::{Draft, Order, OrderId, OrderKind, Target, Workflow},
    time::Millis,
};
use serde_json::json;

use super::Make;
use crate::{
    scene::{array, bin, roots, str, uint},
    world::{NOW, World, key, secret},
};

const HOUR: u64 = 3_600_000;

fn agent(of: &str) -> Target {
    let key = key(of);
    let token = AgentToken::new(&Name::parse("collector").unwrap(), key.public());
    Target::Agent { token, identity: key.public().clone() }
}

fn order(world: &World, kind: OrderKind) -> Order {
    let workflow = match kind {
        OrderKind::Pause => Workflow::Team("collectors".parse().unwrap()),
        _ => Workflow::Rule("notes".parse().unwrap()),
    };
    Order {
        bus: world.bus(),
        id: OrderId::from_bytes(*secret(kind.code()).first_chunk().unwrap()),
        kind,
        target: if kind.is_of_workflow() { Target::Workflow(workflow) } else { agent("collector") },
        reason: "as was agreed on the phone".to_owned(),
        issued: Millis(NOW - 60_000),
        valid_until: Millis(NOW + HOUR),
    }
}

fn drafted(world: &World, order: Order, keys: &[&SigningKey]) -> Vec<u8> {
    let mut draft = Draft::new(order, &world.roots).unwrap();
    for key in keys {
        draft.sign(key, &world.roots).unwrap();
    }
    draft.encode()
}

/// Whatever the body says, these keys signed it.
fn assembled(body: &[u8], keys: &[&SigningKey], purpose: Purpose) -> Vec<u8> {
    let signatures: Vec<_> = keys
        .iter()
        .map(|key| array(&[bin(key.public().as_bytes()), bin(&key.sign(purpose, body))]))
        .collect();
    array(&[bin(body), array(&signatures)])
}

pub(super) fn orders(make: &mut Make<'_, '_>) {
    let world = make.world;
    let (one, two) = (&world.policy_keys[0], &world.policy_keys[1]);
    let mut put = |name: &str, code: &str, purpose: &str, order: &[u8]| {
        let context = json!({ "roots": roots(world), "now": NOW });
        make.put(name, code, purpose, "order", json!({ "order": hex(order) }), context);
    };
    for kind in OrderKind::ALL {
        let alone = kind.needed(&world.roots) == 1;
        let keys: &[&SigningKey] = if alone { &[one] } else { &[one, two] };
        let purpose = if alone { "an order that one key gives" } else { "an order that the quorum gives" };
        put(&format!("order_{kind}"), "ok", purpose, &drafted(world, order(world, kind), keys));
        if !alone {
            let short = drafted(world, order(world, kind), &[two]);
            put(&format!("order_{kind}_one_short"), "order_invalid", "one signature of two", &short);
        }
    }
    let unsigned = drafted(world, order(world, OrderKind::Quarantine), &[]);
    put("order_unsigned", "order_invalid", "nobody signed it", &unsigned);
    let release = order(world, OrderKind::Release);
    let body = {
        let whole = drafted(world, release.clone(), &[]);
        // [body, []]: an array head, a head of two bytes, the body, an empty array.
        whole[3..whole.len() - 1].to_vec()
    };
    put(
        "order_one_key_twice",
        "order_invalid",
        "one key signs twice",
        &assembled(&body, &[one, one], Purpose::Order),
    );
    put(
        "order_other_purpose",
        "order_invalid",
        "signed as a bundle",
        &assembled(&body, &[one, two], Purpose::Bundle),
    );
    let foreign = assembled(&body, &[one, &world.issuer], Purpose::Order);
    put("order_foreign_key", "order_invalid", "one of the two is no policy key", &foreign);
    let good = drafted(world, release.clone(), &[one, two]);
    put("order_trailing_byte", "trailing_bytes", "a byte follows", &[&good[..], &[0]].concat());
    let over = Order { issued: Millis(NOW - 2 * HOUR), valid_until: Millis(NOW), ..release.clone() };
    put(
        "order_expired",
        "order_expired",
        "its time is over in this millisecond",
        &drafted(world, over, &[one, two]),
    );
    let early = Order { issued: Millis(NOW + 60_001), ..release.clone() };
    put(
        "order_early",
        "not_yet_valid",
        "made later than clocks may differ",
        &drafted(world, early, &[one, two]),
    );

    for (name, code, purpose, change) in [
        (
            "order_reason_turned",
            "order_invalid",
            "a reason that reads another way round than it is written",
            (|order: &mut Order| order.reason = "\u{202e}esaeler".to_owned()) as fn(&mut Order),
        ),
        ("order_reason_blank", "order_invalid", "a reason of white space that is not ASCII", |order| {
            order.reason = "\u{a0}\u{3000}".to_owned()
        }),
        ("order_no_time", "bad_time", "over when it was made", |order| order.valid_until = order.issued),
        ("order_two_days", "bad_time", "good for more than a day", |order| {
            order.valid_until = order.issued.plus(86_400_001)
        }),
    ] {
        let mut bent = release.clone();
        change(&mut bent);
        let target = match &bent.target {
            Target::Agent { token, identity } => {
                array(&[uint(0), str(token.as_str()), bin(identity.as_bytes())])
            }
            Target::Workflow(_) => vec![],
        };
        let body = array(&[
            uint(1),
            bin(world.bus().as_bytes()),
            bin(bent.id.as_bytes()),
            array(&[uint(3)]),
            target,
            str(&bent.reason),
            uint(bent.issued.0),
            uint(bent.valid_until.0),
        ]);
        put(name, code, purpose, &assembled(&body, &[one, two], Purpose::Order));
    }

    // Bodies that no library makes: written element by element.
    let element = |kind: Vec<u8>, target: Vec<u8>| {
        array(&[
            uint(1),
            bin(world.bus().as_bytes()),
            bin(&[7; 16]),
            kind,
            target,
            str("made by hand"),
            uint(NOW - 1),
            uint(NOW + HOUR),
        ])
    };
    let kind = |n: u64| array(&[uint(n)]);
    let collector = key("collector");
    let token = AgentToken::new(&Name::parse("collector").unwrap(), collector.public());
    let target = array(&[uint(0), str(token.as_str()), bin(collector.public().as_bytes())]);
    let other = array(&[uint(0), str(token.as_str()), bin(key("thief").public().as_bytes())]);
    let rule = array(&[uint(2), str("notes")]);
    for (name, code, purpose, kind, target) in [
        ("order_kind_nine", "order_unknown", "a kind that is not known", kind(9), target.clone()),
        (
            "order_kind_with_more",
            "wrong_arity",
            "a kind with an argument that it does not take",
            array(&[uint(3), uint(1)]),
            target.clone(),
        ),
        ("order_kind_of_nothing", "wrong_arity", "a kind of no elements", array(&[]), target.clone()),
        ("order_target_of_nothing", "wrong_arity", "a target of no elements", kind(3), array(&[])),
        ("order_of_another_identity", "order_invalid", "the token is not the identity's", kind(3), other),
        ("order_release_of_a_rule", "order_invalid", "a rule cannot be released", kind(3), rule),
        ("order_pause_of_an_agent", "order_invalid", "an agent is no workflow", kind(7), target),
        (
            "order_target_three",
            "wrong_arity",
            "a target that is neither agent, team nor rule",
            kind(7),
            array(&[uint(3), str("notes")]),
        ),
        (
            "order_target_bad_name",
            "bad_name",
            "a rule whose name is no name",
            kind(7),
            array(&[uint(2), str("No Tes")]),
        ),
    ] {
        put(name, code, purpose, &assembled(&element(kind, target), &[one, two], Purpose::Order));
    }
}

pub(super) fn approvals(make: &mut Make<'_, '_>) {
    let world = make.world;
    let mut put = |name: &str, code: &str, purpose: &str, approval: &[u8]| {
        let context = json!({ "roots": roots(world) });
        make.put(name, code, purpose, "approval", json!({ "approval": hex(approval) }), context);
    };
    let said = |bus, approve| Approval { bus, envelope: secret("held"), approve, time: Millis(NOW) };
    let (yes, no) = (said(world.bus(), true), said(world.bus(), false));
    let ann = key("ann");
    let good = SignedApproval::sign(&yes, &ann).encode();
    put("approval_yes", "ok", "a person approves an envelope", &good);
    put("approval_no", "ok", "a person denies an envelope", &SignedApproval::sign(&no, &ann).encode());
    let elsewhere = SignedApproval::sign(&said(BusId::from_bytes([9; 32]), true), &ann).encode();
    put("approval_other_bus", "wrong_bus", "an approval of another bus", &elsewhere);
    put("approval_trailing_byte", "trailing_bytes", "a byte follows", &[&good[..], &[0]].concat());
    let mut turned = good.clone();
    // The answer stands before the time of nine bytes, the key of 34 and the signature of 66.
    let at = turned.len() - 9 - 34 - 66 - 1;
    turned[at] ^= 1;
    put("approval_turned", "approval_invalid", "a yes that was made of a no", &turned);
    let body = array(&[uint(1), bin(world.bus().as_bytes()), bin(&secret("held")), vec![0xc3], uint(NOW)]);
    let as_order = array(&[bin(&body), bin(ann.public().as_bytes()), bin(&ann.sign(Purpose::Order, &body))]);
    put("approval_other_purpose", "approval_invalid", "signed as an order", &as_order);
    let weak = array(&[bin(&body), bin(&[0; 32]), bin(&ann.sign(Purpose::Approval, &body))]);
    put("approval_weak_key", "weak_key", "a key of small order", &weak);
}

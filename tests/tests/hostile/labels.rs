//! Attacks on labels and rules: a good session that writes above, below or outside of what it was given.

use sealbus_envelope::{
    label::Label,
    reason::Reason,
    wire::{HeaderFields, Parent},
};
use sealbus_tests::{
    bus::name,
    hostile::{
        arena::{Arena, label},
        forge::Parts,
        hand::Hand,
    },
};

/// A change to a header, to the label of its key by default.
type Change = Box<dyn Fn(&mut HeaderFields) + Send>;

fn change(change: impl Fn(&mut HeaderFields) + Send + 'static) -> Change {
    Box::new(change)
}

fn labelled(to: Label) -> Change {
    change(move |fields| fields.label = to)
}

/// What a session signs beyond what it was given is evidence, and takes it off the bus.
#[tokio::test(flavor = "multi_thread")]
async fn who_signs_beyond_what_it_was_given_is_quarantined() {
    let mut arena = Arena::open().await;
    let attacks: Vec<(&str, &str, Change, Reason)> = vec![
        ("label above its clearance", "tips.a", labelled(label(2, 0, 0)), Reason::AboveClearance),
        ("label above its integrity ceiling", "tips.a", labelled(label(0, 0, 2)), Reason::AboveIntegrity),
        ("label with a level that is not", "tips.a", labelled(label(9, 0, 0)), Reason::LabelUnknown),
        (
            "label with a compartment that is not",
            "tips.a",
            labelled(label(0, 1 << 40, 0)),
            Reason::LabelUnknown,
        ),
        (
            "label with an integrity rank that is not",
            "tips.a",
            labelled(label(0, 0, 7)),
            Reason::LabelUnknown,
        ),
        ("name a rule that is not", "tips.a", change(|f| f.rule = name("nothing")), Reason::UnknownRule),
        (
            "name a rule that does not name it",
            "tips.a",
            change(|f| f.rule = name("secrets")),
            Reason::NotPublisher,
        ),
    ];
    for (attack, subject, change, reason) in attacks {
        let (mut mallory, key) = arena.publisher().await;
        let mut fields = mallory.fields(&key, subject);
        // Under no open key: an open one is bound to its label, and that check comes first.
        fields.key = mallory.make_key("tips", label(0, 0, 0), None).sender.id();
        change(&mut fields);
        let forged = Parts::signed(&fields, mallory.papers.session(), &mallory.papers.key);
        mallory.send(subject, &forged.bytes()).await.unwrap();
        let me = mallory.token();
        arena.guard_refused(attack, &me, reason).await;
        let event = arena.watch.quarantined(&me).await;
        assert_eq!(event.get("reason"), Some(&reason.code().into()), "{attack}: {event}");
        // Its connection is cut.
        mallory.raw.closed().await;
    }

    // Below its parents: with everything else in order.
    let (mut mallory, mut key) = arena.publisher().await;
    for (attack, parent) in [
        ("label below a parent's level", label(1, 0, 0)),
        ("label without a parent's compartment", label(0, 1, 0)),
    ] {
        let mut fields = mallory.fields(&key, "tips.a");
        fields.parents = vec![Parent { digest: [3; 32], label: parent }];
        let envelope = mallory.seal(&mut key, &fields, b"laundered");
        mallory.send("tips.a", &envelope).await.unwrap();
        let me = mallory.token();
        arena.guard_refused(attack, &me, Reason::BelowParents).await;
        arena.watch.quarantined(&me).await;
        mallory.raw.closed().await;
        (mallory, key) = arena.publisher().await;
    }
    let key = &mut mallory.open("tips", label(0, 0, 1)).await;
    let mut fields = mallory.fields(key, "tips.a");
    fields.parents = vec![Parent { digest: [3; 32], label: label(0, 0, 0) }];
    let envelope = mallory.seal(key, &fields, b"endorsed by nobody");
    mallory.send("tips.a", &envelope).await.unwrap();
    arena
        .guard_refused("claim more integrity than a parent has", &mallory.token(), Reason::BelowParents)
        .await;
    arena.watch.quarantined(&mallory.token()).await;

    // Kept off the bus, and told why in its lobby.
    arena.close().await;
}

/// What honest agents do by mistake is refused, and counts only in numbers.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_slip_can_bring_about_is_refused_and_no_more() {
    let mut arena = Arena::open().await;
    let (mut mallory, key) = arena.publisher().await;
    let me = mallory.token();
    let attacks: Vec<(&str, &str, Change, Reason)> = vec![
        ("label outside the rule's range", "tips.a", labelled(label(0, 2, 0)), Reason::LabelOutOfRange),
        (
            "name a rule whose pattern is another",
            "tips.a",
            change(|fields| fields.rule = name("notes")),
            Reason::SubjectOutsideRule,
        ),
        (
            "answer where nothing can be asked",
            "tips.a",
            change(|fields| fields.request = Some([5; 32])),
            Reason::WrongPattern,
        ),
        (
            "use a flow grant that is not",
            "tips.a",
            change(|fields| fields.flow_grant = Some(name("nothing"))),
            Reason::FlowGrantUnknown,
        ),
        ("seal with a key that was never opened", "tips.a", change(|_| {}), Reason::UnknownKey),
    ];
    for (attack, subject, change, reason) in attacks {
        let mut fields = mallory.fields(&key, subject);
        fields.key = mallory.make_key("tips", label(0, 0, 0), None).sender.id();
        change(&mut fields);
        let forged = Parts::signed(&fields, mallory.papers.session(), &mallory.papers.key);
        mallory.send(subject, &forged.bytes()).await.unwrap();
        arena.guard_refused(attack, &me, reason).await;
    }
    for (attack, to) in [
        ("use a key under another label", label(1, 0, 0)),
        ("use a key under a label it may not write", label(2, 0, 0)),
    ] {
        let mut fields = mallory.fields(&key, "tips.a");
        fields.label = to;
        let forged = Parts::signed(&fields, mallory.papers.session(), &mallory.papers.key);
        mallory.send("tips.a", &forged.bytes()).await.unwrap();
        arena.guard_refused(attack, &me, Reason::KeyMismatch).await;
    }
    let mut notes = mallory.open("notes", label(0, 0, 0)).await;
    let large = mallory.envelope(&mut notes, "notes.a", &[7; 4_000]);
    mallory.send("notes.a", &large).await.unwrap();
    arena.guard_refused("send more than the rule takes", &me, Reason::TooBigForRule).await;
    assert!(arena.watch.said("quarantine", &me).is_empty());
    arena.close().await;
}

/// Readings that no rule grants.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_declares_a_reading_that_no_rule_grants() {
    let mut arena = Arena::open().await;
    let mut mallory = arena.attacker().await;
    let me = mallory.token();
    let mut low = {
        use sealbus_envelope::{identity::Role, label::Clearance};
        let credentials = arena.bus.agent_with("low", "canary", Role::Agent, Clearance::default());
        Hand::join(&credentials).await
    };
    for (attack, rule, pattern, serve, reason) in [
        (
            "declare to read a rule that does not name it",
            "secrets",
            "secrets.>",
            false,
            Reason::NotSubscriber,
        ),
        ("declare to read the rule it publishes under", "tips", "tips.>", false, Reason::NotSubscriber),
        ("declare to read a rule that is not", "nothing", "tips.>", false, Reason::UnknownRule),
        ("declare to serve a stream", "tips", "tips.>", true, Reason::WrongPattern),
        ("declare to read a request rule as a stream", "ask", "ask.it", false, Reason::WrongPattern),
        ("declare to serve a request rule it asks under", "ask", "ask.it", true, Reason::NotSubscriber),
    ] {
        assert_eq!(mallory.declare(rule, pattern, serve).await, Some(reason), "{attack}");
        arena.guard_refused(attack, &me, reason).await;
    }
    let low_me = low.token();
    for (attack, rule, pattern, reason) in [
        ("declare to read above its clearance", "secrets", "secrets.>", Reason::AboveClearance),
        ("declare a pattern wider than the rule's", "tips", ">", Reason::SubjectOutsideRule),
        ("declare another rule's pattern", "tips", "notes.>", Reason::SubjectOutsideRule),
    ] {
        assert_eq!(low.declare(rule, pattern, false).await, Some(reason), "{attack}");
        arena.guard_refused(attack, &low_me, reason).await;
    }
    arena.close().await;
}

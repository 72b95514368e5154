//! Senders who are not who they say, and messages that no rule lets pass.

use sealbus_envelope::{
    identity::{Member, SessionCertificate},
    label::Integrity,
    subject::{Partition, WireSubjects},
    time::{Millis, Validity},
};

use super::Make;
use crate::{
    scene::{Scene, at, bin, labelled, str},
    world::{DAY, NOW, World, clearance, key, label, name},
};

pub(super) fn senders(make: &mut Make<'_, '_>) {
    let other = World::on("staging");
    make.header("other_bus", "wrong_bus", "made for another bus", at::BUS, bin(other.bus().as_bytes()));
    let scene = make.scene().with(|s| s.members.clear());
    make.put("sender_unknown", "unknown_sender", "no credential is known for the session", &scene);
    let gatherer = make.world.agents["gatherer"].member.clone();
    let scene = make
        .scene()
        .with(|s| s.members.push(gatherer.clone()))
        .set(at::SESSION, bin(gatherer.session().as_bytes()));
    make.put("others_session", "wrong_sender", "the header names the session of another agent", &scene);
    let scene = make.scene().set(at::SENDER, str(gatherer.token().as_str()));
    make.put("others_name", "wrong_sender", "the header names another agent as the sender", &scene);
    for (name, agent, purpose) in [
        ("sender_is_an_observer", "watcher", "an observer publishes"),
        ("sender_is_a_guard", "rogue", "a guard publishes"),
    ] {
        let scene = Scene::from_to(
            make.world,
            "hostile",
            agent,
            "notes",
            "collect.web.raw",
            label(1, 0b01, 0),
            "analyst",
        );
        make.put(name, "wrong_role", purpose, &scene);
    }
    let scene = make.scene().with(|s| s.revoked.push(key("collector").public().clone()));
    make.put("sender_revoked", "revoked", "the sender's identity is revoked", &scene);
    let scene = make.scene().sender_claims(|claims| claims.validity.not_after = Millis(NOW - 1_000));
    make.put(
        "sender_credential_expired",
        "credential_expired",
        "the sender's credential was over when the guard admitted",
        &scene,
    );
    let scene = make.scene().sender_claims(|claims| claims.validity.not_before = Millis(NOW));
    make.put("sender_not_yet_valid", "not_yet_valid", "the sender's credential was not valid yet", &scene);
    for (name, code, validity, purpose) in [
        (
            "session_over",
            "certificate_expired",
            Validity::starting(Millis(NOW - DAY - 900), DAY),
            "the session was over when the guard admitted, to the millisecond",
        ),
        (
            "session_not_yet_valid",
            "not_yet_valid",
            Validity::starting(Millis(NOW), DAY),
            "the session had not begun",
        ),
    ] {
        let mut scene = make.scene();
        let certificate = SessionCertificate::issue(
            make.world.bus(),
            &key("collector"),
            &key("collector session"),
            validity,
        )
        .unwrap();
        scene.scope = *certificate.id().as_bytes();
        scene.header[at::SESSION] = bin(certificate.id().as_bytes());
        scene.members[0] = Member::new(scene.members[0].credential().clone(), certificate).unwrap();
        make.put(name, code, purpose, &scene);
    }
}

pub(super) fn rules(make: &mut Make<'_, '_>) {
    let world = make.world;
    let between = |from: &str, rule: &str, subject, label| {
        Scene::from_to(world, "hostile", from, rule, subject, label, "analyst")
    };
    make.put(
        "rule_unknown",
        "unknown_rule",
        "the policy has no such rule",
        &between("collector", "nothing", "collect.web.raw", label(1, 1, 0)),
    );
    make.put(
        "rule_of_another_team",
        "not_publisher",
        "the rule names clerks as publishers",
        &between("collector", "memos", "memo.x", label(1, 1, 0)),
    );
    make.put(
        "rule_of_another_agent",
        "not_publisher",
        "the rule names one other agent",
        &between("collector", "named", "named.x", label(1, 1, 0)),
    );
    make.put(
        "sender_without_team",
        "not_publisher",
        "the sender's team is not in the policy",
        &between("stranger", "notes", "collect.web.raw", label(1, 1, 0)),
    );
    let scene = make.scene().sender_claims(|claims| claims.name = name("gatherer"));
    let named = Scene {
        header: {
            let mut header = between("collector", "named", "named.x", label(1, 1, 0)).header;
            header[at::SENDER] = str(scene.members[0].token().as_str());
            header
        },
        ..between("collector", "named", "named.x", label(1, 1, 0))
    }
    .sender_claims(|claims| (claims.name, claims.team) = (name("gatherer"), name("nobody")))
    .with(|s| {
        s.subject = "sb.out.1.named.x".to_owned();
        s.decision.partition = Partition::of(s.members[0].token()).number();
    });
    make.put(
        "team_unknown",
        "unknown_team",
        "the rule names the agent, but the policy does not know its team",
        &named,
    );
    make.put(
        "subject_outside_rule",
        "subject_outside_rule",
        "the rule covers other subjects",
        &between("collector", "notes", "any.thing", label(1, 1, 0)),
    );
    make.put(
        "subject_too_deep_for_rule",
        "subject_outside_rule",
        "a star matches one token only",
        &between("collector", "anything", "any.thing.else", label(1, 1, 0)),
    );
    make.put(
        "label_undeclared_level",
        "label_unknown",
        "a level that the policy does not declare",
        &between("collector", "anything", "any.x", label(3, 0, 0)),
    );
    make.put(
        "label_undeclared_compartment",
        "label_unknown",
        "a compartment that the policy does not declare",
        &between("collector", "anything", "any.x", label(0, 0b100, 0)),
    );
    make.put(
        "label_undeclared_integrity",
        "label_unknown",
        "an integrity rank that the policy does not declare",
        &between("collector", "anything", "any.x", label(0, 0, 3)),
    );
    make.put(
        "label_out_of_range",
        "label_out_of_range",
        "a compartment that the rule does not take",
        &between("collector", "notes", "collect.x", label(1, 0b10, 0)),
    );
    make.put(
        "label_above_clearance",
        "above_clearance",
        "a level above the sender's team",
        &between("collector", "anything", "any.x", label(2, 0, 0)),
    );
    make.put(
        "label_above_integrity",
        "above_integrity",
        "more integrity than the sender's team may vouch for",
        &between("collector", "anything", "any.x", label(1, 0, 2)),
    );
    let scene = make.scene().sender_claims(|claims| claims.clearance = clearance(1, 0));
    make.put(
        "label_above_own_clearance",
        "above_clearance",
        "the team has the compartment, the sender has not",
        &scene,
    );
    let scene = make
        .scene()
        .sender_claims(|claims| claims.integrity_ceiling = Integrity::LOWEST)
        .set(at::LABEL, labelled(label(1, 1, 1)));
    make.put(
        "label_above_own_integrity",
        "above_integrity",
        "the team may vouch for it, the sender may not",
        &scene,
    );
    make.put(
        "reader_not_subscriber",
        "not_subscriber",
        "the rule does not name the reader",
        &between("collector", "closed", "collect.x", label(1, 1, 0)),
    );
    make.put(
        "reader_below_level",
        "above_clearance",
        "the label is above the reader's team",
        &between("clerk", "memos", "memo.x", label(2, 0, 0)),
    );
    let scene = make.scene().reader_claims(|claims| claims.clearance = clearance(1, 0));
    make.put(
        "reader_without_compartment",
        "above_clearance",
        "the reader lacks the compartment, though its team has it",
        &scene,
    );

    let scene = make.scene().set(at::REQUEST, bin(&[9; 32]));
    make.put(
        "reply_on_a_stream_rule",
        "wrong_pattern",
        "a publisher of a stream replies: streams are not answered",
        &scene,
    );
    let scene =
        Scene::from_to(world, "hostile", "analyst", "notes", "collect.x", label(1, 1, 0), "collector")
            .set(at::REQUEST, bin(&[9; 32]));
    make.put(
        "reply_from_a_subscriber_of_a_stream",
        "wrong_pattern",
        "a subscriber of a stream replies to its publisher",
        &scene,
    );
    let scene = make.scene().with(|s| s.subject = "sb.out.1.collect.web.other".to_owned());
    make.put("wire_subject_other", "wrong_subject", "delivered on another logical subject", &scene);
    let scene = make.scene().with(|s| s.subject = "sb.out.0.collect.web.raw".to_owned());
    make.put(
        "wire_subject_lower_level",
        "wrong_subject",
        "delivered on the subject of a lower level",
        &scene,
    );
    let scene = make.scene().with(|s| s.subject = "sb.out.01.collect.web.raw".to_owned());
    make.put(
        "wire_subject_other_spelling",
        "wrong_subject",
        "the level is spelled with a zero in front",
        &scene,
    );
    let scene = between("collector", "review", "ask.review", label(1, 0, 0));
    make.put("request_to_everybody", "wrong_subject", "a request delivered as a stream message", &scene);
    let own_box = |scene: &Scene<'_>, kind: &str| {
        WireSubjects::default().session_box(scene.me.token(), &scene.me.session(), kind)
    };
    let scene = make.scene().with(|s| s.subject = own_box(s, "request"));
    make.put("stream_message_in_the_box", "wrong_subject", "a stream message delivered as a request", &scene);
    let reply = |asked: bool| {
        between("collector", "look-up", "ask.look-up", label(1, 0, 0)).with(|s| {
            s.header[at::REQUEST] = bin(&[9; 32]);
            s.subject = own_box(s, "reply");
            s.asked = if asked { vec![[9; 32]] } else { vec![[8; 32]] };
        })
    };
    make.put(
        "reply_not_asked_for",
        "no_request",
        "the reply to a request that this reader has not open",
        &reply(false),
    );
    let scene = reply(true).with(|s| s.subject = own_box(s, "request"));
    make.put("reply_as_request", "wrong_subject", "a reply delivered as a request", &scene);
}

//! Each check refuses with its reason, and the honest envelope beside it passes.

use sealbus_envelope::{
    control::{VerdictNotice, kind},
    identity::BusId,
    label::Label,
    name::AgentToken,
    proof::admission::{Admission, Verdict},
    reason::Reason,
    subject::Partition,
    wire::{Flags, Parent},
};
use sealbus_guard::quarantine::evidence::Response;

use super::world::{Agent, Did, POLICY, Say, Sending, World, label, name};

const LABEL: (u8, u64, u8) = (1, 1, 0);

fn plain() -> Label {
    label(LABEL.0, LABEL.1, LABEL.2)
}

/// A writer that said hello and opened a key of `news`.
fn writer(world: &mut World) -> (Agent, Sending) {
    let agent = world.agent("wanda", "writer");
    agent.hello(world, &[]);
    let (sending, _) = agent.opened(world, "news", plain(), 0);
    (agent, sending)
}

/// Sends a good envelope changed by `change`, then a good one, which must pass.
fn changed(change: impl FnOnce(&mut Say, &World)) -> (Reason, Did) {
    let mut world = World::new();
    let (agent, mut sending) = writer(&mut world);
    let mut say = agent.say(&world, &mut sending, "news.today");
    change(&mut say, &world);
    let (_, bytes) = agent.seal(&sending, &say);
    let did = world.envelope(&agent, "news.today", &bytes);
    let reason = did.denied(&agent);
    let (honest, _) = agent.publish(&mut world, &mut sending, "news.today");
    assert_eq!(honest.forwarded().len(), 1, "the honest one beside it passes");
    assert_eq!(world.admitted_in_log().len(), 1);
    (reason, did)
}

fn quarantines(did: &Did) -> bool {
    did.offenders.iter().any(|(_, response)| matches!(response, Response::Quarantine(_)))
}

#[test]
fn what_the_signed_header_contradicts_is_evidence() {
    let other = AgentToken::parse("other-aaaaaaaaaa").unwrap();
    let (reason, did) = changed(|say, _| say.fields.sender = other);
    assert_eq!(reason, Reason::WrongSender);
    assert!(quarantines(&did));
    let (reason, did) = changed(|say, _| say.fields.bus = BusId::from_bytes([9; 32]));
    assert_eq!(reason, Reason::WrongBus);
    assert!(quarantines(&did));
}

#[test]
fn what_the_policy_forbids_is_denied_with_its_reason() {
    type Change = fn(&mut Say);
    let cases: [(Reason, Change); 8] = [
        (Reason::UnknownRule, |say| say.fields.rule = name("none")),
        (Reason::NotPublisher, |say| say.fields.rule = name("ask")),
        (Reason::LabelUnknown, |say| say.fields.label = label(7, 0, 0)),
        (Reason::LabelOutOfRange, |say| say.fields.label = label(2, 1, 0)),
        (Reason::TooBigForRule, |say| say.payload = vec![0; 4096]),
        (Reason::BelowParents, |say| {
            say.fields.parents = vec![Parent { digest: [1; 32], label: label(2, 0, 0) }];
        }),
        (Reason::FlowGrantUnknown, |say| say.fields.flow_grant = Some(name("grant"))),
        (Reason::WrongPattern, |say| say.fields.request = Some([1; 32])),
    ];
    for (expected, change) in cases {
        let (reason, _) = changed(|say, _| change(say));
        assert_eq!(reason, expected);
    }
}

#[test]
fn a_key_is_good_only_for_what_it_was_opened_for() {
    let mut world = World::new();
    let (agent, mut honest) = writer(&mut world);
    let mut sending = agent.make_key("news", plain(), 1, None);
    sending.live.label = label(0, 0, 0);
    agent.open(&mut world, &[&sending]);
    assert_eq!(agent.publish(&mut world, &mut sending, "news.today").0.denied(&agent), Reason::KeyMismatch);
    assert_eq!(agent.publish(&mut world, &mut honest, "news.today").0.forwarded().len(), 1);
}

#[test]
fn the_subject_on_the_wire_must_be_the_one_inside_and_within_the_rule() {
    let mut world = World::new();
    let (agent, mut sending) = writer(&mut world);
    let say = agent.say(&world, &mut sending, "news.today");
    let (_, bytes) = agent.seal(&sending, &say);
    assert_eq!(world.envelope(&agent, "news.other", &bytes).denied(&agent), Reason::WrongSubject);
    let (did, _) = agent.publish(&mut world, &mut sending, "other.today");
    assert_eq!(did.denied(&agent), Reason::SubjectOutsideRule);
    let elsewhere = world.wire.ingress(agent.token(), "news.today").replacen(".in.", ".in.0", 1);
    let did = world.envelope_on(&elsewhere, &bytes);
    assert!(did.forwarded().is_empty());
    assert_eq!(agent.publish(&mut world, &mut sending, "news.today").0.forwarded().len(), 1);
}

#[test]
fn above_clearance_is_evidence_even_under_a_key_that_was_never_opened() {
    let policy = POLICY.replace(r#"max = "internal" }, allowed"#, r#"max = "secret" }, allowed"#);
    let mut world = World::with(&policy, 1 << 20, 4_000_000);
    let (agent, mut sending) = writer(&mut world);
    let mut say = agent.say(&world, &mut sending, "news.today");
    say.fields.label = label(2, 0, 0);
    let (_, bytes) = agent.seal(&sending, &say);
    let did = world.envelope(&agent, "news.today", &bytes);
    assert_eq!(did.denied(&agent), Reason::AboveClearance);
    assert!(quarantines(&did));
}

#[test]
fn time_is_judged_on_arrival() {
    for (expected, shift, ttl) in [
        (Reason::FromFuture, 30_001_i64, 60_000),
        (Reason::Stale, -30_001, 60_000),
        (Reason::Expired, -2_000, 1_000),
    ] {
        let (reason, _) = changed(|say, world| {
            say.fields.issued_at.0 = world.now.0.checked_add_signed(shift).unwrap();
            say.fields.ttl_ms = ttl;
        });
        assert_eq!(reason, expected);
    }
}

#[test]
fn who_is_not_there_is_not_admitted() {
    let mut world = World::new();
    let agent = world.agent("wanda", "writer");
    let mut sending = agent.make_key("news", plain(), 0, None);
    let (did, bytes) = agent.publish(&mut world, &mut sending, "news.today");
    assert_eq!(did.denied(&agent), Reason::UnknownSession, "no hello to this guard");
    agent.hello(&mut world, &[]);
    let (did, _) = agent.publish(&mut world, &mut sending, "news.today");
    assert_eq!(did.denied(&agent), Reason::UnknownKey);
    agent.open(&mut world, &[&sending]);
    assert_eq!(agent.publish(&mut world, &mut sending, "news.today").0.forwarded().len(), 1);

    // Another agent's session on one's own subject.
    let thief = world.agent("thief", "writer");
    thief.hello(&mut world, &[]);
    let did = world.envelope(&thief, "news.today", &bytes);
    assert!(did.forwarded().is_empty() && did.offenders.is_empty());

    world.expel(&agent.token().clone());
    let (did, _) = agent.publish(&mut world, &mut sending, "news.today");
    assert!(did.forwarded().is_empty());
    let refused = world.log().into_iter().any(|entry| format!("{:?}", entry.body).contains("quarantined"));
    assert!(refused);
}

#[test]
fn a_bad_signature_weighs_nothing() {
    let mut world = World::new();
    let (agent, mut sending) = writer(&mut world);
    let say = agent.say(&world, &mut sending, "news.today");
    let (_, mut bytes) = agent.seal(&sending, &say);
    let at = bytes.len() - 1;
    bytes[at] ^= 1;
    let did = world.envelope(&agent, "news.today", &bytes);
    assert_eq!(did.denied(&agent), Reason::BadSignature);
    assert!(did.offenders.is_empty());
    bytes[at] ^= 1;
    assert_eq!(
        world.envelope(&agent, "news.today", &bytes).forwarded().len(),
        1,
        "the true one still passes"
    );
}

#[test]
fn nothing_is_admitted_twice_and_the_last_sequence_number_never() {
    let mut world = World::new();
    let (agent, mut sending) = writer(&mut world);
    let (did, bytes) = agent.publish(&mut world, &mut sending, "news.today");
    assert_eq!(did.forwarded().len(), 1);
    assert_eq!(world.envelope(&agent, "news.today", &bytes).denied(&agent), Reason::Replay);
    // Twice in one batch.
    let say = agent.say(&world, &mut sending, "news.today");
    let (_, bytes) = agent.seal(&sending, &say);
    let to = world.wire.ingress(agent.token(), "news.today");
    assert_eq!(world.batch(&[(to.clone(), bytes.clone()), (to, bytes)]).forwarded().len(), 1);
    sending.live.next = u64::MAX;
    let (did, bytes) = agent.publish(&mut world, &mut sending, "news.today");
    assert_eq!(did.denied(&agent), Reason::Replay);
    assert_eq!(world.envelope(&agent, "news.today", &bytes).forwarded().len(), 0);
}

#[test]
fn a_denial_is_final() {
    let mut world = World::new();
    let (agent, mut sending) = writer(&mut world);
    let burst: Vec<_> = (0..51).map(|_| agent.publish(&mut world, &mut sending, "news.today")).collect();
    assert_eq!(burst.iter().filter(|(did, _)| did.forwarded().len() == 1).count(), 50);
    let (last, bytes) = &burst[50];
    assert_eq!(last.denied(&agent), Reason::RateLimited);
    world.pass(2_000);
    let again = world.envelope(&agent, "news.today", bytes);
    assert_eq!(again.denied(&agent), Reason::Replay, "its sender was told no");
    assert_eq!(agent.publish(&mut world, &mut sending, "news.today").0.forwarded().len(), 1);
}

#[test]
fn repeating_an_honest_mistake_frames_nobody() {
    let mut world = World::new();
    let (agent, mut sending) = writer(&mut world);
    let mut say = agent.say(&world, &mut sending, "news.today");
    say.fields.key = sending.key.id();
    say.payload = vec![0; 4096];
    say.fields.rule = name("top");
    let (_, bytes) = agent.seal(&sending, &say);
    let mut offences = 0;
    for n in 0..2_000 {
        if n % 50 == 0 {
            world.pass(100);
        }
        offences += usize::from(quarantines(&world.envelope(&agent, "news.today", &bytes)));
    }
    assert_eq!(offences, 0);
}

#[test]
fn every_verdict_is_signed_and_says_why() {
    let mut world = World::new();
    let (agent, mut sending) = writer(&mut world);
    let guard = world.guard_credential.claims().identity.clone();
    let (did, _) = agent.publish(&mut world, &mut sending, "news.today");
    let notices: Vec<VerdictNotice> = did.told(&agent, kind::VERDICT);
    assert_eq!((notices.len(), notices[0].refused), (1, None));
    assert!(did.verdicts.len() == 1, "only after the log is on disk");
    let admission = Admission::decode(&notices[0].admission).unwrap();
    admission.verify(world.roots.bus(), &notices[0].digest, &guard).unwrap();
    assert_eq!(admission.decision.verdict, Verdict::Admit);

    let (did, _) = agent.publish(&mut world, &mut sending, "other.today");
    let notices: Vec<VerdictNotice> = did.told(&agent, kind::VERDICT);
    assert_eq!(notices[0].refused, Some(Reason::SubjectOutsideRule));
    let admission = Admission::decode(&notices[0].admission).unwrap();
    admission.verify(world.roots.bus(), &notices[0].digest, &guard).unwrap();
    assert_eq!(admission.decision.verdict, Verdict::Deny);

    let mut say = agent.say(&world, &mut sending, "news.today");
    say.fields.flags = Flags::NONE;
    let (_, bytes) = agent.seal(&sending, &say);
    let did = world.envelope(&agent, "news.today", &bytes);
    assert_eq!(did.told::<VerdictNotice>(&agent, kind::VERDICT).len(), 0);
}

#[test]
fn no_log_no_admission_and_a_reply_may_be_tried_again() {
    // Room for what comes before, by count: start, hellos, grants, one request.
    let mut world = World::with(POLICY, 1 << 20, 12);
    let (asker, server) = (world.agent("ada", "asker"), world.agent("sven", "server"));
    asker.hello(&mut world, &[]);
    server.hello(&mut world, &[]);
    server.subscribe(&mut world, 1, "ask", "ask.>");
    let (mut asking, _) = asker.opened(&mut world, "ask", plain(), 0);
    asker.grant(&mut world, &asking, &[&server]);
    let say = asker.say(&world, &mut asking, "ask.you");
    let (request, bytes) = asker.seal(&asking, &say);
    assert_eq!(world.envelope(&asker, "ask.you", &bytes).forwarded().len(), 1);
    let mut answering = server.make_key("ask", plain(), 0, Some(asker.session()));
    server.open(&mut world, &[&answering]);
    server.grant(&mut world, &answering, &[&asker]);
    // Fill the log.
    let mut full = false;
    for _ in 0..40 {
        let (did, _) = asker.publish(&mut world, &mut asking, "ask.you");
        full |= did.denials(&asker).contains(&Reason::AuditUnavailable);
    }
    assert!(full && !world.desk.admits());
    let before = world.admitted_in_log().len();
    for _ in 0..2 {
        let mut say = server.say(&world, &mut answering, "ask.you");
        say.fields.request = Some(request);
        let (_, bytes) = server.seal(&answering, &say);
        let did = world.envelope(&server, "ask.you", &bytes);
        // Not `no_request`: the first try that could not be logged did not use the request up.
        assert_eq!(did.denied(&server), Reason::AuditUnavailable);
        assert!(did.offenders.is_empty(), "the guard's own fault is nobody's");
    }
    assert_eq!(world.admitted_in_log().len(), before);
}

#[test]
fn what_would_not_fit_with_its_admission_is_refused() {
    let policy = POLICY.replace("max_bytes   = 4096", "max_bytes = 65536");
    let mut world = World::with(&policy, 32_768, 4_000_000);
    let (agent, mut sending) = writer(&mut world);
    let mut say = agent.say(&world, &mut sending, "news.today");
    say.payload = vec![0; 31_500];
    let (_, bytes) = agent.seal(&sending, &say);
    assert!(bytes.len() < 40_000);
    let did = world.envelope(&agent, "news.today", &bytes);
    assert!(did.forwarded().is_empty());
    say.payload = vec![0; 20_000];
    let (_, bytes) = agent.seal(&sending, &say);
    assert_eq!(world.envelope(&agent, "news.today", &bytes).forwarded().len(), 1);
}

#[test]
fn strangers_and_junk_grow_nothing() {
    let mut world = World::new();
    for n in 0..3_000u32 {
        let letter = |shift: u32| char::from(b'a' + u8::try_from(n >> shift & 15).unwrap());
        let who = format!("x-{}{}{}aaaaaaa", letter(0), letter(4), letter(8));
        let partition = n % 64;
        world.envelope_on(&format!("sb.in.{partition}.{who}.news.today"), &[0xff; 40]);
        world.control_on(&format!("sb.ctl.{partition}.{who}.{}.hello", "a".repeat(26)), vec![0x90]);
    }
    world.pass(600_000);
    assert_eq!(world.desk.held(), 0);
}

#[test]
fn a_stolen_session_id_is_of_no_use() {
    let mut world = World::new();
    let (agent, _) = writer(&mut world);
    let thief = world.agent("thief", "reader");
    thief.hello(&mut world, &[]);
    // Control in the thief's name on the other's session.
    let subject =
        format!("sb.ctl.{}.{}.{}.bye", Partition::of(thief.token()), thief.token(), agent.session().token());
    let did = world.control_on(&subject, vec![0x90]);
    assert!(did.denials(&agent).is_empty(), "nor can it have notices put into the other's box");
    assert!(world.desk.sessions().roster().get(agent.session()).is_some());
}

//! What comes of agents that are off the bus, and of watched ones, at the desk.

use sealbus_envelope::reason::Reason;
use sealbus_guard::{
    audit::entry::Body,
    bus::desk::quarantine::Again,
    quarantine::{
        custody::{Claimed, Custody, Kept, MAX_KEPT, Papers, Place, Sealed},
        evidence::Response,
    },
};

use super::world::{Agent, Did, Sending, World, label};

fn writer(world: &mut World) -> (Agent, Sending) {
    let agent = world.agent("wanda", "writer");
    agent.hello(world, &[]);
    let (sending, _) = agent.opened(world, "news", label(1, 1, 0), 0);
    (agent, sending)
}

fn kept(did: &Did) -> (usize, usize, u64) {
    let (mut envelopes, mut triggers, mut dropped) = (0, 0, 0);
    for custody in &did.custody {
        match custody {
            Custody::Envelope(sealed) => {
                envelopes += 1;
                triggers += usize::from(sealed.trigger);
            }
            Custody::Dropped { count, .. } => dropped += count,
            Custody::Session(_) => {}
        }
    }
    (envelopes, triggers, dropped)
}

#[test]
fn nothing_behind_hard_evidence_is_admitted_not_even_of_the_same_batch() {
    let mut world = World::new();
    let (agent, mut sending) = writer(&mut world);
    let subject = world.wire.ingress(agent.token(), "news.today");
    let mut batch = Vec::new();
    for n in 0..3 {
        let mut say = agent.say(&world, &mut sending, "news.today");
        if n == 1 {
            say.fields.bus = sealbus_envelope::identity::BusId::from_bytes([9; 32]);
        }
        batch.push((subject.clone(), agent.seal(&sending, &say).1));
    }
    let did = world.batch(&batch);
    assert_eq!(did.forwarded().len(), 1, "what came before");
    assert_eq!(kept(&did), (2, 1, 0), "the evidence, and what came behind it");
    assert!(
        matches!(did.offenders.first(), Some((_, Response::Quarantine(cause))) if cause.envelopes.len() == 1),
        "the evidence comes first, before what the detector makes of it: {:?}",
        did.offenders
    );
}

#[test]
fn a_flood_of_who_is_off_the_bus_is_kept_to_a_bound_and_told_once_a_second() {
    let mut world = World::new();
    let (agent, _) = writer(&mut world);
    let did = world.expel(agent.token());
    let papers = did.custody.iter().filter(|custody| matches!(custody, Custody::Session(_))).count();
    assert_eq!(papers, 1);
    let subject = world.wire.ingress(agent.token(), "news.today");
    let flood: Vec<_> = (0..MAX_KEPT + 500).map(|n| (subject.clone(), n.to_be_bytes().to_vec())).collect();
    let mut kept_in_all = 0;
    for batch in flood.chunks(256) {
        let did = world.batch(batch);
        assert!(did.published.is_empty(), "nobody is told one by one");
        kept_in_all += kept(&did).0;
    }
    assert_eq!(kept_in_all, usize::try_from(MAX_KEPT).unwrap());
    let did = world.tick();
    assert_eq!(kept(&did), (0, 0, 500));
    let counted: Vec<u64> = world
        .log()
        .into_iter()
        .filter_map(|entry| match entry.body {
            Body::Denied(denied) if denied.reason == "quarantined" => Some(denied.count),
            _ => None,
        })
        .collect();
    assert_eq!(counted, [u64::from(MAX_KEPT) + 500]);
}

#[test]
fn who_is_watched_has_half_its_rate_and_no_key_for_more_than_before() {
    let mut world = World::new();
    let (agent, mut sending) = writer(&mut world);
    let ceiling = world.desk.sessions().ceiling_of(agent.token());
    world.desk.watch(agent.token(), ceiling);
    // The rule's burst is 50.
    let passed = (0..40)
        .filter(|_| !agent.publish(&mut world, &mut sending, "news.today").0.forwarded().is_empty())
        .count();
    assert_eq!(passed, 25);
    let more = agent.make_key("news", label(1, 1, 1), 0, None);
    let told = agent.open(&mut world, &[&more]);
    assert_eq!(told.denials(&agent), [Reason::Anomalous], "more integrity than it used before");
    let less = agent.make_key("news", label(0, 0, 0), 0, None);
    assert!(agent.open(&mut world, &[&less]).denials(&agent).is_empty());
    world.desk.calm(agent.token());
    world.pass(2_000);
    assert!(agent.open(&mut world, &[&more]).denials(&agent).is_empty());
}

/// The papers and envelopes of a quarantine, as the guard's store keeps them.
fn keep(did: Did, incident: u32) -> (Vec<Papers>, Vec<Again>) {
    let (mut papers, mut again) = (Vec::new(), Vec::new());
    for custody in did.custody {
        match custody {
            Custody::Session(session) => papers.push(Papers { incident, ..*session }),
            Custody::Envelope(sealed) => again.push(listed(*sealed, incident)),
            Custody::Dropped { .. } => {}
        }
    }
    (papers, again)
}

fn listed(sealed: Sealed, incident: u32) -> Again {
    let kept = Kept {
        n: 1,
        agent: sealed.agent.clone(),
        time: sealed.time,
        subject: sealed.subject.clone(),
        size: 0,
        reason: sealed.reason,
        trigger: sealed.trigger,
        claims: Claimed::read(&sealed.bytes),
        place: Place::Disk,
        fate: None,
        incident,
    };
    Again { kept, bytes: Some(sealed.bytes) }
}

/// The agent is let back and the evidence delivered by order: what refused each, and how many went out.
fn replay(
    world: &mut World,
    agent: &Agent,
    papers: &[Papers],
    again: &[Again],
) -> (Vec<Option<Reason>>, usize) {
    world.desk.readmit(agent.token());
    let mut papers = papers.iter().map(|papers| (papers.session, papers.clone())).collect();
    let identity = agent.credential.claims().identity.clone();
    let now = world.now;
    let judged = world.desk.judge_again(&identity, again, &mut papers, now);
    (judged, world.did().forwarded().len())
}

/// What the server puts on the wire in the agent's name while it is off the bus.
fn injected(world: &mut World, agent: &Agent, bytes: &[u8]) -> Did {
    world.envelope(agent, "news.today", bytes)
}

#[test]
fn what_was_sent_in_a_quarantine_is_delivered_by_order_once() {
    let mut world = World::new();
    let (agent, mut sending) = writer(&mut world);
    let (papers, _) = keep(world.expel(agent.token()), 1);
    let say = agent.say(&world, &mut sending, "news.today");
    let bytes = agent.seal(&sending, &say).1;
    let mut again = keep(injected(&mut world, &agent, &bytes), 1).1;
    again.extend(keep(injected(&mut world, &agent, &bytes), 1).1);
    assert_eq!(replay(&mut world, &agent, &papers, &again), (vec![None, Some(Reason::Replay)], 1));
}

#[test]
fn copies_of_what_was_delivered_between_two_quarantines_are_not_delivered_again() {
    let mut world = World::new();
    let (agent, mut sending) = writer(&mut world);
    let (papers, _) = keep(world.expel(agent.token()), 1);
    world.desk.readmit(agent.token());
    agent.hello(&mut world, &[&sending]);
    let (did, copy) = agent.publish(&mut world, &mut sending, "news.today");
    assert_eq!(did.forwarded().len(), 1, "it was delivered");
    // It leaves by itself, so nothing is written down of it, and is quarantined while it is away.
    let now = world.now;
    world.desk.gone(agent.session(), now);
    world.did();
    let (none, _) = keep(world.expel(agent.token()), 2);
    assert!(none.is_empty());
    let (_, again) = keep(injected(&mut world, &agent, &copy), 2);
    assert_eq!(again.len(), 1);
    assert_eq!(replay(&mut world, &agent, &papers, &again), (vec![Some(Reason::UnknownSession)], 0));
}

#[test]
fn copies_that_are_older_than_what_the_guard_remembers_of_a_key_are_not_delivered_again() {
    let mut world = World::new();
    let (agent, mut sending) = writer(&mut world);
    let mut say = agent.say(&world, &mut sending, "news.today");
    say.fields.ttl_ms = 3_600_000;
    let copy = agent.seal(&sending, &say).1;
    assert_eq!(world.envelope(&agent, "news.today", &copy).forwarded().len(), 1, "it was delivered");
    // The session leaves, its marks are forgotten, and the statement that opened its key is sent again.
    let now = world.now;
    world.desk.gone(agent.session(), now);
    world.pass(600_000);
    world.tick();
    sending.live.next = 0;
    agent.hello(&mut world, &[&sending]);
    let (papers, _) = keep(world.expel(agent.token()), 1);
    let (_, again) = keep(injected(&mut world, &agent, &copy), 1);
    assert_eq!(replay(&mut world, &agent, &papers, &again), (vec![Some(Reason::Stale)], 0));
}

#[test]
fn what_was_denied_is_delivered_by_no_order_even_if_the_policy_allows_it_now() {
    let mut world = World::new();
    let (agent, mut sending) = writer(&mut world);
    let (papers, _) = keep(world.expel(agent.token()), 1);
    let say = agent.say(&world, &mut sending, "news.today");
    let bytes = agent.seal(&sending, &say).1;
    let mut again = keep(injected(&mut world, &agent, &bytes), 1).1;
    // As if it had been denied for a rule of a policy that allows it by now.
    again[0].kept.trigger = true;
    again[0].kept.reason = Reason::NotPublisher;
    assert_eq!(replay(&mut world, &agent, &papers, &again), (vec![Some(Reason::NotPublisher)], 0));
}

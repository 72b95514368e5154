//! What was read counts against what is written: floors, flow grants, observe mode, fan-in.

use sealbus_envelope::{
    control::{FloorNotice, Readers, Welcome, kind, verb},
    label::Label,
    reason::Reason,
};
use sealbus_guard::audit::entry::Body;

use super::world::{Agent, Did, Sending, World, label, name};

/// `hub` reads `high.>` and writes `low.>`; `clerk` does too, in sessions that forget.
const FLOWS: &str = r#"
levels       = ["low", "high"]
integrity    = ["untrusted", "trusted"]

[teams.source]
clearance = { level = "high" }
integrity = "trusted"
[teams.hub]
clearance = { level = "high" }
integrity = "trusted"
[teams.clerk]
clearance = { level = "high" }
integrity = "trusted"
taint     = "session"
[teams.sink]
clearance = { level = "low" }

[rules.high]
pattern     = "high.>"
publishers  = ["source"]
subscribers = ["hub", "clerk"]
labels      = { level = "high", integrity = { min = "untrusted", max = "trusted" } }

[rules.other]
pattern     = "other.>"
publishers  = ["source"]
subscribers = ["hub", "clerk"]
labels      = { level = "high", integrity = { min = "untrusted", max = "trusted" } }

[rules.low]
pattern     = "low.>"
publishers  = ["hub", "clerk"]
subscribers = ["sink"]
labels      = { level = "low", integrity = { min = "untrusted", max = "trusted" } }

[grants.release]
team       = "hub"
from       = "high.>"
to         = "low.news"
from_label = { level = "high", integrity = "untrusted" }
to_label   = { level = "low", integrity = "trusted" }
max_bytes  = 2000
rate       = { per_second = 1, burst = 2 }
expires    = 2030-01-01
reason     = "the digest"
"#;

const LOW: (u8, u64, u8) = (0, 0, 1);
const HIGH: (u8, u64, u8) = (1, 0, 1);

fn mark((level, compartments, integrity): (u8, u64, u8)) -> Label {
    label(level, compartments, integrity)
}

struct Flows {
    world: World,
    source: Agent,
    sink: Agent,
    epoch: u32,
}

impl Flows {
    fn under(policy: &str) -> Self {
        let mut world = World::with(policy, 1 << 20, 4_000_000);
        let (source, sink) = (world.agent("sam", "source"), world.agent("sid", "sink"));
        source.hello(&mut world, &[]);
        sink.hello(&mut world, &[]);
        sink.subscribe(&mut world, 1, "low", "low.>");
        Self { world, source, sink, epoch: 0 }
    }

    fn agent(&mut self, who: &str, team: &str) -> Agent {
        let agent = self.world.agent(who, team);
        agent.hello(&mut self.world, &[]);
        agent
    }

    /// Hands the agent a key for what is high, under this rule.
    fn tell(&mut self, rule: &str, agent: &Agent) -> Did {
        agent.subscribe(&mut self.world, 7, rule, &format!("{rule}.>"));
        self.epoch += 1;
        let (sending, _) = self.source.opened(&mut self.world, rule, mark(HIGH), self.epoch);
        self.source.grant(&mut self.world, &sending, &[agent])
    }

    fn key(&mut self, agent: &Agent) -> Sending {
        self.epoch += 1;
        let (sending, _) = agent.opened(&mut self.world, "low", mark(LOW), self.epoch);
        agent.grant(&mut self.world, &sending, &[&self.sink]);
        sending
    }

    fn refused_key(&mut self, agent: &Agent) -> Option<Reason> {
        self.epoch += 1;
        let sending = agent.make_key("low", mark(LOW), self.epoch, None);
        let did = agent.open(&mut self.world, &[&sending]);
        did.told::<Readers>(agent, kind::READERS)[0].refused
    }

    fn publish(
        &mut self,
        agent: &Agent,
        sending: &mut Sending,
        on: &str,
        grant: Option<&str>,
        bytes: usize,
    ) -> Did {
        let mut say = agent.say(&self.world, sending, on);
        say.fields.flow_grant = grant.map(name);
        say.payload = vec![0; bytes];
        let (_, envelope) = agent.seal(sending, &say);
        self.world.envelope(agent, on, &envelope)
    }

    fn floor(&self, agent: &Agent) -> Label {
        self.world.desk.sessions().floors().of(agent.token(), agent.session()).join()
    }
}

#[test]
fn a_floor_is_told_before_the_key_that_raises_it_and_holds_envelopes_and_keys() {
    let mut flows = Flows::under(FLOWS);
    let clerk = flows.agent("cleo", "clerk");
    let mut sending = flows.key(&clerk);
    assert_eq!(flows.publish(&clerk, &mut sending, "low.a", None, 9).forwarded().len(), 1);

    let did = flows.tell("high", &clerk);
    let own = |kind: &str| clerk_box(&flows.world, &clerk, kind);
    let told: Vec<&str> = did.published.iter().map(|out| out.subject()).collect();
    let place = |kind| told.iter().position(|subject| *subject == own(kind)).unwrap();
    assert!(place(kind::FLOOR) < place(kind::GRANT), "{told:?}");
    assert_eq!(did.told::<FloorNotice>(&clerk, kind::FLOOR)[0].floor, mark(HIGH));

    let did = flows.publish(&clerk, &mut sending, "low.a", None, 9);
    assert_eq!(did.denied(&clerk), Reason::BelowFloor);
    // The key was open before: it is handed to nobody any more, and no new one is opened.
    let did = clerk.grant(&mut flows.world, &sending, &[&flows.sink]);
    assert!(flows.sink.granted(&did).is_empty());
    assert_eq!(did.denials(&clerk), [Reason::BelowFloor]);
    assert_eq!(flows.refused_key(&clerk), Some(Reason::BelowFloor));
}

fn clerk_box(world: &World, agent: &Agent, kind: &str) -> String {
    world.wire.session_box(agent.token(), &agent.session(), kind)
}

#[test]
fn an_agents_floor_outlives_its_sessions_and_a_sessions_does_not() {
    let mut flows = Flows::under(FLOWS);
    for (team, lasts) in [("hub", true), ("clerk", false)] {
        let agent = flows.agent("anna", team);
        let twin = flows.world.restart(&agent);
        twin.hello(&mut flows.world, &[]);
        let did = flows.tell("other", &agent);
        assert_eq!(did.told::<FloorNotice>(&twin, kind::FLOOR).len(), usize::from(lasts), "{team}");
        let again = flows.world.restart(&agent);
        let welcome: Vec<Welcome> = again.hello(&mut flows.world, &[]).told(&again, kind::WELCOME);
        let expected = if lasts { mark(HIGH) } else { Label::BOTTOM };
        assert_eq!((welcome[0].floor, flows.floor(&twin)), (expected, expected), "{team}");
    }
}

#[test]
fn floors_are_there_before_anybody_speaks_to_a_guard_that_starts_again() {
    let mut flows = Flows::under(FLOWS);
    let mut clerk = flows.agent("cleo", "clerk");
    let mut sending = flows.key(&clerk);
    flows.tell("high", &clerk);
    flows.world = flows.world.restarted();
    clerk.rejoin(&flows.world);
    // The session goes on with the key that it had.
    let did = clerk.hello(&mut flows.world, &[&sending]);
    assert_eq!(did.told::<Welcome>(&clerk, kind::WELCOME)[0].floor, mark(HIGH));
    assert_eq!(did.told::<Readers>(&clerk, kind::READERS)[0].refused, Some(Reason::BelowFloor));
    assert_eq!(flows.publish(&clerk, &mut sending, "low.a", None, 9).denied(&clerk), Reason::BelowFloor);
}

#[test]
fn a_team_that_is_not_taken_to_forget_any_more_is_held_to_all_its_sessions_read() {
    let mut flows = Flows::under(FLOWS);
    let clerk = flows.agent("cleo", "clerk");
    let twin = flows.world.restart(&clerk);
    twin.hello(&mut flows.world, &[]);
    flows.tell("high", &clerk);
    let mut sending = flows.key(&twin);
    assert_eq!(flows.publish(&twin, &mut sending, "low.a", None, 9).forwarded().len(), 1);
    let did = flows.world.replace(&FLOWS.replace(r#"taint     = "session""#, ""));
    assert_eq!(did.told::<FloorNotice>(&twin, kind::FLOOR)[0].floor, mark(HIGH));
    assert_eq!(flows.publish(&twin, &mut sending, "low.a", None, 9).denied(&twin), Reason::BelowFloor);
    // And it stays so, though the team is trusted again.
    flows.world.replace(FLOWS);
    assert_eq!(flows.publish(&twin, &mut sending, "low.a", None, 9).denied(&twin), Reason::BelowFloor);
}

#[test]
fn a_flow_grant_lifts_what_it_names_within_its_bounds() {
    let mut flows = Flows::under(FLOWS);
    let hub = flows.agent("hugo", "hub");
    flows.tell("high", &hub);
    // Some grant may lift it, so the key may be handed out.
    let mut sending = flows.key(&hub);
    for (on, grant, bytes, reason) in [
        ("low.news", None, 9, Reason::BelowFloor),
        ("low.news", Some("none"), 9, Reason::FlowGrantUnknown),
        ("low.else", Some("release"), 9, Reason::FlowGrantMismatch),
        ("low.news", Some("release"), 3_000, Reason::FlowGrantMismatch),
    ] {
        let did = flows.publish(&hub, &mut sending, on, grant, bytes);
        assert_eq!(did.denied(&hub), reason, "{on} by {grant:?}");
    }
    for _ in 0..2 {
        let did = flows.publish(&hub, &mut sending, "low.news", Some("release"), 9);
        assert_eq!(did.forwarded().len(), 1);
    }
    let did = flows.publish(&hub, &mut sending, "low.news", Some("release"), 9);
    assert_eq!(did.denied(&hub), Reason::RateLimited);
    let log = flows.world.log();
    let used = log.iter().filter(|entry| match &entry.body {
        Body::Admitted(admitted) => admitted.flow_grant.as_deref() == Some("release"),
        _ => false,
    });
    assert_eq!(used.count(), 2, "the log says which grant was used");

    // What came under another rule it does not lift, nor what came under a rule that is gone.
    flows.world.pass(2_000);
    let gone = FLOWS.replace("[rules.high]", "[rules.summit]");
    flows.world.replace(&gone);
    let did = flows.publish(&hub, &mut sending, "low.news", Some("release"), 9);
    assert_eq!(did.denied(&hub), Reason::BelowFloor);
    flows.world.replace(FLOWS);
    let did = flows.publish(&hub, &mut sending, "low.news", Some("release"), 9);
    assert_eq!(did.forwarded().len(), 1);
    flows.tell("other", &hub);
    let did = flows.publish(&hub, &mut sending, "low.news", Some("release"), 9);
    assert_eq!(did.denied(&hub), Reason::BelowFloor);
    assert_eq!(flows.refused_key(&hub), Some(Reason::BelowFloor));
}

#[test]
fn another_team_gains_nothing_by_a_flow_grant_and_nobody_when_it_is_over() {
    let mut flows = Flows::under(FLOWS);
    let clerk = flows.agent("cleo", "clerk");
    let mut sending = flows.key(&clerk);
    flows.tell("high", &clerk);
    let did = flows.publish(&clerk, &mut sending, "low.news", Some("release"), 9);
    assert_eq!(did.denied(&clerk), Reason::FlowGrantMismatch);
    // The clock of these tests stands in 2027.
    let mut flows = Flows::under(&FLOWS.replace("2030-01-01", "2026-12-31"));
    let hub = flows.agent("hugo", "hub");
    let mut sending = flows.key(&hub);
    flows.tell("high", &hub);
    let did = flows.publish(&hub, &mut sending, "low.news", Some("release"), 9);
    assert_eq!(did.denied(&hub), Reason::FlowGrantExpired);
    assert_eq!(flows.refused_key(&hub), Some(Reason::BelowFloor));
}

#[test]
fn what_is_observed_is_recorded_and_passes_and_readers_stay_who_they_are() {
    let team = FLOWS.replace("[teams.clerk]\n", "[teams.clerk]\nobserve   = true\n");
    let rule = FLOWS.replace("[rules.low]\n", "[rules.low]\nobserve     = true\n");
    let bus = format!("observe = true\n{FLOWS}");
    for policy in [team, rule, bus] {
        let mut flows = Flows::under(&policy);
        let (clerk, hub) = (flows.agent("cleo", "clerk"), flows.agent("hugo", "hub"));
        let mut sending = flows.key(&clerk);
        flows.tell("high", &clerk);
        let did = flows.publish(&clerk, &mut sending, "low.a", None, 9);
        assert_eq!((did.forwarded().len(), did.denials(&clerk)), (1, vec![]), "{policy}");
        let seen = flows.world.log().into_iter().filter_map(|entry| match entry.body {
            Body::Admitted(admitted) => admitted.observed.map(|reason| reason.to_string()),
            _ => None,
        });
        assert_eq!(seen.collect::<Vec<_>>(), ["below_floor"]);
        // Who may not read is granted nothing.
        let did = clerk.grant(&mut flows.world, &sending, &[&hub, &flows.sink]);
        assert!(hub.granted(&did).is_empty());
        assert_eq!(flows.sink.granted(&did).len(), 1);
        // Clearance and subjects are not only observed.
        let did = flows.publish(&clerk, &mut sending, "high.a", None, 9);
        assert_eq!(did.denied(&clerk), Reason::SubjectOutsideRule);
        let sink = flows.sink;
        let above = sink.make_key("high", mark(HIGH), 0, None);
        let did = sink.open(&mut flows.world, &[&above]);
        let refused = did.told::<Readers>(&sink, kind::READERS)[0].refused.unwrap();
        assert!([Reason::NotPublisher, Reason::AboveClearance].contains(&refused), "{refused:?}");
    }
}

#[test]
fn so_many_agents_publish_at_once_and_who_leaves_makes_room() {
    let policy = FLOWS.replace("[rules.low]\n", "[rules.low]\nfan_in      = 1\n");
    let mut flows = Flows::under(&policy);
    let (first, second) = (flows.agent("anna", "hub"), flows.agent("bert", "hub"));
    let twin = flows.world.restart(&first);
    twin.hello(&mut flows.world, &[]);
    flows.key(&first);
    assert_eq!(flows.refused_key(&twin), None, "the same agent in another session");
    assert_eq!(flows.refused_key(&second), Some(Reason::FanInExceeded));
    let bye = || sealbus_envelope::control::encode(&sealbus_envelope::control::Bye {}).unwrap();
    flows.world.control(&first, verb::BYE, bye());
    assert_eq!(flows.refused_key(&second), Some(Reason::FanInExceeded), "one session of it is left");
    flows.world.control(&twin, verb::BYE, bye());
    assert_eq!(flows.refused_key(&second), None);
}

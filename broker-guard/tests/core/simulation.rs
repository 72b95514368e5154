//! Honest and hostile agents do whatever they like, in any order. A slow and obvious model watches:
//! nothing is forwarded that it would deny, no key goes to who may not read it, nothing goes out that is not
//! in the log, nothing is forwarded twice, and what the guard holds stays within its bounds.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;
use sealbus_envelope::{
    control::{self, Granted, Readers, Subscribed, kind, verb},
    hash::Hash,
    identity::SessionId,
    keys::{Grant, KeyId},
    label::Label,
    name::AgentToken,
    policy::{Faults, Rule, check_publish, check_read},
    proof::admission::Admission,
    subject::{Partition, Subject},
    wire::Decoded,
};
use sealbus_guard::roster::session::{MAX_AGENT_KEYS, MAX_READINGS, MAX_SESSIONS};

use super::world::{Agent, Did, POLICY, Sending, World, label, name};

const TEAMS: [&str; 8] = ["writer", "writer", "reader", "reader", "asker", "asker", "server", "server"];
const RULES: [(&str, &str); 4] =
    [("news", "news.today"), ("top", "top.story"), ("ask", "ask.you"), ("ask-other", "ask.you")];

/// One step. Numbers are taken modulo what there is.
#[derive(Debug, Clone)]
enum Step {
    Hello { who: usize, keys: bool },
    Restart { who: usize },
    Subscribe { who: usize, rule: usize, id: u32 },
    Unsubscribe { who: usize, id: u32 },
    Open { who: usize, rule: usize, label: usize, epoch: u32, asker: Option<usize> },
    Grant { who: usize, key: usize, readers: Vec<usize> },
    GrantAnothers { who: usize, key: usize, reader: usize },
    Publish { who: usize, key: usize, lie: Lie },
    Replay { at: usize },
    ReplayControl { at: usize },
    Bye { who: usize },
    Quarantine { who: usize },
    Readmit { who: usize },
    Policy { which: usize },
    Pass { ms: u64 },
}

/// What is wrong with an envelope.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Lie {
    No,
    Subject,
    OtherSubject,
    Sender,
    Rule,
    Label,
    Parent,
    Old,
    Sequence,
    Reply,
    /// Under a key that the guard refused.
    Refused,
}

fn lie() -> impl Strategy<Value = Lie> {
    prop_oneof![
        6 => Just(Lie::No),
        3 => Just(Lie::Reply),
        3 => prop::sample::select(vec![
            Lie::Subject, Lie::OtherSubject, Lie::Sender, Lie::Rule, Lie::Label, Lie::Parent, Lie::Old, Lie::Sequence,
            Lie::Refused,
        ]),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let n = 0..64usize;
    let who = || 0..TEAMS.len();
    prop_oneof![
        2 => (who(), any::<bool>()).prop_map(|(who, keys)| Step::Hello { who, keys }),
        1 => who().prop_map(|who| Step::Restart { who }),
        4 => (who(), 0..RULES.len(), 0..3u32).prop_map(|(who, rule, id)| Step::Subscribe { who, rule, id }),
        1 => (who(), 0..3u32).prop_map(|(who, id)| Step::Unsubscribe { who, id }),
        5 => (who(), 0..RULES.len(), 0..4usize, 0..4u32, prop::option::of(who()))
            .prop_map(|(who, rule, label, epoch, asker)| Step::Open { who, rule, label, epoch, asker }),
        6 => (who(), n.clone(), prop::collection::vec(who(), 1..4))
            .prop_map(|(who, key, readers)| Step::Grant { who, key, readers }),
        1 => (who(), n.clone(), who()).prop_map(|(who, key, reader)| Step::GrantAnothers { who, key, reader }),
        12 => (who(), n.clone(), lie()).prop_map(|(who, key, lie)| Step::Publish { who, key, lie }),
        2 => n.clone().prop_map(|at| Step::Replay { at }),
        2 => n.prop_map(|at| Step::ReplayControl { at }),
        1 => who().prop_map(|who| Step::Bye { who }),
        1 => who().prop_map(|who| Step::Quarantine { who }),
        2 => who().prop_map(|who| Step::Readmit { who }),
        1 => (0..3usize).prop_map(|which| Step::Policy { which }),
        3 => prop::sample::select(vec![10, 1_000, 3_000, 12_000, 70_000]).prop_map(|ms| Step::Pass { ms }),
    ]
}

fn labels(which: usize) -> Label {
    // The last is above everybody's clearance, the third claims more integrity than readers have.
    [label(0, 0, 0), label(1, 1, 0), label(1, 1, 1), label(2, 1, 0)][which]
}

/// What the model knows of a session: what was said, not what the guard made of it.
#[derive(Default)]
struct Said {
    /// By number: rule.
    readings: HashMap<u32, String>,
}

#[derive(Default)]
struct Model {
    sessions: HashMap<SessionId, Said>,
    out: HashSet<AgentToken>,
    /// Forwarded, ever.
    forwarded: HashSet<Hash>,
    /// Requests that were delivered: asker, responder, rule, not yet answered.
    asked: HashMap<Hash, (SessionId, SessionId, String)>,
}

struct Simulation {
    world: World,
    agents: Vec<Agent>,
    /// Of each agent's present session: taken by the guard, and refused.
    keys: Vec<Vec<Sending>>,
    refused: Vec<Vec<Sending>>,
    /// All agents and sessions that ever were, to look up who a session is.
    who: HashMap<SessionId, (AgentToken, sealbus_envelope::identity::Claims)>,
    /// Everything that was sent.
    envelopes: Vec<(String, Vec<u8>)>,
    controls: Vec<(String, Vec<u8>)>,
    requests: Vec<Hash>,
    model: Model,
    admissions: Vec<(Hash, u64)>,
    relayed: Vec<(KeyId, SessionId)>,
}

impl Simulation {
    fn new() -> Self {
        let world = World::new();
        let agents: Vec<Agent> =
            TEAMS.iter().enumerate().map(|(n, team)| world.agent(&format!("agent{n}"), team)).collect();
        let mut simulation = Self {
            keys: agents.iter().map(|_| vec![]).collect(),
            refused: agents.iter().map(|_| vec![]).collect(),
            who: HashMap::new(),
            world,
            agents,
            envelopes: vec![],
            controls: vec![],
            requests: vec![],
            model: Model::default(),
            admissions: vec![],
            relayed: vec![],
        };
        (0..TEAMS.len()).for_each(|who| simulation.remember(who));
        simulation
    }

    fn remember(&mut self, who: usize) {
        let agent = &self.agents[who];
        self.who.insert(agent.session(), (agent.token().clone(), agent.credential.claims().clone()));
    }

    fn rule(&self, rule: &str) -> Option<Rule> {
        let bundle = &self.world.desk.sessions().in_force().bundle;
        bundle.rules().iter().find(|known| known.name.as_str() == rule).cloned()
    }

    fn control(&mut self, who: usize, verb: &str, payload: Vec<u8>) -> Did {
        let agent = &self.agents[who];
        let subject = self.world.wire.control(agent.token(), &agent.session(), verb);
        self.controls.push((subject.clone(), payload.clone()));
        self.control_on(&subject, payload)
    }

    fn control_on(&mut self, subject: &str, payload: Vec<u8>) -> Did {
        let (agent, session) = {
            let subject = self.world.wire.read_control(subject).unwrap();
            (subject.agent.to_owned(), subject.session.to_owned())
        };
        let verb = subject.rsplit('.').next().unwrap();
        let id = self.who.keys().find(|id| id.token() == session).copied().unwrap();
        let did = self.world.control_on(subject, payload.clone());
        // The model believes the guard only about what was refused; what it lets pass, the model judges.
        let barred = self.model.out.contains(agent.as_str());
        match verb {
            verb::HELLO => {
                let subject = format!("sb.box.{agent}.{session}.welcome");
                if did.published.iter().any(|out| out.subject() == subject) {
                    assert!(!barred, "a quarantined agent was welcomed");
                    self.model.sessions.entry(id).or_default();
                }
            }
            verb::SUBSCRIBE => {
                let wanted: control::Subscribe = control::decode(&payload).unwrap();
                let subject = format!("sb.box.{agent}.{session}.subscribed");
                let answer = did.published.iter().find(|out| out.subject() == subject);
                let accepted = answer.is_some_and(|answer| {
                    control::decode::<Subscribed>(answer.payload()).unwrap().refused.is_none()
                });
                if accepted {
                    assert!(!barred);
                    let said = self.model.sessions.get_mut(&id).expect("no session");
                    said.readings.insert(wanted.id, wanted.rule.to_string());
                }
            }
            verb::UNSUBSCRIBE if !barred => {
                let wanted: control::Unsubscribe = control::decode(&payload).unwrap();
                if let Some(said) = self.model.sessions.get_mut(&id) {
                    said.readings.remove(&wanted.id);
                }
            }
            verb::BYE if !barred => {
                self.model.sessions.remove(&id);
            }
            _ => {}
        }
        self.judge(&did);
        did
    }

    fn envelope(&mut self, subject: &str, bytes: &[u8]) {
        let did = self.world.envelope_on(subject, bytes);
        self.judge(&did);
        // Whoever is found out is taken off the bus, as the service does.
        for (agent, response) in &did.offenders {
            if matches!(response, sealbus_guard::quarantine::evidence::Response::Quarantine(_)) {
                self.expel(agent);
            }
        }
    }

    fn expel(&mut self, agent: &AgentToken) {
        self.world.expel(agent);
        self.model.out.insert(agent.clone());
        let who = &self.who;
        self.model.sessions.retain(|id, _| who[id].0 != *agent);
    }

    /// Judges all that went out.
    fn judge(&mut self, did: &Did) {
        for out in did.forwarded() {
            self.judge_envelope(out.subject(), out.admission().unwrap(), out.payload());
        }
        for out in did.published.iter().filter(|out| out.subject().ends_with(".grant")) {
            self.judge_grant(out.subject(), out.payload());
        }
    }

    fn judge_envelope(&mut self, subject: &str, admission: &str, bytes: &[u8]) {
        let decoded = Decoded::decode(bytes).unwrap();
        let header = *decoded.claimed();
        let digest = decoded.digest();
        let (token, claims) = self.who[&header.session].clone();
        assert!(self.model.sessions.contains_key(&header.session), "who is not there published");
        assert!(!self.model.out.contains(&token), "who is in quarantine published");
        assert!(self.model.forwarded.insert(digest), "forwarded twice");
        assert_eq!(header.sender, token.as_str());
        assert!(header.label.dominates(header.parents_join));
        assert!(header.check_arrival(self.world.now, 30_000).is_ok());

        let rule = self.rule(header.rule).expect("no such rule");
        let tables = self.world.desk.sessions().in_force().bundle.tables().clone();
        let logical = Subject::parse(header.subject).unwrap();
        let reply = header.request.is_some();
        check_publish(&tables, &rule, &claims, &logical, header.label, reply, &mut Faults::enforced())
            .unwrap();
        assert!(bytes.len() <= rule.max_bytes as usize);

        let request_rule = header.rule.starts_with("ask");
        match header.request {
            None if !request_rule => {
                assert_eq!(subject, format!("sb.out.{}.{}", header.label.level.number(), header.subject));
            }
            None => {
                let responder = self.to_session(subject, kind::REQUEST);
                self.may_read(responder, &rule, header.label, false);
                assert!(
                    self.relayed.contains(&(header.key, responder)),
                    "a responder that has no key for it"
                );
                self.model.asked.insert(digest, (header.session, responder, header.rule.to_owned()));
            }
            Some(request) => {
                let (asker, responder, asked_rule) =
                    self.model.asked.remove(&request).expect("a reply to no request, or a second one");
                assert_eq!(self.to_session(subject, kind::REPLY), asker);
                assert_eq!((responder, &*asked_rule), (header.session, header.rule));
            }
        }
        let decision = Admission::decode(admission).unwrap().decision;
        assert_eq!(decision.partition, Partition::of(&token).number());
        self.admissions.push((digest, decision.position));
    }

    fn judge_grant(&mut self, subject: &str, payload: &[u8]) {
        let granted: Granted = control::decode(payload).unwrap();
        let reader = self.to_session(subject, kind::GRANT);
        for bytes in &granted.grants {
            let grant = Grant::decode(bytes).unwrap();
            let scope = grant.scope();
            let (sender, _) = &self.who[&scope.session];
            assert!(!self.model.out.contains(sender), "a key of who is in quarantine was relayed");
            let rule = self.rule(scope.rule.as_str()).expect("no such rule");
            let asker = self.world.desk.sessions().roster().key((scope.session, grant.key_id()));
            let asker = asker.expect("a key that is not open").asker;
            if let Some(asker) = asker {
                assert_eq!(asker, reader, "a key for replies went to another");
            }
            self.may_read(reader, &rule, scope.label, asker.is_some());
            self.relayed.push((grant.key_id(), reader));
        }
    }

    fn may_read(&self, reader: SessionId, rule: &Rule, label: Label, asked: bool) {
        let (token, claims) = &self.who[&reader];
        assert!(!self.model.out.contains(token), "to who is in quarantine");
        let said = self.model.sessions.get(&reader).expect("to who is not there");
        assert!(
            asked || said.readings.values().any(|reading| reading == rule.name.as_str()),
            "to who did not ask for it"
        );
        let tables = self.world.desk.sessions().in_force().bundle.tables();
        check_read(tables, rule, claims, label, asked).unwrap();
    }

    fn to_session(&self, subject: &str, kind: &str) -> SessionId {
        let found =
            self.who.iter().find(|(id, (token, _))| subject == self.world.wire.session_box(token, id, kind));
        *found.unwrap_or_else(|| panic!("{subject} is nobody's box")).0
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Hello { who, keys } => {
                let keys: Vec<&Sending> = if *keys { self.keys[*who].iter().collect() } else { vec![] };
                let message = self.agents[*who].hello_message(&keys);
                self.control(*who, verb::HELLO, message);
            }
            Step::Restart { who } => {
                self.agents[*who] = self.world.restart(&self.agents[*who]);
                self.keys[*who].clear();
                self.refused[*who].clear();
                self.remember(*who);
                let message = self.agents[*who].hello_message(&[]);
                self.control(*who, verb::HELLO, message);
            }
            Step::Subscribe { who, rule, id } => {
                let (rule, pattern) = RULES[*rule];
                let wanted = control::Subscribe {
                    id: *id,
                    rule: name(rule),
                    pattern: Subject::parse(pattern).unwrap().into(),
                    serve: rule.starts_with("ask"),
                };
                self.control(*who, verb::SUBSCRIBE, control::encode(&wanted).unwrap());
            }
            Step::Unsubscribe { who, id } => {
                let message = control::encode(&control::Unsubscribe { id: *id }).unwrap();
                self.control(*who, verb::UNSUBSCRIBE, message);
            }
            Step::Open { who, rule, label, epoch, asker } => {
                let asker = asker.map(|asker| self.agents[asker].session());
                let key = self.agents[*who].make_key(RULES[*rule].0, labels(*label), *epoch, asker);
                let message = self.agents[*who].open_message(&[&key]);
                let did = self.control(*who, verb::OPEN, message);
                let told: Vec<Readers> = did.told(&self.agents[*who], kind::READERS);
                let taken = told.first().is_some_and(|readers| readers.refused.is_none());
                let keys = if taken { &mut self.keys } else { &mut self.refused };
                keys[*who].push(key);
            }
            Step::Grant { who, key, readers } => {
                let Some(key) = pick(&self.keys[*who], *key) else { return };
                let readers: Vec<_> = readers.iter().map(|&n| &self.agents[n].reader_key).collect();
                let message = self.agents[*who].grant_message(&self.keys[*who][key], &readers);
                self.control(*who, verb::GRANT, message);
            }
            Step::GrantAnothers { who, key, reader } => {
                let other = (*who + 1) % TEAMS.len();
                let Some(key) = pick(&self.keys[other], *key) else { return };
                let reader = &self.agents[*reader].reader_key;
                let message = self.agents[*who].grant_message(&self.keys[other][key], &[reader]);
                self.control(*who, verb::GRANT, message);
            }
            Step::Publish { who, key, lie } => self.publish(*who, *key, *lie),
            Step::Replay { at } => {
                let Some(at) = pick(&self.envelopes, *at) else { return };
                let (subject, bytes) = self.envelopes[at].clone();
                self.envelope(&subject, &bytes);
            }
            Step::ReplayControl { at } => {
                let Some(at) = pick(&self.controls, *at) else { return };
                let (subject, bytes) = self.controls[at].clone();
                self.control_on(&subject, bytes);
            }
            Step::Bye { who } => {
                self.control(*who, verb::BYE, control::encode(&control::Bye {}).unwrap());
            }
            Step::Quarantine { who } => {
                let token = self.agents[*who].token().clone();
                self.expel(&token);
            }
            Step::Readmit { who } => {
                let token = self.agents[*who].token().clone();
                self.world.desk.readmit(&token);
                self.model.out.remove(&token);
                let message = self.agents[*who].hello_message(&[]);
                self.control(*who, verb::HELLO, message);
            }
            Step::Policy { which } => {
                let text = [
                    POLICY.to_owned(),
                    POLICY.replacen(r#"subscribers = ["reader"]"#, r#"subscribers = ["server"]"#, 1),
                    POLICY.replace("[rules.top]", "[rules.summit]"),
                ];
                let did = self.world.replace(&text[*which]);
                self.judge(&did);
                // Readings that the new policy does not allow are over, also if it allows them again later.
                let rules: Vec<Rule> = self.world.desk.sessions().in_force().bundle.rules().to_vec();
                let who = &self.who;
                for (id, said) in &mut self.model.sessions {
                    said.readings.retain(|_, reading| {
                        let rule = rules.iter().find(|rule| rule.name.as_str() == reading);
                        rule.is_some_and(|rule| rule.subscriber(&who[id].1).is_some())
                    });
                }
            }
            Step::Pass { ms } => {
                let did = self.world.pass(*ms);
                self.judge(&did);
            }
        }
        let roster = self.world.desk.sessions().roster();
        for agent in &self.agents {
            assert!(roster.of_agent(agent.token().as_str()).count() <= MAX_SESSIONS);
            assert!(roster.keys_of_agent(agent.token()) <= MAX_AGENT_KEYS);
        }
        assert!(roster.iter().all(|session| session.readings.len() <= MAX_READINGS));
        assert!(self.world.desk.held() < 20_000);
    }

    fn publish(&mut self, who: usize, key: usize, lie: Lie) {
        let keys = if lie == Lie::Refused { &mut self.refused[who] } else { &mut self.keys[who] };
        let Some(key) = pick(keys, key) else { return };
        let sending = &mut keys[key];
        let rule = sending.live.rule.to_string();
        let subject = RULES.iter().find(|(known, _)| *known == rule).unwrap().1;
        let mut say = self.agents[who].say(&self.world, sending, subject);
        let mut wire_subject = subject;
        match lie {
            Lie::No | Lie::Refused => {}
            Lie::Subject => wire_subject = "news.elsewhere",
            Lie::OtherSubject => {
                say.fields.subject = Subject::parse("else.where").unwrap();
                wire_subject = "else.where";
            }
            Lie::Sender => say.fields.sender = self.agents[(who + 1) % TEAMS.len()].token().clone(),
            Lie::Rule => say.fields.rule = name("top"),
            Lie::Label => say.fields.label = label(2, 1, 1),
            Lie::Parent => {
                say.fields.parents =
                    vec![sealbus_envelope::wire::Parent { digest: [1; 32], label: label(2, 0, 0) }];
            }
            Lie::Old => say.fields.issued_at = self.world.now.minus(40_000),
            Lie::Sequence => say.fields.sequence = say.fields.sequence.saturating_sub(1),
            Lie::Reply => {
                // Of one that was put to it, if it is honest; of any, if not.
                let me = self.agents[who].session();
                let mine = self.model.asked.iter().find(|(_, (_, responder, _))| *responder == me);
                let any = pick(&self.requests, self.envelopes.len()).map(|at| self.requests[at]);
                let Some(request) = mine.map(|(digest, _)| *digest).or(any) else { return };
                say.fields.request = Some(request);
            }
        }
        let agent = &self.agents[who];
        let (digest, bytes) = agent.seal(sending, &say);
        if rule.starts_with("ask") && lie == Lie::No {
            self.requests.push(digest);
        }
        let subject = self.world.wire.ingress(agent.token(), wire_subject);
        self.envelopes.push((subject.clone(), bytes.clone()));
        self.envelope(&subject, &bytes);
    }

    fn end(mut self) {
        let logged = self.world.admitted_in_log();
        for (digest, _) in &self.admissions {
            assert_eq!(logged.get(digest), Some(&1), "forwarded and not in the log, or twice");
        }
        assert_eq!(logged.len(), self.admissions.len(), "in the log and not forwarded");
        let positions: HashSet<u64> = self.admissions.iter().map(|(_, position)| *position).collect();
        assert_eq!(positions.len(), self.admissions.len(), "a position was given twice");
        let granted = self.world.log().into_iter();
        let granted = granted
            .filter(|entry| matches!(entry.body, sealbus_guard::audit::entry::Body::KeyGranted(_)))
            .count();
        assert_eq!(granted, self.relayed.len(), "keys relayed and keys logged");
        // All leave, and nothing stays.
        let sessions: Vec<SessionId> =
            self.world.desk.sessions().roster().iter().map(|session| session.id()).collect();
        for session in sessions {
            self.world.desk.gone(session, self.world.now);
            self.world.did();
        }
        self.world.pass(1_000_000);
        assert_eq!(self.world.desk.held(), 0, "something is kept of who has left");
    }
}

fn pick<T>(from: &[T], at: usize) -> Option<usize> {
    at.checked_rem(from.len())
}

/// All say hello, subscribe, and open keys, so that most steps find something to do.
fn settle(simulation: &mut Simulation) {
    for who in 0..TEAMS.len() {
        simulation.step(&Step::Hello { who, keys: false });
        for rule in 0..RULES.len() {
            simulation.step(&Step::Subscribe { who, rule, id: u32::try_from(rule).unwrap() });
        }
    }
    for who in 0..TEAMS.len() {
        for rule in 0..RULES.len() {
            simulation.step(&Step::Open { who, rule, label: 1, epoch: 0, asker: None });
            let asker = Some(4 + who % 2);
            simulation.step(&Step::Open { who, rule, label: 1, epoch: 0, asker });
        }
        for key in 0..8 {
            simulation.step(&Step::Grant { who, key, readers: (0..TEAMS.len()).collect() });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn whatever_anybody_does_the_model_holds(steps in prop::collection::vec(step(), 1..250)) {
        let mut simulation = Simulation::new();
        settle(&mut simulation);
        for step in &steps {
            simulation.step(step);
        }
        simulation.end();
    }
}

/// The simulation is of no use if everything in it is denied.
#[test]
fn the_simulation_gets_somewhere() {
    let mut simulation = Simulation::new();
    settle(&mut simulation);
    for n in 0..200 {
        let lie = if n % 3 == 0 { Lie::Reply } else { Lie::No };
        simulation.step(&Step::Publish { who: n % TEAMS.len(), key: n / 8, lie });
        simulation.step(&Step::Pass { ms: 10 });
    }
    assert!(simulation.relayed.len() > 10, "{} keys", simulation.relayed.len());
    assert!(simulation.model.forwarded.len() > 20, "{} envelopes", simulation.model.forwarded.len());
    assert!(simulation.requests.len() > simulation.model.asked.len(), "no reply was ever accepted");
    simulation.end();
}

//! Keys and messages from end to end: what the guard relays, readers can use, and nobody else.

use std::{collections::HashMap, sync::Arc};

use sealbus_envelope::{
    control::{ReaderRecord, Rekey, Want, kind, verb},
    hash::Hash,
    identity::{Credential, Member, SessionId, Status},
    keys::{KeyId, ReaderSecret},
    policy::{FlowGrant, Rule, Tables},
    reader::{
        Context, DEFAULT_SKEW_MS, Delivery, EpochFloor, Lookup, PolicyHistory, ReadingKey, accept_grant,
        check_reader, read,
    },
    reason::{Reason, Refused},
    time::Millis,
    wire::Opened,
};
use serde_bytes::ByteBuf;

use super::world::{Agent, Did, POLICY, Sending, World, label};

/// A reader's side, as a client keeps it.
struct Client {
    me: Member,
    secrets: Vec<(Hash, ReaderSecret)>,
    tables: Tables,
    rules: HashMap<String, Arc<Rule>>,
    grants: HashMap<String, Arc<FlowGrant>>,
    policies: PolicyHistory,
    epochs: EpochFloor,
    status: Status,
    guard: Arc<Credential>,
    members: HashMap<SessionId, Arc<Member>>,
    keys: HashMap<KeyId, Arc<ReadingKey>>,
    asked: Vec<Hash>,
    now: Millis,
}

impl Lookup for Client {
    fn guard(&self, key: &[u8; 32]) -> Option<Arc<Credential>> {
        Some(Arc::clone(&self.guard)).filter(|guard| guard.claims().identity.as_bytes() == key)
    }
    fn member(&self, session: &SessionId) -> Option<Arc<Member>> {
        self.members.get(session).cloned()
    }
    fn rule(&self, name: &str) -> Option<Arc<Rule>> {
        self.rules.get(name).cloned()
    }
    fn flow_grant(&self, name: &str) -> Option<Arc<FlowGrant>> {
        self.grants.get(name).cloned()
    }
    fn key(&self, id: &KeyId) -> Option<Arc<ReadingKey>> {
        self.keys.get(id).cloned()
    }
    fn asked(&self, request: &Hash) -> bool {
        self.asked.contains(request)
    }
}

impl Client {
    fn new(world: &World, agent: &Agent) -> Self {
        let in_force = world.desk.sessions().in_force();
        let mut policies = PolicyHistory::default();
        policies.enter(in_force.policy.version(), *in_force.policy.digest(), Millis(0)).unwrap();
        let (rules, grants) = (in_force.bundle.rules().iter(), in_force.bundle.grants().iter());
        Self {
            me: agent.member(),
            secrets: vec![(agent.reader_key.digest(), agent.secret.clone())],
            tables: in_force.bundle.tables().clone(),
            rules: rules.map(|rule| (rule.name.to_string(), Arc::new(rule.clone()))).collect(),
            grants: grants.map(|grant| (grant.name.to_string(), Arc::new(grant.clone()))).collect(),
            policies,
            epochs: EpochFloor::default(),
            status: (*in_force.status).clone(),
            guard: Arc::new(world.guard_credential.clone()),
            members: HashMap::new(),
            keys: HashMap::new(),
            asked: vec![],
            now: world.now,
        }
    }

    fn with<T>(&self, world: &World, f: impl FnOnce(&Context<'_>) -> T) -> T {
        f(&Context {
            me: &self.me,
            subjects: &world.wire,
            tables: &self.tables,
            policies: &self.policies,
            epochs: &self.epochs,
            status: &self.status,
            now: self.now,
            skew_ms: DEFAULT_SKEW_MS,
        })
    }

    /// Takes every grant that was relayed to it.
    fn take(&mut self, world: &World, agent: &Agent, did: &Did) -> usize {
        let mut taken = 0;
        for granted in agent.granted(did) {
            let bus = world.roots.bus();
            let sender =
                Member::verify(&granted.credential, &granted.certificate, bus, &world.roots.issuer).unwrap();
            for bytes in &granted.grants {
                let secrets: Vec<_> = self.secrets.iter().map(|(digest, secret)| (*digest, secret)).collect();
                let key = self
                    .with(world, |context| accept_grant(bytes, &sender, &secrets, context, self))
                    .unwrap();
                self.keys.insert(key.id(), Arc::new(ReadingKey::new(key)));
                taken += 1;
            }
            self.members.insert(sender.session(), Arc::new(sender));
        }
        taken
    }

    /// Reads the one envelope that was forwarded.
    fn read(&self, world: &World, did: &Did) -> Result<Opened, Refused> {
        let forwarded = did.forwarded();
        assert_eq!(forwarded.len(), 1);
        let delivery = Delivery {
            bytes: forwarded[0].payload(),
            admission: forwarded[0].admission(),
            approvals: None,
            subject: forwarded[0].subject(),
        };
        self.with(world, |context| read(&delivery, context, self, &()))
    }
}

/// The sender decides for itself whom it seals to.
fn judge(world: &World, sender: &Agent, record: &ReaderRecord, sending: &Sending) -> Result<(), Refused> {
    let client = Client::new(world, sender);
    let rule = Arc::clone(&client.rules[sending.live.rule.as_str()]);
    let asked = sending.live.asker.is_some();
    client
        .with(world, |context| {
            check_reader(record, &world.roots.issuer, &rule, sending.live.label, asked, context)
        })
        .map(|_| ())
}

fn rekeys(did: &Did, agent: &Agent) -> Vec<KeyId> {
    did.told::<Rekey>(agent, kind::REKEY).iter().map(|rekey| rekey.key).collect()
}

#[test]
fn a_sender_opens_a_key_and_its_readers_read() {
    let mut world = World::new();
    let (writer, reader, late) =
        (world.agent("wanda", "writer"), world.agent("rita", "reader"), world.agent("lena", "reader"));
    writer.hello(&mut world, &[]);
    reader.hello(&mut world, &[]);
    reader.subscribe(&mut world, 1, "news", "news.>");
    let (mut sending, readers) = writer.opened(&mut world, "news", label(1, 1, 0), 0);
    assert_eq!(readers.len(), 1);
    judge(&world, &writer, &readers[0], &sending).unwrap();

    let mut client = Client::new(&world, &reader);
    let did = writer.grant(&mut world, &sending, &[&reader]);
    assert_eq!(client.take(&world, &reader, &did), 1);
    let (did, _) = writer.publish(&mut world, &mut sending, "news.today");
    assert_eq!(client.read(&world, &did).unwrap().content().payload, b"payload");
    assert_eq!(client.read(&world, &did).unwrap_err().reason, Reason::Replay);

    // A late joiner is announced to the sender and gets the current key.
    late.hello(&mut world, &[]);
    let mut late_client = Client::new(&world, &late);
    let did = late.subscribe(&mut world, 1, "news", "news.today");
    let announced = writer.readers(&did, sending.key.id());
    assert_eq!(announced.len(), 1);
    assert_eq!(announced[0].credential, late.credential.as_str());
    let did = writer.grant(&mut world, &sending, &[&late]);
    late_client.take(&world, &late, &did);
    let (did, _) = writer.publish(&mut world, &mut sending, "news.today");
    assert!(late_client.read(&world, &did).is_ok() && client.read(&world, &did).is_ok());

    // Reading a second time is announced to nobody: the key is there. Asking for it is, once a second.
    assert!(writer.readers(&late.subscribe(&mut world, 2, "news", "news.>"), sending.key.id()).is_empty());
    let want = Want { session: ByteBuf::from(writer.session().as_bytes()), key: sending.key.id() };
    let want = sealbus_envelope::control::encode(&want).unwrap();
    let did = world.control(&late, verb::WANT, want.clone());
    assert_eq!(writer.readers(&did, sending.key.id()).len(), 1);
    assert!(writer.readers(&world.control(&late, verb::WANT, want.clone()), sending.key.id()).is_empty());

    // Its sender left meanwhile: asking is in vain, and no fault of the reader's.
    let bye = sealbus_envelope::control::encode(&sealbus_envelope::control::Bye {}).unwrap();
    world.control(&writer, verb::BYE, bye);
    assert!(world.control(&late, verb::WANT, want).denials(&late).is_empty());
}

#[test]
fn who_may_not_read_is_granted_nothing() {
    let mut world = World::new();
    let agents = ["writer", "reader", "server", "reader", "reader"];
    let [writer, reader, other_team, unsubscribed, left] = agents.map(|team| world.agent("anna", team));
    for agent in [&writer, &reader, &other_team, &unsubscribed, &left] {
        agent.hello(&mut world, &[]);
    }
    reader.subscribe(&mut world, 1, "news", "news.>");
    left.subscribe(&mut world, 1, "news", "news.>");
    left.unsubscribe(&mut world, 1);
    let did = other_team.subscribe(&mut world, 1, "news", "news.>");
    assert_eq!(did.denials(&other_team), [Reason::NotSubscriber]);
    let (sending, readers) = writer.opened(&mut world, "news", label(1, 1, 0), 0);
    assert_eq!(readers.len(), 1, "only who reads is named");

    // One grant to somebody who must not have it does not keep the honest one back.
    let did = writer.grant(&mut world, &sending, &[&other_team, &unsubscribed, &left, &reader]);
    assert_eq!(reader.granted(&did).len(), 1);
    for agent in [&other_team, &unsubscribed, &left] {
        assert!(agent.granted(&did).is_empty());
    }
    assert_eq!(did.denials(&writer), [Reason::NotSubscriber]);

    // Nobody grants another's key, or a key that is not open.
    let mallory = world.agent("mallory", "writer");
    mallory.hello(&mut world, &[]);
    let did = mallory.grant(&mut world, &sending, &[&reader]);
    assert_eq!((reader.granted(&did).len(), did.denials(&mallory)), (0, vec![Reason::UnknownKey]));
    let (own, _) = mallory.opened(&mut world, "news", label(1, 1, 0), 0);
    let forged = Sending { key: sending.key.clone(), live: own.live.clone() };
    let did = mallory.grant(&mut world, &forged, &[&reader]);
    assert!(reader.granted(&did).is_empty());
}

#[test]
fn who_loses_its_right_has_keys_rotate_and_the_old_ones_refused() {
    let mut world = World::new();
    let (writer, reader) = (world.agent("wanda", "writer"), world.agent("rita", "reader"));
    writer.hello(&mut world, &[]);
    reader.hello(&mut world, &[]);
    reader.subscribe(&mut world, 1, "news", "news.>");
    let (mut sending, _) = writer.opened(&mut world, "news", label(1, 1, 0), 0);
    writer.grant(&mut world, &sending, &[&reader]);

    let did = world.expel(&reader.token().clone());
    assert_eq!(did.disconnected, [(reader.session(), Reason::Quarantined)]);
    let did = world.pass(1_000);
    assert_eq!(rekeys(&did, &writer), [sending.key.id()]);
    // What is under way still passes, two seconds later nothing does.
    assert_eq!(writer.publish(&mut world, &mut sending, "news.today").0.forwarded().len(), 1);
    world.pass(1_000);
    let (did, _) = writer.publish(&mut world, &mut sending, "news.today");
    assert_eq!(did.denied(&writer), Reason::StaleKey);
    let (mut next, readers) = writer.opened(&mut world, "news", label(1, 1, 0), 1);
    assert!(readers.is_empty());
    assert_eq!(writer.publish(&mut world, &mut next, "news.today").0.forwarded().len(), 1);
    assert!(
        reader
            .subscribe(&mut world, 1, "news", "news.>")
            .published
            .iter()
            .all(|out| { !out.subject().contains(".subscribed") })
    );
}

#[test]
fn a_policy_that_takes_a_right_away_has_keys_rotate() {
    let mut world = World::new();
    let (writer, reader) = (world.agent("wanda", "writer"), world.agent("rita", "reader"));
    writer.hello(&mut world, &[]);
    reader.hello(&mut world, &[]);
    reader.subscribe(&mut world, 1, "news", "news.>");
    let (mut sending, _) = writer.opened(&mut world, "news", label(1, 1, 0), 0);
    writer.grant(&mut world, &sending, &[&reader]);
    world.replace(&POLICY.replacen(r#"subscribers = ["reader"]"#, r#"subscribers = ["server"]"#, 1));
    let did = world.pass(1_000);
    assert_eq!(rekeys(&did, &writer), [sending.key.id()]);
    assert!(reader.granted(&writer.grant(&mut world, &sending, &[&reader])).is_empty());
    world.pass(1_000);
    assert_eq!(writer.publish(&mut world, &mut sending, "news.today").0.denied(&writer), Reason::StaleKey);
}

#[test]
fn who_comes_and_goes_makes_nobody_rotate_all_the_time() {
    let mut world = World::new();
    let (writer, reader) = (world.agent("wanda", "writer"), world.agent("rita", "reader"));
    writer.hello(&mut world, &[]);
    reader.hello(&mut world, &[]);
    let (mut told, mut epoch) = (0, 0);
    let (mut sending, _) = writer.opened(&mut world, "news", label(1, 1, 0), 0);
    for _ in 0..60 {
        reader.subscribe(&mut world, 1, "news", "news.>");
        writer.grant(&mut world, &sending, &[&reader]);
        reader.unsubscribe(&mut world, 1);
        let did = world.pass(1_000);
        for key in rekeys(&did, &writer) {
            assert_eq!(key, sending.key.id());
            told += 1;
            epoch += 1;
            sending = writer.opened(&mut world, "news", label(1, 1, 0), epoch).0;
        }
    }
    assert!((4..=6).contains(&told), "about once in ten seconds: {told}");
}

struct Exchange {
    world: World,
    asker: Agent,
    server: Agent,
    asking: Sending,
    answering: Sending,
    server_client: Client,
    asker_client: Client,
}

fn exchange() -> Exchange {
    let mut world = World::new();
    let (asker, server) = (world.agent("ada", "asker"), world.agent("sven", "server"));
    asker.hello(&mut world, &[]);
    server.hello(&mut world, &[]);
    server.subscribe(&mut world, 1, "ask", "ask.>");
    let (asking, readers) = asker.opened(&mut world, "ask", label(1, 1, 1), 0);
    assert_eq!(readers.len(), 1);
    let (mut asker_client, mut server_client) = (Client::new(&world, &asker), Client::new(&world, &server));
    let did = asker.grant(&mut world, &asking, &[&server]);
    server_client.take(&world, &server, &did);
    let answering = server.make_key("ask", label(1, 1, 1), 0, Some(asker.session()));
    let did = server.open(&mut world, &[&answering]);
    let readers = server.readers(&did, answering.key.id());
    assert_eq!(readers.len(), 1);
    judge(&world, &server, &readers[0], &answering).unwrap();
    let did = server.grant(&mut world, &answering, &[&asker]);
    assert_eq!(asker_client.take(&world, &asker, &did), 1);
    Exchange { world, asker, server, asking, answering, server_client, asker_client }
}

impl Exchange {
    fn ask(&mut self) -> (Did, Hash) {
        let say = self.asker.say(&self.world, &mut self.asking, "ask.you");
        let (digest, bytes) = self.asker.seal(&self.asking, &say);
        self.asker_client.asked.push(digest);
        (self.world.envelope(&self.asker, "ask.you", &bytes), digest)
    }

    fn answer(&mut self, request: Hash, subject: &str) -> Did {
        let mut say = self.server.say(&self.world, &mut self.answering, subject);
        say.fields.request = Some(request);
        let (_, bytes) = self.server.seal(&self.answering, &say);
        self.world.envelope(&self.server, subject, &bytes)
    }
}

#[test]
fn a_request_has_one_reply_from_who_was_asked() {
    let mut x = exchange();
    let (did, request) = x.ask();
    assert_eq!(
        did.forwarded()[0].subject(),
        x.world.wire.session_box(x.server.token(), &x.server.session(), "request")
    );
    assert!(x.server_client.read(&x.world, &did).is_ok());
    assert_eq!(x.answer(request, "ask.me").denied(&x.server), Reason::NoRequest, "on another subject");
    let did = x.answer(request, "ask.you");
    assert_eq!(x.asker_client.read(&x.world, &did).unwrap().header().request, Some(request));
    assert_eq!(x.answer(request, "ask.you").denied(&x.server), Reason::NoRequest, "one request, one reply");
    assert_eq!(x.answer([9; 32], "ask.you").denials(&x.server), [Reason::NoRequest]);
    let (_, late) = x.ask();
    x.world.pass(10_001);
    assert_eq!(x.answer(late, "ask.you").denied(&x.server), Reason::NoRequest);
}

#[test]
fn a_reply_goes_under_the_rule_of_its_request_and_to_who_asked() {
    let mut x = exchange();
    let (_, request) = x.ask();
    // Under another rule that the same agents have.
    let mut other = x.server.make_key("ask-other", label(1, 1, 1), 0, Some(x.asker.session()));
    x.server.open(&mut x.world, &[&other]);
    let mut say = x.server.say(&x.world, &mut other, "ask.you");
    say.fields.request = Some(request);
    let (_, bytes) = x.server.seal(&other, &say);
    assert_eq!(x.world.envelope(&x.server, "ask.you", &bytes).denied(&x.server), Reason::NoRequest);
    // Sealed for another asker.
    let nosy = x.world.agent("nosy", "asker");
    nosy.hello(&mut x.world, &[]);
    let mut other = x.server.make_key("ask", label(1, 1, 1), 0, Some(nosy.session()));
    x.server.open(&mut x.world, &[&other]);
    let mut say = x.server.say(&x.world, &mut other, "ask.you");
    say.fields.request = Some(request);
    let (_, bytes) = x.server.seal(&other, &say);
    assert_eq!(x.world.envelope(&x.server, "ask.you", &bytes).denied(&x.server), Reason::WrongReader);
    // By another server than was asked, who knows the digest.
    let hijacker = x.world.agent("hugo", "server");
    hijacker.hello(&mut x.world, &[]);
    hijacker.subscribe(&mut x.world, 1, "ask", "ask.>");
    let mut key = hijacker.make_key("ask", label(1, 1, 1), 0, Some(x.asker.session()));
    hijacker.open(&mut x.world, &[&key]);
    let mut say = hijacker.say(&x.world, &mut key, "ask.you");
    say.fields.request = Some(request);
    let (_, bytes) = hijacker.seal(&key, &say);
    assert_eq!(x.world.envelope(&hijacker, "ask.you", &bytes).denied(&hijacker), Reason::NoRequest);
    assert_eq!(x.answer(request, "ask.you").forwarded().len(), 1);
    // A key for replies is no way to ask, and opens to nobody but the asker.
    let did = x.server.grant(&mut x.world, &x.answering, &[&nosy]);
    assert!(nosy.granted(&did).is_empty());
}

#[test]
fn who_has_no_responder_is_told() {
    let mut x = exchange();
    x.server.unsubscribe(&mut x.world, 1);
    let (did, _) = x.ask();
    assert_eq!(did.denied(&x.asker), Reason::NoResponder);
}

#[test]
fn credentials_are_shown_only_to_who_may_seal_to_them() {
    let mut world = World::new();
    let (server, writer) = (world.agent("sven", "server"), world.agent("wanda", "writer"));
    server.hello(&mut world, &[]);
    writer.hello(&mut world, &[]);
    // A key for replies to a session that may not ask.
    let nosy = server.make_key("ask", label(1, 1, 1), 0, Some(writer.session()));
    let did = server.open(&mut world, &[&nosy]);
    assert!(server.readers(&did, nosy.key.id()).is_empty());
}

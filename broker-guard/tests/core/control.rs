//! Sessions: hello and its repetition, limits, budgets.

use sealbus_envelope::{
    control::{self, Hello, Readers, Rekey, Welcome, kind, verb},
    reason::Reason,
};
use sealbus_guard::roster::session::{MAX_READINGS, MAX_SESSIONS};
use serde_bytes::ByteBuf;

use super::world::{POLICY, Sending, World, label};

fn replayed(sending: &Sending, next: u64) -> Sending {
    let mut live = sending.live.clone();
    live.next = next;
    Sending { key: sending.key.clone(), live }
}

#[test]
fn a_repeated_hello_ends_nothing_and_turns_nothing_back() {
    let mut world = World::new();
    let (writer, mut reader) = (world.agent("wanda", "writer"), world.agent("rita", "reader"));
    let (first_hello, reader_hello) = (writer.hello_message(&[]), reader.hello_message(&[]));
    world.control(&writer, verb::HELLO, first_hello.clone());
    world.control(&reader, verb::HELLO, reader_hello.clone());
    reader.subscribe(&mut world, 1, "news", "news.>");
    let mut sending = writer.make_key("news", label(1, 1, 0), 0, None);
    let open = writer.open_message(&[&sending]);
    world.control(&writer, verb::OPEN, open.clone());
    writer.grant(&mut world, &sending, &[&reader]);
    let (_, bytes) = writer.publish(&mut world, &mut sending, "news.today");
    world.pass(1_000);
    let notice = reader.new_reader_key(world.now);
    world.control(&reader, verb::READER, notice);

    // All of it again, in every order.
    for messages in [[&first_hello, &open], [&open, &first_hello]] {
        for message in messages {
            let verb = if message == &open { verb::OPEN } else { verb::HELLO };
            world.control(&writer, verb, message.clone());
        }
        assert_eq!(world.envelope(&writer, "news.today", &bytes).denials(&writer), [Reason::Replay]);
    }
    world.control(&reader, verb::HELLO, reader_hello);
    let did = writer.open(&mut world, &[&sending]);
    let readers = writer.readers(&did, sending.key.id());
    assert_eq!(readers.len(), 1, "it still reads");
    assert_eq!(readers[0].reader_key, reader.reader_key.as_bytes(), "and to its newest key");
    assert!(world.pass(20_000).told::<Rekey>(&writer, kind::REKEY).is_empty());
    assert_eq!(writer.publish(&mut world, &mut sending, "news.today").0.forwarded().len(), 1);
}

#[test]
fn leaving_and_rotating_turn_nothing_back_while_anything_is_fresh() {
    let mut world = World::new();
    let writer = world.agent("wanda", "writer");
    writer.hello(&mut world, &[]);
    let (mut sending, _) = writer.opened(&mut world, "news", label(1, 1, 0), 0);
    let (_, bytes) = writer.publish(&mut world, &mut sending, "news.today");
    let again = writer.open_message(&[&replayed(&sending, 0)]);
    // It leaves, and whoever kept its messages brings it back.
    world.control(&writer, verb::BYE, control::encode(&control::Bye {}).unwrap());
    world.control(&writer, verb::HELLO, writer.hello_message(&[&replayed(&sending, 0)]));
    assert_eq!(world.envelope(&writer, "news.today", &bytes).denied(&writer), Reason::Replay);
    // It rotates twice, so that the first key is forgotten, and the old statement comes again.
    for epoch in 1..4 {
        writer.opened(&mut world, "news", label(1, 1, 0), epoch);
    }
    let did = world.control(&writer, verb::OPEN, again);
    assert_eq!(did.told::<Readers>(&writer, kind::READERS)[0].refused, Some(Reason::StaleKey));
    assert!(world.envelope(&writer, "news.today", &bytes).forwarded().is_empty());
    // With the newer ones gone as well.
    world.control(&writer, verb::BYE, control::encode(&control::Bye {}).unwrap());
    world.control(&writer, verb::HELLO, writer.hello_message(&[&replayed(&sending, 0)]));
    assert!(world.envelope(&writer, "news.today", &bytes).forwarded().is_empty());
    world.pass(59_000);
    assert!(world.envelope(&writer, "news.today", &bytes).forwarded().is_empty());
    world.control(&writer, verb::BYE, control::encode(&control::Bye {}).unwrap());
    world.pass(62_000);
    assert_eq!(world.desk.sessions().roster().weight(), 0, "and then nothing is kept of it");
    world.pass(600_000);
    assert_eq!(world.desk.held(), 0);
}

#[test]
fn a_hello_is_for_this_start_of_the_guard_this_session_and_this_agent() {
    let mut world = World::new();
    let (agent, other) = (world.agent("anna", "writer"), world.agent("otto", "writer"));
    let message = agent.hello_message(&[]);
    // On another's subject.
    let did = world.control(&other, verb::HELLO, message.clone());
    assert!(world.desk.sessions().roster().is_empty() && did.forwarded().is_empty());
    // Changed parts.
    let decoded: Hello = control::decode(&message).unwrap();
    let changes: [fn(&mut Hello, &super::world::Agent); 3] = [
        |hello, other| hello.credential = other.credential.as_str().to_owned(),
        |hello, other| hello.certificate = ByteBuf::from(other.certificate.as_bytes()),
        |hello, other| hello.statement = ByteBuf::from(other.statement(&[])),
    ];
    for change in changes {
        let mut hello = decoded.clone();
        change(&mut hello, &other);
        world.control(&agent, verb::HELLO, control::encode(&hello).unwrap());
        assert!(world.desk.sessions().roster().is_empty());
    }
    let mut hello = decoded.clone();
    hello.reader_key = Some(ByteBuf::from(other.reader_key.as_bytes()));
    world.control(&agent, verb::HELLO, control::encode(&hello).unwrap());
    assert!(world.desk.sessions().roster().is_empty());
    // To another start of the guard.
    let mut restarted = World::new();
    restarted.epoch.challenge = [8; 16];
    let stranger = restarted.agent("anna", "writer");
    let did = restarted.control(&stranger, verb::HELLO, stranger.hello_message(&[]));
    assert!(did.told::<Welcome>(&stranger, kind::WELCOME).is_empty());
    // The true one.
    assert_eq!(world.control(&agent, verb::HELLO, message).told::<Welcome>(&agent, kind::WELCOME).len(), 1);
    // The same session under another name.
    let renamed = world.rename(&agent, "bert", "writer");
    let subject = world.wire.control(renamed.token(), &agent.session(), verb::HELLO);
    let hello = Hello { credential: renamed.as_str().to_owned(), ..decoded };
    world.control_on(&subject, control::encode(&hello).unwrap());
    let session = world.desk.sessions().roster().get(agent.session()).unwrap();
    assert_eq!(session.agent(), agent.token());
}

#[test]
fn a_key_that_the_policy_forbids_does_not_keep_its_session_out() {
    let mut world = World::new();
    let writer = world.agent("wanda", "writer");
    writer.hello(&mut world, &[]);
    let (sending, _) = writer.opened(&mut world, "news", label(1, 1, 0), 0);
    let (good, _) = writer.opened(&mut world, "top", label(1, 1, 0), 1);
    world.replace(&POLICY.replacen(r#"publishers  = ["writer"]"#, r#"publishers  = ["server"]"#, 1));
    world.control(&writer, verb::BYE, control::encode(&control::Bye {}).unwrap());
    let did = writer.hello(&mut world, &[&sending, &good]);
    assert_eq!(did.told::<Welcome>(&writer, kind::WELCOME).len(), 1);
    let refused: Vec<_> =
        did.told::<Readers>(&writer, kind::READERS).into_iter().map(|r| (r.key, r.refused)).collect();
    assert!(refused.contains(&(sending.key.id(), Some(Reason::NotPublisher))));
    assert!(refused.contains(&(good.key.id(), None)));
}

#[test]
fn a_second_policy_of_one_version_is_refused() {
    let mut world = World::new();
    world.policy = world.records(&POLICY.replace("burst = 50", "burst = 51"));
    let in_force = world.in_force((1, 2));
    assert_eq!(world.desk.replace(in_force, world.now).unwrap_err().reason, Reason::RolledBack);
}

#[test]
fn a_welcome_that_the_server_would_not_carry_is_refused_clearly() {
    let mut policy = POLICY.to_owned();
    for n in 0..200 {
        policy += &format!(
            "\n[rules.extra-{n}]\npattern = \"extra.{n}.>\"\npublishers = [\"writer\"]\nsubscribers = [\"reader\"]\nlabels = {{ level = \"public\" }}\n"
        );
    }
    let mut world = World::with(&policy, 65_536, 4_000_000);
    let (writer, asker) = (world.agent("wanda", "writer"), world.agent("ada", "asker"));
    let did = writer.hello(&mut world, &[]);
    assert!(did.published.iter().all(|out| out.payload().len() <= 65_536));
    assert!(world.desk.sessions().roster().is_empty());
    assert!(world.log().iter().any(|entry| format!("{:?}", entry.body).contains("too_large")));
    assert_eq!(asker.hello(&mut world, &[]).told::<Welcome>(&asker, kind::WELCOME).len(), 1);
}

#[test]
fn long_lists_come_in_parts_that_the_server_carries() {
    let mut world = World::with(POLICY, 32_768, 4_000_000);
    let writer = world.agent("wanda", "writer");
    writer.hello(&mut world, &[]);
    for _ in 0..40 {
        let reader = world.agent("rita", "reader");
        reader.hello(&mut world, &[]);
        reader.subscribe(&mut world, 1, "news", "news.>");
    }
    let sending = writer.make_key("news", label(1, 1, 0), 0, None);
    let did = writer.open(&mut world, &[&sending]);
    let parts: Vec<Readers> = did.told(&writer, kind::READERS);
    assert!(parts.len() > 1 && did.published.iter().all(|out| out.payload().len() <= 32_768));
    assert_eq!(parts.iter().map(|part| part.readers.len()).sum::<usize>(), 40);
    let more: Vec<bool> = parts.iter().map(|part| part.more).collect();
    assert!(more[..more.len() - 1].iter().all(|&more| more) && !more[more.len() - 1]);
}

#[test]
fn an_agent_has_so_many_sessions_and_the_oldest_gives_way() {
    let mut world = World::new();
    let first = world.agent("anna", "reader");
    first.hello(&mut world, &[]);
    let mut ended = vec![];
    for _ in 0..MAX_SESSIONS {
        world.pass(1_000);
        let next = world.restart(&first);
        ended.extend(next.hello(&mut world, &[]).disconnected);
    }
    assert_eq!(ended, [(first.session(), Reason::Overloaded)]);
    assert_eq!(world.desk.sessions().roster().of_agent(first.token().as_str()).count(), MAX_SESSIONS);
}

#[test]
fn readings_are_bounded_and_replacing_one_leaves_nothing_behind() {
    let mut world = World::new();
    let reader = world.agent("rita", "reader");
    reader.hello(&mut world, &[]);
    for n in 0..u32::try_from(MAX_READINGS).unwrap() {
        assert!(reader.subscribe(&mut world, n, "news", "news.>").denials(&reader).is_empty());
    }
    assert_eq!(reader.subscribe(&mut world, 9_999, "news", "news.>").denials(&reader), [Reason::TooLarge]);
    for n in 0..10 {
        reader.subscribe(
            &mut world,
            0,
            if n % 2 == 0 { "top" } else { "news" },
            if n % 2 == 0 { "top.>" } else { "news.>" },
        );
    }
    assert_eq!(world.desk.sessions().roster().readers("top").count(), 0);
    world.control(&reader, verb::BYE, control::encode(&control::Bye {}).unwrap());
    world.pass(600_000);
    assert_eq!(world.desk.held(), 0);
}

#[test]
fn who_floods_pays_and_nobody_else() {
    let mut world = World::new();
    let (flood, honest) = (world.agent("flo", "writer"), world.agent("hans", "writer"));
    flood.hello(&mut world, &[]);
    let message = flood.hello_message(&[]);
    let mut limited = 0;
    for _ in 0..6_000 {
        let did = world.control(&flood, verb::HELLO, message.clone());
        limited += usize::from(did.told::<Welcome>(&flood, kind::WELCOME).is_empty());
    }
    assert!(limited > 1_000, "{limited}");
    assert_eq!(honest.hello(&mut world, &[]).told::<Welcome>(&honest, kind::WELCOME).len(), 1);
    let log = world.log().len();
    assert!(log < 40, "the log is not flooded: {log}");
    world.pass(60_000);
    assert_eq!(flood.hello(&mut world, &[]).told::<Welcome>(&flood, kind::WELCOME).len(), 1);
}

#[test]
fn one_message_causes_only_so_much() {
    let mut world = World::new();
    for _ in 0..100 {
        let reader = world.agent("rita", "reader");
        reader.hello(&mut world, &[]);
        reader.subscribe(&mut world, 1, "news", "news.>");
    }
    let writer = world.agent("wanda", "writer");
    writer.hello(&mut world, &[]);
    // As many keys as it likes, each with a hundred readers: 4,096 lists of 200 KiB.
    let keys: Vec<Sending> = (0..500)
        .map(|n| {
            let mut sending = writer.make_key("news", label(1, 1, 0), 0, None);
            sending.live.epoch = n;
            sending
        })
        .collect();
    let did = writer.open(&mut world, &keys.iter().collect::<Vec<_>>());
    let bytes: usize = did.published.iter().map(|out| out.payload().len()).sum();
    assert!(bytes < 20 << 20, "{bytes}");
    assert!(world.desk.sessions().roster().get(writer.session()).unwrap().keys.len() <= 2);
}

#[test]
fn a_sender_that_rotates_for_ever_leaves_nothing_behind() {
    let mut world = World::new();
    let (writer, reader) = (world.agent("wanda", "writer"), world.agent("rita", "reader"));
    writer.hello(&mut world, &[]);
    reader.hello(&mut world, &[]);
    reader.subscribe(&mut world, 1, "news", "news.>");
    let mut weights = vec![];
    for epoch in 0..20 {
        let (mut sending, _) = writer.opened(&mut world, "news", label(1, 1, 0), epoch);
        writer.grant(&mut world, &sending, &[&reader]);
        writer.publish(&mut world, &mut sending, "news.today");
        world.pass(70_000);
        weights.push(world.desk.sessions().roster().weight());
    }
    assert!(weights[5..].windows(2).all(|pair| pair[0] == pair[1]), "{weights:?}");
}

#[test]
fn a_session_that_the_guard_lost_is_told_so() {
    let mut world = World::new();
    let reader = world.agent("rita", "reader");
    reader.hello(&mut world, &[]);
    // Its old connection's end is heard of after its new one's hello.
    world.desk.gone(reader.session(), world.now);
    assert_eq!(world.did().denials(&reader), [Reason::UnknownSession]);
    assert_eq!(reader.subscribe(&mut world, 1, "news", "news.>").denials(&reader), [Reason::UnknownSession]);
    reader.hello(&mut world, &[]);
    assert!(reader.subscribe(&mut world, 1, "news", "news.>").denials(&reader).is_empty());
}

//! The control task of a session: greets the guard, keeps policy and keys, declares readings, and notices
//! when the guard is gone or is another one. It alone speaks on the control subjects.

mod boxed;
mod control;
mod holding;
mod tick;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use sealbus_envelope::{
    control::{GuardEpoch, Heartbeat, Hello, Subscribe, Unsubscribe, verb},
    keys::KeyId,
    name::Name,
    reason::Reason,
    subject::Pattern,
    time::Millis,
};
use serde_bytes::ByteBuf;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{
    driver::{
        control::{Control, Say},
        holding::Asking,
    },
    error::{Error, ErrorKind, Result},
    events::Event,
    inlet::Raw,
    outbox::Signal,
    sealing::Slot,
    shared::{Command, Link, Shared},
    sync,
};

pub(crate) use boxed::PolicyOnly;
pub(crate) use control::write as write_control;
pub(crate) use tick::first_reader_keys;

/// No heartbeat for this long: the guard is away.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long an answer may take before the question is put again.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// How far the greeting has come.
#[derive(Debug, Clone)]
enum Phase {
    /// Waiting for a heartbeat to greet.
    Waiting,
    /// Said hello to this guard epoch.
    Greeted { guard: GuardEpoch, signer: [u8; 32], at: Instant },
    /// Welcomed by it.
    Welcomed { guard: GuardEpoch },
}

/// A declared reading.
#[derive(Debug)]
struct Declared {
    rule: Name,
    pattern: Pattern,
    serve: bool,
    wire: Vec<String>,
    /// When it was last declared, if the guard has not answered.
    asked: Option<Instant>,
    group: u32,
}

/// Who waits for the answers to one subscription.
#[derive(Debug)]
struct Group {
    ids: Vec<u32>,
    open: usize,
    done: oneshot::Sender<Result<Vec<u32>>>,
}

/// Where the driver's input comes from.
pub(crate) struct Inputs {
    pub(crate) inbox: async_nats::Subscriber,
    pub(crate) heartbeats: async_nats::Subscriber,
    pub(crate) commands: mpsc::UnboundedReceiver<Command>,
    pub(crate) connection: mpsc::UnboundedReceiver<async_nats::Event>,
    pub(crate) stop: CancellationToken,
}

/// The task.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    control: Control,
    requests: mpsc::Sender<Raw>,
    phase: Phase,
    connected: bool,
    last_beat: Instant,
    /// The guard's clock at its last heartbeat.
    guard_time: Millis,
    /// The highest lease epoch of a known guard.
    epoch: u64,
    /// The guard epoch that last welcomed us.
    welcomed_by: Option<GuardEpoch>,
    /// Since when heartbeats name a newer policy or status than ours.
    behind: Option<Instant>,
    readings: HashMap<u32, Declared>,
    groups: HashMap<u32, Group>,
    next_id: u32,
    wants: HashMap<KeyId, Instant>,
    asking: Asking,
    reader_key_made: Instant,
    last_sweep: Instant,
    dropped: u64,
}

impl Driver {
    pub(crate) fn new(
        shared: Arc<Shared>,
        control: mpsc::UnboundedSender<Say>,
        requests: mpsc::Sender<Raw>,
    ) -> Self {
        let now = Instant::now();
        Self {
            control: Control::new(Arc::clone(&shared.session), control),
            shared,
            requests,
            phase: Phase::Waiting,
            connected: true,
            last_beat: now,
            guard_time: Millis::default(),
            epoch: 0,
            welcomed_by: None,
            behind: None,
            readings: HashMap::new(),
            groups: HashMap::new(),
            next_id: 1,
            wants: HashMap::new(),
            asking: Asking::default(),
            reader_key_made: now,
            last_sweep: now,
            dropped: 0,
        }
    }

    /// Runs until the client is closed or dropped.
    pub(crate) async fn run(mut self, mut inputs: Inputs) {
        let mut tick = tokio::time::interval(Duration::from_millis(250));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut closing = None;
        self.ask_for_heartbeat();
        loop {
            tokio::select! {
                biased;
                Some(event) = inputs.connection.recv() => self.on_connection(event),
                // Before the heartbeats: a welcome to a newer policy comes ahead of the heartbeat that names it.
                Some(message) = inputs.inbox.next() => {
                    self.shared.count_taken();
                    self.on_box(message).await;
                }
                Some(beat) = inputs.heartbeats.next() => {
                    self.shared.count_taken();
                    self.on_heartbeat(&beat.payload);
                }
                Some(command) = inputs.commands.recv() => {
                    if let Command::Close(done) = command {
                        closing = Some(done);
                        break;
                    }
                    self.on_command(command);
                }
                _ = tick.tick() => self.on_tick(),
                () = inputs.stop.cancelled() => break,
            }
        }
        self.control.say(verb::BYE, &sealbus_envelope::control::Bye {});
        self.control.finish().await;
        self.shared.set_link(Link::Closed);
        self.groups.clear();
        self.shared.room.close();
        // Whoever waits for an answer learns that none will come.
        sync::lock(&self.shared.verdicts).clear();
        sync::lock(&self.shared.held).clear();
        self.asking = Asking::default();
        sync::lock(&self.shared.replies).clear();
        sync::lock(&self.shared.servers).clear();
        self.shared.signal(Signal::Stop);
        self.shared.events.close();
        // Everything said before is on the wire once the server answers.
        let flushed = tokio::time::timeout(Duration::from_secs(2), self.shared.nats.flush()).await;
        tracing::debug!(flushed = flushed.is_ok(), "session ended");
        let _already_closed = self.shared.nats.drain().await;
        if let Some(done) = closing {
            let _gave_up = done.send(());
        }
    }

    /// Asks for a heartbeat, instead of waiting up to a second for the next.
    fn ask_for_heartbeat(&mut self) {
        self.control.say(verb::GREET, &sealbus_envelope::control::Greet {});
    }

    fn on_connection(&mut self, event: async_nats::Event) {
        match event {
            async_nats::Event::Disconnected => {
                self.connected = false;
                self.phase = Phase::Waiting;
                if *self.shared.link.borrow() == Link::Ready {
                    self.shared.set_link(Link::Joining);
                }
                self.shared.events.send(Event::Disconnected);
            }
            async_nats::Event::Connected => {
                if !self.connected {
                    self.connected = true;
                    // The guard forgets a session whose connection broke; its heartbeat will be greeted.
                    self.phase = Phase::Waiting;
                    self.ask_for_heartbeat();
                    self.shared.events.send(Event::Reconnected);
                }
            }
            async_nats::Event::SlowConsumer(_) => self.dropped += 1,
            async_nats::Event::ServerError(error) => self.on_server_error(&error.to_string()),
            other => tracing::debug!(event = %other, "connection"),
        }
    }

    /// nats-server tells of a refused permission in words only, after the fact.
    fn on_server_error(&mut self, text: &str) {
        tracing::debug!(text, "server error");
        let lower = text.to_ascii_lowercase();
        if !lower.contains("permissions violation") {
            return;
        }
        let subject = text.split('"').nth(1).unwrap_or_default().to_owned();
        if lower.contains("subscription") {
            if let Some(group) = self
                .readings
                .values()
                .find(|reading| reading.wire.contains(&subject))
                .map(|reading| reading.group)
            {
                let detail = format!("the server does not grant `{subject}`");
                self.finish_group(
                    group,
                    Err(Error::with_reason(ErrorKind::NotAllowed, Reason::NotSubscriber, detail)),
                );
            }
            self.shared.events.send(Event::SubscriptionLost { subject });
        } else {
            self.shared.events.send(Event::Denied {
                reason: Reason::NotPublisher,
                what: "server permission".to_owned(),
                subject,
                count: 1,
            });
        }
    }

    fn on_heartbeat(&mut self, bytes: &[u8]) {
        let now = Instant::now();
        let bus = self.shared.session.bus();
        let view = sync::get(&self.shared.view);
        let signer = match Heartbeat::signer(bytes) {
            Ok(signer) => signer,
            Err(refused) => return self.shared.events.refused(refused.reason, "heartbeat"),
        };
        let known = view.as_ref().is_some_and(|view| view.guard(signer.as_bytes()).is_some());
        // A guard that the policy in our hands does not name may be named by a newer one: greeting it costs
        // nothing, its welcome must prove it. But while a known guard speaks, nobody else is listened to.
        let away = now.saturating_duration_since(self.last_beat) > HEARTBEAT_TIMEOUT;
        if !known && matches!(self.phase, Phase::Welcomed { .. }) && !away {
            return self.shared.events.refused(Reason::WrongRole, "heartbeat");
        }
        let beat = match Heartbeat::verify(bytes, bus, std::slice::from_ref(&signer)) {
            Ok((beat, _)) => beat,
            Err(refused) => {
                if refused.reason == Reason::WrongBus && view.is_none() {
                    self.shared.set_link(Link::WrongGuard(Reason::WrongBus));
                }
                return self.shared.events.refused(refused.reason, "heartbeat");
            }
        };
        if let Some(view) = &view
            && known
            // A guard that restarts may have lost what it was given last: it is greeted when it has it again.
            && (beat.policy_version < view.head.version || beat.status_version < view.status.version)
        {
            return self.shared.events.refused(Reason::RolledBack, "heartbeat");
        }
        if known {
            // Not into the readers' floor: what the old guard admitted may be on its way still.
            if beat.guard.epoch < self.epoch {
                return self.shared.events.refused(Reason::OldEpoch, "heartbeat");
            }
            self.epoch = beat.guard.epoch;
        }
        self.last_beat = now;
        self.guard_time = beat.time;
        if *self.shared.link.borrow() == Link::GuardAway {
            self.shared.events.send(Event::GuardBack);
            // Another guard knows nothing of this session yet: what was sent to it before its welcome would go unanswered.
            let knows = matches!(&self.phase, Phase::Welcomed { guard } if *guard == beat.guard);
            let link = if knows { Link::Ready } else { Link::Joining };
            self.shared.set_link(link);
            self.shared.signal(Signal::Resume);
        }
        let greet = match &self.phase {
            Phase::Waiting => true,
            Phase::Greeted { guard, at, .. } => {
                *guard != beat.guard || now.saturating_duration_since(*at) > ANSWER_TIMEOUT
            }
            Phase::Welcomed { guard } => {
                let behind = view.is_none_or(|view| {
                    beat.policy_version > view.head.version || beat.status_version > view.status.version
                });
                // Its welcome to the newer version may be on its way; a hello asks for it again.
                let since = *self.behind.get_or_insert(now);
                if !behind {
                    self.behind = None;
                }
                *guard != beat.guard || (behind && now.saturating_duration_since(since) > ANSWER_TIMEOUT)
            }
        };
        if greet {
            self.greet(beat.guard, *signer.as_bytes(), now);
        }
    }

    /// Says hello: from here until the welcome nothing takes a sequence number, so what the statement says
    /// of them stays true.
    fn greet(&mut self, guard: GuardEpoch, signer: [u8; 32], now: Instant) {
        if *self.shared.link.borrow() == Link::Ready {
            self.shared.set_link(Link::Joining);
        }
        let session = &self.shared.session;
        let me = session.me();
        let keys = sync::lock(&self.shared.sender_keys).statement();
        let reader_key = sync::lock(&self.shared.reader_keys).current().as_bytes().to_vec();
        let hello = Hello {
            credential: me.credential().as_str().to_owned(),
            certificate: ByteBuf::from(me.certificate().as_bytes()),
            statement: session.statement(guard, keys),
            reader_key: Some(ByteBuf::from(reader_key)),
        };
        self.control.say(verb::HELLO, &hello);
        self.phase = Phase::Greeted { guard, signer, at: now };
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Open(slot) => self.open(&slot),
            Command::Rekey(rule) => {
                let slots = sync::lock(&self.shared.sender_keys).live_slots();
                for (slot, _) in slots {
                    if rule.as_ref().is_none_or(|rule| *rule == slot.rule) {
                        self.open(&slot);
                    }
                }
            }
            Command::Want(session, key) => self.want(session, key),
            Command::Declare { rules, pattern, serve, wire, done } => {
                let group = self.next_id;
                let mut ids = Vec::with_capacity(rules.len());
                for rule in rules {
                    let id = self.next_id;
                    self.next_id = self.next_id.wrapping_add(1);
                    ids.push(id);
                    let (pattern, wire) = (pattern.clone(), wire.clone());
                    self.readings.insert(id, Declared { rule, pattern, serve, wire, asked: None, group });
                }
                self.groups.insert(group, Group { open: ids.len(), ids: ids.clone(), done });
                ids.iter().for_each(|id| self.declare(*id));
            }
            Command::Undeclare(ids) => {
                for id in ids {
                    if self.readings.remove(&id).is_some() && self.is_welcome() {
                        self.control.say(verb::UNSUBSCRIBE, &Unsubscribe { id });
                    }
                }
            }
            Command::AskHeld { digest, done } => self.ask_held(digest, done),
            Command::Approve { approval, digest, done } => self.bring_approval(approval, digest, done),
            Command::Close(_) => {}
        }
    }

    const fn is_welcome(&self) -> bool {
        matches!(self.phase, Phase::Welcomed { .. })
    }

    /// Tells the guard of a reading, now or at the next welcome.
    fn declare(&mut self, id: u32) {
        let welcome = self.is_welcome();
        let Some(reading) = self.readings.get_mut(&id) else { return };
        reading.asked = Some(Instant::now());
        if welcome {
            let (rule, pattern, serve) = (reading.rule.clone(), reading.pattern.clone(), reading.serve);
            self.control.say(verb::SUBSCRIBE, &Subscribe { id, rule, pattern, serve });
        }
    }

    /// Answers whoever waits for the subscription; takes its readings back if it failed.
    fn finish_group(&mut self, group: u32, result: Result<Vec<u32>>) {
        let Some(Group { ids, done, .. }) = self.groups.remove(&group) else { return };
        let failed = result.is_err();
        let abandoned = done.send(result).is_err();
        if failed || abandoned {
            self.on_command(Command::Undeclare(ids));
        }
    }

    /// Makes a key for the slot and asks who reads it.
    fn open(&mut self, slot: &Slot) {
        let opened = sync::lock(&self.shared.sender_keys).open(slot, &self.shared.session, Instant::now());
        match opened {
            Ok(Some(key)) => self.announce(vec![key]),
            Ok(None) => {}
            Err(refused) => self.shared.signal(Signal::Failed(slot.clone(), refused.reason)),
        }
    }
}

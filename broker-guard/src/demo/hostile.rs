//! What a hostile agent tries, over its real connection and with a session of its own making, and what a
//! hostile broker tries. Every attempt ends with proof of who stopped it and why, in that one's own words,
//! or is shown as not stopped.

mod broker;
mod junk;
mod server;
mod signed;
mod thief;

use std::time::{Duration, Instant};

use sealbus_client::{Client, Credentials, Event, Events};
use sealbus_envelope::identity::SigningKey;
use serde_json::Value;
use tokio::time::timeout;

use super::{
    DemoError,
    agents::{Agent, collector::event, subjects},
    progress::{Attack, Guardian, Teller},
    watch::{Watch, has},
    wire::{Wire, WireError},
};
use broker::Broker;
use thief::Thief;

/// How long one attack may take, until it is seen to be stopped.
const DEADLINE: Duration = Duration::from_secs(30);

/// What the attacks are made and measured with.
pub(super) struct Rig {
    /// Hears all events.
    pub(super) oncall: Credentials,
    /// An honest agent that is lied to.
    pub(super) witness: Credentials,
    /// The guard's login: like a hostile broker it may publish where readers read.
    pub(super) broker: SigningKey,
}

/// The attacks, in order: what is enough by itself to be taken off the bus comes last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    SpeakAsAnalyst,
    ForgeDelivery,
    ReadAnothersBox,
    ReadFindings,
    JetStream,
    SubjectNotGranted,
    AskForKeys,
    Replay,
    Alter,
    FrameAnalyst,
    LowerLabel,
    BrokerReplays,
    BrokerAlters,
    BrokerInjects,
    Flood,
    AboveClearance,
}

impl Step {
    pub(super) const ALL: [Self; 16] = [
        Self::SpeakAsAnalyst,
        Self::ForgeDelivery,
        Self::ReadAnothersBox,
        Self::ReadFindings,
        Self::JetStream,
        Self::SubjectNotGranted,
        Self::AskForKeys,
        Self::Replay,
        Self::Alter,
        Self::FrameAnalyst,
        Self::LowerLabel,
        Self::BrokerReplays,
        Self::BrokerAlters,
        Self::BrokerInjects,
        Self::Flood,
        Self::AboveClearance,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::SpeakAsAnalyst => "speak_as_analyst",
            Self::ForgeDelivery => "forge_delivery",
            Self::ReadAnothersBox => "read_anothers_box",
            Self::ReadFindings => "read_findings",
            Self::JetStream => "jetstream_api",
            Self::SubjectNotGranted => "subject_not_granted",
            Self::AskForKeys => "ask_for_keys",
            Self::Replay => "replay",
            Self::Alter => "alter",
            Self::FrameAnalyst => "frame_analyst",
            Self::LowerLabel => "lower_label",
            Self::BrokerReplays => "broker_replays",
            Self::BrokerAlters => "broker_alters",
            Self::BrokerInjects => "broker_injects",
            Self::Flood => "flood",
            Self::AboveClearance => "above_clearance",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::SpeakAsAnalyst => "speak as the licence analyst",
            Self::ForgeDelivery => "publish straight to the readers",
            Self::ReadAnothersBox => "read the analyst's private box",
            Self::ReadFindings => "listen in on the findings",
            Self::JetStream => "list the server's streams",
            Self::SubjectNotGranted => "publish a finding in its own name",
            Self::AskForKeys => "ask the guard for the findings' keys",
            Self::Replay => "send its own message a second time",
            Self::Alter => "alter a message after signing it",
            Self::FrameAnalyst => "forge a message that blames the analyst",
            Self::LowerLabel => "label data lower than its rule says",
            Self::BrokerReplays => "hostile broker: deliver a message twice",
            Self::BrokerAlters => "hostile broker: alter one on its way",
            Self::BrokerInjects => "hostile broker: pass the guard by",
            Self::Flood => "flood the guard with junk",
            Self::AboveClearance => "sign a label above its clearance",
        }
    }
}

/// How an attack was stopped.
type Stopped = (Guardian, String);

/// Why an attack was not seen to be stopped.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Refused(#[from] sealbus_envelope::reason::Refused),
    #[error(transparent)]
    Client(#[from] sealbus_client::Error),
    #[error("{0}")]
    Not(&'static str),
    #[error("nobody was seen to stop it within {} seconds", DEADLINE.as_secs())]
    Late,
}

/// The collector, turned.
pub(super) struct Hostile {
    credentials: Credentials,
    client: Client,
    events: Events,
    thief: Thief,
    watch: Watch,
    witness: Agent,
    witnessed: Events,
    inbox: sealbus_client::Subscription,
    broker: Broker,
    greetings: u64,
}

impl Hostile {
    /// Makes a second session from the collector's credentials file, as whoever stole it would, and finds out
    /// who reads what the collector writes.
    pub(super) async fn prepare(
        credentials: &Credentials,
        client: Client,
        events: Events,
        rig: Rig,
    ) -> Result<Self, DemoError> {
        let watch = Watch::start(&rig.oncall).await?;
        let witness = Agent::join(rig.witness).await?;
        let witnessed = witness.client.events();
        let inbox = witness.client.subscribe(subjects::HELLO).await.map_err(|error| witness.failed(error))?;
        let url = credentials.urls().first().map(String::as_str).unwrap_or_default();
        let broker = Broker::connect(url, &rig.broker).await?;
        let thief = Thief::start(credentials, &client).await.map_err(|fault| DemoError::hostile(&fault))?;
        Ok(Self {
            credentials: credentials.clone(),
            client,
            events,
            thief,
            watch,
            witness,
            witnessed,
            inbox,
            broker,
            greetings: 0,
        })
    }

    /// Tries one attack.
    pub(super) async fn run(&mut self, step: Step) -> Attack {
        let begun = Instant::now();
        let outcome = timeout(DEADLINE, self.attempt(step)).await;
        attack(step.name(), step.title(), begun, outcome.unwrap_or(Err(Fault::Late)))
    }

    async fn attempt(&mut self, step: Step) -> Result<Stopped, Fault> {
        match step {
            Step::SpeakAsAnalyst
            | Step::ForgeDelivery
            | Step::ReadAnothersBox
            | Step::ReadFindings
            | Step::JetStream
            | Step::SubjectNotGranted => self.past_the_server(step).await,
            Step::AskForKeys => self.ask_for_keys().await,
            Step::Replay => self.replay().await,
            Step::Alter => self.alter().await,
            Step::FrameAnalyst => self.frame_analyst().await,
            Step::LowerLabel => self.lower_label().await,
            Step::BrokerReplays => self.broker_replays().await,
            Step::BrokerAlters => self.broker_alters().await,
            Step::BrokerInjects => self.broker_injects().await,
            Step::Flood => self.flood().await,
            Step::AboveClearance => self.above_clearance().await,
        }
    }

    /// After the hard evidence: what became of the agent.
    pub(super) async fn expulsion(&mut self, teller: &Teller) -> Vec<Attack> {
        let agent = self.thief.session.agent().to_string();
        let mut attacks = Vec::new();
        let begun = Instant::now();
        let quarantined = |event: &Value| {
            has(event, "kind", "quarantine")
                && has(event, "agent", &agent)
                && has(event, "outcome", "quarantined")
        };
        match self.watch.until(quarantined).await {
            Ok(event) => {
                let detail = event.get("detail").and_then(Value::as_str).unwrap_or_default().to_owned();
                teller.done(format!("on call hears: `{agent}` {detail}, because {}", reason(&event)));
            }
            Err(error) => teller.failed(format!("on call heard of no quarantine: {error}")),
        }
        let agent_of = |event: &Value| has(event, "agent", &agent);
        let cut = timeout(DEADLINE, async {
            let kicked = self.watch.until(|event| kicked(event) && agent_of(event)).await?;
            self.thief.wire.closed().await?;
            Ok((Guardian::Guard, reason(&kicked)))
        });
        let cut = cut.await.unwrap_or(Err(Fault::Late));
        attacks.push(attack("stay_connected", "stay connected", begun, cut));

        let begun = Instant::now();
        // It was told to wait before, when it had flooded.
        let lobby = |event: &Event| matches!(event, Event::Lobby { reason } if *reason != sealbus_envelope::reason::Reason::RateLimited);
        let refused = match event(&mut self.events, lobby).await {
            Some(Event::Lobby { reason }) => Ok((Guardian::Guard, reason.code().to_owned())),
            _ => Err(Fault::Not("its client was not told why it may not come back")),
        };
        attacks.push(attack("come_back", "come back", begun, refused));
        for attack in &attacks {
            teller.tell(super::Progress::Attack(attack.clone()));
        }
        // The second look: a login that was under way on the server during the first would show now.
        match self.watch.until(quarantined).await {
            Ok(event) => {
                let detail = event.get("detail").and_then(Value::as_str).unwrap_or_default().to_owned();
                teller.done(format!("the guard looked at the servers again: {detail}"));
            }
            Err(error) => teller.failed(format!("the guard did not confirm the quarantine: {error}")),
        }
        attacks
    }

    /// How many greetings were published.
    pub(super) const fn greetings(&self) -> u64 {
        self.greetings
    }

    /// The honest witness.
    pub(super) fn witness(mut self) -> Agent {
        self.witness.kept.0 = vec![self.inbox];
        self.witness
    }

    /// Waits for the event of a denial of the envelope `id`.
    async fn denied(&mut self, id: &str) -> Result<Stopped, Fault> {
        let wanted = |event: &Value| has(event, "kind", "denied") && has(event, "envelope", id);
        let event = self.watch.until(wanted).await?;
        Ok((Guardian::Guard, reason(&event)))
    }

    /// Waits until the witness's client refused something.
    async fn witness_refuses(&mut self) -> Result<Stopped, Fault> {
        match event(&mut self.witnessed, |event| matches!(event, Event::Refused { .. })).await {
            Some(Event::Refused { reason, .. }) => Ok((Guardian::Reader, reason.code().to_owned())),
            _ => Err(Fault::Not("the reader refused nothing")),
        }
    }
}

fn attack(
    name: &'static str,
    title: &'static str,
    begun: Instant,
    outcome: Result<Stopped, Fault>,
) -> Attack {
    let (stopped_by, reason, fault) = match outcome {
        Ok((by, reason)) => (Some(by), Some(reason), None),
        Err(fault) => (None, None, Some(fault.to_string())),
    };
    Attack { name, title, stopped_by, reason, fault, took: begun.elapsed() }
}

fn reason(event: &Value) -> String {
    event.get("reason").and_then(Value::as_str).unwrap_or("no reason").to_owned()
}

/// Whether the guard cut a connection off.
fn kicked(event: &Value) -> bool {
    let detail = event.get("detail").and_then(Value::as_str).unwrap_or_default();
    has(event, "kind", "connection") && detail.starts_with("kicked")
}

/// What the server refused, as a code: `Permissions Violation for …` is `permissions_violation`.
fn by_server(refusal: Option<String>) -> Result<Stopped, Fault> {
    let words = refusal.ok_or(Fault::Not("the server took it"))?;
    let code: Vec<_> = words.split_whitespace().take(2).map(str::to_lowercase).collect();
    Ok((Guardian::NatsServer, code.join("_")))
}

/// The connection of whoever attacks.
fn closed(outcome: Result<Option<String>, WireError>) -> Result<(), WireError> {
    match outcome {
        Ok(_) | Err(WireError::Closed(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Sends what the server is known to take.
async fn publish(wire: &mut Wire, subject: &str, payload: &[u8]) -> Result<(), Fault> {
    match wire.publish(subject, payload).await? {
        None => Ok(()),
        Some(_) => Err(Fault::Not("the server refused it before the guard could")),
    }
}

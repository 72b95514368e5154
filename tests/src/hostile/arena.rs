//! A bus under attack, with what shows that an attack came to nothing.
#![expect(clippy::expect_used, reason = "a fixture that cannot work fails its test")]

use sealbus_client::credentials::Credentials;
use sealbus_envelope::{
    identity::Role,
    label::{Clearance, Compartments, Integrity, Label, Level},
    name::AgentToken,
    reason::Reason,
};

use super::{
    hand::Hand,
    honest::{Honest, Outcome},
    papers::Key,
    watch::Watch,
};
use crate::{
    bus::TestBus,
    raw::{RawMessage, Refusal},
    server::ServerSpec,
};

/// Teams: `mob` attacks; `canary` may hear every stream; `vault` answers and holds secrets; `worker` shares a
/// queue; `honest` flows beside. Each rule is there for the attacks that it is named in.
pub const POLICY: &str = r#"
levels       = ["low", "mid", "high"]
compartments = ["red", "blue"]
integrity    = ["untrusted", "checked", "trusted"]

[teams.honest]
clearance = { level = "low" }
[teams.warden]
clearance = { level = "low" }
[teams.mob]
clearance = { level = "high", compartments = ["red"] }
integrity = "checked"
[teams.vault]
clearance = { level = "high", compartments = ["red", "blue"] }
integrity = "trusted"
[teams.canary]
clearance = { level = "high", compartments = ["red", "blue"] }
[teams.worker]
clearance = { level = "low" }

[rules.honest]
pattern     = "honest.>"
publishers  = ["honest"]
subscribers = ["honest"]
labels      = { level = "low" }
rate        = { per_second = 10000, burst = 20000 }

[rules.barrier]
pattern     = "barrier"
publishers  = ["warden"]
subscribers = ["canary"]
labels      = { level = "low" }

[rules.tips]
pattern     = "tips.>"
publishers  = ["mob"]
subscribers = ["canary"]
labels      = { level = { min = "low", max = "high" }, allowed = ["red"], integrity = { min = "untrusted", max = "trusted" } }
default     = { level = "low", integrity = "untrusted" }
max_bytes   = 262144
rate        = { per_second = 2000, burst = 5000 }

[rules.notes]
pattern     = "notes.>"
publishers  = ["mob"]
subscribers = ["canary"]
labels      = { level = "low" }
max_bytes   = 2048

[rules.flood]
pattern     = "flood.>"
publishers  = ["mob"]
subscribers = ["canary"]
labels      = { level = "low" }
rate        = { per_second = 20, burst = 500 }

[rules.secrets]
pattern     = "secrets.>"
publishers  = ["vault"]
subscribers = ["canary"]
labels      = { level = "high" }

[rules.jobs]
pattern     = "jobs.>"
publishers  = ["vault"]
subscribers = [{ team = "worker", queue = "work" }]
labels      = { level = "low" }

[rules.ask]
pattern     = "ask.it"
publishers  = ["mob"]
subscribers = ["vault"]
kind        = "request"
deadline    = "60s"
labels      = { level = "low" }

[rules.brief]
pattern     = "brief.it"
publishers  = ["mob"]
subscribers = ["vault"]
kind        = "request"
deadline    = "1s"
labels      = { level = "low" }
"#;

/// What the canary may hear: patterns and their levels.
const STREAMS: [(&str, u8, u8); 5] =
    [("barrier", 0, 0), ("tips.>", 0, 2), ("notes.>", 0, 0), ("flood.>", 0, 0), ("secrets.>", 2, 2)];

/// Who refused an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// nats-server, by the permissions that the guard gave it.
    Server,
    /// The guard.
    Guard,
    /// The reader's own checks.
    Reader,
}

/// A bus, its guard, a canary, an honest flow.
pub struct Arena {
    /// The bus.
    pub bus: TestBus,
    /// The guard's events.
    pub watch: Watch,
    /// May hear every stream.
    pub canary: Hand,
    /// Publishes barriers.
    warden: (Hand, Key),
    honest: Honest,
    newcomers: u32,
}

impl Arena {
    /// Opens one.
    pub async fn open() -> Self {
        Self::open_with(ServerSpec::default()).await
    }

    /// Opens one on a server of this kind.
    ///
    /// # Panics
    /// If anything honest is refused.
    pub async fn open_with(spec: ServerSpec) -> Self {
        Self::around(TestBus::start_with(POLICY, spec).await).await
    }

    /// Opens one around a bus that runs under [`POLICY`].
    ///
    /// # Panics
    /// If anything honest is refused.
    pub async fn around(bus: TestBus) -> Self {
        let watch = Watch::start(&bus).await;
        let mut canary = Hand::join(&bus.agent("canary", "canary")).await;
        for (pattern, low, high) in STREAMS {
            for level in low..=high {
                let subject = canary.wire().delivery(Level::new(level).expect("a level"), pattern);
                canary.raw.subscribe(&subject, None).await.expect("the canary may hear it");
            }
        }
        let warden = warden(&bus).await;
        let honest = Honest::start(&bus).await;
        Self { bus, watch, canary, warden, honest, newcomers: 0 }
    }

    /// A new agent of team `mob`, cleared to `mid` only, though its team is to `high`.
    pub fn mobster(&mut self) -> Credentials {
        self.newcomers += 1;
        let level = Level::new(1).expect("a level");
        let compartments = Compartments::single(0).expect("a compartment");
        let name = format!("mob-{}", self.newcomers);
        self.bus.agent_with(&name, "mob", Role::Agent, Clearance { level, compartments })
    }

    /// A new session of a new agent of team `mob`, logged in and welcome.
    pub async fn attacker(&mut self) -> Hand {
        let credentials = self.mobster();
        Hand::join(&credentials).await
    }

    /// The same, with a key open under `tips` for the lowest label, that one honest envelope has gone under:
    /// what is refused now is refused for what is wrong with it.
    ///
    /// # Panics
    /// If the honest envelope is not delivered.
    pub async fn publisher(&mut self) -> (Hand, Key) {
        let mut hand = self.attacker().await;
        let mut key = hand.open("tips", label(0, 0, 0)).await;
        let envelope = hand.publish(&mut key, "tips.honest", b"a first, honest one").await;
        let delivered = self.delivered().await;
        assert_eq!(delivered.len(), 1, "the honest envelope is delivered: {delivered:?}");
        assert_eq!(delivered.first().map(|message| message.payload.to_vec()), Some(envelope));
        (hand, key)
    }

    /// What the canary heard until a barrier published now: everything that was forwarded before.
    pub async fn delivered(&mut self) -> Vec<RawMessage> {
        let (hand, key) = &mut self.warden;
        let barrier = hand.publish(key, "barrier", b"").await;
        self.canary.message(&|message: &RawMessage| message.payload == barrier).await;
        let mut heard = self.canary.heard().await;
        heard.retain(|message| message.subject.starts_with("sb.out."));
        heard
    }

    /// After an attack: nothing was delivered, and the honest flow moves on.
    ///
    /// # Panics
    /// If something was.
    pub async fn came_to_nothing(&mut self, attack: &str) {
        let delivered = self.delivered().await;
        assert!(delivered.is_empty(), "{attack}: delivered {delivered:?}");
        self.honest.flows(&format!("after: {attack}")).await;
    }

    /// The guard refused the last attack of `agent` for `reason`, and nothing came of it.
    pub async fn guard_refused(&mut self, attack: &str, agent: &AgentToken, reason: Reason) {
        self.watch.denied(agent, reason).await;
        self.came_to_nothing(attack).await;
        report(attack, By::Guard, reason.code());
    }

    /// nats-server refused an attack with these words, and nothing came of it.
    ///
    /// # Panics
    /// If it did not refuse.
    pub async fn server_refused(&mut self, attack: &str, outcome: Result<(), Refusal>) {
        let refusal = outcome.expect_err(attack);
        assert!(refusal.says("permissions violation"), "{attack}: {refusal:?}");
        self.came_to_nothing(attack).await;
        report(attack, By::Server, "permissions violation");
    }

    /// The honest agents.
    #[must_use]
    pub const fn honest_agents(&self) -> &[AgentToken; 2] {
        self.honest.agents()
    }

    /// The guard is another one now: what the arena's own sessions have to say to it.
    pub async fn greet_again(&mut self) {
        let (hand, key) = &mut self.warden;
        hand.hello(&[key]).await;
        self.canary.hello(&[]).await;
    }

    /// The honest flow lost nothing, was refused nothing, and nobody in it was ever suspected.
    ///
    /// # Panics
    /// If not.
    pub async fn close(self) -> Outcome {
        let Self { honest, mut watch, .. } = self;
        let agents = honest.agents().clone();
        let outcome = honest.stop().await;
        outcome.spotless();
        for agent in &agents {
            for kind in ["denied", "quarantine"] {
                let said = watch.said(kind, agent);
                assert!(said.is_empty(), "said of the honest {agent}: {said:?}");
            }
        }
        outcome
    }

    /// As [`close`](Self::close), where the guard or the server was away in between.
    ///
    /// # Panics
    /// If something confirmed was lost.
    pub async fn close_after_outage(self) -> Outcome {
        let outcome = self.honest.stop().await;
        outcome.nothing_lost();
        outcome
    }
}

async fn warden(bus: &TestBus) -> (Hand, Key) {
    let mut hand = Hand::join(&bus.agent("warden", "warden")).await;
    let key = hand.open("barrier", label(0, 0, 0)).await;
    (hand, key)
}

/// One line of the table of attacks: run with `--no-capture` to read it.
pub fn report(attack: &str, by: By, reason: &str) {
    println!("| {attack} | {} | {reason} |", format!("{by:?}").to_lowercase());
}

/// A label of the arena's policy.
///
/// # Panics
/// If there is none with these numbers.
#[must_use]
pub fn label(level: u8, compartments: u64, integrity: u8) -> Label {
    Label::new(
        Level::new(level).expect("a level"),
        Compartments::from_bits(compartments),
        Integrity::new(integrity).expect("an integrity rank"),
    )
}

//! The collector: publishes each dependency. Then, as if a page it read had turned it, it attacks, and does
//! its work in between so as not to be noticed.

use std::time::Duration;

use sealbus_client::{Credentials, Event, Publish};
use tokio::time::{Instant, sleep_until};

use super::{
    super::{
        DemoError,
        hostile::{Hostile, Rig, Step},
        messages::Item,
        progress::{Attack, Teller},
        project::{Dependency, Project},
        review::Review,
    },
    Agent, Tally,
};

/// The rule lets 1,000 through at once and 500 a second; this many a second are sent.
const PER_SECOND: usize = 450;
/// As many go without a pause.
const AT_ONCE: usize = 900;

/// Connected; not working yet.
pub(in super::super) struct Collector {
    agent: Agent,
    credentials: Credentials,
    project: Project,
    teller: Teller,
    sent: usize,
    begun: Instant,
}

/// What it did.
pub(in super::super) struct Collected {
    pub(in super::super) tally: Tally,
    /// The agent that it greeted.
    pub(in super::super) witness: Agent,
    pub(in super::super) attacks: Vec<Attack>,
}

impl Collector {
    pub(in super::super) async fn join(
        credentials: Credentials,
        project: Project,
        teller: Teller,
    ) -> Result<Self, DemoError> {
        let agent = Agent::join(credentials.clone()).await?;
        Ok(Self { agent, credentials, project, teller, sent: 0, begun: Instant::now() })
    }

    /// Publishes the first batch, then the second in portions, with an attack after each.
    pub(in super::super) async fn run(mut self, rig: Rig) -> Result<Collected, DemoError> {
        let direct = std::mem::take(&mut self.project.direct);
        let count = direct.len();
        self.batch(1, direct, false).await?;
        self.teller
            .done(format!("collector: {count} direct dependencies published, each confirmed by the guard"));

        self.teller.step("The collector turns hostile, in the middle of the second batch");
        let events = self.agent.client.events();
        let mut hostile = Hostile::prepare(&self.credentials, self.agent.client.clone(), events, rig).await?;
        let rest = std::mem::take(&mut self.project.indirect);
        let size = rest.len().div_ceil(Step::ALL.len()).max(1);
        let mut portions = rest.chunks(size);
        let mut attacks = Vec::new();
        for (step, number) in Step::ALL.iter().zip(2u32..) {
            let last = Some(step) == Step::ALL.last();
            let portion = portions.next().unwrap_or_default().to_vec();
            self.batch(number, portion, last).await?;
            let attack = hostile.run(*step).await;
            self.teller.tell(super::super::Progress::Attack(attack.clone()));
            attacks.push(attack);
        }
        self.teller.step("The collector is out");
        attacks.extend(hostile.expulsion(&self.teller).await);
        self.agent.tally.sent("hello", usize::try_from(hostile.greetings()).unwrap_or(0));
        // Its client is barred and cannot say goodbye.
        Ok(Collected { tally: self.agent.tally, witness: hostile.witness(), attacks })
    }

    async fn batch(
        &mut self,
        batch: u32,
        dependencies: Vec<Dependency>,
        last: bool,
    ) -> Result<(), DemoError> {
        let total = u64::try_from(dependencies.len()).unwrap_or(u64::MAX);
        let mut messages = Vec::with_capacity(dependencies.len());
        for dependency in dependencies {
            let subject = format!("deps.item.{}", token(&dependency.name));
            let message = Publish::json(subject, &Item::Dependency { batch, dependency });
            messages.push(message.map_err(|error| self.agent.failed(error))?);
        }
        for some in messages.chunks(PER_SECOND / 2) {
            self.keep_to_the_rate(some.len()).await;
            self.agent.publish("deps-item", some.to_vec()).await?;
        }
        let end = Publish::json("deps.item.end", &Item::End { batch, total, last });
        let end = end.map_err(|error| self.agent.failed(error))?;
        self.agent.publish("deps-item", vec![end]).await?;
        Ok(())
    }

    /// An honest agent that knows its rule's rate is never denied for it.
    async fn keep_to_the_rate(&mut self, count: usize) {
        self.sent += count;
        let above = u64::try_from(self.sent.saturating_sub(AT_ONCE)).unwrap_or(u64::MAX);
        let due = Duration::from_millis(above.saturating_mul(1_000) / u64::try_from(PER_SECOND).unwrap_or(1));
        sleep_until(self.begun + due).await;
    }
}

/// A crate's name as a token of a subject.
fn token(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' }).collect()
}

/// Waits for an event of the client.
pub(in super::super) async fn event(
    events: &mut sealbus_client::Events,
    wanted: impl Fn(&Event) -> bool,
) -> Option<Event> {
    let found = async {
        loop {
            let event = events.next().await?;
            if wanted(&event) {
                return Some(event);
            }
        }
    };
    tokio::time::timeout(super::super::wire::PATIENCE, found).await.unwrap_or(None)
}

/// The analyst whom the attacks are about.
pub(in super::super) const VICTIM: Review = Review::Licence;

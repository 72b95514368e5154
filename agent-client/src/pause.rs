//! Paused workflows, as far as the guard told: what of this session's own would be denied now, and waiting for it to
//! go on.
//!
//! A notice is advice and nobody signed it. Who makes one up holds messages back for a minute, which a server can do
//! anyway; who hides one has the guard deny them.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use sealbus_envelope::{
    control::PausedNotice,
    name::Name,
    order::Workflow,
    reason::{Reason, Refused},
    time::Millis,
};

use crate::{
    Client,
    error::{Error, Result},
    events::Event,
    publish::{Prepared, Publish},
    shared::{Link, Shared},
    sync,
};

/// A notice is repeated every fifteen seconds; four that did not come mean that nothing is paused any more.
const GOOD_FOR: Duration = Duration::from_secs(60);
/// A notice follows the welcome at once, if there is one.
const GOOD_AFTER_WELCOME: Duration = Duration::from_secs(2);
/// How long a denial stands for a notice that did not come.
const GOOD_BY_DENIAL: Duration = Duration::from_secs(15);

/// What a publish does while its workflow is paused.
///
/// ```
/// use sealbus_client::{Publish, WhenPaused};
/// let publish = Publish::new("pay.rent", "900").when_paused(WhenPaused::Wait);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WhenPaused {
    /// It fails at once with [`ErrorKind::WorkflowPaused`](crate::ErrorKind::WorkflowPaused): the default, because a
    /// person looks into it and nobody knows for how long.
    #[default]
    Fail,
    /// It waits until a person resumes the workflow, at most for its [time-to-live](Publish::ttl), and is sealed then.
    Wait,
}

/// What is paused.
#[derive(Debug)]
pub(crate) struct Paused {
    workflows: BTreeMap<Workflow, Millis>,
    until: Instant,
}

impl Paused {
    pub(crate) fn nothing() -> Self {
        Self { workflows: BTreeMap::new(), until: Instant::now() }
    }
}

impl Shared {
    /// Takes the guard's list.
    pub(crate) fn set_paused(&self, notice: &PausedNotice) -> Result<(), Refused> {
        let workflows = notice
            .workflows
            .iter()
            .map(|paused| Ok((Workflow::parse(&paused.workflow)?, paused.since)))
            .collect::<Result<BTreeMap<_, _>, Refused>>()?;
        self.replace_paused(workflows, GOOD_FOR);
        Ok(())
    }

    /// A welcome: what is still paused is told right after it.
    pub(crate) fn doubt_paused(&self) {
        let mut paused = sync::lock(&self.paused);
        paused.until = paused.until.min(Instant::now() + GOOD_AFTER_WELCOME);
    }

    /// The guard denied something under a rule for a pause that it did not tell of.
    pub(crate) fn assume_paused(&self, rule: &Name) {
        if self.paused_for(rule).is_none() {
            let mut workflows = sync::lock(&self.paused).workflows.clone();
            workflows.insert(Workflow::Rule(rule.clone()), crate::clock::now());
            self.replace_paused(workflows, GOOD_BY_DENIAL);
        }
    }

    /// Forgets what was not told again.
    pub(crate) fn expire_paused(&self) {
        let over = {
            let paused = sync::lock(&self.paused);
            !paused.workflows.is_empty() && Instant::now() >= paused.until
        };
        if over {
            self.replace_paused(BTreeMap::new(), GOOD_FOR);
        }
    }

    fn replace_paused(&self, workflows: BTreeMap<Workflow, Millis>, good_for: Duration) {
        let before = {
            let mut paused = sync::lock(&self.paused);
            paused.until = Instant::now() + good_for;
            std::mem::replace(&mut paused.workflows, workflows.clone())
        };
        for (workflow, since) in workflows.iter().filter(|(workflow, _)| !before.contains_key(workflow)) {
            self.events.send(Event::WorkflowPaused { workflow: workflow.clone(), since: *since });
        }
        for workflow in before.into_keys().filter(|workflow| !workflows.contains_key(workflow)) {
            self.events.send(Event::WorkflowResumed { workflow });
        }
        self.bump();
    }

    /// The paused workflow that a message of this session under `rule` is of.
    pub(crate) fn paused_for(&self, rule: &Name) -> Option<Workflow> {
        let team = &self.session.me().claims().team;
        let paused = sync::lock(&self.paused);
        let of = |workflow: &&Workflow| match workflow {
            Workflow::Team(name) => name == team,
            Workflow::Rule(name) => name == rule,
        };
        paused.workflows.keys().find(of).cloned()
    }

    /// Waits until nothing under `rule` is paused and there is a guard.
    async fn until_running(&self, rule: &Name, deadline: Instant) -> Result<()> {
        let (mut news, mut link) = (self.news.subscribe(), self.link.subscribe());
        loop {
            let now = *link.borrow_and_update();
            if matches!(now, Link::Refused(_) | Link::WrongGuard(_) | Link::Closed) {
                return now.check();
            }
            let Some(workflow) = self.paused_for(rule) else {
                if now.check().is_ok() {
                    return Ok(());
                }
                let _changed = tokio::time::timeout_at(deadline.into(), link.changed()).await;
                if Instant::now() >= deadline {
                    return now.check();
                }
                continue;
            };
            tokio::select! {
                _ = news.changed() => {}
                _ = link.changed() => {}
                () = tokio::time::sleep_until(deadline.into()) => return Err(Error::paused(workflow)),
            }
        }
    }
}

impl Client {
    /// Prepares a message. While its workflow is paused it fails, or waits and is prepared anew: rules and floor may
    /// have changed meanwhile.
    pub(crate) async fn running(
        &self,
        prepare: impl Fn(Publish) -> Result<Prepared>,
        mut publish: Publish,
        deadline: Instant,
    ) -> Result<Prepared> {
        loop {
            let prepared = prepare(publish)?;
            let Some(workflow) = self.shared().paused_for(&prepared.slot.rule) else { return Ok(prepared) };
            if prepared.publish.when_paused == WhenPaused::Fail {
                return Err(Error::paused(workflow));
            }
            let rule = prepared.slot.rule;
            publish = prepared.publish;
            self.shared().until_running(&rule, deadline).await?;
            let left = deadline.saturating_duration_since(Instant::now());
            if left < Duration::from_millis(1) {
                return Err(Error::paused(workflow));
            }
            publish.ttl = publish.ttl.map(|ttl| ttl.min(left));
        }
    }
}

impl Error {
    /// Nothing was admitted: the workflow is paused.
    pub(crate) fn paused(workflow: Workflow) -> Self {
        let detail = format!("`{workflow}`: {}", Reason::WorkflowPaused.meaning());
        Self::with_reason(crate::ErrorKind::WorkflowPaused, Reason::WorkflowPaused, detail).of(workflow)
    }
}

//! Which workflows are paused, why, and what that denies.

use std::collections::{BTreeMap, HashSet};

use sealbus_envelope::{
    name::AgentToken,
    order::Workflow,
    policy::Oversight,
    reason::{Reason, Refused},
    time::Millis,
};
use serde::{Deserialize, Serialize};

use crate::policy::{
    compile::{CompiledPolicy, CompiledRule, CompiledTeam},
    decide::Principal,
};

/// Why a workflow was paused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// When, by the guard's clock.
    pub since: Millis,
    /// What did it.
    pub by: By,
}

/// What paused a workflow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// A deviation.
    Deviation {
        /// Whose.
        agent: AgentToken,
        /// The stable reason.
        reason: Reason,
        /// What deviated, in words.
        what: String,
        /// The envelope's id in hexadecimal, if it was one envelope.
        envelope: Option<String>,
        /// Its digest in hexadecimal.
        digest: Option<String>,
    },
    /// A person.
    Order {
        /// The order's id in hexadecimal.
        id: String,
        /// Why, in the words of who signed it.
        why: String,
    },
}

impl By {
    /// `breaker` or `order`.
    #[must_use]
    pub const fn trigger(&self) -> &'static str {
        match self {
            Self::Deviation { .. } => "breaker",
            Self::Order { .. } => "order",
        }
    }

    /// In a sentence.
    #[must_use]
    pub fn in_words(&self) -> String {
        match self {
            Self::Deviation { agent, reason, what, envelope, .. } => {
                let envelope = envelope.as_ref().map(|id| format!(", envelope {id}")).unwrap_or_default();
                format!("{agent} deviated: {what} [{reason}]{envelope}")
            }
            Self::Order { id, why } => format!("ordered ({id}): {why}"),
        }
    }
}

/// How a workflow stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Nothing of it is admitted.
    Paused(Pause),
    /// It was paused once and goes on.
    Resumed {
        /// Since when, by the guard's clock. What was sealed before is no new deviation: who resumed it knew.
        since: Millis,
    },
}

/// How all workflows stand that were ever paused, and what that means under the policy in force.
#[derive(Debug, Clone, Default)]
pub struct Workflows {
    standing: BTreeMap<Workflow, Standing>,
    teams: HashSet<u8>,
    rules: HashSet<u16>,
}

impl Workflows {
    /// As they stood when the guard stopped.
    #[must_use]
    pub fn new(standing: impl IntoIterator<Item = (Workflow, Standing)>) -> Self {
        Self { standing: standing.into_iter().collect(), ..Self::default() }
    }

    /// Looks the names of what is paused up in a policy. One that it does not have pauses nothing; under a later
    /// policy that has it again, it is paused still.
    pub fn follow(&mut self, policy: &CompiledPolicy) {
        (self.teams, self.rules) = (HashSet::new(), HashSet::new());
        for (workflow, _) in paused(&self.standing) {
            match workflow {
                Workflow::Team(name) => {
                    self.teams.extend(policy.team_named(name.as_str()).map(|team| team.id.number()));
                }
                Workflow::Rule(name) => {
                    self.rules.extend(policy.rule(name.as_str()).map(|rule| rule.id.number()));
                }
            }
        }
    }

    /// Refuses what is of a paused workflow: two look-ups, and none while nothing is paused.
    ///
    /// # Errors
    /// `workflow_paused`.
    pub fn check(&self, who: &Principal, rule: &CompiledRule) -> Result<(), Refused> {
        if !self.teams.is_empty() && self.teams.contains(&who.team().number()) {
            return Err(Refused::new(Reason::WorkflowPaused, "team"));
        }
        if !self.rules.is_empty() && self.rules.contains(&rule.id.number()) {
            return Err(Refused::new(Reason::WorkflowPaused, "rule"));
        }
        Ok(())
    }

    /// Pauses one. `false` if it is paused already: the first cause stands.
    pub fn pause(&mut self, workflow: Workflow, pause: Pause, policy: &CompiledPolicy) -> bool {
        if self.pause_of(&workflow).is_some() {
            return false;
        }
        self.standing.insert(workflow, Standing::Paused(pause));
        self.follow(policy);
        true
    }

    /// Lets one go on. `false` if it is not paused.
    pub fn resume(&mut self, workflow: &Workflow, since: Millis, policy: &CompiledPolicy) -> bool {
        let was = self.pause_of(workflow).is_some();
        if was {
            self.standing.insert(workflow.clone(), Standing::Resumed { since });
            self.follow(policy);
        }
        was
    }

    /// Why it is paused, if it is.
    #[must_use]
    pub fn pause_of(&self, workflow: &Workflow) -> Option<&Pause> {
        match self.standing.get(workflow)? {
            Standing::Paused(pause) => Some(pause),
            Standing::Resumed { .. } => None,
        }
    }

    /// How one stands that was paused once.
    #[must_use]
    pub fn standing(&self, workflow: &Workflow) -> Option<&Standing> {
        self.standing.get(workflow)
    }

    /// Whether something sealed at `issued` may trip it: not if it is paused already, nor if it went on later.
    #[must_use]
    pub(super) fn may_trip(&self, workflow: &Workflow, issued: Millis) -> bool {
        match self.standing.get(workflow) {
            None => true,
            Some(Standing::Paused(_)) => false,
            Some(Standing::Resumed { since }) => issued > *since,
        }
    }

    /// What is paused, and why.
    pub fn paused(&self) -> impl Iterator<Item = (&Workflow, &Pause)> {
        paused(&self.standing)
    }

    /// Those that are paused and in which `who` sends.
    pub fn paused_of<'w>(
        &'w self,
        policy: &'w CompiledPolicy,
        who: &'w Principal,
    ) -> impl Iterator<Item = (&'w Workflow, &'w Pause)> {
        self.paused().filter(|(workflow, _)| sends_in(policy, who, workflow))
    }
}

fn paused(standing: &BTreeMap<Workflow, Standing>) -> impl Iterator<Item = (&Workflow, &Pause)> {
    standing.iter().filter_map(|(workflow, standing)| match standing {
        Standing::Paused(pause) => Some((workflow, pause)),
        Standing::Resumed { .. } => None,
    })
}

/// Whether `who` sends in a workflow: it is of the team, or the rule names it as one who publishes, or answers.
#[must_use]
pub fn sends_in(policy: &CompiledPolicy, who: &Principal, workflow: &Workflow) -> bool {
    match workflow {
        Workflow::Team(name) => policy.team(who.team()).is_some_and(|team| team.name == *name),
        Workflow::Rule(name) => policy.rule(name.as_str()).is_some_and(|rule| sends_under(rule, who)),
    }
}

/// Whether the rule itself names `who` as one who sends under it. Observe mode lets more pass, and makes nobody a
/// member: else whoever is observed could pause what is not its own.
#[must_use]
pub fn sends_under(rule: &CompiledRule, who: &Principal) -> bool {
    rule.publishers.names(who) || (rule.is_request() && rule.subscribers.names(who))
}

/// A workflow of the policy as the guard tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkflowReport {
    /// `team:NAME` or `rule:NAME`.
    pub workflow: String,
    /// `directed`, `open-ended`, or none: paused by a person, or by a policy of before.
    pub mode: Option<String>,
    /// Whether the policy in force has it.
    pub in_policy: bool,
    /// The subjects of a rule.
    pub pattern: Option<String>,
    /// Who sends in it: teams, and agents as `agent NAME`.
    pub senders: Vec<String>,
    /// Why it is paused, if it is.
    pub paused: Option<Pause>,
    /// When it went on, if it was paused once and is not.
    pub resumed: Option<Millis>,
}

impl Workflows {
    /// Every workflow that has a mode, and every other that is paused, as the policy tells of it.
    #[must_use]
    pub fn report(&self, policy: &CompiledPolicy) -> Vec<WorkflowReport> {
        let mut all: BTreeMap<Workflow, Option<Oversight>> =
            self.paused().map(|(workflow, _)| (workflow.clone(), None)).collect();
        let of_team = |team: &CompiledTeam| Some((Workflow::Team(team.name.clone()), Some(team.oversight?)));
        let of_rule = |rule: &CompiledRule| Some((Workflow::Rule(rule.name.clone()), Some(rule.oversight?)));
        all.extend(policy.teams().iter().filter_map(of_team));
        all.extend(policy.rules().iter().filter_map(of_rule));
        all.into_iter().map(|(workflow, mode)| self.report_of(policy, &workflow, mode)).collect()
    }

    fn report_of(
        &self,
        policy: &CompiledPolicy,
        workflow: &Workflow,
        mode: Option<Oversight>,
    ) -> WorkflowReport {
        let team_name = |id| policy.team(id).map(|team| team.name.to_string());
        let (in_policy, pattern, senders) = match workflow {
            Workflow::Team(name) => {
                (policy.team_named(name.as_str()).is_some(), None, vec![name.to_string()])
            }
            Workflow::Rule(name) => match policy.rule(name.as_str()) {
                None => (false, None, Vec::new()),
                Some(rule) => {
                    let mut senders: Vec<String> =
                        rule.publishers.teams().iter().filter_map(team_name).collect();
                    senders.extend(rule.publishers.agents().iter().map(|agent| format!("agent {agent}")));
                    (true, Some(rule.pattern.to_string()), senders)
                }
            },
        };
        let resumed = match self.standing(workflow) {
            Some(Standing::Resumed { since }) => Some(*since),
            _ => None,
        };
        WorkflowReport {
            workflow: workflow.to_string(),
            mode: mode.map(|mode| mode.code().to_owned()),
            in_policy,
            pattern,
            senders,
            paused: self.pause_of(workflow).cloned(),
            resumed,
        }
    }
}

//! What this agent knows of the policy: tables, its rules, who is revoked, who are the guards. Verified
//! against the roots in the agent's file, so a guard cannot invent any of it.

use std::sync::Arc;
use std::time::Duration;

use sealbus_envelope::{
    control::Welcome,
    identity::{Claims, Credential, Role, Roots, Status},
    label::{Label, Level},
    name::Name,
    policy::{Faults, FlowGrant, HeadFields, MessageKind, Records, Rule, Tables, check_publish},
    reader::PolicyHistory,
    reason::{Reason, Refused},
    subject::{Pattern, Subject},
    time::Millis,
};

use crate::error::{Error, ErrorKind, Result};

/// A verified policy excerpt with its status statement.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) head: HeadFields,
    pub(crate) tables: Tables,
    pub(crate) rules: Vec<Arc<Rule>>,
    grants: Vec<Arc<FlowGrant>>,
    pub(crate) status: Status,
    guards: Vec<Arc<Credential>>,
    pub(crate) policies: PolicyHistory,
}

/// What to subscribe on the wire to read a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) rules: Vec<Name>,
    pub(crate) levels: Vec<Level>,
    pub(crate) queue: Option<String>,
    /// Whether every message under these rules comes here, so that a gap in sequences means a loss.
    pub(crate) whole: bool,
}

impl View {
    /// Checks a welcome: signatures, roles, times, and that no version is lower than one already seen. `now`
    /// is the guard's time.
    pub(crate) fn read(
        welcome: &Welcome,
        roots: &Roots,
        previous: Option<&Self>,
        now: Millis,
    ) -> Result<Self, Refused> {
        let (head, Records { tables, rules, grants, supervision: _ }) = welcome.policy.verify(roots)?;
        let head = *head.fields();
        let status = Status::verify(&welcome.status, roots.bus(), &tables.status_key)?;
        let rolled_back = |what| Err(Refused::new(Reason::RolledBack, what));
        if head.version < status.policy_version {
            return rolled_back("policy version");
        }
        let mut policies = previous.map(|previous| previous.policies.clone()).unwrap_or_default();
        policies.enter(head.version, head.root, now)?;
        if previous.is_some_and(|previous| status.version < previous.status.version) {
            return rolled_back("status version");
        }
        let mut guards = Vec::new();
        for text in &welcome.guards {
            let guard = Credential::verify(text, roots.bus(), &roots.issuer)?;
            let claims = guard.claims();
            if claims.role == Role::Guard
                && tables.guards.contains(&claims.identity)
                && guard.check_time(now).is_ok()
                && !status.is_revoked(&claims.identity)
            {
                guards.push(Arc::new(guard));
            }
        }
        let rules = rules.into_iter().map(Arc::new).collect();
        let grants = grants.into_iter().map(Arc::new).collect();
        Ok(Self { head, tables, rules, grants, status, guards, policies })
    }

    /// The guard with this key.
    pub(crate) fn guard(&self, key: &[u8; 32]) -> Option<&Arc<Credential>> {
        self.guards.iter().find(|guard| guard.claims().identity.as_bytes() == key)
    }

    /// The rule with this name, if it concerns us.
    pub(crate) fn rule(&self, name: &str) -> Option<&Arc<Rule>> {
        self.rules.iter().find(|rule| rule.name.as_str() == name)
    }

    /// All of it that concerns us.
    pub(crate) fn records(&self) -> Records {
        Records {
            tables: self.tables.clone(),
            rules: self.rules.iter().map(|rule| Rule::clone(rule)).collect(),
            grants: self.grants.iter().map(|grant| FlowGrant::clone(grant)).collect(),
            supervision: None,
        }
    }

    /// The flow grant with this name, if it concerns us.
    pub(crate) fn flow_grant(&self, name: &str) -> Option<&Arc<FlowGrant>> {
        self.grants.iter().find(|grant| grant.name.as_str() == name)
    }

    /// How long people have to approve a message under this rule with this flow grant; zero if nobody must.
    pub(crate) fn held_for(&self, rule: &Rule, flow_grant: Option<&str>) -> Duration {
        let grant = flow_grant.and_then(|name| self.flow_grant(name));
        let holds = rule.hold.iter().chain(grant.and_then(|grant| grant.approval.as_ref()));
        Duration::from_millis(holds.map(|hold| u64::from(hold.deadline_ms)).max().unwrap_or(0))
    }

    /// The same for a rule by its name; zero if it does not concern us.
    pub(crate) fn held_under(&self, rule: &str, flow_grant: Option<&str>) -> Duration {
        self.rule(rule).map_or(Duration::ZERO, |rule| self.held_for(rule, flow_grant))
    }

    /// The longest that a message under this rule can wait for people.
    pub(crate) fn held_at_most(&self, rule: &Rule) -> Duration {
        let grants = self.grants.iter().filter(|grant| grant.to.overlaps(&rule.pattern));
        grants
            .map(|grant| self.held_for(rule, Some(grant.name.as_str())))
            .fold(self.held_for(rule, None), Duration::max)
    }

    /// Whether we may publish (or ask) under the rule, be it because observe mode lets that pass.
    fn lets_publish(&self, rule: &Rule, claims: &Claims) -> bool {
        rule.names_publisher(claims) || self.tables.observes(rule, claims)
    }

    /// Picks the rule to publish (or ask) under: the one named, or the only one that takes the subject, and
    /// the label if there is one, else the rule's default joined with `least`. Checks all that the guard will check
    /// of it but where it comes from.
    pub(crate) fn choose(
        &self,
        claims: &Claims,
        subject: &Subject,
        named: Option<&str>,
        (label, least): (Option<Label>, Label),
        ask: bool,
    ) -> Result<(Arc<Rule>, Label)> {
        let not_allowed = |refused: Refused| match refused.reason {
            Reason::LabelOutOfRange | Reason::AboveClearance if label.is_none() && least != Label::BOTTOM => {
                let detail = format!(
                    "{}: what the message derives from and what this agent was given to read is {}, and without a \
                     label or flow grant of its own the message is labelled at least that",
                    refused.reason.meaning(),
                    self.tables.show(least),
                );
                Error::with_reason(ErrorKind::NotAllowed, refused.reason, detail)
            }
            _ => Error::refused(ErrorKind::NotAllowed, refused),
        };
        let check = |rule: &Rule| {
            let label = label.unwrap_or_else(|| rule.default_label.join(least));
            let mut faults = Faults::observing(self.tables.observes(rule, claims));
            check_publish(&self.tables, rule, claims, subject, label, false, &mut faults).map(|()| label)
        };
        if let Some(named) = named {
            let rule = self.rule(named).ok_or_else(|| self.unknown_rule(claims, named))?;
            if matches!(rule.kind, MessageKind::Request { .. }) != ask {
                return Err(not_allowed(Refused::new(Reason::WrongPattern, "rule")));
            }
            return check(rule).map(|label| (Arc::clone(rule), label)).map_err(not_allowed);
        }
        let of_kind = |rule: &&Arc<Rule>| matches!(rule.kind, MessageKind::Request { .. }) == ask;
        let mine: Vec<_> =
            self.rules.iter().filter(of_kind).filter(|rule| self.lets_publish(rule, claims)).collect();
        let covering: Vec<_> = mine.iter().filter(|rule| rule.pattern.matches(subject)).collect();
        let fitting: Vec<_> = covering
            .iter()
            .filter_map(|rule| check(rule).ok().map(|label| (Arc::clone(rule), label)))
            .collect();
        match (fitting.as_slice(), covering.as_slice()) {
            ([(rule, label)], _) => Ok((Arc::clone(rule), *label)),
            ([], [only]) => Err(check(only).map_or_else(not_allowed, |_| Error::closed())),
            ([], []) => Err(Error::with_reason(
                ErrorKind::NotAllowed,
                Reason::NotPublisher,
                format!(
                    "no rule lets `{}` {} on `{subject}`; it may on {}",
                    claims.name,
                    if ask { "ask" } else { "publish" },
                    list(mine.iter().map(|rule| rule.pattern.as_str())),
                ),
            )),
            (several, covering) => {
                let names: Vec<_> = if several.is_empty() {
                    covering.iter().map(|rule| rule.name.as_str()).collect()
                } else {
                    several.iter().map(|(rule, _)| rule.name.as_str()).collect()
                };
                Err(Error::new(
                    ErrorKind::Usage,
                    format!("several rules take `{subject}`: name one of {}", list(names.into_iter())),
                ))
            }
        }
    }

    fn unknown_rule(&self, claims: &Claims, named: &str) -> Error {
        let mine = self.rules.iter().filter(|rule| rule.names_publisher(claims));
        Error::with_reason(
            ErrorKind::NotAllowed,
            Reason::UnknownRule,
            format!(
                "no rule `{}` names this agent; those that do: {}",
                named.escape_debug(),
                list(mine.map(|rule| rule.name.as_str()))
            ),
        )
    }

    /// What to subscribe to read `pattern`: every rule of the kind that names us as a subscriber and covers
    /// it, or the one named.
    pub(crate) fn reading(
        &self,
        claims: &Claims,
        pattern: &Pattern,
        named: Option<&str>,
        queue: Option<&str>,
        serve: bool,
    ) -> Result<Reading> {
        let mine: Vec<_> = self
            .rules
            .iter()
            .filter(|rule| matches!(rule.kind, MessageKind::Request { .. }) == serve)
            .filter_map(|rule| rule.subscriber(claims).map(|party| (rule, party)))
            .filter(|(rule, _)| named.is_none_or(|name| rule.name.as_str() == name))
            .collect();
        let covering: Vec<_> = mine.iter().filter(|(rule, _)| rule.pattern.covers(pattern)).collect();
        if covering.is_empty() {
            return Err(not_covered(claims, pattern, &mine));
        }
        let clearance = self.tables.effective_clearance(claims).unwrap_or_default();
        let mut levels: Vec<Level> = covering
            .iter()
            .flat_map(|(rule, _)| rule.labels.low.level.number()..=rule.labels.high.level.number())
            .filter_map(|n| Level::new(n).ok())
            .filter(|level| *level <= clearance.level)
            .collect();
        levels.sort();
        levels.dedup();
        if levels.is_empty() {
            return Err(Error::with_reason(
                ErrorKind::NotAllowed,
                Reason::AboveClearance,
                format!("every label of `{pattern}` is above the clearance of `{}`", claims.name),
            ));
        }
        let queues: Vec<_> =
            covering.iter().map(|(_, party)| party.queue.as_ref().map(Name::as_str)).collect();
        let ruled = queues.first().copied().flatten();
        if queues.iter().any(|other| *other != ruled) {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("rules for `{pattern}` differ in their queue: name one rule"),
            ));
        }
        match (queue, ruled) {
            (Some(wanted), Some(ruled)) if wanted == ruled => {}
            (None, _) => {}
            (Some(wanted), ruled) => {
                let allowed = ruled.map_or("none".to_owned(), |name| format!("`{name}`"));
                return Err(Error::with_reason(
                    ErrorKind::NotAllowed,
                    Reason::NotSubscriber,
                    format!(
                        "queue `{}` is not granted; the rule's queue is {allowed}",
                        wanted.escape_debug()
                    ),
                ));
            }
        }
        Ok(Reading {
            rules: covering.iter().map(|(rule, _)| rule.name.clone()).collect(),
            levels,
            queue: ruled.map(str::to_owned),
            whole: ruled.is_none() && covering.iter().all(|(rule, _)| pattern.covers(&rule.pattern)),
        })
    }
}

fn not_covered(
    claims: &Claims,
    pattern: &Pattern,
    mine: &[(&Arc<Rule>, &sealbus_envelope::policy::Party)],
) -> Error {
    let inside = mine.iter().map(|(rule, _)| &rule.pattern).filter(|granted| granted.overlaps(pattern));
    let inside: Vec<_> = inside.map(Pattern::as_str).collect();
    let detail = if inside.is_empty() {
        let all = list(mine.iter().map(|(rule, _)| rule.pattern.as_str()));
        format!("no rule lets `{}` read `{pattern}`; it may read {all}", claims.name)
    } else {
        format!("`{pattern}` is wider than what is granted inside it: {}", list(inside.into_iter()))
    };
    Error::with_reason(ErrorKind::NotAllowed, Reason::NotSubscriber, detail)
}

fn list<'a>(items: impl Iterator<Item = &'a str>) -> String {
    let items: Vec<_> = items.map(|item| format!("`{item}`")).collect();
    if items.is_empty() { "nothing".to_owned() } else { items.join(", ") }
}

#[cfg(test)]
mod tests;

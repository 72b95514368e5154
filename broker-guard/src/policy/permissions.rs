//! What one session may publish and subscribe on NATS, as nats-server's permission lists.
//!
//! Three things about nats-server (2.15.1, tried in `tests/tests/permissions.rs`) shape the lists:
//! - *An empty list allows everything.* So no side is ever empty: one without grants denies `>`.
//! - *A plain subscribe grant admits any queue group*, and who joins a foreign group takes its share of
//!   the messages. So each plain grant on a delivery subject comes with a deny of every group on it.
//! - *The wildcards of the subject asked for are matched as text*, so a grant of `a.*` lets `SUB a.>` in
//!   and everything below flows. A deny of `a.*.>` makes the server filter those deliveries.
//!
//! The last two denies would also cut into other grants of the same agent. `check` refuses policies where
//! they would for a team; for agents that rules name by themselves it is found here.

use std::collections::BTreeSet;

use sealbus_envelope::identity::SessionId;
use sealbus_envelope::label::Level;
use sealbus_envelope::name::{AgentToken, Name};
use sealbus_envelope::subject::{Partition, Pattern, WireSubjects};
use serde::Serialize;

use super::compile::CompiledPolicy;
use super::decide::{Part, Principal};

/// Most bytes of permission subjects: in a JWT they grow by a third, and an answer to the auth callout
/// above the server's payload limit looks like a refusal.
pub const MAX_PERMISSION_BYTES: usize = 192 << 10;

/// Why no permissions could be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PermissionsError {
    /// The lists would not fit the JWT.
    #[error(
        "the permissions of `{agent}` take {bytes} bytes, more than {MAX_PERMISSION_BYTES}: give its team fewer rules \
         or wider patterns"
    )]
    TooLarge {
        /// The agent.
        agent: AgentToken,
        /// Size of all subjects together.
        bytes: usize,
    },
    /// Two grants cannot be told apart in a permission list.
    #[error(
        "`{agent}` reads rules `{first}` and `{second}`, whose subjects overlap in a way that NATS permissions cannot \
         hold apart: use the same queue group in both, and end no pattern in `*` above the other"
    )]
    Conflict {
        /// The agent.
        agent: AgentToken,
        /// One rule.
        first: Name,
        /// The other.
        second: Name,
    },
}

/// One direction: subjects allowed and subjects denied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Side {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allow: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    deny: Vec<String>,
}

impl Side {
    /// The only way to make one: without a grant everything is denied, never allowed.
    fn new(allow: BTreeSet<String>, deny: BTreeSet<String>) -> Self {
        if allow.is_empty() {
            return Self { allow: Vec::new(), deny: vec![">".to_owned()] };
        }
        Self { allow: allow.into_iter().collect(), deny: deny.into_iter().collect() }
    }

    /// Subjects allowed, each alone or as `subject queue`.
    #[must_use]
    pub fn allow(&self) -> &[String] {
        &self.allow
    }

    /// Subjects denied, each alone or as `subject queue`.
    #[must_use]
    pub fn deny(&self) -> &[String] {
        &self.deny
    }

    fn bytes(&self) -> usize {
        self.allow.iter().chain(&self.deny).map(|subject| subject.len() + 3).sum()
    }
}

/// The `pub` and `sub` claims of a NATS user JWT.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Permissions {
    /// What may be published.
    #[serde(rename = "pub")]
    pub publish: Side,
    /// What may be subscribed.
    #[serde(rename = "sub")]
    pub subscribe: Side,
}

impl Permissions {
    /// Exactly what `who` needs in one session under `policy`, on the subjects of `wire`.
    ///
    /// # Errors
    /// [`PermissionsError`].
    pub fn of_session(
        policy: &CompiledPolicy,
        who: &Principal,
        session: &SessionId,
        wire: &WireSubjects,
    ) -> Result<Self, PermissionsError> {
        let agent = who.token();
        let mut publish = BTreeSet::from([wire.control(agent, session, "*")]);
        let mut subscribe =
            BTreeSet::from([wire.session_box(agent, session, ">"), wire.heartbeat(Partition::of(agent))]);
        let mut deny = BTreeSet::new();
        let parts = policy.rules_for(who);
        let observed = policy.observes_all_of(who);
        if observed {
            publish.insert(wire.ingress(agent, ">"));
        }
        conflicts(who, &parts)?;
        for part in &parts {
            let pattern = part.rule.pattern.as_str();
            if !observed && (part.publishes || part.rule.is_request()) {
                publish.insert(wire.ingress(agent, pattern));
            }
            if !part.subscribes || part.rule.is_request() {
                continue;
            }
            for level in levels(part, who) {
                let subject = wire.delivery(level, pattern);
                if subject.ends_with(".*") {
                    deny.insert(format!("{subject}.>"));
                }
                match part.queue {
                    Some(queue) => {
                        subscribe.insert(format!("{subject} {queue}"));
                    }
                    None => {
                        deny.insert(format!("{subject} >"));
                        subscribe.insert(subject);
                    }
                }
            }
        }
        let permissions =
            Self { publish: Side::new(publish, BTreeSet::new()), subscribe: Side::new(subscribe, deny) };
        let bytes = permissions.publish.bytes() + permissions.subscribe.bytes();
        if bytes > MAX_PERMISSION_BYTES {
            return Err(PermissionsError::TooLarge { agent: agent.clone(), bytes });
        }
        Ok(permissions)
    }

    /// For an agent in quarantine that is kept busy apart: it may say what it could say before, to the guard alone,
    /// and hears its own box and the heartbeat. No delivery reaches it.
    #[must_use]
    pub fn diverted(self, agent: &AgentToken, session: &SessionId, wire: &WireSubjects) -> Self {
        let hears =
            BTreeSet::from([wire.session_box(agent, session, ">"), wire.heartbeat(Partition::of(agent))]);
        Self { publish: self.publish, subscribe: Side::new(hears, BTreeSet::new()) }
    }

    /// For an agent that is known and refused: it may hear the reason in its own box, and nothing else.
    #[must_use]
    pub fn lobby(agent: &AgentToken, session: &SessionId, wire: &WireSubjects) -> Self {
        Self::listen_only(BTreeSet::from([wire.session_box(agent, session, ">")]))
    }

    /// For a credential with the observer role: events and its heartbeat, publishing nothing.
    #[must_use]
    pub fn observer(agent: &AgentToken, wire: &WireSubjects) -> Self {
        Self::listen_only(BTreeSet::from([wire.event(">"), wire.heartbeat(Partition::of(agent))]))
    }

    fn listen_only(subscribe: BTreeSet<String>) -> Self {
        Self {
            publish: Side::new(BTreeSet::new(), BTreeSet::new()),
            subscribe: Side::new(subscribe, BTreeSet::new()),
        }
    }
}

/// The levels on which `who` is delivered what `part` lets it read.
fn levels(part: &Part<'_>, who: &Principal) -> impl Iterator<Item = Level> + use<> {
    let (low, high) = (part.rule.labels.low.level, part.rule.labels.high.level);
    (low.number()..=high.min(who.clearance().level).number()).filter_map(|n| Level::new(n).ok())
}

fn conflicts(who: &Principal, parts: &[Part<'_>]) -> Result<(), PermissionsError> {
    // Without rules that name the agent itself, `check` has already looked.
    let named = |part: &Part<'_>| part.rule.subscribers.agents().contains(who.agent());
    if !parts.iter().any(named) {
        return Ok(());
    }
    let reading: Vec<_> = parts.iter().filter(|part| part.subscribes && !part.rule.is_request()).collect();
    for a in &reading {
        for b in reading.iter().filter(|b| b.rule.id != a.rule.id) {
            let (first, second) = (&a.rule.pattern, &b.rule.pattern);
            let groups = a.queue.is_none() && b.queue.is_some() && first.overlaps(second);
            let star = || below_star(first).is_some_and(|below| below.overlaps(second));
            if (groups || star()) && levels(a, who).any(|level| levels(b, who).any(|other| other == level)) {
                return Err(PermissionsError::Conflict {
                    agent: who.token().clone(),
                    first: a.rule.name.clone(),
                    second: b.rule.name.clone(),
                });
            }
        }
    }
    Ok(())
}

/// What nats-server lets in beyond a pattern that ends in `*`.
fn below_star(pattern: &Pattern) -> Option<Pattern> {
    let text = pattern.as_str();
    if text == "*" || text.ends_with(".*") { Pattern::parse(&format!("{text}.>")).ok() } else { None }
}

//! What a stolen key is worth: all that its agent may read and write, and everybody its words get to.

use sealbus_envelope::{label::Label, policy::TaintScope};

use super::{Access, Holder, Permit, Reach, Reached, TrustGraph, UnknownHolder};

/// What whoever holds an agent's key can do until it is revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlastRadius<'g> {
    /// What it can have admitted.
    pub writes: Vec<Permit<'g>>,
    /// What it can be given keys for: lost to the thief as it is sent.
    pub reads: Vec<Permit<'g>>,
    /// Where its words get to: at one hop directly, further if others pass them on.
    pub reach: Reach<'g>,
    /// Whether its floor ends with a session: then a thief reads in one session and writes what it read below
    /// its label in another, and only what the agent may write limits it.
    pub forgets: bool,
}

impl BlastRadius<'_> {
    /// Whom its words reach without anybody's help.
    pub fn direct(&self) -> impl Iterator<Item = &Reached<'_>> {
        self.reach.agents.iter().filter(|reached| reached.hops == 1)
    }

    /// Whom its words reach only if others pass them on.
    pub fn transitive(&self) -> impl Iterator<Item = &Reached<'_>> {
        self.reach.agents.iter().filter(|reached| reached.hops > 1)
    }
}

impl TrustGraph<'_> {
    /// What the holder of the key of the agent called `name` can do. Nothing, if the bus does not let it in: for
    /// what it could do before it was revoked, build the graph with its standing as it was.
    ///
    /// # Errors
    /// [`UnknownHolder`].
    pub fn blast_radius(&self, name: &str) -> Result<BlastRadius<'_>, UnknownHolder> {
        let (place, holder) = self.locate(name)?;
        let permits =
            |access| self.class_of(place).map(|class| self.permits_of(class, access)).unwrap_or_default();
        Ok(BlastRadius {
            writes: permits(Access::Write),
            reads: permits(Access::Read),
            reach: self.reach(name, None)?,
            forgets: self.forgets(holder),
        })
    }

    fn forgets(&self, holder: &Holder) -> bool {
        self.facts.tables.team(holder.team.as_str()).is_some_and(|team| team.taint == TaintScope::Session)
    }

    /// The label in the policy's words.
    #[must_use]
    pub fn show(&self, label: Label) -> String {
        self.facts.tables.show(label)
    }
}

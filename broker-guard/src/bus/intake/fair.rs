//! Bounded queues, one an agent, served by turns: deficit round robin (Shreedhar and Varghese, 1995).
//!
//! Who sends little never waits behind who sends much. An agent's control messages go before its envelopes:
//! a sender grants its key before it seals with it. The room is shared by the rule of Choudhury and Hahne: a
//! queue may be as long as the room that is still free, so that one agent gets at most half of it, a second
//! half of the rest, and who has nothing queued always finds room. Pure: no IO, no clock.

use std::collections::{HashMap, VecDeque};

use sealbus_envelope::{name::AgentToken, time::Millis};

use super::bound::{Allowance, Bound, control_cost, envelope_cost};

/// The most messages that wait.
pub const ROOM: usize = 65_536;
/// The most bytes that wait.
pub const ROOM_BYTES: usize = 256 << 20;
/// The most agents that are told apart. An agent has one name, so only a hostile server can get here.
pub const MAX_AGENTS: usize = 65_536;
/// Envelopes of one turn, a few milliseconds of a busy machine: who comes next waits for that at most.
const TURN: usize = 128;
/// Control messages of one turn, before envelopes have theirs again.
const CONTROL_TURN: usize = 64;
/// What the control messages of one turn may cost, about ten milliseconds, unless it is a single one.
const CONTROL_COST: u64 = 1_000;
/// What each agent may have in a round.
const QUANTUM: u64 = 64;
/// After a cut, what was on its way is not counted as another flood.
const SETTLING_MS: u64 = 500;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane<'a> {
    /// An envelope.
    Envelope,
    /// A control message with this verb.
    Control(&'a str),
}

/// Why a message was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// More than the agent's bound.
    Rate,
    /// The room is used up.
    Room,
    /// The agent was just cut.
    Cut,
}

impl Cause {
    /// The stable word for metrics.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Room => "room",
            Self::Cut => "cut",
        }
    }
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offered {
    /// It waits for its turn.
    Queued,
    /// It is dropped.
    Dropped(Cause),
    /// It is dropped, and its agent is to be cut.
    Flood,
}

/// What is to be handled together: first the control messages, then the envelopes.
#[derive(Debug)]
pub struct Turn<T> {
    /// Control messages.
    pub control: Vec<T>,
    /// Envelopes.
    pub envelopes: Vec<T>,
}

impl<T> Default for Turn<T> {
    fn default() -> Self {
        Self { control: Vec::new(), envelopes: Vec::new() }
    }
}

impl<T> Turn<T> {
    /// Whether there is nothing to do.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.control.is_empty() && self.envelopes.is_empty()
    }
}

#[derive(Debug)]
struct Waiting<T> {
    message: T,
    bytes: usize,
    cost: u64,
}

#[derive(Debug)]
struct Agent<T> {
    control: VecDeque<Waiting<T>>,
    envelopes: VecDeque<Waiting<T>>,
    bytes: usize,
    deficit: u64,
    in_round: bool,
    allowance: Allowance,
    /// Whether the guard set its bound, and it is not to be forgotten.
    known: bool,
    dropped: u64,
    cut: Option<Millis>,
}

impl<T> Agent<T> {
    fn new(bound: Bound) -> Self {
        Self {
            control: VecDeque::new(),
            envelopes: VecDeque::new(),
            bytes: 0,
            deficit: 0,
            in_round: false,
            allowance: Allowance::new(bound),
            known: false,
            dropped: 0,
            cut: None,
        }
    }

    fn cut(&mut self, now: Millis) {
        self.cut = Some(now);
        self.allowance.reset();
    }

    /// Whether it was cut a moment ago. A clock that steps back does not make that longer.
    fn is_settling(&self, now: Millis) -> bool {
        self.cut.is_some_and(|cut| now.since(cut) < SETTLING_MS && cut.since(now) < SETTLING_MS)
    }

    fn waiting(&self) -> usize {
        self.control.len() + self.envelopes.len()
    }

    /// Takes what its deficit and the turn have room for, gives back how many bytes that was, and whether it
    /// was the turn that had none.
    fn serve(&mut self, turn: &mut Turn<T>, control_left: &mut u64) -> (usize, bool) {
        let mut bytes = 0;
        while let Some(next) = self.control.front() {
            let full =
                turn.control.len() >= CONTROL_TURN || (next.cost > *control_left && !turn.control.is_empty());
            if full || next.cost > self.deficit {
                return (bytes, full);
            }
            self.deficit -= next.cost;
            *control_left = control_left.saturating_sub(next.cost);
            if let Some(next) = self.control.pop_front() {
                bytes += next.bytes;
                turn.control.push(next.message);
            }
        }
        while let Some(next) = self.envelopes.front() {
            let full = turn.envelopes.len() >= TURN;
            if full || next.cost > self.deficit {
                return (bytes, full);
            }
            self.deficit -= next.cost;
            if let Some(next) = self.envelopes.pop_front() {
                bytes += next.bytes;
                turn.envelopes.push(next.message);
            }
        }
        (bytes, false)
    }
}

/// The queues. `None` stands for whatever names no agent, or one too many.
#[derive(Debug)]
pub struct Fair<T> {
    agents: HashMap<AgentToken, Agent<T>>,
    others: Agent<T>,
    round: VecDeque<Option<AgentToken>>,
    /// Whether the first of the round had its quantum, and the turn ended before it had used it.
    midway: bool,
    waiting: usize,
    bytes: usize,
}

impl<T> Default for Fair<T> {
    fn default() -> Self {
        Self {
            agents: HashMap::new(),
            others: Agent::new(Bound::STRANGER),
            round: VecDeque::new(),
            midway: false,
            waiting: 0,
            bytes: 0,
        }
    }
}

impl<T> Fair<T> {
    /// Charges a message to its agent and queues it, if it is within its bound and there is room.
    pub fn offer(&mut self, agent: &str, lane: Lane<'_>, bytes: usize, message: T, now: Millis) -> Offered {
        let free = (ROOM.saturating_sub(self.waiting), ROOM_BYTES.saturating_sub(self.bytes));
        if !self.agents.contains_key(agent)
            && self.agents.len() < MAX_AGENTS
            && let Ok(token) = AgentToken::parse(agent)
        {
            self.agents.insert(token, Agent::new(Bound::STRANGER));
        }
        let (queues, token) = match self.agents.get_key_value(agent) {
            Some((token, queues)) if !queues.in_round => {
                let token = token.clone();
                (self.agents.get_mut(agent).unwrap_or(&mut self.others), Some(token))
            }
            _ => (self.agents.get_mut(agent).unwrap_or(&mut self.others), None),
        };
        if queues.is_settling(now) {
            queues.dropped += 1;
            return Offered::Dropped(Cause::Cut);
        }
        let (cost, within) = match lane {
            Lane::Envelope => (envelope_cost(bytes), queues.allowance.envelope(bytes, now)),
            Lane::Control(verb) => {
                let cost = control_cost(verb, bytes);
                (cost, queues.allowance.control(verb, cost, now))
            }
        };
        let room = queues.waiting() < free.0 && queues.bytes < free.1;
        if !within || !room {
            queues.dropped += 1;
            // That the room is used up is not the agent's doing alone.
            if within {
                return Offered::Dropped(Cause::Room);
            }
            if queues.allowance.dropped(bytes, now) {
                queues.cut(now);
                return Offered::Flood;
            }
            return Offered::Dropped(Cause::Rate);
        }
        let waiting = Waiting { message, bytes, cost };
        match lane {
            Lane::Envelope => queues.envelopes.push_back(waiting),
            Lane::Control(_) => queues.control.push_back(waiting),
        }
        queues.bytes += bytes;
        self.waiting += 1;
        self.bytes += bytes;
        if !queues.in_round {
            queues.in_round = true;
            self.round.push_back(token);
        }
        Offered::Queued
    }

    /// What is to be handled next; nothing if nothing waits. A turn is filled by one agent only if it alone waits:
    /// else each has its share once, so that who sends little waits for little of who sends much.
    pub fn take(&mut self) -> Turn<T> {
        let mut turn = Turn::default();
        let mut control_left = CONTROL_COST;
        let (alone, mut left) = (self.round.len() == 1, self.round.len());
        while turn.envelopes.len() < TURN
            && (alone || left > 0 || turn.is_empty())
            && let Some(name) = self.round.pop_front()
        {
            left = left.saturating_sub(1);
            let queues = match &name {
                Some(name) => self.agents.get_mut(name),
                None => Some(&mut self.others),
            };
            let Some(queues) = queues else { continue };
            if !std::mem::take(&mut self.midway) {
                queues.deficit += QUANTUM;
            }
            let before = queues.waiting();
            let (bytes, full) = queues.serve(&mut turn, &mut control_left);
            self.waiting -= before - queues.waiting();
            self.bytes -= bytes;
            queues.bytes -= bytes;
            if queues.waiting() == 0 {
                queues.deficit = 0;
                queues.in_round = false;
                continue;
            }
            if full {
                self.midway = true;
                self.round.push_front(name);
                break;
            }
            self.round.push_back(name);
        }
        turn
    }

    /// Sets the bound of an agent that the guard knows.
    pub fn bind(&mut self, agent: &AgentToken, bound: Bound) {
        if self.agents.len() >= MAX_AGENTS && !self.agents.contains_key(agent) {
            return;
        }
        let queues = self.agents.entry(agent.clone()).or_insert_with(|| Agent::new(bound));
        queues.allowance.rebind(bound);
        queues.known = true;
    }

    /// Notes that a message of an agent that was let through was junk. True if the agent is to be cut; then what
    /// else of it waits is dropped.
    pub fn junk(&mut self, agent: &str, bytes: usize, now: Millis) -> bool {
        let Some(queues) = self.agents.get_mut(agent) else { return false };
        if queues.is_settling(now) || !queues.allowance.junk(bytes, now) {
            return false;
        }
        queues.cut(now);
        let waiting = queues.waiting();
        queues.dropped += u64::try_from(waiting).unwrap_or(0);
        self.waiting -= waiting;
        self.bytes -= std::mem::take(&mut queues.bytes);
        queues.control.clear();
        queues.envelopes.clear();
        true
    }

    /// How many messages of each agent were dropped since this was asked last, with those of no agent first.
    pub fn dropped(&mut self) -> Vec<(Option<AgentToken>, u64)> {
        let others = std::mem::take(&mut self.others.dropped);
        let of = self
            .agents
            .iter_mut()
            .map(|(name, queues)| (Some(name.clone()), std::mem::take(&mut queues.dropped)));
        std::iter::once((None, others)).chain(of).filter(|(_, count)| *count > 0).collect()
    }

    /// Forgets the agents of which nothing waits, that used nothing of their bound of late, and that are not
    /// among those that the guard knows (any more).
    pub fn prune(&mut self, still_known: impl Fn(&AgentToken) -> bool, now: Millis) {
        self.agents.retain(|name, queues| {
            queues.known = queues.known && still_known(name);
            queues.known
                || queues.in_round
                || queues.dropped > 0
                || queues.is_settling(now)
                || !queues.allowance.is_idle(now)
        });
    }

    /// How many messages wait.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.waiting
    }

    /// How many agents are told apart.
    #[must_use]
    pub fn agents(&self) -> usize {
        self.agents.len()
    }
}

#[cfg(test)]
mod tests;

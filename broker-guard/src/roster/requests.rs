//! Open requests: who asked, who was asked, until when. A reply needs one, and uses it up.

use std::collections::{BTreeSet, HashMap};

use sealbus_envelope::{
    hash::Hash,
    identity::SessionId,
    name::{AgentToken, Name},
    reason::{Reason, Refused},
    time::Millis,
};

/// The most requests of one agent that are open at once. Who leaves more unanswered waits; nobody else does.
pub const MAX_OPEN_PER_AGENT: usize = 2_048;
/// The most requests that are open at once.
pub const MAX_OPEN: usize = 131_072;

/// A request that waits for its reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRequest {
    /// The agent that asked.
    pub agent: AgentToken,
    /// In which session.
    pub asker: SessionId,
    /// Who was asked: nobody else may answer.
    pub responder: SessionId,
    /// After this no reply is accepted.
    pub deadline: Millis,
    /// Under which rule: the reply goes under the same.
    pub rule: Name,
    /// On which subject: the reply goes on the same.
    pub subject: Box<str>,
}

/// The requests that are open, by the digest of the asking envelope.
#[derive(Debug, Default)]
pub struct Requests {
    open: HashMap<Hash, OpenRequest>,
    by_deadline: BTreeSet<(Millis, Hash)>,
    of_agent: HashMap<AgentToken, usize>,
}

impl Requests {
    /// Notes a request.
    ///
    /// # Errors
    /// `overloaded` if its agent, or the bus, has too many open. None gives way to another: else who floods
    /// the bus with questions would end those of others.
    pub fn insert(&mut self, digest: Hash, request: OpenRequest) -> Result<(), Refused> {
        self.remove(&digest);
        let of_agent = self.of_agent.get(&request.agent).copied().unwrap_or(0);
        if of_agent >= MAX_OPEN_PER_AGENT || self.open.len() >= MAX_OPEN {
            return Err(Refused::new(Reason::Overloaded, "open requests"));
        }
        self.restore(digest, request);
        Ok(())
    }

    /// Puts back a request that was removed a moment ago.
    pub fn restore(&mut self, digest: Hash, request: OpenRequest) {
        *self.of_agent.entry(request.agent.clone()).or_default() += 1;
        self.by_deadline.insert((request.deadline, digest));
        self.open.insert(digest, request);
    }

    /// The open request that `responder` may answer now.
    #[must_use]
    pub fn find(&self, digest: &Hash, responder: SessionId, now: Millis) -> Option<&OpenRequest> {
        self.open.get(digest).filter(|open| open.responder == responder && now <= open.deadline)
    }

    /// Uses a request up: one request, one reply.
    pub fn remove(&mut self, digest: &Hash) -> Option<OpenRequest> {
        let open = self.open.remove(digest)?;
        self.by_deadline.remove(&(open.deadline, *digest));
        if let Some(count) = self.of_agent.get_mut(&open.agent) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.of_agent.remove(&open.agent);
            }
        }
        Some(open)
    }

    /// Uses up all requests that these sessions were to answer. Rare, so it may look at every one.
    pub fn take_of(&mut self, responders: &[SessionId]) -> Vec<(Hash, OpenRequest)> {
        let theirs = self.open.iter().filter(|(_, open)| responders.contains(&open.responder));
        let digests: Vec<Hash> = theirs.map(|(digest, _)| *digest).collect();
        digests.into_iter().filter_map(|digest| Some((digest, self.remove(&digest)?))).collect()
    }

    /// Forgets requests past their deadline.
    pub fn expire(&mut self, now: Millis) {
        while let Some((_, digest)) =
            self.by_deadline.first().copied().filter(|(deadline, _)| *deadline < now)
        {
            self.remove(&digest);
        }
    }

    /// How many are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const ASKER: SessionId = SessionId::from_bytes([1; 32]);
    const RESPONDER: SessionId = SessionId::from_bytes([2; 32]);

    fn open(agent: &str, deadline: u64) -> OpenRequest {
        OpenRequest {
            agent: AgentToken::parse(&format!("{agent}-aaaaaaaaaa")).unwrap(),
            asker: ASKER,
            responder: RESPONDER,
            deadline: Millis(deadline),
            rule: Name::parse("ask").unwrap(),
            subject: "a.b".into(),
        }
    }

    #[test]
    fn only_who_was_asked_may_answer_once_and_in_time() {
        let mut requests = Requests::default();
        requests.insert([7; 32], open("a", 100)).unwrap();
        assert_eq!(requests.find(&[7; 32], ASKER, Millis(50)), None, "not who was asked");
        assert_eq!(requests.find(&[7; 32], RESPONDER, Millis(101)), None, "too late");
        assert_eq!(requests.find(&[7; 32], RESPONDER, Millis(100)), Some(&open("a", 100)));
        requests.remove(&[7; 32]).unwrap();
        assert_eq!(requests.find(&[7; 32], RESPONDER, Millis(100)), None, "used up");
        assert!(requests.is_empty() && requests.of_agent.is_empty());
    }

    #[test]
    fn what_is_past_its_deadline_is_forgotten() {
        let mut requests = Requests::default();
        requests.insert([1; 32], open("a", 10)).unwrap();
        requests.insert([2; 32], open("a", 20)).unwrap();
        requests.expire(Millis(15));
        assert_eq!(requests.len(), 1);
        requests.expire(Millis(21));
        assert!(requests.is_empty() && requests.of_agent.is_empty());
    }

    #[test]
    fn requests_to_who_is_gone_are_taken_and_no_others() {
        let mut requests = Requests::default();
        requests.insert([1; 32], open("a", 10)).unwrap();
        requests.insert([2; 32], OpenRequest { responder: ASKER, ..open("b", 10) }).unwrap();
        assert_eq!(requests.take_of(&[RESPONDER]), [([1; 32], open("a", 10))]);
        assert_eq!((requests.len(), requests.by_deadline.len(), requests.of_agent.len()), (1, 1, 1));
    }

    #[test]
    fn who_asks_too_much_ends_nobody_elses_requests() {
        let mut requests = Requests::default();
        requests.insert([0xff; 32], open("honest", 5)).unwrap();
        let digest = |n: usize| {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&n.to_be_bytes());
            digest
        };
        for n in 0..MAX_OPEN_PER_AGENT {
            requests.insert(digest(n), open("flood", 100)).unwrap();
        }
        let refused = requests.insert(digest(MAX_OPEN_PER_AGENT), open("flood", 100)).unwrap_err();
        assert_eq!(refused.reason, Reason::Overloaded);
        assert!(requests.find(&[0xff; 32], RESPONDER, Millis(0)).is_some());
        requests.insert([0xfe; 32], open("honest", 5)).unwrap();
    }
}

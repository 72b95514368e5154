//! Open requests: who asked, who was asked, until when. A reply needs one, and uses it up.

use std::collections::{BTreeSet, HashMap};

use sealbus_envelope::{hash::Hash, identity::SessionId, time::Millis};

/// The most requests that are open at once: past it, the oldest gives way.
pub const MAX_OPEN: usize = 65_536;

/// A request that waits for its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenRequest {
    /// Who asked.
    pub asker: SessionId,
    /// Who was asked: nobody else may answer.
    pub responder: SessionId,
    /// After this no reply is accepted.
    pub deadline: Millis,
}

/// The requests that are open, by the digest of the asking envelope.
#[derive(Debug, Default)]
pub struct Requests {
    open: HashMap<Hash, OpenRequest>,
    by_deadline: BTreeSet<(Millis, Hash)>,
}

impl Requests {
    /// Notes a request.
    pub fn insert(&mut self, digest: Hash, request: OpenRequest) {
        if self.open.len() >= MAX_OPEN
            && let Some((_, oldest)) = self.by_deadline.pop_first()
        {
            self.open.remove(&oldest);
        }
        if let Some(old) = self.open.insert(digest, request) {
            self.by_deadline.remove(&(old.deadline, digest));
        }
        self.by_deadline.insert((request.deadline, digest));
    }

    /// The open request that `responder` may answer now.
    #[must_use]
    pub fn find(&self, digest: &Hash, responder: SessionId, now: Millis) -> Option<OpenRequest> {
        self.open.get(digest).copied().filter(|open| open.responder == responder && now <= open.deadline)
    }

    /// Uses a request up: one request, one reply.
    pub fn remove(&mut self, digest: &Hash) {
        if let Some(open) = self.open.remove(digest) {
            self.by_deadline.remove(&(open.deadline, *digest));
        }
    }

    /// Forgets requests past their deadline.
    pub fn expire(&mut self, now: Millis) {
        while let Some((deadline, digest)) = self.by_deadline.first().copied() {
            if deadline >= now {
                break;
            }
            self.by_deadline.pop_first();
            self.open.remove(&digest);
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
    use super::*;

    const ASKER: SessionId = SessionId::from_bytes([1; 32]);
    const RESPONDER: SessionId = SessionId::from_bytes([2; 32]);

    fn open(deadline: u64) -> OpenRequest {
        OpenRequest { asker: ASKER, responder: RESPONDER, deadline: Millis(deadline) }
    }

    #[test]
    fn only_who_was_asked_may_answer_once_and_in_time() {
        let mut requests = Requests::default();
        requests.insert([7; 32], open(100));
        assert_eq!(requests.find(&[7; 32], ASKER, Millis(50)), None, "not who was asked");
        assert_eq!(requests.find(&[7; 32], RESPONDER, Millis(101)), None, "too late");
        assert_eq!(requests.find(&[7; 32], RESPONDER, Millis(100)), Some(open(100)));
        requests.remove(&[7; 32]);
        assert_eq!(requests.find(&[7; 32], RESPONDER, Millis(100)), None, "used up");
        assert!(requests.is_empty());
    }

    #[test]
    fn what_is_past_its_deadline_is_forgotten() {
        let mut requests = Requests::default();
        requests.insert([1; 32], open(10));
        requests.insert([2; 32], open(20));
        requests.expire(Millis(15));
        assert_eq!(requests.len(), 1);
    }
}

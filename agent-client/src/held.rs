//! Messages that wait until people approve them: waiting for that, and, for approvers, looking at one and deciding.

use std::{sync::Arc, time::Duration};

use sealbus_envelope::{
    approval::SignedApproval,
    control::{Handed, HeldList, HeldNotice, HeldReport, Submitted},
    hash::{Hash, hex},
    identity::{Member, SessionId},
    keys::KeyId,
    name::Name,
    policy::MAX_HOLD_MS,
    reader,
    reason::{Reason, Refused},
    subject::Pattern,
    time::Millis,
    wire::{Decoded, Unadmitted},
};
use tokio::sync::oneshot;

use crate::{
    Client,
    driver::PolicyOnly,
    error::{Error, ErrorKind, Result},
    policy_view::View,
    publish::{Publish, Receipt, VERDICT_TIMEOUT},
    said::said_by_its_sender,
    shared::{Command, Shared},
    subscribe, sync,
};

/// How long the guard may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A key is asked for again after this.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// A message of this session that people decide about, in the client's memory. The message itself is on the guard's disk.
#[derive(Debug)]
pub(crate) struct Undecided {
    pub(crate) confirm: oneshot::Sender<Result<Receipt>>,
}

/// What became of a message as far as the guard alone can say.
#[derive(Debug)]
#[non_exhaustive]
pub enum Sent {
    /// It was admitted.
    Admitted(Receipt),
    /// It passed every check, is on the guard's disk, and waits for people.
    Held(Held),
}

/// A message that waits until people approve it. Dropping this loses the waiting, not the message.
#[derive(Debug)]
pub struct Held {
    digest: Hash,
    approvals: u8,
    until: Millis,
    remaining: Duration,
    verdict: oneshot::Receiver<Result<Receipt>>,
}

impl Held {
    pub(crate) fn new(notice: &HeldNotice, verdict: oneshot::Receiver<Result<Receipt>>) -> Self {
        // By the guard's clock, since both times are; and no longer than anything is ever held.
        let remaining = notice.until.since(notice.time).min(u64::from(MAX_HOLD_MS));
        let remaining = Duration::from_millis(remaining);
        Self { digest: notice.digest, approvals: notice.approvals, until: notice.until, remaining, verdict }
    }

    /// The envelope's digest: what people approve.
    #[must_use]
    pub const fn digest(&self) -> Hash {
        self.digest
    }

    /// How many people must approve it.
    #[must_use]
    pub const fn approvals(&self) -> u8 {
        self.approvals
    }

    /// When it is denied if they have not, by the guard's clock.
    #[must_use]
    pub const fn until(&self) -> Millis {
        self.until
    }

    /// Waits for what they decide. A restart of the guard does not end it.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] with [`Reason::ApprovalDenied`], [`Reason::ApprovalExpired`], [`Reason::Expired`], or what
    /// the policy says by then; [`ErrorKind::Timeout`] 15 seconds after the deadline if the verdict was lost on the
    /// way, and then it is unknown; [`ErrorKind::Closed`].
    pub async fn decided(self) -> Result<Receipt> {
        match tokio::time::timeout(self.remaining.saturating_add(VERDICT_TIMEOUT), self.verdict).await {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(_)) => Err(Error::closed()),
            Err(_) => Err(Error::with_reason(
                ErrorKind::Timeout,
                Reason::Timeout,
                format!("no verdict on `{}`, which was held; it may have been admitted", hex(&self.digest)),
            )),
        }
    }
}

/// A held message that an approver opened. Its sender's signature and the policy were checked; no guard has admitted
/// it and it may never be: this is to decide by, not to act on.
#[derive(Debug, Clone)]
pub struct HeldMessage {
    opened: Unadmitted,
    sender: Arc<Member>,
    view: Arc<View>,
}

impl HeldMessage {
    said_by_its_sender!();
}

impl Client {
    /// As [`send_confirmed`](Self::send_confirmed), but does not wait for people: if they must approve the message,
    /// returns as soon as it is on the guard's disk.
    ///
    /// # Errors
    /// As [`send_confirmed`](Self::send_confirmed).
    pub async fn send_or_held(&self, publish: Publish) -> Result<Sent> {
        self.answered_running(|publish| self.prepare(publish, false), publish).await
    }

    /// What is held under rules that this agent is a named reader of: the oldest first, at most 64.
    ///
    /// # Errors
    /// [`ErrorKind::GuardUnavailable`], [`ErrorKind::Refused`], [`ErrorKind::Timeout`], [`ErrorKind::Closed`].
    pub async fn held(&self) -> Result<HeldList> {
        Ok(self.ask_held(None).await?.list)
    }

    /// One held envelope, sealed, and what the guard knows of it.
    ///
    /// # Errors
    /// As [`held`](Self::held); [`ErrorKind::Denied`] with [`Reason::NotHeld`] if there is none, or this agent may
    /// not read it; with [`Reason::TooLarge`] if it does not fit in a message: get it from the guard's page.
    pub async fn held_envelope(&self, digest: Hash) -> Result<(HeldReport, Vec<u8>)> {
        let handed = self.ask_held(Some(digest)).await?;
        let none = || Error::refused(ErrorKind::Invalid, Refused::new(Reason::Malformed, "handed"));
        let report = handed.list.held.into_iter().next().ok_or_else(none)?;
        Ok((report, handed.envelope.ok_or_else(none)?.into_vec()))
    }

    async fn ask_held(&self, digest: Option<Hash>) -> Result<Handed> {
        let shared = self.shared();
        shared.link.borrow().check()?;
        let (done, answer) = oneshot::channel();
        shared.tell(Command::AskHeld { digest, done });
        let handed = answered(answer, "what is held").await?;
        match handed.refused {
            None => Ok(handed),
            Some(reason) => Err(Error::with_reason(ErrorKind::Denied, reason, reason.meaning())),
        }
    }

    /// Brings the guard what a person signed about a held envelope. It need not be this agent's own: the signature is
    /// what counts.
    ///
    /// # Errors
    /// [`ErrorKind::GuardUnavailable`], [`ErrorKind::Refused`], [`ErrorKind::Timeout`], [`ErrorKind::Closed`]. That it
    /// does not count is in the answer.
    pub async fn submit_approval(&self, approval: &SignedApproval) -> Result<Submitted> {
        let shared = self.shared();
        shared.link.borrow().check()?;
        let (done, answer) = oneshot::channel();
        let digest = approval.approval().envelope;
        shared.tell(Command::Approve { approval: approval.encode(), digest, done });
        answered(answer, "an approval").await
    }

    /// Opens a held envelope on this machine: for an approver that is a named reader of its rule. Declares the reading
    /// so that the sender hands over its key, and checks all that a reader checks but for admission, approvals, age
    /// and replay, which only its release decides.
    ///
    /// What this agent is given to read counts against what it writes, as always.
    ///
    /// # Errors
    /// [`ErrorKind::NotAllowed`] if the policy does not name this agent as a reader of it; [`ErrorKind::Timeout`] with
    /// [`Reason::UnknownKey`] if its key cannot be had within `timeout`: the sender is gone, or has replaced it;
    /// [`ErrorKind::Invalid`] if it does not verify; else as [`subscribe`](Self::subscribe).
    pub async fn open_held(&self, envelope: &[u8], timeout: Duration) -> Result<HeldMessage> {
        let shared = self.shared();
        let invalid = |refused| Error::refused(ErrorKind::Invalid, refused);
        let header = *Decoded::decode(envelope).map_err(invalid)?.claimed();
        let rule = Name::parse(header.rule).map_err(invalid)?;
        let wanted = subscribe::Subscribe::new(header.subject).rule(header.rule);
        let (pattern, _) = subscribe::reading(shared, &wanted, false)?;
        let declared = declare(shared, rule, pattern).await?;
        let key = key(shared, header.session, header.key, timeout).await;
        shared.tell(Command::Undeclare(declared));
        let (key, sender) = key?;
        let view = shared.view()?;
        let (context, lookup) = (shared.context(&view), PolicyOnly(&view));
        let opened = reader::read_held(envelope, &sender, &key, &context, &lookup, &shared.seen);
        let opened = opened.map_err(invalid)?;
        Ok(HeldMessage { opened, sender, view: Arc::clone(&view) })
    }
}

async fn declare(shared: &Shared, rule: Name, pattern: Pattern) -> Result<Vec<u32>> {
    subscribe::declare(shared, vec![rule], pattern, false, Vec::new()).await
}

async fn answered<T>(answer: oneshot::Receiver<T>, what: &str) -> Result<T> {
    match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(Error::closed()),
        Err(_) => Err(Error::with_reason(
            ErrorKind::Timeout,
            Reason::Timeout,
            format!("the guard did not answer about {what}"),
        )),
    }
}

/// Asks for a key until its sender has granted it.
async fn key(
    shared: &Shared,
    session: SessionId,
    key: KeyId,
    timeout: Duration,
) -> Result<(sealbus_envelope::keys::SenderKey, Arc<Member>)> {
    let mut news = shared.news.subscribe();
    let deadline = tokio::time::Instant::now() + timeout;
    loop {
        {
            let mut ring = sync::lock(&shared.keyring);
            let found = ring.key(&key, std::time::Instant::now()).zip(ring.sender(&session));
            if let Some(found) = found {
                return Ok(found);
            }
        }
        let now = tokio::time::Instant::now();
        if now >= deadline {
            let detail = "its key cannot be had: its sender has left the bus or has replaced the key since, or \
                          does not seal to this agent. What is known of it can be approved or denied all the same; \
                          or deny it, and have it sent again";
            return Err(Error::with_reason(ErrorKind::Timeout, Reason::UnknownKey, detail));
        }
        shared.tell(Command::Want(session, key));
        let again = deadline.min(now + ASK_AGAIN);
        let _nothing_new = tokio::time::timeout_at(again, news.changed()).await;
    }
}

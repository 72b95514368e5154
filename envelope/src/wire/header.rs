//! The envelope's header: everything about a message that the guard and readers must know before it is
//! opened. It is signed, and it is the associated data of the ciphertext.

use std::fmt;

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use crate::{
    hash::{self, Hash},
    identity::{BusId, SessionId},
    keys::KeyId,
    label::{Compartments, Integrity, Label, Level},
    name::{self, AgentToken, MAX_AGENT_TOKEN, MAX_NAME, Name},
    reason::{Reason, Refused},
    subject::{MAX_SUBJECT, Subject},
    time::Millis,
    wire::codec::{Reader, Writer},
};

/// The longest header, in bytes.
pub const MAX_HEADER: usize = 16 * 1024;
/// The most parents an envelope names.
pub const MAX_PARENTS: usize = 256;
/// The longest time-to-live: 7 days, in milliseconds.
pub const MAX_TTL_MS: u32 = 7 * 24 * 3_600_000;
const ARITY: usize = 15;

/// Which envelope: 16 random bytes that its sender drew.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EnvelopeId(#[serde(with = "serde_bytes")] [u8; 16]);

impl EnvelopeId {
    /// A fresh id.
    #[must_use]
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = [0; 16];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// An id that was received.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for EnvelopeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hash::hex(&self.0))
    }
}

impl fmt::Debug for EnvelopeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EnvelopeId({self})")
    }
}

/// Bits that change how an envelope is treated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Flags(u8);

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// The sender wants the guard's verdict.
    pub const CONFIRM: Self = Self(1);

    /// Whether the sender wants the guard's verdict.
    #[must_use]
    pub const fn confirm(self) -> bool {
        self.0 & Self::CONFIRM.0 != 0
    }

    fn parse(bits: u8) -> Result<Self, Refused> {
        if bits & !Self::CONFIRM.0 == 0 {
            Ok(Self(bits))
        } else {
            Err(Refused::new(Reason::BadFlags, "header.flags"))
        }
    }
}

/// An envelope that this one derives from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Parent {
    /// Its digest.
    #[serde(with = "serde_bytes")]
    pub digest: Hash,
    /// Its label.
    pub label: Label,
}

/// What a sender says of its envelope. Owned; [`Header`] is its borrowed, decoded form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderFields {
    /// The bus.
    pub bus: BusId,
    /// 16 random bytes.
    pub id: EnvelopeId,
    /// The sender, as subjects name it.
    pub sender: AgentToken,
    /// The session that signs.
    pub session: SessionId,
    /// The rule it goes under.
    pub rule: Name,
    /// The logical subject.
    pub subject: Subject,
    /// Its label.
    pub label: Label,
    /// The flow grant it uses, if it lowers a label.
    pub flow_grant: Option<Name>,
    /// The sender key it is sealed with.
    pub key: KeyId,
    /// Counts up from 0 with each envelope under that key.
    pub sequence: u64,
    /// When it was sealed, by the sender's clock.
    pub issued_at: Millis,
    /// How long it is of use, in milliseconds, 1 to 7 days.
    pub ttl_ms: u32,
    /// What it derives from.
    pub parents: Vec<Parent>,
    /// The digest of the request that it answers.
    pub request: Option<Hash>,
    /// How to treat it.
    pub flags: Flags,
}

impl HeaderFields {
    /// Writes the header; parents in ascending order of digest.
    ///
    /// # Errors
    /// What [`Header::decode`] refuses, this refuses.
    pub fn encode(&self) -> Result<Vec<u8>, Refused> {
        let mut parents: Vec<_> = self.parents.iter().collect();
        parents.sort_by_key(|parent| parent.digest);
        let mut w = Writer::with_capacity(320 + 48 * parents.len());
        w.array(ARITY).bin(self.bus.as_bytes()).bin(self.id.as_bytes()).str(self.sender.as_str());
        w.bin(self.session.as_bytes()).str(self.rule.as_str()).str(self.subject.as_str());
        write_label(&mut w, self.label);
        w.option(self.flow_grant.as_ref(), |w, name| {
            w.str(name.as_str());
        });
        w.bin(self.key.as_bytes()).uint(self.sequence).uint(self.issued_at.0).uint(self.ttl_ms);
        w.array(parents.len());
        for parent in parents {
            w.array(2).bin(&parent.digest);
            write_label(&mut w, parent.label);
        }
        w.option(self.request.as_ref(), |w, digest| {
            w.bin(digest);
        });
        w.uint(self.flags.0);
        let bytes = w.into_bytes();
        Header::decode(&bytes)?;
        Ok(bytes)
    }
}

/// A header that was decoded, borrowing from the envelope's bytes. Its form is right; nothing else is known.
#[derive(Debug, Clone, Copy)]
pub struct Header<'a> {
    /// The bus.
    pub bus: BusId,
    /// 16 bytes that the sender drew.
    pub id: EnvelopeId,
    /// The agent token of the sender.
    pub sender: &'a str,
    /// The session that is said to sign.
    pub session: SessionId,
    /// The rule it goes under: a valid name.
    pub rule: &'a str,
    /// The logical subject: a valid literal subject.
    pub subject: &'a str,
    /// Its label.
    pub label: Label,
    /// The flow grant it uses: a valid name.
    pub flow_grant: Option<&'a str>,
    /// The sender key it is sealed with.
    pub key: KeyId,
    /// Counts up under that key.
    pub sequence: u64,
    /// When it was sealed, by the sender's clock.
    pub issued_at: Millis,
    /// How long it is of use, in milliseconds.
    pub ttl_ms: u32,
    /// The join of all parents' labels: [`Label::BOTTOM`] if there is none.
    pub parents_join: Label,
    /// The digest of the request that it answers.
    pub request: Option<Hash>,
    /// How to treat it.
    pub flags: Flags,
    parents: Reader<'a>,
    parent_count: usize,
}

impl<'a> Header<'a> {
    /// Reads a header and checks its form.
    ///
    /// # Errors
    /// The codec's reasons; `bad_name`, `bad_subject`, `bad_label`, `bad_time`, `duplicate_parent`,
    /// `too_many_parents`, `bad_flags`. Parents out of order are `bad_encoding`.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Refused> {
        if bytes.len() > MAX_HEADER {
            return Err(Refused::new(Reason::TooLarge, "header"));
        }
        let mut r = Reader::new(bytes, "header");
        r.array(ARITY)?;
        let bus = BusId::from_bytes(r.bin_array()?);
        let id = EnvelopeId::from_bytes(r.bin_array()?);
        let sender = r.str(MAX_AGENT_TOKEN)?;
        AgentToken::check(sender)?;
        let session = SessionId::from_bytes(r.bin_array()?);
        let rule = r.str(MAX_NAME)?;
        name::check(rule)?;
        let subject = match r.str(MAX_SUBJECT) {
            Err(Refused { reason: Reason::TooLarge, .. }) => {
                return Err(Refused::new(Reason::BadSubject, "header.subject"));
            }
            subject => subject?,
        };
        Subject::check(subject)?;
        let label = read_label(&mut r)?;
        let flow_grant = r.option(|r| r.str(MAX_NAME))?;
        flow_grant.map_or(Ok(()), name::check)?;
        let key = KeyId::from_bytes(r.bin_array()?);
        let sequence = r.uint()?;
        let issued_at = Millis(r.uint()?);
        let ttl_ms = r.uint()?;
        let ttl_ms = u32::try_from(ttl_ms)
            .ok()
            .filter(|ttl| (1..=MAX_TTL_MS).contains(ttl))
            .ok_or(Refused::new(Reason::BadTime, "header.ttl"))?;
        let parent_count = match r.array_len(MAX_PARENTS) {
            Err(Refused { reason: Reason::TooLarge, .. }) => {
                return Err(Refused::new(Reason::TooManyParents, "header.parents"));
            }
            count => count?,
        };
        let parents = r;
        let (mut last, mut parents_join): (Option<Hash>, Label) = (None, Label::BOTTOM);
        for _ in 0..parent_count {
            let parent = read_parent(&mut r)?;
            // Ascending order makes one set of parents one text, and a duplicate plain to see.
            match last {
                Some(last) if last == parent.digest => {
                    return Err(Refused::new(Reason::DuplicateParent, "header.parents"));
                }
                Some(last) if last > parent.digest => {
                    return Err(Refused::new(Reason::BadEncoding, "header.parents"));
                }
                _ => {}
            }
            last = Some(parent.digest);
            parents_join = parents_join.join(parent.label);
        }
        let request = r.option(Reader::bin_array)?;
        let flags = Flags::parse(r.small()?)?;
        r.finish()?;
        Ok(Self {
            bus,
            id,
            sender,
            session,
            rule,
            subject,
            label,
            flow_grant,
            key,
            sequence,
            issued_at,
            ttl_ms,
            parents_join,
            request,
            flags,
            parents,
            parent_count,
        })
    }

    /// What it derives from, ascending by digest.
    pub fn parents(&self) -> impl ExactSizeIterator<Item = Parent> + use<'a> {
        let mut r = self.parents;
        // `decode` read exactly these once already, so the fallback is never taken.
        (0..self.parent_count)
            .map(move |_| read_parent(&mut r).unwrap_or(Parent { digest: [0; 32], label: Label::TOP }))
    }

    /// The same header, owned.
    ///
    /// # Errors
    /// Never for a decoded header; the parsers' reasons otherwise.
    pub fn to_fields(&self) -> Result<HeaderFields, Refused> {
        Ok(HeaderFields {
            bus: self.bus,
            id: self.id,
            sender: AgentToken::parse(self.sender)?,
            session: self.session,
            rule: Name::parse(self.rule)?,
            subject: Subject::parse(self.subject)?,
            label: self.label,
            flow_grant: self.flow_grant.map(Name::parse).transpose()?,
            key: self.key,
            sequence: self.sequence,
            issued_at: self.issued_at,
            ttl_ms: self.ttl_ms,
            parents: self.parents().collect(),
            request: self.request,
            flags: self.flags,
        })
    }

    /// The guard's check on arrival: sealed neither longer than `window_ms` ago nor more than that ahead,
    /// by the guard's clock, and within its own time-to-live.
    ///
    /// # Errors
    /// `from_future`, `stale`, `expired`.
    pub const fn check_arrival(&self, guard_now: Millis, window_ms: u64) -> Result<(), Refused> {
        if self.issued_at.since(guard_now) > window_ms {
            Err(Refused::new(Reason::FromFuture, "header.issued_at"))
        } else if guard_now.since(self.issued_at) > window_ms {
            Err(Refused::new(Reason::Stale, "header.issued_at"))
        } else if guard_now.since(self.issued_at) > self.ttl_ms as u64 {
            Err(Refused::new(Reason::Expired, "header.ttl"))
        } else {
            Ok(())
        }
    }

    /// A reader's check of age: by the time of admission, so that a message the guard held survives.
    /// `skew_ms` allows for the difference of the two clocks.
    ///
    /// # Errors
    /// `from_future`, `expired`.
    pub const fn check_age(&self, admitted: Millis, now: Millis, skew_ms: u64) -> Result<(), Refused> {
        if admitted.since(now) > skew_ms {
            Err(Refused::new(Reason::FromFuture, "admission.time"))
        } else if now.since(admitted) > (self.ttl_ms as u64).saturating_add(skew_ms) {
            Err(Refused::new(Reason::Expired, "header.ttl"))
        } else {
            Ok(())
        }
    }
}

/// Writes `[level, compartments, integrity]`.
pub(crate) fn write_label(w: &mut Writer, label: Label) {
    w.array(3).uint(label.level.number()).uint(label.compartments.bits()).uint(label.integrity.number());
}

/// Reads `[level, compartments, integrity]`.
pub(crate) fn read_label(r: &mut Reader<'_>) -> Result<Label, Refused> {
    let bad = Refused::new(Reason::BadLabel, "label");
    r.array(3)?;
    let level = u8::try_from(r.uint()?).ok().and_then(|n| Level::new(n).ok()).ok_or(bad)?;
    let compartments = Compartments::from_bits(r.uint()?);
    let integrity = u8::try_from(r.uint()?).ok().and_then(|n| Integrity::new(n).ok()).ok_or(bad)?;
    Ok(Label::new(level, compartments, integrity))
}

fn read_parent(r: &mut Reader<'_>) -> Result<Parent, Refused> {
    r.array(2)?;
    Ok(Parent { digest: r.bin_array()?, label: read_label(r)? })
}

//! What the detector is told.

use sealbus_envelope::{label::Label, time::Millis};

/// An envelope that passed every check, or several alike.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sent<'a> {
    /// When it was sealed, by the sender's signed word: a server decides when it arrives, and could bunch an
    /// hour's into a second.
    pub sealed: Millis,
    /// The logical subject.
    pub subject: &'a str,
    /// The rule that it names.
    pub rule: &'a str,
    /// Its label.
    pub label: Label,
    /// Bytes of it.
    pub size: u32,
    /// How many it stands for: 1 on the bus.
    pub count: u32,
    /// Sequence numbers before it that never came.
    pub gap: u64,
    /// The session, shortened.
    pub session: u64,
    /// Its number, for proof that two were signed under one.
    pub mark: Option<Mark>,
}

impl<'a> Sent<'a> {
    /// One of which only the subject and size are known.
    #[must_use]
    pub const fn plain(sealed: Millis, subject: &'a str, size: u32) -> Self {
        let label = Label::BOTTOM;
        Self { sealed, subject, rule: "", label, size, count: 1, gap: 0, session: 0, mark: None }
    }
}

/// The number that a session signed an envelope under, and the envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Digest of key id and sequence.
    pub number: u64,
    /// The first bytes of the envelope's digest.
    pub envelope: u64,
}

/// One thing that the guard saw of an agent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Observation<'a> {
    /// An envelope was admitted, or passed every check and waits for people: what they do with it is not the sender's
    /// doing.
    Sent(Sent<'a>),
    /// Under a valid session signature came what no honest client makes.
    BadContent,
    /// A signed envelope, not seen before, was denied for what honest agents get wrong now and then.
    SignedDenial,
    /// A signed envelope came that was not to come any more. `mark` tells a repetition from a second one.
    Replayed {
        /// Its number, if its signature verified.
        mark: Option<Mark>,
    },
    /// Something was denied that no session of the agent signed.
    Junk,
    /// A session of it was let in.
    Connected {
        /// The session, shortened.
        session: u64,
        /// Digest of where from.
        place: u64,
    },
    /// A session ended.
    Left {
        /// The session, shortened.
        session: u64,
    },
    /// A login with its identity was refused.
    FailedLogin,
    /// A key of it was handed to a reader.
    Granted {
        /// The reader, as subjects name it.
        reader: &'a str,
    },
    /// It asked to read under a rule.
    Asked {
        /// The rule.
        rule: &'a str,
    },
    /// It said that an envelope derives from what it was never given.
    UntrueParents,
}

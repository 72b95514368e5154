//! Subjects: what agents think in (logical subjects, patterns) and what goes over NATS (wire subjects).
//!
//! ```
//! use sealbus_envelope::subject::{Pattern, Subject};
//! # fn main() -> Result<(), sealbus_envelope::reason::Refused> {
//! let subject = Subject::parse("collect.web.raw")?;
//! assert!(Pattern::parse("collect.>")?.matches(&subject));
//! assert!(!Pattern::parse("collect.*")?.matches(&subject));
//! assert!(Subject::parse("collect.*").is_err(), "nobody publishes on a wildcard");
//! # Ok(())
//! # }
//! ```

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    hash::{self, Context},
    identity::SessionId,
    label::Level,
    name::AgentToken,
    reason::{Reason, Refused},
};

/// The longest logical subject or pattern, in bytes.
pub const MAX_SUBJECT: usize = 200;
/// The most tokens in a logical subject or pattern.
pub const MAX_TOKENS: usize = 16;

/// A literal logical subject: 1 to 16 tokens of visible ASCII, divided by single dots, no wildcard.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subject(Arc<str>);

/// A logical subject in which a token may be `*` (any one token) and the last may be `>` (one or more).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(Arc<str>);

fn check_token(token: &str) -> bool {
    // `$` would reach for system subjects; `*` and `>` are wildcards only when they stand alone, but a
    // token like `a*` reads as a wildcard to people, so none is allowed inside.
    !token.is_empty()
        && token.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'*' | b'>' | b'$' | b'.'))
}

fn check(text: &str, wildcards: bool) -> Result<(), Refused> {
    let bad = Refused::new(Reason::BadSubject, "subject");
    if text.is_empty() || text.len() > MAX_SUBJECT {
        return Err(bad);
    }
    let mut tokens = text.split('.').enumerate().peekable();
    while let Some((index, token)) = tokens.next() {
        let ok = match token {
            "*" => wildcards,
            ">" => wildcards && tokens.peek().is_none(),
            token => check_token(token),
        };
        if !ok || index >= MAX_TOKENS {
            return Err(bad);
        }
    }
    Ok(())
}

impl Subject {
    /// The subject in `text`.
    ///
    /// # Errors
    /// `bad_subject`.
    pub fn parse(text: &str) -> Result<Self, Refused> {
        check(text, false)?;
        Ok(Self(text.into()))
    }

    /// Checks without allocating what [`parse`](Self::parse) checks.
    ///
    /// # Errors
    /// `bad_subject`.
    pub fn check(text: &str) -> Result<(), Refused> {
        check(text, false)
    }

    /// The subject as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Pattern {
    /// The pattern in `text`.
    ///
    /// # Errors
    /// `bad_subject`.
    pub fn parse(text: &str) -> Result<Self, Refused> {
        check(text, true)?;
        Ok(Self(text.into()))
    }

    /// The pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it has no wildcard.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        check(&self.0, false).is_ok()
    }

    /// Whether `subject` is matched, as nats-server matches.
    #[must_use]
    pub fn matches(&self, subject: &Subject) -> bool {
        self.matches_str(&subject.0)
    }

    /// Whether a subject that was already checked is matched, as nats-server matches.
    #[must_use]
    pub fn matches_str(&self, subject: &str) -> bool {
        let mut tokens = subject.split('.');
        for want in self.0.split('.') {
            match (want, tokens.next()) {
                (">", Some(_)) => return true,
                ("*", Some(_)) => {}
                (want, Some(token)) if want == token => {}
                _ => return false,
            }
        }
        tokens.next().is_none()
    }

    /// Whether every subject that `other` matches is matched by `self`.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let mut theirs = other.0.split('.');
        for ours in self.0.split('.') {
            match (ours, theirs.next()) {
                (">", Some(_)) => return true,
                (_, None | Some(">")) => return false,
                ("*", Some(_)) => {}
                (ours, Some(token)) if ours == token => {}
                _ => return false,
            }
        }
        theirs.next().is_none()
    }

    /// Whether some subject is matched by both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let (mut ours, mut theirs) = (self.0.split('.'), other.0.split('.'));
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) | (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
                (Some(a), Some(b)) if a == b || a == "*" || b == "*" => {}
                _ => return false,
            }
        }
    }
}

macro_rules! text {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
        impl TryFrom<String> for $name {
            type Error = Refused;
            fn try_from(text: String) -> Result<Self, Refused> {
                Self::parse(&text)
            }
        }
        impl From<$name> for String {
            fn from(text: $name) -> Self {
                text.0.as_ref().into()
            }
        }
        impl std::str::FromStr for $name {
            type Err = Refused;
            fn from_str(text: &str) -> Result<Self, Refused> {
                Self::parse(text)
            }
        }
    };
}
text!(Subject);
text!(Pattern);

impl From<Subject> for Pattern {
    fn from(subject: Subject) -> Self {
        Self(subject.0)
    }
}

/// One of the 64 slots that agents are divided into, so that each sender's state has one owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Partition(u8);

impl Partition {
    /// How many there are.
    pub const COUNT: u8 = 64;

    /// The slot of an agent: the first byte of the hash of its token, modulo 64.
    #[must_use]
    pub fn of(agent: &AgentToken) -> Self {
        let [first, ..] = hash::hash(Context::Partition, &[agent.as_str().as_bytes()]);
        Self(first % Self::COUNT)
    }

    /// Slot number `n`, if there is one.
    #[must_use]
    pub const fn new(n: u8) -> Option<Self> {
        if n < Self::COUNT { Some(Self(n)) } else { None }
    }

    /// The number, 0 to 63.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Every slot.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT).map(Self)
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What an ingress subject says; the broker vouches for the agent in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ingress<'a> {
    /// Slot, as written.
    pub partition: Partition,
    /// The agent token, as written.
    pub agent: &'a str,
    /// The logical subject, not yet checked.
    pub logical: &'a str,
}

/// What a control subject says; the broker vouches for the agent and the session in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Control<'a> {
    /// Slot, as written.
    pub partition: Partition,
    /// The agent token, as written.
    pub agent: &'a str,
    /// The session token, as written.
    pub session: &'a str,
    /// The verb.
    pub verb: &'a str,
}

/// Builds and reads the wire subjects of one bus, all under one prefix (`sb` by default).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireSubjects {
    prefix: Arc<str>,
}

impl Default for WireSubjects {
    fn default() -> Self {
        Self { prefix: "sb".into() }
    }
}

impl WireSubjects {
    /// Subjects under `prefix`, a literal subject of its own.
    ///
    /// # Errors
    /// `bad_subject`.
    pub fn new(prefix: &str) -> Result<Self, Refused> {
        Subject::check(prefix)?;
        Ok(Self { prefix: prefix.into() })
    }

    /// The prefix.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// `sb.in.<p>.<agent>.<logical>`: where an agent publishes envelopes (`logical` may be a pattern, for a permission).
    #[must_use]
    pub fn ingress(&self, agent: &AgentToken, logical: &str) -> String {
        format!("{}.in.{}.{agent}.{logical}", self.prefix, Partition::of(agent))
    }

    /// `sb.in.>`: what a guard that owns every partition subscribes.
    #[must_use]
    pub fn ingress_all(&self) -> String {
        format!("{}.in.>", self.prefix)
    }

    /// Reads an ingress subject.
    #[must_use]
    pub fn read_ingress<'a>(&self, subject: &'a str) -> Option<Ingress<'a>> {
        let rest = self.strip(subject, "in")?;
        let (partition, rest) = rest.split_once('.')?;
        let (agent, logical) = rest.split_once('.')?;
        Some(Ingress { partition: read_partition(partition)?, agent, logical })
    }

    /// `sb.ctl.<p>.<agent>.<sid>.<verb>`: where a session talks to the guard.
    #[must_use]
    pub fn control(&self, agent: &AgentToken, session: &SessionId, verb: &str) -> String {
        format!("{}.ctl.{}.{agent}.{}.{verb}", self.prefix, Partition::of(agent), session.token())
    }

    /// `sb.ctl.>`: what a guard that owns every partition subscribes.
    #[must_use]
    pub fn control_all(&self) -> String {
        format!("{}.ctl.>", self.prefix)
    }

    /// Reads a control subject.
    #[must_use]
    pub fn read_control<'a>(&self, subject: &'a str) -> Option<Control<'a>> {
        let rest = self.strip(subject, "ctl")?;
        let mut tokens = rest.split('.');
        let (partition, agent, session, verb) =
            (tokens.next()?, tokens.next()?, tokens.next()?, tokens.next()?);
        if tokens.next().is_some() {
            return None;
        }
        Some(Control { partition: read_partition(partition)?, agent, session, verb })
    }

    /// `sb.out.<level>.<logical>`: where the guard delivers (`logical` may be a pattern).
    #[must_use]
    pub fn delivery(&self, level: Level, logical: &str) -> String {
        format!("{}.out.{}.{logical}", self.prefix, level.number())
    }

    /// Reads a delivery subject into level and logical subject.
    #[must_use]
    pub fn read_delivery<'a>(&self, subject: &'a str) -> Option<(Level, &'a str)> {
        let (level, logical) = self.strip(subject, "out")?.split_once('.')?;
        Some((Level::new(read_number(level)?).ok()?, logical))
    }

    /// `sb.box.<agent>.<sid>.<kind>`: where the guard talks to a session (`kind` may be `>`).
    #[must_use]
    pub fn session_box(&self, agent: &AgentToken, session: &SessionId, kind: &str) -> String {
        format!("{}.box.{agent}.{}.{kind}", self.prefix, session.token())
    }

    /// The kind in a box subject.
    #[must_use]
    pub fn read_box_kind<'a>(&self, subject: &'a str) -> Option<&'a str> {
        let mut tokens = self.strip(subject, "box")?.split('.');
        let kind = tokens.nth(2)?;
        if tokens.next().is_none() { Some(kind) } else { None }
    }

    /// `sb.all.<p>`: heartbeats to the agents of a slot.
    #[must_use]
    pub fn heartbeat(&self, partition: Partition) -> String {
        format!("{}.all.{partition}", self.prefix)
    }

    /// `sb.events.<kind>`: events for the security team (`kind` may be `>`).
    #[must_use]
    pub fn event(&self, kind: &str) -> String {
        format!("{}.events.{kind}", self.prefix)
    }

    fn strip<'a>(&self, subject: &'a str, area: &str) -> Option<&'a str> {
        subject.strip_prefix(&*self.prefix)?.strip_prefix('.')?.strip_prefix(area)?.strip_prefix('.')
    }
}

fn read_partition(text: &str) -> Option<Partition> {
    Partition::new(read_number(text)?)
}

fn read_number(text: &str) -> Option<u8> {
    let n: u8 = text.parse().ok()?;
    // `+7` and `07` parse as 7 too: one number, one spelling.
    if n.to_string() == text { Some(n) } else { None }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_literal_subject_is_refused() {
        let long = "a".repeat(MAX_SUBJECT + 1);
        let many = ["a"; MAX_TOKENS + 1].join(".");
        for text in [
            "", ".", "a.", ".a", "a..b", "a b", "a.*", "a.>", "a.b*", "a\0b", "a\r\nPUB", "ä", "$JS.API",
            &long, &many,
        ] {
            assert_eq!(Subject::parse(text).unwrap_err().reason, Reason::BadSubject, "{text:?}");
        }
        assert!(Pattern::parse("a.>.b").is_err());
        assert!(Subject::parse(&["a"; MAX_TOKENS].join(".")).is_ok());
    }

    #[test]
    fn a_wire_subject_has_one_spelling() {
        let wire = WireSubjects::default();
        assert!(wire.read_delivery("sb.out.1.a").is_some());
        assert!(wire.read_ingress("sb.in.7.a.b").is_some());
        for level in ["01", "+1", "16", "-1", ""] {
            assert!(wire.read_delivery(&format!("sb.out.{level}.a")).is_none(), "{level}");
        }
        for slot in ["07", "+7", "64", ""] {
            assert!(wire.read_ingress(&format!("sb.in.{slot}.a.b")).is_none(), "{slot}");
            assert!(wire.read_control(&format!("sb.ctl.{slot}.a.s.hello")).is_none(), "{slot}");
        }
        assert!(wire.read_control("sb.ctl.7.a.s.hello").is_some());
        assert!(wire.read_control("sb.ctl.7.a.s.hello.x").is_none());
        assert_eq!(wire.read_box_kind("sb.box.a.s.grant"), Some("grant"));
        assert_eq!(wire.read_box_kind("sb.box.a.s.grant.x"), None);
        assert!(wire.read_delivery("sbx.out.1.a").is_none() && wire.read_delivery("sb.out").is_none());
    }

    fn texts(wild: bool) -> impl Strategy<Value = String> {
        let token = if wild { "[ab*]" } else { "[ab]" };
        let tail = if wild { "(\\.>)?" } else { "" };
        proptest::string::string_regex(&format!("{token}(\\.{token}){{0,3}}{tail}")).unwrap()
    }

    proptest! {
        #[test]
        fn covers_and_overlaps_agree_with_matching(a in texts(true), b in texts(true), s in texts(false)) {
            let (a, b, s) = (Pattern::parse(&a).unwrap(), Pattern::parse(&b).unwrap(), Subject::parse(&s).unwrap());
            if a.covers(&b) && b.matches(&s) { prop_assert!(a.matches(&s)); }
            if a.matches(&s) && b.matches(&s) { prop_assert!(a.overlaps(&b)); }
            if a.covers(&b) { prop_assert!(a.overlaps(&b)); }
            prop_assert_eq!(a.overlaps(&b), b.overlaps(&a));
            prop_assert!(a.covers(&a));
        }

        #[test]
        fn wire_subjects_read_back(level in 0u8..16, logical in texts(false)) {
            let wire = WireSubjects::new("prod.sb").unwrap();
            let agent = AgentToken::parse("collector-abcdefghij").unwrap();
            let session = SessionId::from_bytes([3; 32]);
            let text = wire.ingress(&agent, &logical);
            let read = wire.read_ingress(&text).unwrap();
            prop_assert_eq!((read.partition, read.agent, read.logical), (Partition::of(&agent), agent.as_str(), &*logical));
            let text = wire.control(&agent, &session, "hello");
            let read = wire.read_control(&text).unwrap();
            prop_assert_eq!((read.agent, read.session, read.verb), (agent.as_str(), &*session.token(), "hello"));
            let text = wire.delivery(Level::new(level).unwrap(), &logical);
            prop_assert_eq!(wire.read_delivery(&text), Some((Level::new(level).unwrap(), &*logical)));
        }
    }
}

//! The messages themselves. Unsigned: what they carry is signed by whom it concerns, and the rest is advice.

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_bytes::ByteBuf;

use crate::{
    hash::Hash,
    keys::KeyId,
    label::Label,
    name::Name,
    policy::Excerpt,
    reason::{Reason, Refused},
    subject::Pattern,
    time::Millis,
    wire::EnvelopeId,
};

/// What a session may say, as the last token of its control subject.
pub mod verb {
    /// [`Greet`](super::Greet): is a guard there? Answered with a heartbeat, ahead of its second.
    pub const GREET: &str = "greet";
    /// [`Hello`](super::Hello): who I am, which keys I have in use.
    pub const HELLO: &str = "hello";
    /// [`ReaderKeyNotice`](super::ReaderKeyNotice): seal to this from now on.
    pub const READER: &str = "reader";
    /// [`Subscribe`](super::Subscribe): I read this rule.
    pub const SUBSCRIBE: &str = "subscribe";
    /// [`Unsubscribe`](super::Unsubscribe): no longer.
    pub const UNSUBSCRIBE: &str = "unsubscribe";
    /// [`Open`](super::Open): I will use this sender key; who reads it?
    pub const OPEN: &str = "open";
    /// [`Grants`](super::Grants): hand these to their readers.
    pub const GRANT: &str = "grant";
    /// [`Want`](super::Want): I cannot open this key's envelopes.
    pub const WANT: &str = "want";
    /// [`SubmitApproval`](crate::control::SubmitApproval): what a person signed about something held.
    pub const APPROVAL: &str = "approval";
    /// [`AskHeld`](crate::control::AskHeld): what is held, of what this session may read?
    pub const HELD: &str = "held";
    /// [`Bye`](super::Bye): the session ends.
    pub const BYE: &str = "bye";
}

/// What a guard says, as the last token of a box subject.
pub mod kind {
    /// [`Welcome`](super::Welcome): answer to hello, and again whenever policy or status change.
    pub const WELCOME: &str = "welcome";
    /// [`Readers`](super::Readers): who reads a key.
    pub const READERS: &str = "readers";
    /// [`Granted`](super::Granted): sender keys for you.
    pub const GRANT: &str = "grant";
    /// [`VerdictNotice`](super::VerdictNotice): the verdict you asked for.
    pub const VERDICT: &str = "verdict";
    /// [`DeniedNotice`](super::DeniedNotice): refused, and why.
    pub const DENIED: &str = "denied";
    /// [`Rekey`](super::Rekey): make a new key.
    pub const REKEY: &str = "rekey";
    /// An envelope: a request for you to answer.
    pub const REQUEST: &str = "request";
    /// An envelope: the reply to your request.
    pub const REPLY: &str = "reply";
    /// [`LobbyNotice`](super::LobbyNotice): known, but refused.
    pub const LOBBY: &str = "lobby";
    /// [`FloorNotice`](super::FloorNotice): your taint floor rose.
    pub const FLOOR: &str = "floor";
    /// [`Subscribed`](super::Subscribed): answer to subscribe.
    pub const SUBSCRIBED: &str = "subscribed";
    /// [`HeldNotice`](crate::control::HeldNotice): what you sent waits for people to approve it.
    pub const HELD: &str = "held";
    /// [`Submitted`](crate::control::Submitted): answer to approval.
    pub const APPROVAL: &str = "approval";
    /// [`Handed`](crate::control::Handed): answer to held.
    pub const HANDED: &str = "handed";
    /// [`PausedNotice`](super::PausedNotice): which workflows that you send in are paused.
    pub const PAUSED: &str = "paused";
}

/// CONNECT's `auth_token`, before base64url.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AuthToken {
    /// The credential.
    pub credential: String,
    /// The session certificate.
    pub certificate: ByteBuf,
}

impl AuthToken {
    /// The text that CONNECT carries: base64url without padding.
    ///
    /// # Errors
    /// As [`encode`].
    pub fn to_text(&self) -> Result<String, Refused> {
        Ok(BASE64URL_NOPAD.encode(&encode(self)?))
    }

    /// Reads the text that CONNECT carries. Nothing in it is verified.
    ///
    /// # Errors
    /// `too_large` above [`MAX_AUTH_TOKEN`]; `malformed` if it is not base64url; as [`decode`].
    pub fn from_text(text: &str) -> Result<Self, Refused> {
        const WHAT: &str = "auth_token";
        if text.len() > MAX_AUTH_TOKEN {
            return Err(Refused::new(Reason::TooLarge, WHAT));
        }
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes());
        decode(&bytes.map_err(|_| Refused::new(Reason::Malformed, WHAT))?)
    }
}

/// `greet`: asks for a heartbeat at once, so that connecting does not wait for the next second.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Greet {}

/// `hello`: first words of a session to a guard epoch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hello {
    /// The credential.
    pub credential: String,
    /// The session certificate.
    pub certificate: ByteBuf,
    /// A signed [`SessionStatement`](super::SessionStatement).
    pub statement: ByteBuf,
    /// The session's [`ReaderKey`](crate::keys::ReaderKey), if it reads.
    pub reader_key: Option<ByteBuf>,
}

/// `reader`: a new reader key; the old one is deleted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReaderKeyNotice {
    /// The signed [`ReaderKey`](crate::keys::ReaderKey).
    pub reader_key: ByteBuf,
}

/// `subscribe`: declares a reading of one rule. Keys go only to sessions that declared one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Subscribe {
    /// The session's own number for it, to match the answer.
    pub id: u32,
    /// Which rule.
    pub rule: Name,
    /// Which subjects of it.
    pub pattern: Pattern,
    /// Whether it answers requests rather than reads a stream.
    pub serve: bool,
}

/// `subscribed`: the guard's answer to subscribe.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Subscribed {
    /// The session's number.
    pub id: u32,
    /// Why not, if not.
    pub refused: Option<Reason>,
}

/// `unsubscribe`: the end of a reading.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Unsubscribe {
    /// The session's number for it.
    pub id: u32,
}

/// `open`: announces sender keys, in a statement that lists only the new ones.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Open {
    /// A signed [`SessionStatement`](super::SessionStatement).
    pub statement: ByteBuf,
}

/// A reader, with all that a sender needs to check it itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReaderRecord {
    /// The reader's credential.
    pub credential: String,
    /// Its session certificate.
    pub certificate: ByteBuf,
    /// Its signed reader key.
    pub reader_key: ByteBuf,
}

/// `readers`: who reads this key. Long lists come in parts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Readers {
    /// Which key.
    pub key: KeyId,
    /// Why the key was refused, if it was.
    pub refused: Option<Reason>,
    /// The readers of this part.
    pub readers: Vec<ReaderRecord>,
    /// Whether more parts follow.
    pub more: bool,
}

/// `grant` upwards: key grants for the guard to hand out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Grants {
    /// Which key.
    pub key: KeyId,
    /// Signed [`Grant`](crate::keys::Grant)s.
    pub grants: Vec<ByteBuf>,
}

/// `grant` downwards: key grants for one reader, with all it needs to check their sender itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Granted {
    /// The sender's credential.
    pub credential: String,
    /// Its session certificate.
    pub certificate: ByteBuf,
    /// Signed [`Grant`](crate::keys::Grant)s.
    pub grants: Vec<ByteBuf>,
}

/// `want`: the reader has an envelope under a key that it was not granted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Want {
    /// Whose session.
    pub session: ByteBuf,
    /// Which key.
    pub key: KeyId,
}

/// `bye`: the session ends; nothing is left to say.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Bye {}

/// `welcome`: what the guard hands a session: policy, status, its own credentials.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Welcome {
    /// The part of the policy that concerns the session.
    pub policy: Excerpt,
    /// The signed status statement.
    pub status: ByteBuf,
    /// Credentials of the guards.
    pub guards: Vec<String>,
    /// The server's `max_payload`, in bytes.
    pub max_payload: u32,
    /// The session's taint floor: the join of the labels of all it was given to read.
    pub floor: Label,
}

/// `floor`: the session's taint floor rose.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct FloorNotice {
    /// The join of the labels of all it was given to read. What it publishes is to dominate it, but for flow grants.
    pub floor: Label,
}

/// `paused`: every workflow that is paused and that the session sends in, after the welcome if there is one, whenever
/// that changes (none at all when the last one goes on), and again every fifteen seconds while there is one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PausedNotice {
    /// All of them: what is not named here is not paused.
    pub workflows: Vec<PausedWorkflow>,
}

/// A workflow that is paused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PausedWorkflow {
    /// As [`Workflow`](crate::order::Workflow) is written: `team:NAME` or `rule:NAME`.
    pub workflow: String,
    /// Since when, by the guard's clock.
    pub since: Millis,
}

/// `verdict`: the guard's decision on a confirmed publish.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VerdictNotice {
    /// The envelope's digest.
    #[serde(with = "serde_bytes")]
    pub digest: Hash,
    /// The signed admission, whatever its verdict, as in the NATS header.
    pub admission: String,
    /// Why, if denied.
    pub refused: Option<Reason>,
}

/// `denied`: something the session sent was refused.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeniedNotice {
    /// Why.
    pub reason: Reason,
    /// Which part gave the reason.
    pub what: String,
    /// The id of the envelope, if it could be read.
    pub id: Option<EnvelopeId>,
    /// The digest of the envelope, if it could be read.
    pub digest: Option<ByteBuf>,
    /// The subject or verb it came on.
    pub subject: String,
    /// The guard's clock.
    pub time: Millis,
    /// How many like it this notice stands for.
    pub count: u32,
}

/// `rekey`: the sender's key must not be used any longer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rekey {
    /// Which key.
    pub key: KeyId,
    /// Why.
    pub reason: Reason,
}

/// `lobby`: told to an agent that is known but may not come in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LobbyNotice {
    /// Why.
    pub reason: Reason,
}

/// The longest auth token, in characters: nats-server takes a CONNECT of 4,096 bytes in all.
pub const MAX_AUTH_TOKEN: usize = 3584;
/// The largest control message, in bytes.
pub const MAX_CONTROL: usize = 1 << 20;

/// Writes a control message as compact MessagePack.
///
/// # Errors
/// `malformed`, which none of the messages here gives.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, Refused> {
    rmp_serde::to_vec(message).map_err(|_| Refused::new(Reason::Malformed, "control message"))
}

/// Reads a control message: exact, nothing behind it, and in the one form that [`encode`] writes.
///
/// # Errors
/// `too_large`, `malformed`, `trailing_bytes`, `bad_encoding`.
pub fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, Refused> {
    const WHAT: &str = "control message";
    if bytes.len() > MAX_CONTROL {
        return Err(Refused::new(Reason::TooLarge, WHAT));
    }
    let mut rest = bytes;
    let message = {
        let mut deserializer = rmp_serde::Deserializer::new(&mut rest);
        deserializer.set_max_depth(16);
        T::deserialize(&mut deserializer).map_err(|_| Refused::new(Reason::Malformed, WHAT))?
    };
    if !rest.is_empty() {
        return Err(Refused::new(Reason::TrailingBytes, WHAT));
    }
    // serde takes maps for structures and longer forms of numbers; the format has one form.
    if encode(&message)? == bytes { Ok(message) } else { Err(Refused::new(Reason::BadEncoding, WHAT)) }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn refused<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Reason {
        decode::<T>(bytes).err().map(|refused| refused.reason).unwrap()
    }

    #[test]
    fn a_message_has_one_form() {
        let good = encode(&Unsubscribe { id: 7 }).unwrap();
        assert_eq!(good, [0x91, 7]);
        assert!(decode::<Unsubscribe>(&good).is_ok());
        assert_eq!(refused::<Unsubscribe>(&[0x91, 0xcc, 7]), Reason::BadEncoding);
        assert_eq!(refused::<Unsubscribe>(b"\x81\xa2id\x07"), Reason::BadEncoding);
        assert_eq!(refused::<Unsubscribe>(&[0x91, 7, 0]), Reason::TrailingBytes);
        assert_eq!(refused::<Unsubscribe>(&[0x92, 7, 0]), Reason::Malformed);
        assert_eq!(refused::<Unsubscribe>(&[0x91]), Reason::Malformed);
        assert_eq!(refused::<Grants>(&[0x92, 0xc6, 0xff, 0xff, 0xff, 0xff]), Reason::Malformed);
        assert_eq!(refused::<Unsubscribe>(&vec![0x91; MAX_CONTROL + 1]), Reason::TooLarge);
        let deep = vec![0x91; 10_000];
        assert_eq!(refused::<Readers>(&deep), Reason::Malformed);
    }

    #[test]
    fn every_message_reads_back_from_its_own_form() {
        let record = ReaderRecord {
            credential: "c".into(),
            certificate: ByteBuf::from([1]),
            reader_key: ByteBuf::from([2]),
        };
        let key = KeyId::from_bytes([3; 32]);
        let readers = Readers { key, refused: Some(Reason::StaleKey), readers: vec![record], more: true };
        decode::<Readers>(&encode(&readers).unwrap()).unwrap();
        let verdict = VerdictNotice { digest: [4; 32], admission: "a".into(), refused: None };
        decode::<VerdictNotice>(&encode(&verdict).unwrap()).unwrap();
        let denied = DeniedNotice {
            reason: Reason::Replay,
            what: "header.sequence".into(),
            id: Some(EnvelopeId::from_bytes([5; 16])),
            digest: None,
            subject: "a.b".into(),
            time: Millis(9),
            count: 1,
        };
        decode::<DeniedNotice>(&encode(&denied).unwrap()).unwrap();
        decode::<Want>(&encode(&Want { session: ByteBuf::from([6; 32]), key }).unwrap()).unwrap();
        decode::<Bye>(&encode(&Bye {}).unwrap()).unwrap();
        let token = AuthToken { credential: "x".into(), certificate: ByteBuf::from([7; 9]) };
        let read = AuthToken::from_text(&token.to_text().unwrap()).unwrap();
        assert_eq!((read.credential, read.certificate), (token.credential, token.certificate));
    }
}

//! A session made from the collector's credentials file, without the client library: it says what it likes.

use rand_core::UnwrapErr;
use sealbus_client::{Client, Credentials};
use sealbus_envelope::{
    control::{self, GuardEpoch, Heartbeat, Hello, LiveKey, Open, Readers, SessionStatement, kind, verb},
    identity::{Credential, SessionCertificate, SessionId},
    keys::{KeyScope, SenderKey},
    label::Label,
    name::{AgentToken, Name},
    subject::{Partition, Subject},
    wire::{Content, EnvelopeId, Flags, HeaderFields, seal, sign},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    super::{
        agents::collector::VICTIM,
        session::Session,
        wire::{Delivered, Wire},
    },
    Fault,
};
use crate::clock::now;

/// The rule that the collector may publish under.
const RULE: &str = "deps-item";
const SUBJECT: &str = "deps.item.serde";

/// A session that was greeted by the guard.
pub(super) struct Thief {
    pub(super) session: Session,
    pub(super) wire: Wire,
    pub(super) victim: Victim,
    /// A sender key that the guard knows.
    pub(super) key: SenderKey,
}

/// An honest agent that reads what the collector writes: so much any sender is told of its readers.
#[derive(Debug, Clone)]
pub(super) struct Victim {
    pub(super) agent: AgentToken,
    pub(super) session: SessionId,
}

impl Thief {
    pub(super) async fn start(credentials: &Credentials, client: &Client) -> Result<Self, Fault> {
        let label = client.label("internal/deps/untrusted")?;
        let (session, mut wire, guard) = greet(credentials).await?;
        let key = new_key(&session, label)?;
        let live = LiveKey { key: key.id(), rule: name(RULE)?, label, epoch: 0, next: 0, asker: None };
        let statement =
            SessionStatement { bus: session.bus(), session: session.id(), guard, keys: vec![live] };
        let open = Open { statement: statement.sign(&session.key).into() };
        say(&mut wire, &session, verb::OPEN, &open).await?;
        let victim = loop {
            let readers: Readers = boxed(&mut wire, &session, kind::READERS).await?;
            let found = readers
                .readers
                .iter()
                .find_map(|reader| victim(&reader.credential, &reader.certificate, credentials));
            match found {
                Some(victim) => break victim,
                None if readers.more => {}
                None => return Err(Fault::Not("the analyst does not read what the collector writes")),
            }
        };
        Ok(Self { session, wire, victim, key })
    }

    /// Comes back in a new session, after the last one's connection was cut.
    pub(super) async fn restart(&mut self, credentials: &Credentials) -> Result<(), Fault> {
        (self.session, self.wire, _) = greet(credentials).await?;
        Ok(())
    }

    /// Says something to the guard.
    pub(super) async fn say<T: Serialize>(&mut self, verb: &str, message: &T) -> Result<(), Fault> {
        say(&mut self.wire, &self.session, verb, message).await
    }

    /// The guard's next answer of this kind.
    pub(super) async fn answer<T: Serialize + DeserializeOwned>(&mut self, kind: &str) -> Result<T, Fault> {
        boxed(&mut self.wire, &self.session, kind).await
    }

    /// A key that nobody was told of, for any label.
    pub(super) fn secret_key(&self, label: Label) -> Result<SenderKey, Fault> {
        new_key(&self.session, label)
    }

    /// A key in the name of another session.
    pub(super) fn secret_key_of(&self, session: SessionId) -> Result<SenderKey, Fault> {
        let scope = KeyScope { session, ..self.key.scope().clone() };
        Ok(SenderKey::generate(&mut UnwrapErr(getrandom::SysRng), scope))
    }

    /// What an honest envelope would say.
    pub(super) fn fields(&self, key: &SenderKey) -> Result<HeaderFields, Fault> {
        Ok(HeaderFields {
            bus: self.session.bus(),
            id: EnvelopeId::generate(&mut UnwrapErr(getrandom::SysRng)),
            sender: self.session.agent().clone(),
            session: self.session.id(),
            rule: name(RULE)?,
            subject: Subject::parse(SUBJECT)?,
            label: key.scope().label,
            flow_grant: None,
            key: key.id(),
            sequence: 0,
            issued_at: now(),
            ttl_ms: 60_000,
            parents: Vec::new(),
            request: None,
            flags: Flags::NONE,
        })
    }

    /// Seals and signs whatever `fields` say, with the stolen session's key.
    pub(super) fn envelope(&self, fields: &HeaderFields, key: &SenderKey) -> Result<Vec<u8>, Fault> {
        let content = Content::new("application/octet-stream", vec![b'.'; 4096]);
        let sealed = seal(fields, &content, key)?;
        let mut signed = sign(&[sealed], fields.session, &self.session.key)?;
        signed.pop().ok_or(Fault::Not("nothing was signed"))
    }

    /// Hears what is delivered on a subject; the server allows it to whom the policy lets read it.
    pub(super) async fn listen(&mut self, subject: &str) -> Result<(), Fault> {
        match self.wire.subscribe(subject).await? {
            None => Ok(()),
            Some(_) => Err(Fault::Not("the server does not let it read what it may read")),
        }
    }

    /// The next message on this subject.
    pub(super) async fn delivered(&mut self, subject: &str) -> Result<Delivered, Fault> {
        loop {
            let message = self.wire.next().await?;
            if message.subject == subject {
                return Ok(message);
            }
        }
    }

    /// Publishes on the collector's own subject, which the server allows.
    pub(super) async fn publish(&mut self, envelope: &[u8]) -> Result<(), Fault> {
        let subject = self.session.ingress(SUBJECT);
        super::publish(&mut self.wire, &subject, envelope).await
    }

    /// The subject of [`publish`](Self::publish).
    pub(super) fn subject(&self) -> String {
        self.session.ingress(SUBJECT)
    }
}

/// Logs in, hears the guard's heartbeat, says hello.
async fn greet(credentials: &Credentials) -> Result<(Session, Wire, GuardEpoch), Fault> {
    let session = Session::start(credentials)?;
    let mut wire = session.connect().await?;
    let heartbeat = session.subjects().heartbeat(Partition::of(session.agent()));
    for subject in [&session.own_box(), &heartbeat] {
        if wire.subscribe(subject).await?.is_some() {
            return Err(Fault::Not("the server does not let the session hear its own box"));
        }
    }
    let guard = loop {
        let message = wire.next().await?;
        if message.subject == heartbeat {
            let signer = Heartbeat::signer(&message.payload)?;
            break Heartbeat::verify(&message.payload, session.bus(), &[signer])?.0.guard;
        }
    };
    let statement = SessionStatement { bus: session.bus(), session: session.id(), guard, keys: Vec::new() };
    let hello = Hello {
        credential: session.credential.as_str().to_owned(),
        certificate: session.certificate.as_bytes().to_vec().into(),
        statement: statement.sign(&session.key).into(),
        reader_key: None,
    };
    say(&mut wire, &session, verb::HELLO, &hello).await?;
    let _: control::Welcome = boxed(&mut wire, &session, kind::WELCOME).await?;
    Ok((session, wire, guard))
}

async fn say<T: Serialize>(wire: &mut Wire, session: &Session, verb: &str, message: &T) -> Result<(), Fault> {
    super::publish(wire, &session.control(verb), &control::encode(message)?).await
}

async fn boxed<T: Serialize + DeserializeOwned>(
    wire: &mut Wire,
    session: &Session,
    kind: &str,
) -> Result<T, Fault> {
    loop {
        let message = wire.next().await?;
        if session.subjects().read_box_kind(&message.subject) == Some(kind) {
            return Ok(control::decode(&message.payload)?);
        }
    }
}

fn victim(credential: &str, certificate: &[u8], credentials: &Credentials) -> Option<Victim> {
    let roots = credentials.roots();
    let credential = Credential::verify(credential, roots.bus(), &roots.issuer).ok()?;
    let certificate = SessionCertificate::verify(certificate, roots.bus()).ok()?;
    let is_it = credential.claims().name.as_str() == VICTIM.name();
    is_it.then(|| Victim { agent: credential.token().clone(), session: certificate.id() })
}

fn new_key(session: &Session, label: Label) -> Result<SenderKey, Fault> {
    let scope = KeyScope { bus: session.bus(), session: session.id(), rule: name(RULE)?, label, epoch: 0 };
    Ok(SenderKey::generate(&mut UnwrapErr(getrandom::SysRng), scope))
}

fn name(text: &str) -> Result<Name, Fault> {
    Ok(Name::parse(text)?)
}

//! Connecting: from a credentials file to a session that the guard welcomed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, RwLock, atomic::AtomicU64},
    time::{Duration, Instant},
};

use async_nats::rustls;
use sealbus_envelope::{label::Label, reader::EpochFloor, reason::Reason};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    Client,
    credentials::{Ca, Credentials},
    driver::{Driver, Inputs, first_reader_keys, write_control},
    error::{Error, ErrorKind, Result},
    events::EventSender,
    keyring::Keyring,
    outbox::Outbox,
    pause::Paused,
    request,
    sealing::SenderKeys,
    seen::Seen,
    session::Session,
    shared::{Link, Shared},
    sync,
};

/// How long a session lasts unless asked otherwise.
const SESSION: Duration = Duration::from_secs(24 * 3600);
/// How long connecting may take in all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// nats-server says "no" at once; a missing guard is noticed at its `auth_timeout`, two seconds by default.
const AT_ONCE: Duration = Duration::from_secs(1);
/// A dead connection is noticed within two of these.
const PING: Duration = Duration::from_secs(10);
/// The longest wait between two attempts to reconnect.
const MAX_DELAY: Duration = Duration::from_secs(8);
/// Envelopes that wait to be sorted out of the box.
const BOX_BUFFER: usize = 1024;

/// How to connect. [`Client::connect`] takes the defaults.
///
/// ```no_run
/// use sealbus_client::{ConnectOptions, Credentials};
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let credentials = Credentials::load("agents/collector.creds")?;
/// let client = ConnectOptions::new(credentials).outbox(1024).connect().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing is connected before `connect` is called"]
pub struct ConnectOptions {
    credentials: Credentials,
    session: Duration,
    timeout: Duration,
    outbox: usize,
    buffer: usize,
    capacity: usize,
}

impl ConnectOptions {
    /// The defaults for these credentials.
    pub const fn new(credentials: Credentials) -> Self {
        Self {
            credentials,
            session: SESSION,
            timeout: CONNECT_TIMEOUT,
            outbox: 8192,
            buffer: 1024,
            capacity: 65_536,
        }
    }

    /// How long the session lasts, up to 7 days and to the credential's end; 24 hours by default. After
    /// that the server ends the connection, and the agent connects anew.
    pub const fn session(mut self, lifetime: Duration) -> Self {
        self.session = lifetime;
        self
    }

    /// How long connecting may take in all; 15 seconds by default.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How many messages may be queued or wait for their verdict; 8,192 by default. When it is full,
    /// publishing waits, and [`Client::try_send`] fails with [`ErrorKind::Overloaded`].
    pub const fn outbox(mut self, messages: usize) -> Self {
        self.outbox = messages;
        self
    }

    /// How many opened messages a subscription holds for its agent; 1,024 by default.
    pub const fn buffer(mut self, messages: usize) -> Self {
        self.buffer = messages;
        self
    }

    /// How many sealed messages the connection holds for each subscription before it drops new ones; 65,536
    /// by default.
    pub const fn capacity(mut self, messages: usize) -> Self {
        self.capacity = messages;
        self
    }

    /// Connects, greets the guard and waits for its welcome.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] with the reason if the agent may not come in, its credential is over, and so
    /// on; [`ErrorKind::Unauthorized`] if the servers do not know the credentials;
    /// [`ErrorKind::GuardUnavailable`] if no guard answers; [`ErrorKind::WrongGuard`] if what answers is no
    /// guard of this bus; [`ErrorKind::Unreachable`] if no server can be reached.
    pub async fn connect(self) -> Result<Client> {
        let refused = |refused| Error::refused(ErrorKind::Refused, refused);
        let lifetime = u64::try_from(self.session.as_millis()).unwrap_or(u64::MAX);
        let session = Arc::new(Session::start(&self.credentials, lifetime).map_err(refused)?);
        let reader_keys = first_reader_keys(&session).map_err(refused)?;
        let deadline = tokio::time::Instant::now() + self.timeout;

        let (event_sender, connection) = mpsc::unbounded_channel();
        let nats = self.connect_nats(&session, event_sender).await?;
        let gone = |error: async_nats::SubscribeError| Error::new(ErrorKind::Unreachable, error.to_string());
        let inbox = nats.subscribe(session.box_subject()).await.map_err(gone)?;
        let heartbeats = nats.subscribe(session.heartbeat_subject()).await.map_err(gone)?;

        let (driver, commands) = mpsc::unbounded_channel();
        let (outbox, queue) = mpsc::unbounded_channel();
        let (signals, signalled) = mpsc::unbounded_channel();
        let (control, said) = mpsc::unbounded_channel();
        let (boxed, unsorted) = mpsc::channel(BOX_BUFFER);
        let shared = Arc::new(Shared {
            session,
            roots: self.credentials.roots().clone(),
            nats,
            events: EventSender::new(),
            link: watch::Sender::new(Link::Joining),
            news: watch::Sender::new(0),
            view: RwLock::new(None),
            epochs: EpochFloor::default(),
            keyring: Mutex::new(Keyring::default()),
            reader_keys: Mutex::new(reader_keys),
            sender_keys: Mutex::new(SenderKeys::default()),
            floor: Mutex::new(Label::BOTTOM),
            paused: Mutex::new(Paused::nothing()),
            seen: Seen::new(),
            driver,
            outbox,
            signals,
            room: Arc::new(Semaphore::new(self.outbox.clamp(1, Semaphore::MAX_PERMITS))),
            verdicts: Mutex::new(HashMap::new()),
            held: Mutex::new(HashMap::new()),
            replies: Mutex::new(HashMap::new()),
            servers: Mutex::new(Vec::new()),
            buffer: self.buffer.max(1),
            taken: AtomicU64::new(0),
        });
        let stop = CancellationToken::new();
        let alive = Arc::new(Alive { stop: stop.clone() });
        tokio::spawn(write_control(Arc::clone(&shared), said));
        tokio::spawn(request::sort(Arc::clone(&shared), unsorted));
        tokio::spawn(Outbox::new(Arc::clone(&shared), queue, signalled).run());
        let inputs = Inputs { inbox, heartbeats, commands, connection, stop };
        tokio::spawn(Driver::new(Arc::clone(&shared), control, boxed).run(inputs));
        let client = Client::new(shared, alive);
        client.joined(deadline).await?;
        Ok(client)
    }

    async fn connect_nats(
        &self,
        session: &Arc<Session>,
        events: mpsc::UnboundedSender<async_nats::Event>,
    ) -> Result<async_nats::Client> {
        let token = session.auth_token().map_err(|refused| Error::refused(ErrorKind::Usage, refused))?;
        // When the server was last answered: tells a refusal from an absent guard.
        let answered: Arc<OnceLock<Instant>> = Arc::default();
        let (signer, since) = (Arc::clone(session), Arc::clone(&answered));
        let mut options = async_nats::ConnectOptions::with_auth_callback(move |nonce| {
            let (signer, token) = (Arc::clone(&signer), token.clone());
            let _ = since.set(Instant::now());
            async move {
                let signature = signer.sign_nonce(&nonce).map_err(async_nats::AuthError::new)?;
                let mut auth = async_nats::Auth::new();
                auth.token = Some(token);
                auth.signature = Some(signature.to_vec());
                Ok(auth)
            }
        })
        .no_echo()
        .ping_interval(PING)
        .subscription_capacity(self.capacity)
        .connection_timeout(Duration::from_secs(5))
        .max_reconnects(None)
        .reconnect_delay_callback(delay)
        .event_callback(move |event| {
            let _closed = events.send(event);
            async {}
        });
        if let Some(ca) = self.credentials.bus().ca() {
            options = trust(options, ca)?;
        }
        let tried = options.connect(self.credentials.urls()).await;
        tried.map_err(|error| {
            let late = answered.get().is_some_and(|since| since.elapsed() >= AT_ONCE);
            connect_error(error, late, answered.get().is_some())
        })
    }
}

/// Trusts the bus's own certificate authority, and no other.
fn trust(options: async_nats::ConnectOptions, ca: &Ca) -> Result<async_nats::ConnectOptions> {
    use rustls::pki_types::{CertificateDer, pem::PemObject as _};
    let bad = |detail: String| Error::new(ErrorKind::Usage, format!("certificate authority: {detail}"));
    let pem = match ca {
        Ca::Pem(pem) => pem.clone().into_bytes(),
        Ca::Path(path) => std::fs::read(path)
            .map_err(|error| bad(format!("`{}`: {error}", path.display())).caused(error))?,
    };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| bad(error.to_string()))?;
        roots.add(certificate).map_err(|error| bad(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(bad("there is no certificate in it".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(options.tls_client_config(config).require_tls(true))
}

/// Up to eight seconds, doubling, of which the latter half is random: a fleet that lost its server together
/// does not come back together.
fn delay(attempts: usize) -> Duration {
    let doubled =
        50u64.saturating_mul(1 << attempts.min(10)).min(u64::try_from(MAX_DELAY.as_millis()).unwrap_or(0));
    if attempts <= 1 {
        return Duration::ZERO;
    }
    let mut random = [0; 8];
    rand_core::Rng::fill_bytes(&mut sync::rng(), &mut random);
    Duration::from_millis(doubled / 2 + u64::from_le_bytes(random) % (doubled / 2 + 1))
}

fn connect_error(error: async_nats::ConnectError, late: bool, answered: bool) -> Error {
    use async_nats::ConnectErrorKind as Kind;
    let text = error.to_string();
    let timed_out = text.to_ascii_lowercase().contains("authentication timeout");
    let made = match error.kind() {
        Kind::AuthorizationViolation if late => guard_absent(),
        Kind::AuthorizationViolation => Error::new(
            ErrorKind::Unauthorized,
            "the guard or the server refused them at once, without a reason",
        ),
        Kind::TimedOut if answered => guard_absent(),
        _ if timed_out => guard_absent(),
        Kind::Authentication => Error::new(
            ErrorKind::WrongGuard,
            "the server's nonce is none: it asks for a signature over words of its own",
        ),
        _ => Error::new(ErrorKind::Unreachable, text),
    };
    made.caused(error)
}

fn guard_absent() -> Error {
    Error::with_reason(
        ErrorKind::GuardUnavailable,
        Reason::GuardUnavailable,
        "the server is there, but nobody answered for the guard",
    )
}

/// Ends the session when the last client, subscription and service of it is dropped.
#[derive(Debug)]
pub(crate) struct Alive {
    stop: CancellationToken,
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

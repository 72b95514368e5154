//! A nats-server for one test: fresh keys, a private directory, a free port, gone when dropped.
#![expect(clippy::expect_used, reason = "a fixture that cannot be set up fails its test")]

use std::sync::OnceLock;

use async_nats::{Client, ConnectOptions};
use nkeys::{KeyPair, XKey};
use sealbus_guard::natsserver::{
    AccountKey, BusKeys, CurveKey, INBOX_PREFIX, JetStream, ListenPort, NatsConfig, NatsProcess,
    NatsServerBinary, UserKey, locate_or_fetch,
};
use tempfile::TempDir;

use crate::tls::Certificates;

/// The key pairs behind a test server's configuration.
pub struct TestKeys {
    /// The guard's login in the bus's account.
    pub guard: KeyPair,
    /// The guard's login in the system account.
    pub system: KeyPair,
    /// The on-call engineer's login.
    pub break_glass: KeyPair,
    /// The login of who publishes policies, if the server has persistent streams.
    pub publisher: KeyPair,
    /// The account key that signs callout answers.
    pub callout: KeyPair,
    /// The key callout requests are sealed to.
    pub xkey: XKey,
}

impl TestKeys {
    fn fresh() -> Self {
        Self {
            guard: KeyPair::new_user(),
            system: KeyPair::new_user(),
            break_glass: KeyPair::new_user(),
            publisher: KeyPair::new_user(),
            callout: KeyPair::new_account(),
            xkey: XKey::new(),
        }
    }

    fn public(&self) -> BusKeys {
        BusKeys {
            guard: user_key(&self.guard),
            system: user_key(&self.system),
            break_glass: user_key(&self.break_glass),
            publisher: user_key(&self.publisher),
            callout_issuer: AccountKey::parse(&self.callout.public_key()).expect("an account key"),
            callout_xkey: CurveKey::parse(&self.xkey.public_key()).expect("a curve key"),
        }
    }
}

/// A change to a test server's configuration before it starts.
pub type Configure = Box<dyn FnOnce(&mut NatsConfig) + Send>;

/// What a test wants of its server, beyond a development server on a free port.
#[derive(Default)]
pub struct ServerSpec {
    /// With persistent streams, in the test's directory.
    pub jetstream: bool,
    /// With TLS; `true` asks clients for a certificate.
    pub tls: Option<bool>,
    /// Any other change to the configuration.
    pub configure: Option<Configure>,
}

impl ServerSpec {
    /// A plain server, its configuration changed by `configure`.
    pub fn with(configure: impl FnOnce(&mut NatsConfig) + Send + 'static) -> Self {
        Self { configure: Some(Box::new(configure)), ..Self::default() }
    }
}

/// A running nats-server. Dropping it kills the server, then removes its directory.
pub struct TestServer {
    process: NatsProcess,
    keys: TestKeys,
    certificates: Option<Certificates>,
    dir: TempDir,
}

impl TestServer {
    /// Starts a server.
    ///
    /// # Panics
    /// If there is no nats-server to be had or it does not start; its log is in the message.
    pub async fn start(spec: ServerSpec) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let keys = TestKeys::fresh();
        let mut config = NatsConfig::development(keys.public());
        config.port = ListenPort::Any;
        if spec.jetstream {
            let store_dir = dir.path().join("jetstream");
            config.jetstream = Some(JetStream { store_dir, max_memory: 64 << 20, max_file: 256 << 20 });
        }
        let certificates = spec.tls.map(|verify| {
            let certificates = Certificates::make(dir.path());
            config.tls = Some(certificates.server(verify));
            certificates
        });
        if let Some(configure) = spec.configure {
            configure(&mut config);
        }
        let process = NatsProcess::start(binary(), dir.path().join("server"), config)
            .await
            .unwrap_or_else(|error| fail("start", &error));
        Self { process, keys, certificates, dir }
    }

    /// Where clients connect.
    #[must_use]
    pub fn url(&self) -> String {
        self.process.url()
    }

    /// `host:port` for a bare socket.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.process.port())
    }

    /// The certificates of its TLS.
    ///
    /// # Panics
    /// If it has none.
    #[must_use]
    pub fn certificates(&self) -> &Certificates {
        self.certificates.as_ref().expect("a server with TLS")
    }

    /// The key pairs of its configuration.
    #[must_use]
    pub fn keys(&self) -> &TestKeys {
        &self.keys
    }

    /// A directory for the test's own files.
    #[must_use]
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// The process, for its log, and to stop, kill or reconfigure it.
    pub fn process(&mut self) -> &mut NatsProcess {
        &mut self.process
    }

    /// Stops it and starts it again on the same port.
    ///
    /// # Panics
    /// If it does not.
    pub async fn restart(&mut self) {
        self.process.restart().await.unwrap_or_else(|error| fail("restart", &error));
    }

    /// Makes it read its configuration again, and waits until it has.
    ///
    /// # Panics
    /// If it refuses.
    pub async fn reload(&mut self) {
        self.process.reload().await.unwrap_or_else(|error| fail("reload", &error));
    }

    /// Connects as the guard, to the bus's account.
    pub async fn guard(&self) -> Client {
        self.login(&self.keys.guard).await
    }

    /// Connects as the guard does to the system account.
    pub async fn system(&self) -> Client {
        self.login(&self.keys.system).await
    }

    /// Connects as the on-call engineer.
    pub async fn break_glass(&self) -> Client {
        self.login(&self.keys.break_glass).await
    }

    /// Connects with an nkey of the configuration.
    ///
    /// # Panics
    /// If the server refuses.
    pub async fn login(&self, key: &KeyPair) -> Client {
        let options =
            ConnectOptions::with_nkey(key.seed().expect("a seed")).custom_inbox_prefix(INBOX_PREFIX);
        let options = match &self.certificates {
            Some(certificates) => certificates.connect(options, "zone"),
            None => options,
        };
        options.connect(self.url()).await.expect("the login is accepted")
    }
}

/// A key pair's public half as the configuration wants it.
///
/// # Panics
/// If it is no user key.
#[must_use]
pub fn user_key(key: &KeyPair) -> UserKey {
    UserKey::parse(&key.public_key()).expect("a user key")
}

/// The nats-server under test; looked for once a process.
fn binary() -> NatsServerBinary {
    static BINARY: OnceLock<NatsServerBinary> = OnceLock::new();
    BINARY.get_or_init(|| locate_or_fetch().expect("a fit nats-server")).clone()
}

#[expect(clippy::panic, reason = "a fixture that cannot be set up fails its test")]
fn fail(what: &str, error: &dyn std::error::Error) -> ! {
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    panic!("the test server did not {what}: {error}{cause}")
}

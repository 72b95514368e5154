//! What a bus asks of its nats-server, as types. `render` turns it into the text the server reads.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    nkey::{AccountKey, CurveKey, UserKey},
    render,
};

/// The inbox prefix the guard must set on both its connections (async-nats: `custom_inbox_prefix`). Its
/// permissions name this one, so that in the system account it cannot read the answers to other
/// administrators' requests.
pub const INBOX_PREFIX: &str = "_INBOX_sealbus";

/// The inbox prefix of who publishes policies: another one, so that it cannot read the guard's answers.
pub const PUBLISHER_INBOX_PREFIX: &str = "_INBOX_sealbus_policy";

/// The key-value bucket in which published policies are.
pub const POLICY_BUCKET: &str = "sealbus_policy";

/// The stream in which the guard's events are, `<prefix>.events.>`.
pub const EVENTS_STREAM: &str = "SB_EVENTS";

/// The stream in which sealed evidence is, `<prefix>.evidence.>`.
pub const EVIDENCE_STREAM: &str = "SB_EVIDENCE";

/// A nats-server configuration for one bus. Anonymous access, passwords and unlisted logins have no field
/// here: whoever is not an nkey named below is put to the guard's auth callout.
#[derive(Debug, Clone)]
pub struct NatsConfig {
    /// The server's name; zones in the policy refer to it. No white space.
    pub server_name: String,
    /// Tags that zones in the policy may ask for. No white space.
    pub server_tags: Vec<String>,
    /// Address to listen on, a host name or an IP address.
    pub host: String,
    /// Port to listen on.
    pub port: ListenPort,
    /// HTTP monitoring, which has no login of its own: only a loopback address is accepted.
    pub monitoring: Option<SocketAddr>,
    /// Where the server writes its process id.
    pub pid_file: Option<PathBuf>,
    /// Directory in which the server writes which ports it took.
    pub ports_file_dir: Option<PathBuf>,
    /// Write the server's log with debug lines (`-D`). They name connections and accounts, never payloads.
    pub debug: bool,
    /// Persistent streams, for durable subjects.
    pub jetstream: Option<JetStream>,
    /// TLS for client (and leaf) connections.
    pub tls: Option<Tls>,
    /// Limits on every connection.
    pub limits: Limits,
    /// How long a connection has to log in, the callout's answer included. Whole milliseconds.
    pub auth_timeout: Duration,
    /// The bus's own account.
    pub bus: BusAccount,
    /// The system account.
    pub system: SystemAccount,
    /// The guard's auth callout.
    pub callout: Callout,
    /// Other accounts on the same server, which keep their own logins.
    pub tenants: Vec<Tenant>,
    /// Leaf nodes that may connect.
    pub leaf: Option<LeafListener>,
}

/// A port to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenPort {
    /// This one.
    Fixed(u16),
    /// Any free one; the server says which in its ports file.
    Any,
}

/// Persistent streams.
#[derive(Debug, Clone)]
pub struct JetStream {
    /// Directory for streams. It holds ciphertext only, yet belongs to the server alone.
    pub store_dir: PathBuf,
    /// Memory limit in bytes.
    pub max_memory: u64,
    /// Disk limit in bytes.
    pub max_file: u64,
}

/// TLS 1.3 for listeners.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The server's certificate chain, PEM.
    pub cert_file: PathBuf,
    /// Its private key, PEM.
    pub key_file: PathBuf,
    /// If set, clients must show a certificate issued by one of these authorities (PEM); zones with a high
    /// ceiling ask for that.
    pub client_ca_file: Option<PathBuf>,
}

/// Limits on each connection. The server enforces these; the limits inside a callout's user JWT it does not.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest message in bytes. The callout's answer must fit too: 1 MiB is about 10,000 subjects.
    pub max_payload: u32,
    /// Longest protocol line in bytes. CONNECT is one, with credential and certificate in it.
    pub max_control_line: u32,
    /// Most connections at once.
    pub max_connections: u32,
    /// Most subscriptions a connection.
    pub max_subscriptions: u32,
    /// Most bytes buffered for a slow connection before it is cut.
    pub max_pending: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_payload: 1 << 20,
            max_control_line: 4096,
            max_connections: 10_000,
            max_subscriptions: 4096,
            max_pending: 64 << 20,
        }
    }
}

/// The account the bus is. One account is one bus.
#[derive(Debug, Clone)]
pub struct BusAccount {
    /// Account name.
    pub account: String,
    /// First token of every subject of the bus (`sb`).
    pub prefix: String,
    /// The guards' logins.
    pub guards: Vec<UserKey>,
    /// Logins that still work when no guard runs: they may read events and audit, and publish nothing.
    pub break_glass: Vec<UserKey>,
    /// Logins that may write policies into the policy bucket, and do nothing else. Without persistent
    /// streams there is no bucket, and they are left out.
    pub publishers: Vec<UserKey>,
}

/// The system account: the guard's second connection disconnects clients through it.
#[derive(Debug, Clone)]
pub struct SystemAccount {
    /// Account name.
    pub account: String,
    /// Logins that may kick a client and list connections, nothing else.
    pub users: Vec<UserKey>,
}

/// The auth callout.
#[derive(Debug, Clone)]
pub struct Callout {
    /// Signs the answers. Whoever holds its seed can mint any user of this server, system users included.
    pub issuer: AccountKey,
    /// The server seals requests to this key, so tokens and nonces are not readable on the bus's account.
    pub xkey: CurveKey,
}

/// An account with its own logins, untouched by the guard.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// Account name.
    pub account: String,
    /// Its logins.
    pub users: Vec<TenantUser>,
}

/// A login of a tenant. An empty list grants nothing.
#[derive(Debug, Clone)]
pub struct TenantUser {
    /// Who logs in.
    pub key: UserKey,
    /// Subjects it may publish.
    pub publish: Vec<String>,
    /// Subjects it may subscribe.
    pub subscribe: Vec<String>,
}

/// Where leaf nodes connect. Leaf nodes do not carry callouts, so each login is named here with what it may
/// do: read events and audit, publish nothing. A zone on a leaf that runs agents has its own guard and bus.
#[derive(Debug, Clone)]
pub struct LeafListener {
    /// Address to listen on.
    pub host: String,
    /// Port to listen on.
    pub port: ListenPort,
    /// The leaf nodes' logins.
    pub users: Vec<UserKey>,
}

/// The keys a configuration cannot do without.
#[derive(Debug, Clone)]
pub struct BusKeys {
    /// The guard's login in the bus's account.
    pub guard: UserKey,
    /// The guard's login in the system account.
    pub system: UserKey,
    /// The on-call engineer's login.
    pub break_glass: UserKey,
    /// The login of who publishes policies.
    pub publisher: UserKey,
    /// The callout issuer.
    pub callout_issuer: AccountKey,
    /// The callout's sealing key.
    pub callout_xkey: CurveKey,
}

/// Why a configuration is not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A name would not survive as a name.
    #[error("{what} `{found}` is refused: {rule}")]
    Name {
        /// What it names.
        what: &'static str,
        /// The name, as far as it is fit to show.
        found: String,
        /// What a name must look like.
        rule: &'static str,
    },
    /// Two accounts share a name.
    #[error("account `{0}` is named twice; give each account its own name")]
    AccountTwice(String),
    /// Two logins share a key, so the server could not tell them apart.
    #[error("key `{0}` is used for two logins; make one key for each")]
    KeyTwice(UserKey),
    /// A role has nobody.
    #[error("no key for {0}; name at least one")]
    Nobody(&'static str),
    /// Monitoring would be open to the network.
    #[error("monitoring on `{0}` would be readable without a login; use a loopback address")]
    OpenMonitoring(SocketAddr),
    /// A path is not text.
    #[error("path `{}` is not UTF-8; nats-server's configuration is", .0.display())]
    Path(PathBuf),
    /// A number the server reads as something else.
    #[error("{what} is {found}, must be {rule}")]
    Number {
        /// What it limits.
        what: &'static str,
        /// The value.
        found: u128,
        /// What it must be.
        rule: &'static str,
    },
}

impl NatsConfig {
    /// A server for one machine: loopback, no TLS, no monitoring, port 4222, nothing on disk. Who publishes
    /// policies can log in only once there are persistent streams.
    #[must_use]
    pub fn development(keys: BusKeys) -> Self {
        Self {
            server_name: "sealbus-dev".to_owned(),
            server_tags: Vec::new(),
            host: "127.0.0.1".to_owned(),
            port: ListenPort::Fixed(4222),
            monitoring: None,
            pid_file: None,
            ports_file_dir: None,
            debug: false,
            jetstream: None,
            tls: None,
            limits: Limits::default(),
            auth_timeout: Duration::from_secs(2),
            bus: BusAccount {
                account: "BUS".to_owned(),
                prefix: "sb".to_owned(),
                guards: vec![keys.guard],
                break_glass: vec![keys.break_glass],
                publishers: vec![keys.publisher],
            },
            system: SystemAccount { account: "SYS".to_owned(), users: vec![keys.system] },
            callout: Callout { issuer: keys.callout_issuer, xkey: keys.callout_xkey },
            tenants: Vec::new(),
            leaf: None,
        }
    }

    /// The text of the configuration file. It holds public keys only.
    ///
    /// # Errors
    /// [`ConfigError`] for whatever the server would read differently than it is meant.
    pub fn render(&self) -> Result<String, ConfigError> {
        self.check()?;
        render::render(self)
    }

    /// Every login of the configuration that the server checks itself, instead of asking the guard.
    pub(super) fn logins(&self) -> impl Iterator<Item = &UserKey> {
        let bus = self.bus.guards.iter().chain(&self.bus.break_glass).chain(&self.system.users);
        bus.chain(self.publishers()).chain(self.leaf.iter().flat_map(|leaf| &leaf.users))
    }

    /// Who may log in to publish policies.
    pub(super) fn publishers(&self) -> impl Iterator<Item = &UserKey> {
        self.jetstream.iter().flat_map(|_| &self.bus.publishers)
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.check_names()?;
        self.check_logins()?;
        if let Some(address) = self.monitoring.filter(|address| !address.ip().is_loopback()) {
            return Err(ConfigError::OpenMonitoring(address));
        }
        self.check_numbers()
    }

    fn check_names(&self) -> Result<(), ConfigError> {
        let text = |c: char| !c.is_whitespace() && !c.is_control();
        name("server name", &self.server_name, "1 to 64 characters, no white space", text)?;
        for tag in &self.server_tags {
            name("server tag", tag, "1 to 64 characters, no white space", text)?;
        }
        for host in [Some(&self.host), self.leaf.as_ref().map(|leaf| &leaf.host)].into_iter().flatten() {
            let rule = "a host name or an IP address";
            name("host", host, rule, |c| c.is_ascii_alphanumeric() || ".-:".contains(c))?;
        }
        let rule = "1 to 64 of lower-case letters, digits, `-` and `_`";
        let token = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
        name("subject prefix", &self.bus.prefix, rule, token)?;
        let mut seen = BTreeSet::new();
        let tenants = self.tenants.iter().map(|tenant| &tenant.account);
        for account in [&self.bus.account, &self.system.account].into_iter().chain(tenants) {
            // `$G` and `$SYS` are the server's own, and an unknown login lands in `$G`.
            let rule = "1 to 64 of letters, digits, `-` and `_`";
            name("account", account, rule, |c| c.is_ascii_alphanumeric() || "-_".contains(c))?;
            if !seen.insert(account) {
                return Err(ConfigError::AccountTwice(account.clone()));
            }
        }
        let subjects = self.tenants.iter().flat_map(|tenant| &tenant.users);
        for subject in subjects.flat_map(|user| user.publish.iter().chain(&user.subscribe)) {
            name("subject", subject, "a subject without white space", text)?;
        }
        Ok(())
    }

    fn check_logins(&self) -> Result<(), ConfigError> {
        if self.bus.guards.is_empty() {
            return Err(ConfigError::Nobody("the guard"));
        }
        if self.system.users.is_empty() {
            return Err(ConfigError::Nobody("the system account, without which nobody can be disconnected"));
        }
        let tenants = self.tenants.iter().flat_map(|tenant| &tenant.users).map(|user| &user.key);
        let mut seen = BTreeSet::new();
        match self.logins().chain(tenants).find(|key| !seen.insert(*key)) {
            Some(twice) => Err(ConfigError::KeyTwice(twice.clone())),
            None => Ok(()),
        }
    }

    /// Zero means "no limit", "use the default" or "no port" to the server, never zero.
    fn check_numbers(&self) -> Result<(), ConfigError> {
        let port = |port| match port {
            ListenPort::Fixed(port) => port,
            ListenPort::Any => 1,
        };
        let leaf_port = self.leaf.as_ref().map_or(1, |leaf| port(leaf.port));
        for (what, found) in [
            ("port", port(self.port).into()),
            ("leaf port", leaf_port.into()),
            ("max_payload", self.limits.max_payload.into()),
            ("max_control_line", self.limits.max_control_line.into()),
            ("max_connections", self.limits.max_connections.into()),
            ("max_subscriptions", self.limits.max_subscriptions.into()),
            ("max_pending", self.limits.max_pending.into()),
        ] {
            if found == 0_u128 {
                return Err(ConfigError::Number { what, found, rule: "above 0" });
            }
        }
        // Past a minute a few sockets that never log in could hold every connection slot.
        let timeout = self.auth_timeout.as_millis();
        if !(100..=60_000).contains(&timeout) {
            let rule = "from 100 to 60000 milliseconds";
            return Err(ConfigError::Number { what: "auth_timeout", found: timeout, rule });
        }
        Ok(())
    }
}

fn name(
    what: &'static str,
    found: &str,
    rule: &'static str,
    fit: impl Fn(char) -> bool,
) -> Result<(), ConfigError> {
    if !found.is_empty() && found.chars().count() <= 64 && found.chars().all(fit) {
        return Ok(());
    }
    let found = found.chars().take(64).flat_map(char::escape_debug).collect();
    Err(ConfigError::Name { what, found, rule })
}

/// A path as text.
pub(super) fn text(path: &Path) -> Result<&str, ConfigError> {
    path.to_str().ok_or_else(|| ConfigError::Path(path.to_owned()))
}

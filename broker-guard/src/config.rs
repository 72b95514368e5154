//! The guard's configuration file, `sealbus.toml`: which bus, where its servers, files and keys are.
//!
//! It holds no secret, only the paths of key files. Relative paths count from the file's own directory, so a
//! bus directory can be moved as a whole. An unknown key is an error: a misspelt limit must not vanish.

use std::{
    fs, io,
    net::SocketAddr,
    ops::Range,
    path::{Path, PathBuf},
    str::FromStr as _,
    sync::Arc,
};

use miette::{Diagnostic, NamedSource, SourceSpan};
use sealbus_envelope::{
    identity::{BusId, KeyKind, PublicKey, Roots},
    name::Name,
    subject::WireSubjects,
};
use serde::Deserialize;
use toml::Spanned;

use crate::{events::settings::EventSettings, quarantine::custody::StreamLimits};

mod events;
mod evidence;

/// The file name that commands look for.
pub const FILE_NAME: &str = "sealbus.toml";
/// Where health and metrics are served when the file does not say.
pub const DEFAULT_HTTP_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9464);
/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;
const MAX_POLICY_KEYS: usize = 16;

/// A configuration that was read and checked; every path is complete.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it was read from.
    pub path: PathBuf,
    /// Bus name, issuer, policy keys and quorum.
    pub roots: Roots,
    /// First token of every subject of the bus.
    pub prefix: String,
    /// Servers of the bus, `nats://` or `tls://`.
    pub urls: Vec<String>,
    /// Authorities whose certificates the servers must have (PEM), instead of the system's.
    pub tls_ca: Option<PathBuf>,
    /// Where health, status and metrics are served. They have no login.
    pub http_listen: SocketAddr,
    /// The signed policy bundle.
    pub policy: PathBuf,
    /// The signed status statement.
    pub status: PathBuf,
    /// The guard's durable state.
    pub state_dir: PathBuf,
    /// The audit log.
    pub audit_dir: PathBuf,
    /// The guard's key files.
    pub keys: KeyPaths,
    /// What nats-server calls things.
    pub nats: NatsNames,
    /// How much the bus's stream keeps of agents that are off the bus; none if there is to be no such stream.
    pub evidence: Option<StreamLimits>,
    /// Where events go.
    pub events: EventSettings,
}

/// The guard's key files.
#[derive(Debug, Clone)]
pub struct KeyPaths {
    /// The guard's identity, a user nkey seed: signs admissions and heartbeats, and logs in to the bus.
    pub guard: PathBuf,
    /// The guard's credential, signed by the issuer. Not secret.
    pub credential: PathBuf,
    /// The callout issuer, an account nkey seed. Whoever holds it administers the nats-server.
    pub callout: PathBuf,
    /// The callout's sealing key, a curve nkey seed.
    pub xkey: PathBuf,
    /// The login in the system account, a user nkey seed.
    pub system: PathBuf,
    /// The login that writes the policy bucket, a user nkey seed. No guard needs it, only who publishes.
    pub publisher: PathBuf,
}

/// Names in nats-server's own configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsNames {
    /// The account that is the bus.
    pub account: String,
    /// The system account.
    pub system_account: String,
}

impl Config {
    /// Reads and checks the file at `path`; a directory stands for the `sealbus.toml` in it.
    ///
    /// # Errors
    /// [`ConfigError`], with the place in the file and what to do.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let path = if path.is_dir() { path.join(FILE_NAME) } else { path.to_owned() };
        let unreadable = |source: io::Error| ConfigError::unreadable(&path, source);
        let length = fs::metadata(&path).map_err(unreadable)?.len();
        if length > MAX_FILE {
            return Err(unreadable(io::Error::new(io::ErrorKind::FileTooLarge, "more than 1 MiB")));
        }
        let text = fs::read_to_string(&path).map_err(unreadable)?;
        Self::parse(&path, &text)
    }

    /// Checks the text of a configuration as if it stood in the file at `path`.
    ///
    /// # Errors
    /// [`ConfigError`], with the place in the text and what to do.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let at = Place { path, text };
        let raw: RawConfig = toml::from_str(text).map_err(|error| at.toml(&error))?;
        let base = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let whole =
            |path: Option<PathBuf>, default: &str| base.join(path.unwrap_or_else(|| PathBuf::from(default)));
        let (guard, keys, nats) = (raw.guard, raw.keys, raw.nats);
        Ok(Self {
            roots: roots(&at, &raw.bus)?,
            prefix: prefix(&at, raw.bus.prefix)?,
            urls: urls(&at, raw.bus.urls)?,
            tls_ca: raw.bus.tls_ca.map(|path| base.join(path)),
            http_listen: guard.http_listen.map_or(Ok(DEFAULT_HTTP_LISTEN), |listen| {
                let remedy = "write an IP address and a port, such as `127.0.0.1:9464`";
                let told = |_| at.value(listen.span(), "this is no address to listen on", remedy);
                listen.get_ref().parse().map_err(told)
            })?,
            policy: whole(guard.policy, "policy.bundle"),
            status: whole(guard.status, "status.bin"),
            state_dir: whole(guard.state_dir, "guard/state"),
            audit_dir: whole(guard.audit_dir, "guard/audit"),
            keys: KeyPaths {
                guard: whole(keys.guard, "guard/guard.seed"),
                credential: whole(keys.credential, "guard/guard.credential"),
                callout: whole(keys.callout, "guard/callout.seed"),
                xkey: whole(keys.xkey, "guard/xkey.seed"),
                system: whole(keys.system, "guard/sys.seed"),
                publisher: whole(keys.publisher, "operator/publisher.seed"),
            },
            nats: NatsNames {
                account: account(&at, nats.account, "BUS")?,
                system_account: account(&at, nats.system_account, "SYS")?,
            },
            evidence: evidence::settings(&at, raw.evidence)?,
            events: events::settings(&at, base, raw.events)?,
            path: path.to_owned(),
        })
    }

    /// The bus id.
    #[must_use]
    pub fn bus(&self) -> BusId {
        self.roots.bus()
    }

    /// The wire subjects of the bus.
    #[must_use]
    pub fn subjects(&self) -> WireSubjects {
        // The prefix was checked when the file was read.
        WireSubjects::new(&self.prefix).unwrap_or_default()
    }

    /// Whether connections must use TLS: an authority is named, or a `tls://` address.
    #[must_use]
    pub fn requires_tls(&self) -> bool {
        self.tls_ca.is_some() || self.urls.iter().any(|url| url.starts_with("tls://"))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    bus: RawBus,
    #[serde(default)]
    guard: RawGuard,
    #[serde(default)]
    keys: RawKeys,
    #[serde(default)]
    nats: RawNats,
    #[serde(default)]
    evidence: evidence::RawEvidence,
    #[serde(default)]
    events: events::RawEvents,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBus {
    name: Spanned<String>,
    issuer: Spanned<String>,
    policy_keys: Spanned<Vec<Spanned<String>>>,
    quorum: Option<Spanned<usize>>,
    urls: Spanned<Vec<Spanned<String>>>,
    prefix: Option<Spanned<String>>,
    tls_ca: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGuard {
    http_listen: Option<Spanned<String>>,
    policy: Option<PathBuf>,
    status: Option<PathBuf>,
    state_dir: Option<PathBuf>,
    audit_dir: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKeys {
    guard: Option<PathBuf>,
    credential: Option<PathBuf>,
    callout: Option<PathBuf>,
    xkey: Option<PathBuf>,
    system: Option<PathBuf>,
    publisher: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNats {
    account: Option<Spanned<String>>,
    system_account: Option<Spanned<String>>,
}

fn roots(at: &Place<'_>, bus: &RawBus) -> Result<Roots, ConfigError> {
    let name = Name::parse(bus.name.get_ref()).map_err(|_| {
        let remedy = "begin with a lower-case letter; then up to 47 lower-case letters, digits and `-`";
        at.value(bus.name.span(), "this cannot be the name of a bus", remedy)
    })?;
    let key = |text: &Spanned<String>, kind, what, remedy| {
        PublicKey::from_nkey(text.get_ref(), kind).map_err(|_| at.value(text.span(), what, remedy))
    };
    let issuer = key(
        &bus.issuer,
        KeyKind::Account,
        "this is not an account's public nkey",
        "write the issuer's public key, 56 characters that begin with `A`; a seed (`SA…`) never belongs here",
    )?;
    let mut policy_keys: Vec<PublicKey> = Vec::new();
    for text in bus.policy_keys.get_ref() {
        let what = "this is not a user's public nkey";
        let remedy =
            "write a policy key's public key, 56 characters that begin with `U`; a seed never belongs here";
        let policy_key = key(text, KeyKind::User, what, remedy)?;
        if policy_keys.contains(&policy_key) {
            return Err(at.value(text.span(), "this policy key is named twice", "remove one of the two"));
        }
        policy_keys.push(policy_key);
    }
    let quorum = bus.quorum.as_ref().map_or(1, |quorum| *quorum.get_ref());
    if policy_keys.is_empty() || policy_keys.len() > MAX_POLICY_KEYS {
        let remedy = "name between 1 and 16 policy keys; without one no policy can be signed";
        return Err(at.value(bus.policy_keys.span(), "the number of policy keys is out of range", remedy));
    }
    if quorum == 0 || quorum > policy_keys.len() {
        let span = bus.quorum.as_ref().map_or_else(|| bus.policy_keys.span(), Spanned::span);
        let remedy = "the quorum is at least 1 and at most the number of policy keys";
        return Err(at.value(span, "no set of signatures can meet this quorum", remedy));
    }
    Ok(Roots { name, issuer, policy_keys, quorum })
}

fn prefix(at: &Place<'_>, prefix: Option<Spanned<String>>) -> Result<String, ConfigError> {
    let Some(prefix) = prefix else { return Ok("sb".to_owned()) };
    let fit = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
    if (1..=64).contains(&prefix.get_ref().len()) && prefix.get_ref().chars().all(fit) {
        return Ok(prefix.into_inner());
    }
    let remedy = "use one subject token of lower-case letters, digits, `-` and `_`, such as `sb`";
    Err(at.value(prefix.span(), "this cannot be the first token of the bus's subjects", remedy))
}

fn urls(at: &Place<'_>, urls: Spanned<Vec<Spanned<String>>>) -> Result<Vec<String>, ConfigError> {
    if urls.get_ref().is_empty() {
        let remedy = "name at least one server, such as `nats://127.0.0.1:4222`";
        return Err(at.value(urls.span(), "no server is named", remedy));
    }
    urls.into_inner()
        .into_iter()
        .map(|url| {
            check_url(url.get_ref()).map_err(|(what, remedy)| at.value(url.span(), what, remedy))?;
            Ok(url.into_inner())
        })
        .collect()
}

/// Checks the address of a server.
///
/// # Errors
/// What is wrong with it, and what to do.
pub fn check_url(url: &str) -> Result<(), (&'static str, &'static str)> {
    let form = "write `nats://HOST:PORT`, or `tls://HOST:PORT` for a server with a certificate";
    if !(url.starts_with("nats://") || url.starts_with("tls://")) {
        return Err(("this is not the address of a NATS server", form));
    }
    let address = async_nats::ServerAddr::from_str(url)
        .map_err(|_| ("this is not the address of a NATS server", form))?;
    if address.host().is_empty() {
        return Err(("this address names no host", form));
    }
    if address.has_user_pass() || address.username().is_some() {
        let remedy = "remove it: nobody logs in to the bus with a password";
        return Err(("this address holds a login", remedy));
    }
    Ok(())
}

fn account(at: &Place<'_>, name: Option<Spanned<String>>, default: &str) -> Result<String, ConfigError> {
    let Some(name) = name else { return Ok(default.to_owned()) };
    let fit = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    if (1..=64).contains(&name.get_ref().len()) && name.get_ref().chars().all(fit) {
        return Ok(name.into_inner());
    }
    let remedy = "use the account's name in nats.conf: letters, digits, `-` and `_`";
    Err(at.value(name.span(), "this cannot be the name of an account", remedy))
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration `{}`", path.display())]
    #[diagnostic(code(config_unreadable), help("{remedy}"))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// The file is not TOML, or has a key or a type that it must not have.
    #[error("configuration `{}`: {message}", path.display())]
    #[diagnostic(
        code(config_malformed),
        help("every key is described in the comments of the file that `sealbus init` writes")
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        message: String,
        /// Its text.
        #[source_code]
        text: Arc<NamedSource<String>>,
        /// Where.
        #[label("here")]
        place: Option<SourceSpan>,
    },
    /// A value makes no sense.
    #[error("configuration `{}`: {what}", path.display())]
    #[diagnostic(code(config_value), help("{remedy}"))]
    Value {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
        /// What to do.
        remedy: &'static str,
        /// Its text.
        #[source_code]
        text: Arc<NamedSource<String>>,
        /// Where.
        #[label("here")]
        place: SourceSpan,
    },
}

impl ConfigError {
    fn unreadable(path: &Path, source: io::Error) -> Self {
        let remedy = match source.kind() {
            io::ErrorKind::NotFound => {
                "name the file with `--config FILE`, or make a bus directory with `sealbus init`"
            }
            io::ErrorKind::PermissionDenied => "run as the user whose file it is",
            io::ErrorKind::InvalidData => "it must be UTF-8 text; see whether it is the right file",
            _ => "see whether it is the right file",
        };
        Self::Unreadable { path: path.to_owned(), source, remedy }
    }
}

/// The file an error points into.
struct Place<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Place<'_> {
    fn source(&self) -> Arc<NamedSource<String>> {
        Arc::new(NamedSource::new(self.path.display().to_string(), self.text.to_owned()))
    }

    fn toml(&self, error: &toml::de::Error) -> ConfigError {
        ConfigError::Malformed {
            path: self.path.to_owned(),
            message: error.message().replace("expected usize", "expected a whole number"),
            text: self.source(),
            place: error.span().map(SourceSpan::from),
        }
    }

    fn value(&self, span: Range<usize>, what: &'static str, remedy: &'static str) -> ConfigError {
        let text = self.source();
        ConfigError::Value { path: self.path.to_owned(), what, remedy, text, place: span.into() }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use sealbus_envelope::identity::SigningKey;

    use super::*;

    fn text(change: impl Fn(String) -> String) -> String {
        let issuer = SigningKey::from_seed(&[1; 32]).public().to_nkey(KeyKind::Account);
        let policy = SigningKey::from_seed(&[2; 32]).public().to_nkey(KeyKind::User);
        change(format!(
            "[bus]\nname = \"demo\"\nissuer = \"{issuer}\"\npolicy_keys = [\"{policy}\"]\nurls = [\"nats://127.0.0.1:4222\"]\n"
        ))
    }

    #[test]
    fn what_is_left_out_has_a_default_and_paths_count_from_the_file() {
        let config = Config::parse(Path::new("/bus/sealbus.toml"), &text(|t| t)).unwrap();
        assert_eq!((config.roots.quorum, config.prefix.as_str()), (1, "sb"));
        assert_eq!(config.keys.guard, Path::new("/bus/guard/guard.seed"));
        assert_eq!(config.policy, Path::new("/bus/policy.bundle"));
        assert_eq!(config.http_listen, DEFAULT_HTTP_LISTEN);
        assert_eq!(config.nats.account, "BUS");
        assert!(!config.requires_tls());
        let moved = text(|t| t + "[guard]\nstate_dir = \"/var/lib/sealbus\"\n");
        let moved = Config::parse(Path::new("sealbus.toml"), &moved).unwrap();
        assert_eq!(moved.state_dir, Path::new("/var/lib/sealbus"));
        assert_eq!(moved.policy, Path::new("./policy.bundle"));
    }

    #[test]
    fn every_fault_is_refused_and_points_at_its_place() {
        for (from, to, said) in [
            ("name = \"demo\"", "name = \"Demo\"", "name of a bus"),
            ("name = \"demo\"", "nam = \"demo\"", "unknown field `nam`"),
            ("issuer = \"A", "issuer = \"U", "account's public nkey"),
            ("policy_keys = [\"U", "policy_keys = [\"SU", "user's public nkey"),
            ("urls = [\"nats://127.0.0.1:4222\"]", "urls = []", "no server"),
            ("nats://127", "http://127", "NATS server"),
            ("nats://127", "nats://root:secret@127", "holds a login"),
            ("urls =", "quorum = 2\nurls =", "quorum"),
            ("urls =", "quorum = -1\nurls =", "invalid"),
            ("urls =", "prefix = \"a.b\"\nurls =", "first token"),
            ("[bus]", "[guard]\nhttp_listen = \"lo:9\"\n[bus]", "address to listen"),
            ("[bus]", "[nats]\naccount = \"\\u0022\"\n[bus]", "name of an account"),
            ("[bus]", "[bus", "unclosed"),
        ] {
            let text = text(|t| t.replace(from, to));
            let error = Config::parse(Path::new("sealbus.toml"), &text).unwrap_err();
            assert!(error.to_string().contains(said), "{said}: {error}");
            assert!(error.to_string().contains("sealbus.toml"));
            assert!(error.labels().is_some_and(|mut labels| labels.next().is_some()), "{said}");
            assert!(error.help().is_some());
        }
    }
}

//! `sealbus init`: a bus directory with every key, a signed policy and the configurations.
//!
//! Everything is made in a directory beside the goal and renamed at the end, so there is a whole bus
//! directory or none.

use std::{
    fs,
    path::{Path, PathBuf},
};

use sealbus_client::credentials::{Bus, Credentials};
use sealbus_envelope::{
    identity::{Claims, Credential, DEFAULT_STATUS_MS, KeyKind, Role, Roots, SigningKey, Status},
    label::{Clearance, Integrity},
    name::Name,
    policy::MAX_SIGNATURES,
    time::{Millis, Validity},
};
use serde_json::json;

use super::{
    busdir::{AGENTS, BusDir, ISSUER_SEED, OFFLINE, POLICY, STATUS_SEED},
    failure::{Exit, Failure},
    output::{Output, STRONG, paint},
    registry::Registry,
    when::DAY,
};
use crate::{
    clock::now,
    config::{self, DEFAULT_HTTP_LISTEN, check_url},
    keyfile::{create_secret, replace_public},
    natsserver::{AccountKey, BusKeys, CurveKey, JetStream, ListenPort, NatsConfig, Tls, UserKey},
    policy::{self, DEFAULT_POLICY, bundle::ServiceKeys, source::PolicySource},
};

/// How long the guard's and the observer's credentials are good, in days.
const SERVICE_DAYS: u64 = 365;
/// Credentials begin this much earlier, for machines whose clock is behind. In milliseconds.
pub(crate) const CLOCK_SKEW: u64 = 300_000;

const OFFLINE_README: &str = "\
Move this directory off this machine: to a medium that is plugged in when it is needed, and a second one
that is kept elsewhere. The guard and the agents run without it.

issuer.seed       signs credentials: `sealbus agent add`
policy-N.seed     sign the policy and orders: `sealbus policy sign`, `sealbus taint clear`; one for each person
status.seed       signs who is revoked, at least once a week: `sealbus agent renew-status`, `agent revoke`
break-glass.seed  logs in to nats-server (`nats --nkey`) and reads events when no guard runs; for who is on call

Commands that need a key take `--offline DIR`. Whoever has these keys is the bus.
";

const EXAMPLES: &str = "\
Examples:
  sealbus init --bus demo                           a bus on this machine, in ./demo
  sealbus init /etc/sealbus --bus prod --url tls://nats-1.example:4222
  sealbus init --bus prod --policy policy.toml      begin with your own policy
  sealbus init --bus prod --policy-keys 3           two of three people sign what counts";

/// Make a bus directory: keys, policy, configurations
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The directory to make; `./NAME` if not given
    dir: Option<PathBuf>,
    /// Name of the bus: lower-case letters, digits and `-`
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    bus: Name,
    /// Address of a NATS server; may be given several times
    #[arg(long = "url", value_name = "URL", default_value = "nats://127.0.0.1:4222")]
    urls: Vec<String>,
    /// Begin with this policy instead of the one that comes with Sealbus
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// How many policy keys to make, one for each person who may sign
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=MAX_SIGNATURES as i64))]
    policy_keys: u8,
    /// How many of them must sign a policy or an order; more than half if not given
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u8).range(1..))]
    quorum: Option<u8>,
}

pub(crate) fn parse_name(text: &str) -> Result<Name, String> {
    Name::parse(text).map_err(|_| {
        "begin with a lower-case letter; then up to 47 lower-case letters, digits and `-`".into()
    })
}

/// Not as the argument's parser, whose message would repeat a password that is in the address.
fn check_urls(urls: &[String]) -> Result<(), Failure> {
    urls.iter().try_for_each(|url| check_url(url)).map_err(|(what, remedy)| {
        Failure::told(Exit::Config, "bad_url", format!("option `--url`: {what}"), remedy)
    })
}

/// What a new bus is like.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) bus: Name,
    pub(crate) urls: Vec<String>,
    pub(crate) policy: PolicySource,
    pub(crate) http_listen: std::net::SocketAddr,
    pub(crate) signers: Signers,
}

/// How many people sign what counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signers {
    /// How many policy keys there are.
    keys: u8,
    /// How many of them must sign.
    quorum: u8,
}

impl Signers {
    /// One key, which signs alone.
    pub(crate) const ONE: Self = Self { keys: 1, quorum: 1 };

    fn new(keys: u8, quorum: Option<u8>) -> Result<Self, Failure> {
        let quorum = quorum.unwrap_or(keys / 2 + 1);
        if quorum <= keys {
            return Ok(Self { keys, quorum });
        }
        let message = format!("{quorum} of {keys} policy keys cannot sign");
        let remedy = "make more keys with `--policy-keys`, or ask for fewer signatures with `--quorum`";
        Err(Failure::told(Exit::Config, "bad_quorum", message, remedy))
    }
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    check_urls(&args.urls)?;
    let dir = args.dir.clone().unwrap_or_else(|| PathBuf::from(args.bus.as_str()));
    let policy = match &args.policy {
        Some(path) => super::policy::source(path)?,
        None => PolicySource::new(POLICY, DEFAULT_POLICY),
    };
    let plan = Plan {
        bus: args.bus.clone(),
        urls: args.urls.clone(),
        policy,
        http_listen: DEFAULT_HTTP_LISTEN,
        signers: Signers::new(args.policy_keys, args.quorum)?,
    };
    create(&dir, &plan)?;
    let at = dir.display();
    let bus = BusDir::open(&dir)?;
    let object = json!({
        "dir": dir,
        "bus": args.bus,
        "bus_id": bus.config.bus().to_string(),
        "config": bus.config.path,
        "policy_version": 1,
        "policy_keys": plan.signers.keys,
        "quorum": plan.signers.quorum,
        "oncall": bus.agents().join("oncall.creds"),
        "offline": dir.join(OFFLINE),
    });
    let text = format!(
        "Made bus `{}` in {at}

  {at}/policy.toml          who may send what to whom; after a change: sealbus policy sign
  {at}/sealbus.toml         the guard's configuration
  {at}/nats/nats.conf       nats-server's configuration
  {at}/guard/               the guard's keys
  {at}/operator/            the login for `sealbus policy publish`
  {at}/agents/oncall.creds  for who watches the bus: sealbus events
  {at}/offline/             issuer, policy and status keys: {}

Next:
  nats-server -c {at}/nats/nats.conf
  sealbus guard --config {at}
  sealbus agent add alice --team TEAM --config {at}",
        args.bus,
        paint(STRONG, "move this directory off this machine"),
    );
    output.show(&object, text)?;
    if bus.config.requires_tls() && !output.is_json() {
        output.remark(format_args!(
            "\nnats.conf expects the server's certificate and key as {TLS_CERT} and {TLS_KEY}"
        ));
    }
    Ok(())
}

/// Makes the bus directory `dir`, which is not there or empty.
pub(crate) fn create(dir: &Path, plan: &Plan) -> Result<(), Failure> {
    let checked = policy::check(&plan.policy)?;
    refuse_used(dir)?;
    let staging = Staging::beside(dir)?;
    fill(&staging.0, dir, plan, &checked.policy)?;
    open_dir(&staging.0)?;
    fs::rename(&staging.0, dir).map_err(|source| Failure::io("make", dir, source))
}

/// A new name, or an empty directory that nobody stands in.
fn refuse_used(dir: &Path) -> Result<(), Failure> {
    let refuse = |what: &str, remedy: &str| {
        let message = format!("`{}` {what}", dir.display());
        Err(Failure::told(Exit::Failure, "dir_in_use", message, remedy))
    };
    match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let parent = parent(dir);
            if parent.is_dir() {
                Ok(())
            } else {
                let dir = parent.display();
                let message = format!("there is no directory `{dir}`");
                Err(Failure::told(Exit::Failure, "no_parent", message, format!("run `mkdir -p {dir}` first")))
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            refuse("is a file", "name a directory that does not exist yet")
        }
        Err(source) => Err(Failure::io("look into", dir, source)),
        Ok(mut entries) => {
            if entries.next().is_some() {
                return refuse(
                    "is not empty",
                    "name a directory that does not exist yet; nothing is replaced",
                );
            }
            let same = |a: std::io::Result<PathBuf>, b: std::io::Result<PathBuf>| matches!((a, b), (Ok(a), Ok(b)) if a == b);
            if same(dir.canonicalize(), std::env::current_dir().and_then(|here| here.canonicalize())) {
                return refuse("is the directory you are in", "name another one, such as `./NAME`");
            }
            Ok(())
        }
    }
}

fn parent(dir: &Path) -> &Path {
    dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The directory under a temporary name; gone unless it was renamed.
struct Staging(PathBuf);

impl Staging {
    fn beside(goal: &Path) -> Result<Self, Failure> {
        let name = goal.file_name().unwrap_or_default().to_string_lossy();
        let path = parent(goal).join(format!(".{name}.init-{}", std::process::id()));
        private_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A directory that only its owner can enter.
pub(crate) fn private_dir(path: &Path) -> Result<(), Failure> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|source| Failure::io("make", path, source))
}

/// Lets others enter: what is secret lies deeper, behind directories of its own.
fn open_dir(path: &Path) -> Result<(), Failure> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))
            .map_err(|source| Failure::io("open", path, source))?;
    }
    Ok(())
}

/// A fresh signing key.
pub(crate) fn generate() -> SigningKey {
    SigningKey::generate(&mut rand_core::UnwrapErr(getrandom::SysRng))
}

/// Fills `root`, which will be `goal`.
fn fill(root: &Path, goal: &Path, plan: &Plan, policy: &policy::model::Policy) -> Result<(), Failure> {
    let [offline, guard_dir, agents, operator, nats] =
        [OFFLINE, "guard", AGENTS, "operator", "nats"].map(|name| root.join(name));
    for dir in [&offline, &guard_dir, &agents, &operator, &guard_dir.join("state")] {
        private_dir(dir)?;
    }
    // nats-server may run as another user, and reads only this.
    fs::create_dir(&nats).map_err(|source| Failure::io("make", &nats, source))?;

    let (issuer, status, break_glass) = (generate(), generate(), generate());
    let policy_keys: Vec<SigningKey> = (0..plan.signers.keys).map(|_| generate()).collect();
    let (guard, callout, system, publisher) = (generate(), generate(), generate(), generate());
    let mut raw = zeroize::Zeroizing::new([0; 32]);
    rand_core::Rng::fill_bytes(&mut rand_core::UnwrapErr(getrandom::SysRng), raw.as_mut());
    let xkey = nkeys::XKey::new_from_raw(*raw);
    let roots = Roots {
        name: plan.bus.clone(),
        issuer: issuer.public().clone(),
        policy_keys: policy_keys.iter().map(|key| key.public().clone()).collect(),
        quorum: usize::from(plan.signers.quorum),
    };

    let seed = |dir: &Path, name: &str, key: &SigningKey, kind| {
        create_secret(&dir.join(name), &format!("{}\n", key.to_nkey_seed(kind).as_str()))
    };
    seed(&offline, ISSUER_SEED, &issuer, KeyKind::Account)?;
    for (key, n) in policy_keys.iter().zip(1..) {
        seed(&offline, &format!("policy-{n}.seed"), key, KeyKind::User)?;
    }
    seed(&offline, STATUS_SEED, &status, KeyKind::User)?;
    seed(&offline, "break-glass.seed", &break_glass, KeyKind::User)?;
    replace_public(&offline.join("README"), OFFLINE_README.as_bytes())?;
    seed(&guard_dir, "guard.seed", &guard, KeyKind::User)?;
    seed(&guard_dir, "callout.seed", &callout, KeyKind::Account)?;
    seed(&guard_dir, "sys.seed", &system, KeyKind::User)?;
    seed(&operator, "publisher.seed", &publisher, KeyKind::User)?;
    let xkey_seed = zeroize::Zeroizing::new(xkey.seed().unwrap_or_default());
    create_secret(&guard_dir.join("xkey.seed"), &format!("{}\n", xkey_seed.as_str()))?;

    let keys = BusKeys {
        guard: user_key(&guard)?,
        system: user_key(&system)?,
        break_glass: user_key(&break_glass)?,
        publisher: user_key(&publisher)?,
        callout_issuer: AccountKey::parse(&callout.public().to_nkey(KeyKind::Account)).map_err(broken_key)?,
        callout_xkey: CurveKey::parse(&xkey.public_key()).map_err(broken_key)?,
    };
    let conf = nats_config(plan, &absolute(&goal.join("nats"))?, keys).render()?;
    replace_public(&nats.join("nats.conf"), conf.as_bytes())?;
    replace_public(&root.join(config::FILE_NAME), sealbus_toml(plan, &roots).as_bytes())?;

    replace_public(&root.join(POLICY), plan.policy.text().as_bytes())?;
    let services = ServiceKeys { status: status.public().clone(), guards: vec![guard.public().clone()] };
    let bundle_path = root.join("policy.bundle");
    let bundle =
        policy::bundle::sign(policy, &services, 1, now(), &policy_keys.iter().collect::<Vec<_>>(), &roots)
            .map_err(|error| Failure::bundle(&bundle_path, &error))?;
    replace_public(&bundle_path, &bundle.encode())?;
    let statement = Status {
        bus: roots.bus(),
        version: 1,
        policy_version: 1,
        issued: now(),
        valid_until: now().plus(DEFAULT_STATUS_MS),
        revoked: Vec::new(),
    };
    let statement = statement.sign(&status).map_err(|refused| unissued("status statement", refused))?;
    replace_public(&root.join("status.bin"), &statement)?;

    let mut registry = Registry::create(&agents);
    let guard_credential = service_credential(&roots, &issuer, &guard, "guard", Role::Guard)?;
    replace_public(&guard_dir.join("guard.credential"), guard_credential.as_str().as_bytes())?;
    registry.insert(guard_credential);
    let oncall = generate();
    let credential = service_credential(&roots, &issuer, &oncall, "oncall", Role::Observer)?;
    registry.insert(credential.clone());
    let block = Bus::new(roots, plan.urls.clone())
        .map_err(|problem| Failure::told(Exit::Config, "bus_url", problem.to_string(), problem.remedy()))?;
    Credentials::new(block, credential, oncall)?.write(agents.join("oncall.creds"))?;
    registry.save()
}

fn service_credential(
    roots: &Roots,
    issuer: &SigningKey,
    key: &SigningKey,
    name: &str,
    role: Role,
) -> Result<Credential, Failure> {
    let parse = |name| Name::parse(name).map_err(|refused| unissued("credential", refused));
    let team = match role {
        Role::Guard => parse("guard")?,
        _ => parse("observer")?,
    };
    let claims = Claims {
        bus: roots.bus(),
        identity: key.public().clone(),
        name: parse(name)?,
        team,
        role,
        clearance: Clearance::default(),
        integrity_ceiling: Integrity::LOWEST,
        zones: Vec::new(),
        validity: validity(SERVICE_DAYS),
    };
    Credential::issue(&claims, issuer).map_err(|refused| unissued("credential", refused))
}

/// From a little before now, for `days` days, in whole seconds.
pub(crate) fn validity(days: u64) -> Validity {
    let now = now();
    let start = Millis::from_seconds(now.minus(CLOCK_SKEW).seconds());
    let end = Millis::from_seconds(now.plus(days.saturating_mul(DAY)).seconds());
    Validity { not_before: start, not_after: end }
}

pub(crate) fn unissued(what: &str, refused: sealbus_envelope::reason::Refused) -> Failure {
    let message = format!("no {what} can be signed: {refused}");
    Failure::told(Exit::Failure, "not_signed", message, refused.reason.remedy())
}

fn user_key(key: &SigningKey) -> Result<UserKey, Failure> {
    UserKey::parse(&key.public().to_nkey(KeyKind::User)).map_err(broken_key)
}

pub(crate) fn broken_key(error: crate::natsserver::NotThatKey) -> Failure {
    let message = "a fresh key has no nkey form";
    Failure::because(Exit::Failure, "nkey", message, "report this as a fault of sealbus", error)
}

const TLS_CERT: &str = "/etc/nats/tls/server.crt";
const TLS_KEY: &str = "/etc/nats/tls/server.key";

/// Where a nats-server that is not only this machine's keeps its streams.
const NATS_STORE: &str = "/var/lib/nats";
/// What streams may take. Policies are the only ones: some megabytes each if they are very large.
const STREAMS_DISK: u64 = 1 << 30;
const STREAMS_MEMORY: u64 = 64 << 20;

/// Persistent streams below `dir`, for the policy bucket.
pub(crate) fn jetstream(dir: &Path) -> JetStream {
    JetStream { store_dir: dir.join("jetstream"), max_memory: STREAMS_MEMORY, max_file: STREAMS_DISK }
}

/// nats-server reads relative paths from wherever it was started.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|source| Failure::io("find", path, source))
}

/// nats-server's configuration for the first of the bus's addresses; `nats` is the directory it will be in.
fn nats_config(plan: &Plan, nats: &Path, keys: BusKeys) -> NatsConfig {
    let mut conf = NatsConfig::development(keys);
    conf.jetstream = Some(jetstream(nats));
    conf.server_name = format!("{}-1", plan.bus);
    let address = plan.urls.first().and_then(|url| url.parse::<async_nats::ServerAddr>().ok());
    if let Some(address) = address {
        let loopback = address.host() == "localhost"
            || address.host().parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        conf.host = if loopback { address.host().to_owned() } else { "0.0.0.0".to_owned() };
        conf.port = ListenPort::Fixed(address.port());
        if !loopback {
            conf.jetstream = Some(jetstream(Path::new(NATS_STORE)));
        }
        if address.tls_required() {
            conf.tls =
                Some(Tls { cert_file: TLS_CERT.into(), key_file: TLS_KEY.into(), client_ca_file: None });
        }
    }
    conf
}

/// The guard's configuration. Every value is a checked name, key, address or URL.
fn sealbus_toml(plan: &Plan, roots: &Roots) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let list = |items: Vec<String>| items.iter().map(|item| quoted(item)).collect::<Vec<_>>().join(", ");
    format!(
        r#"# The guard's configuration. It holds no secret. Relative paths count from this file's directory.
# An unknown key is an error.

[bus]
name = {name}
# The roots of trust. They are in every agent's credentials file too: changing one means new files for all.
issuer = {issuer}
policy_keys = [{policy_keys}]
quorum = {quorum}                          # how many policy keys must sign a policy
urls = [{urls}]
# prefix = "sb"                     # first token of the bus's subjects
# tls_ca = "ca.pem"                 # authority of the servers' certificates, if it is your own

[guard]
http_listen = {http}      # /healthz, /statusz, /metrics, /floors, /orders; no login, so keep it local
# policy = "policy.bundle"          # signed policy; the guard takes up a new one by itself
# status = "status.bin"             # signed status statement; likewise
# state_dir = "guard/state"
# audit_dir = "guard/audit"

# [keys]
# guard = "guard/guard.seed"
# credential = "guard/guard.credential"
# callout = "guard/callout.seed"
# xkey = "guard/xkey.seed"
# system = "guard/sys.seed"
# publisher = "operator/publisher.seed"   # for `sealbus policy publish`; the guard does not need it

# [nats]                            # as nats.conf names them
# account = "BUS"
# system_account = "SYS"

# [events]                          # OCSF events go to the bus (`sealbus events`), and where you say here
# stream = true                     # keep them in the stream SB_EVENTS if the servers have JetStream
# stream_max_bytes = 67108864       # set aside on the servers; the oldest events go
# stream_max_days = 30
# queue_events = 10000              # how many may wait for a sink that is down, and how many bytes
# queue_bytes = 16777216
#
# [events.jsonl]                    # one JSON object a line
# path = "guard/events/events.jsonl"
# max_bytes = 67108864              # then it becomes events.jsonl.1, and so on
# keep = 8
#
# [[events.webhooks]]               # as many as you like; try them: `sealbus events test`
# name = "pager"
# url = "https://hooks.example.com/sealbus"
# secret = "guard/pager.secret"     # `sealbus events secret guard/pager.secret` makes it; signs as standardwebhooks.com
# kinds = ["held", "workflow", "quarantine"]   # all, if left out
# min_severity = "medium"           # informational, low, medium, high, critical
# timeout_ms = 10000
# give_up_minutes = 1440            # what cannot be delivered for so long is dropped, and said to be
# tls_ca = "ca.pem"                 # authority of its certificate, if it is your own
"#,
        name = quoted(roots.name.as_str()),
        issuer = quoted(&roots.issuer.to_nkey(KeyKind::Account)),
        policy_keys = list(roots.policy_keys.iter().map(|key| key.to_nkey(KeyKind::User)).collect()),
        quorum = roots.quorum,
        urls = list(plan.urls.clone()),
        http = quoted(&plan.http_listen.to_string()),
    )
}

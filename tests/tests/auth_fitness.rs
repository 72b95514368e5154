//! Servers that look like a bus and are none: the guard finds out before it relies on them, and says what to
//! change.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::{process::Stdio, sync::Arc, time::Duration};

use async_nats::ConnectOptions;
use nkeys::{KeyPair, XKey};
use sealbus_envelope::identity::{KeyKind, PublicKey, SigningKey, Status};
use sealbus_envelope::{subject::WireSubjects, time::Millis};
use sealbus_guard::{
    bus::{
        admin::Admin,
        auth::{Auth, AuthConfig, Authority, CalloutKeys, Connection, ConnectionDecision, verify},
        fitness::{self, Needs, ProbeOptions, Unfit},
    },
    natsserver::{
        AccountKey, BusKeys, CurveKey, INBOX_PREFIX, ListenPort, NatsConfig, UserKey, locate_or_fetch,
    },
    policy::compile::CompiledPolicy,
    store::Store,
};
use sealbus_tests::authenticator::{TestBus, now};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

/// Lets nobody in; here only whether it is asked matters.
struct Nobody;

impl Authority for Nobody {
    fn policy(&self) -> Option<Arc<CompiledPolicy>> {
        None
    }
    fn status(&self) -> Option<Arc<Status>> {
        None
    }
    fn is_barred(&self, _: &PublicKey) -> bool {
        true
    }
    fn now(&self) -> Millis {
        now()
    }
    fn decided(&self, _: ConnectionDecision, _: Option<tokio::sync::oneshot::Sender<bool>>) {}
    fn departed(&self, _: &Connection) {}
}

struct Keys {
    guard: KeyPair,
    system: KeyPair,
    callout: KeyPair,
    xkey: XKey,
}

impl Keys {
    fn fresh() -> Self {
        Self {
            guard: KeyPair::new_user(),
            system: KeyPair::new_user(),
            callout: KeyPair::new_account(),
            xkey: XKey::new(),
        }
    }

    /// The text of a good configuration.
    fn config(&self) -> String {
        let user = |key: &KeyPair| UserKey::parse(&key.public_key()).unwrap();
        let mut config = NatsConfig::development(BusKeys {
            guard: user(&self.guard),
            system: user(&self.system),
            break_glass: user(&KeyPair::new_user()),
            publisher: user(&KeyPair::new_user()),
            callout_issuer: AccountKey::parse(&self.callout.public_key()).unwrap(),
            callout_xkey: CurveKey::parse(&self.xkey.public_key()).unwrap(),
        });
        config.port = ListenPort::Any;
        config.render().unwrap()
    }
}

/// A server with any configuration text, which [`sealbus_tests::server::TestServer`] would never write.
struct AnyServer {
    _child: Child,
    _dir: tempfile::TempDir,
    url: String,
}

impl AnyServer {
    async fn start(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nats.conf");
        std::fs::write(&path, text).unwrap();
        let mut child = Command::new(locate_or_fetch().unwrap().path())
            .arg("-c")
            .arg(&path)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (mut url, mut said) = (String::new(), String::new());
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some((_, address)) = line.split_once("Listening for client connections on ") {
                url = format!("nats://{}", address.trim());
            }
            if line.contains("Server is ready") {
                // Whatever else it says is read away, or it would block on a full pipe.
                tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                return Self { _child: child, _dir: dir, url };
            }
            said.push_str(&line);
            said.push('\n');
        }
        panic!("no server: {said}\n{text}");
    }

    async fn login(&self, key: &KeyPair) -> async_nats::Client {
        let options = ConnectOptions::with_nkey(key.seed().unwrap()).custom_inbox_prefix(INBOX_PREFIX);
        options.connect(&self.url).await.unwrap()
    }
}

/// Does to a server what a starting guard does.
async fn judge(keys: &Keys, text: &str) -> Result<(), String> {
    let server = AnyServer::start(text).await;
    let guard = server.login(&keys.guard).await;
    let admin = Admin::new(server.login(&keys.system).await, "BUS");
    let needs = Needs { max_payload: 1 << 20 };
    let unfit = |unfit: Unfit| unfit.to_string();
    let servers = fitness::check_servers(&guard, &admin, needs).await.map_err(unfit)?;
    assert_eq!(servers.len(), 1);
    let store = Arc::new(Store::open(&server._dir.path().join("guard.redb")).unwrap());
    let config = AuthConfig {
        keys: CalloutKeys {
            issuer: SigningKey::from_nkey_seed(&keys.callout.seed().unwrap(), KeyKind::Account).unwrap(),
            xkey: XKey::from_seed(&keys.xkey.seed().unwrap()).unwrap(),
        },
        roots: TestBus::fresh().roots,
        wire: WireSubjects::default(),
        account: "BUS".to_owned(),
        recheck_ms: verify::DEFAULT_RECHECK_MS,
        servers: None,
        sole_guard: true,
    };
    let auth = Auth::start(guard, admin, store, config, Arc::new(Nobody)).await;
    let auth = auth.map_err(|error| error.to_string())?;
    let options: ProbeOptions = Arc::new(ConnectOptions::new);
    fitness::prove_callout(&auth, &server.url, &options).await.map_err(unfit)
}

/// The text with `old` exchanged, which must be in it.
fn with(text: &str, old: &str, new: &str) -> String {
    assert!(text.contains(old), "`{old}` is not in\n{text}");
    text.replacen(old, new, 1)
}

/// Without the block that begins with `start`, up to its brace at the same depth.
fn without_block(text: &str, start: &str) -> String {
    let mut kept = String::new();
    let mut end: Option<String> = None;
    for line in text.lines() {
        match &end {
            Some(close) if line == close => end = None,
            Some(_) => {}
            None if line.trim_start().starts_with(start) => {
                end = Some(format!("{}}}", line.split(start).next().unwrap_or_default()));
            }
            None => {
                kept.push_str(line);
                kept.push('\n');
            }
        }
    }
    assert!(kept.len() < text.len(), "`{start}` is not in\n{text}");
    kept
}

async fn unfit(keys: &Keys, text: &str, said: &[&str]) {
    let error = judge(keys, text).await.unwrap_err();
    for said in said {
        assert!(error.contains(said), "{error}");
    }
}

#[tokio::test]
async fn the_servers_that_we_configure_are_fit() {
    let keys = Keys::fresh();
    judge(&keys, &keys.config()).await.unwrap();
}

/// Every agent would be refused, and nobody would know why.
#[tokio::test]
async fn a_server_without_the_callout_is_noticed() {
    let keys = Keys::fresh();
    let text = without_block(&keys.config(), "auth_callout {");
    unfit(&keys, &text, &["without asking this guard", "auth_callout"]).await;
}

#[tokio::test]
async fn a_server_that_asks_in_clear_is_noticed() {
    let keys = Keys::fresh();
    let xkey = format!("xkey: \"{}\"", keys.xkey.public_key());
    unfit(&keys, &with(&keys.config(), &xkey, ""), &["unsealed", "xkey"]).await;
}

#[tokio::test]
async fn a_server_that_asks_another_guard_is_noticed() {
    let keys = Keys::fresh();
    let text = with(&keys.config(), &keys.xkey.public_key(), &XKey::new().public_key());
    unfit(&keys, &text, &["without asking this guard", "xkey"]).await;
}

/// A server says PING to whom it keeps waiting for more than two seconds: no word that somebody is in.
#[tokio::test]
async fn a_server_that_refuses_late_is_not_taken_for_an_open_door() {
    let keys = Keys::fresh();
    let text = with(&keys.config(), &keys.xkey.public_key(), &XKey::new().public_key());
    let text = with(&text, "timeout: 2.000\n  # Everyone", "timeout: 4\n  # Everyone");
    unfit(&keys, &text, &["without asking this guard", "xkey"]).await;
}

/// An open door, beside the callout or without one: a login for whoever has none.
#[tokio::test]
async fn a_server_with_an_open_door_is_noticed() {
    let keys = Keys::fresh();
    let guests = "accounts {\n  GUESTS { users: [ { user: \"guest\", password: \"x\" } ] }";
    let open = with(&keys.config(), "accounts {", guests);
    let open = with(&open, "system_account:", "no_auth_user: \"guest\"\nsystem_account:");
    for text in [&open, &without_block(&open, "auth_callout {")] {
        unfit(&keys, text, &["no_auth_user"]).await;
    }
}

#[tokio::test]
async fn a_server_that_takes_too_little_is_noticed() {
    let keys = Keys::fresh();
    let text = with(&keys.config(), "max_payload: 1048576", "max_payload: 65536");
    unfit(&keys, &text, &["max_payload is 65536, the bus needs 1048576", "raise"]).await;
}

#[tokio::test]
async fn a_guard_in_another_account_is_noticed() {
    let keys = Keys::fresh();
    let text = keys.config().replace("\"BUS\"", "\"OTHER\"");
    unfit(&keys, &text, &["the guard's login is not in account `BUS`"]).await;
}

/// The login of the system account must work, or nobody can be disconnected.
#[tokio::test]
async fn a_system_login_that_may_not_ask_is_noticed() {
    let keys = Keys::fresh();
    let text = keys.config().replace("\"$SYS.REQ.SERVER.PING\"", "\"nothing\"");
    let start = tokio::time::Instant::now();
    unfit(&keys, &text, &["system account does not answer"]).await;
    assert!(start.elapsed() < Duration::from_secs(10));
}

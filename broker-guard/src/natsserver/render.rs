//! Writes a [`NatsConfig`] in nats-server's configuration language.
//!
//! Every string goes through [`quote`], whatever it is: in this language a bare word can be a variable, a
//! number with a suffix or an `include` directive, and a stray quote would let a path or a name add settings.

use std::fmt::Write as _;

use super::{
    config::{
        ConfigError, EVENTS_STREAM, EVIDENCE_STREAM, INBOX_PREFIX, LeafListener, ListenPort, NatsConfig,
        POLICY_BUCKET, PUBLISHER_INBOX_PREFIX, Tls, text,
    },
    nkey::UserKey,
};

pub(super) fn render(config: &NatsConfig) -> Result<String, ConfigError> {
    let mut out = Conf::default();
    server(&mut out, config)?;
    limits(&mut out, config);
    if let Some(tls) = &config.tls {
        out.blank();
        out.note("A payload is sealed end to end; TLS keeps the rest (subjects, timing, who talks) from the network.");
        tls_block(&mut out, tls)?;
    }
    if let Some(jetstream) = &config.jetstream {
        out.blank();
        out.open("jetstream");
        out.set("store_dir", &quote(text(&jetstream.store_dir)?));
        out.set("max_memory_store", &jetstream.max_memory.to_string());
        out.set("max_file_store", &jetstream.max_file.to_string());
        out.note("What was acknowledged is on disk, not only in the page cache.");
        out.set("sync_interval", "always");
        out.close();
    }
    accounts(&mut out, config);
    authorization(&mut out, config);
    if let Some(leaf) = &config.leaf {
        leafnodes(&mut out, leaf, config.tls.as_ref())?;
    }
    Ok(out.text)
}

fn server(out: &mut Conf, config: &NatsConfig) -> Result<(), ConfigError> {
    out.set("server_name", &quote(&config.server_name));
    if !config.server_tags.is_empty() {
        let tags: Vec<_> = config.server_tags.iter().map(|tag| quote(tag)).collect();
        out.set("server_tags", &format!("[{}]", tags.join(", ")));
    }
    out.set("host", &quote(&config.host));
    out.set("port", &port(config.port));
    match config.monitoring {
        Some(address) => {
            out.note("Monitoring has no login: loopback only.");
            out.set("http", &quote(&address.to_string()));
        }
        None => out.note("No HTTP monitoring: it has no login. The guard reads what it needs through SYS."),
    }
    if let Some(path) = &config.pid_file {
        out.set("pid_file", &quote(text(path)?));
    }
    if let Some(path) = &config.ports_file_dir {
        out.set("ports_file_dir", &quote(text(path)?));
    }
    if config.debug {
        out.set("debug", "true");
    }
    Ok(())
}

fn limits(out: &mut Conf, config: &NatsConfig) {
    let limits = &config.limits;
    out.blank();
    out.note("Limits hold for every connection: those inside a callout's user JWT are not enforced.");
    out.note("The callout's answer must fit into max_payload, CONNECT into max_control_line.");
    out.set("max_payload", &limits.max_payload.to_string());
    out.set("max_control_line", &limits.max_control_line.to_string());
    out.set("max_connections", &limits.max_connections.to_string());
    out.set("max_subscriptions", &limits.max_subscriptions.to_string());
    out.set("max_pending", &limits.max_pending.to_string());
    out.set("write_deadline", "\"5s\"");
    out.set("ping_interval", "\"20s\"");
    out.set("ping_max", "2");
}

fn tls_block(out: &mut Conf, tls: &Tls) -> Result<(), ConfigError> {
    out.open("tls");
    out.set("cert_file", &quote(text(&tls.cert_file)?));
    out.set("key_file", &quote(text(&tls.key_file)?));
    if let Some(ca) = &tls.client_ca_file {
        out.set("ca_file", &quote(text(ca)?));
        out.set("verify", "true");
    }
    out.set("min_version", "\"1.3\"");
    out.set("timeout", "5");
    out.close();
    Ok(())
}

fn accounts(out: &mut Conf, config: &NatsConfig) {
    let bus = &config.bus;
    let under =
        |names: &[&str]| names.iter().map(|name| format!("{}.{name}.>", bus.prefix)).collect::<Vec<_>>();
    let inbox = format!("{INBOX_PREFIX}.>");
    out.blank();
    out.note("Only nkeys log in here, each with explicit permissions: an empty list would allow everything.");
    out.note("There is no anonymous access, no password and no no_auth_user.");
    out.open("accounts");

    out.note("The bus. Agents have no entry: the auth callout places them here with their own permissions.");
    out.open(&quote(&bus.account));
    if config.jetstream.is_some() {
        out.set("jetstream", "enabled");
    }
    out.open_list("users");
    out.note("The guard: answers callouts, takes what agents send, delivers what it admitted.");
    out.note(&format!(
        "It may not publish on {0}.in or {0}.ctl, where the server attests which agent speaks.",
        bus.prefix
    ));
    let mut publish = under(&["out", "box", "all", "events", "audit", "guard"]);
    publish.extend(["$SYS._INBOX.>".to_owned(), inbox.clone()]);
    let mut subscribe = under(&["in", "ctl", "all", "events", "audit", "guard"]);
    subscribe.extend(["$SYS.REQ.USER.AUTH".to_owned(), inbox.clone()]);
    let bucket = POLICY_BUCKET;
    let read = format!("$JS.API.STREAM.MSG.GET.KV_{bucket}");
    if config.jetstream.is_some() {
        out.note("It makes the policy bucket, which nobody can change or delete then, and reads it.");
        publish.extend([format!("$JS.API.STREAM.CREATE.KV_{bucket}"), read.clone()]);
        subscribe.extend([format!("$KV.{bucket}.current"), format!("$KV.{bucket}.v.*")]);
        out.note(
            "It makes two streams, writes them and reads them back, and can neither change nor empty them.",
        );
        publish.extend(under(&["evidence"]));
        for stream in [EVENTS_STREAM, EVIDENCE_STREAM] {
            let api = ["CREATE", "INFO", "MSG.GET"].map(|verb| format!("$JS.API.STREAM.{verb}.{stream}"));
            publish.extend(api);
        }
    }
    for guard in &bus.guards {
        out.user(guard, STANDARD, &publish, &subscribe);
    }
    if !bus.break_glass.is_empty() {
        out.note("Break glass: reads events and audit when no guard runs, publishes nothing.");
    }
    let evidence = under(&["events", "audit"]);
    for key in &bus.break_glass {
        out.user(key, STANDARD, &[], &evidence);
    }
    for key in config.publishers() {
        out.note(
            "Who publishes policies: writes the policy bucket and reads back what is there. That makes no",
        );
        out.note("policy: the guard takes up only what the quorum signed.");
        let publish = [format!("$KV.{bucket}.current"), format!("$KV.{bucket}.v.>"), read.clone()];
        out.user(key, STANDARD, &publish, &[format!("{PUBLISHER_INBOX_PREFIX}.>")]);
    }
    if let Some(leaf) = &config.leaf {
        out.note("Leaf nodes: they take events and audit away, and bring nothing in.");
        for key in &leaf.users {
            out.user(key, "LEAFNODE", &[], &evidence);
        }
    }
    out.close_list();
    out.close();

    out.note("The guard's second connection: disconnect one client, list connections, see the bus's clients come and go.");
    out.open(&quote(&config.system.account));
    out.open_list("users");
    let publish = [
        "$SYS.REQ.SERVER.*.KICK",
        "$SYS.REQ.SERVER.*.CONNZ",
        "$SYS.REQ.SERVER.PING",
        "$SYS.REQ.SERVER.PING.IDZ",
        "$SYS.REQ.SERVER.PING.STATSZ",
    ]
    .map(str::to_owned);
    let subscribe = [
        inbox,
        format!("$SYS.ACCOUNT.{}.CONNECT", bus.account),
        format!("$SYS.ACCOUNT.{}.DISCONNECT", bus.account),
    ];
    for key in &config.system.users {
        out.user(key, STANDARD, &publish, &subscribe);
    }
    out.close_list();
    out.close();

    for tenant in &config.tenants {
        out.note("Another tenant of this server, with its own logins.");
        out.open(&quote(&tenant.account));
        out.open_list("users");
        for user in &tenant.users {
            out.user(&user.key, STANDARD, &user.publish, &user.subscribe);
        }
        out.close_list();
        out.close();
    }
    out.close();
    out.set("system_account", &quote(&config.system.account));
}

fn authorization(out: &mut Conf, config: &NatsConfig) {
    out.blank();
    out.open("authorization");
    out.note("Seconds to log in, the callout's answer included.");
    out.set(
        "timeout",
        &format!("{}.{:03}", config.auth_timeout.as_secs(), config.auth_timeout.subsec_millis()),
    );
    out.note("Everyone who is not an nkey above is put to the guard. No guard, no connection.");
    out.open("auth_callout");
    out.note(
        "Signs the answers. Whoever holds its seed administers this server: only the guard's machine has it.",
    );
    out.set("issuer", &quote(config.callout.issuer.as_str()));
    out.set("account", &quote(&config.bus.account));
    out.note("Requests are sealed to this key.");
    out.set("xkey", &quote(config.callout.xkey.as_str()));
    out.note("These log in without the guard.");
    out.set_list("auth_users", config.logins().map(UserKey::as_str));
    out.note("Logins of other accounts are not the guard's business.");
    out.set_list("allowed_accounts", [config.bus.account.as_str()]);
    out.close();
    out.close();
}

fn leafnodes(out: &mut Conf, leaf: &LeafListener, tls: Option<&Tls>) -> Result<(), ConfigError> {
    out.blank();
    out.note(
        "Leaf nodes do not carry auth callouts, so no agent connects through one: a leaf logs in with an",
    );
    out.note("nkey of the bus's account and has the permissions listed there.");
    out.open("leafnodes");
    out.set("host", &quote(&leaf.host));
    out.set("port", &port(leaf.port));
    if let Some(tls) = tls {
        tls_block(out, tls)?;
    }
    out.close();
    Ok(())
}

/// Plain client connections. Websocket and MQTT have rules of their own (MQTT's implicit subjects, say), which
/// nothing here was checked against.
const STANDARD: &str = "STANDARD";

fn port(port: ListenPort) -> String {
    match port {
        ListenPort::Fixed(port) => port.to_string(),
        ListenPort::Any => "-1".to_owned(),
    }
}

/// A double-quoted string of nats-server's configuration language, in which only `"` ends a string and only
/// `\` escapes. Control characters are written as bytes so that a line stays a line.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            c if c.is_ascii_control() => {
                let _ = write!(quoted, "\\x{:02x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// The text so far and how deep it is nested.
#[derive(Default)]
struct Conf {
    text: String,
    depth: usize,
}

impl Conf {
    fn line(&mut self, line: &str) {
        for _ in 0..self.depth {
            self.text.push_str("  ");
        }
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn blank(&mut self) {
        self.text.push('\n');
    }

    fn note(&mut self, note: &str) {
        self.line(&format!("# {note}"));
    }

    fn set(&mut self, key: &str, value: &str) {
        self.line(&format!("{key}: {value}"));
    }

    fn set_list<'a>(&mut self, key: &str, values: impl IntoIterator<Item = &'a str>) {
        let values: Vec<_> = values.into_iter().map(quote).collect();
        self.set(key, &format!("[{}]", values.join(", ")));
    }

    fn open(&mut self, key: &str) {
        self.line(&format!("{key} {{"));
        self.depth += 1;
    }

    fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.line("}");
    }

    fn open_list(&mut self, key: &str) {
        self.line(&format!("{key}: ["));
        self.depth += 1;
    }

    fn close_list(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.line("]");
    }

    fn user(&mut self, key: &UserKey, connection: &str, publish: &[String], subscribe: &[String]) {
        self.line("{");
        self.depth += 1;
        self.set("nkey", &quote(key.as_str()));
        self.set_list("allowed_connection_types", [connection]);
        self.open("permissions");
        self.side("publish", publish);
        self.side("subscribe", subscribe);
        self.close();
        self.close();
    }

    /// One direction of a permission. No grants is written as a denial of everything: nats-server takes an
    /// empty allow list for "no restriction".
    fn side(&mut self, key: &str, allow: &[String]) {
        if allow.is_empty() {
            self.set(key, "{ deny: [\">\"] }");
            return;
        }
        self.open(key);
        self.open_list("allow");
        for subject in allow {
            self.line(&quote(subject));
        }
        self.close_list();
        self.close();
    }
}

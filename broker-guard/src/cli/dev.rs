//! `sealbus dev`: a whole bus on this machine, for trying things out. One Ctrl-C ends all of it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use sealbus_envelope::{
    identity::Role,
    name::Name,
    policy::{Bundle, MessageKind, Tables},
    subject::Subject,
    time::Millis,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    agent::add::{Grant, add},
    audit::{line, unreadable},
    busdir::{BusDir, OfflineArg},
    failure::{Exit, Failure},
    guard,
    init::{self, Plan},
    local::{Temporary, free_port, nats_server, start_server},
    logging::{self, LogFormat},
    output::{FAINT, Output, STRONG, called, paint, word},
    runtime,
};
use crate::{
    audit::search::{Filter, search},
    clock::now,
    config::{DEFAULT_HTTP_LISTEN, FILE_NAME},
    natsserver::{NatsProcess, NatsServerBinary},
    policy::{DEFAULT_POLICY, source::PolicySource},
    service,
};

const EXAMPLES: &str = "\
Examples:
  sealbus dev                        a throw-away bus; Ctrl-C ends it and removes its files
  sealbus dev --dir mybus            keep the bus directory and take it up again next time
  sealbus dev --policy policy.toml   try your own policy

Starts nats-server and the guard, makes an agent for each team and two named alice and bob, and
shows what the guard decides. Not for production: every key is on this machine and there is no
TLS.";

/// How often the audit log is looked at.
const LOOK: Duration = Duration::from_millis(200);
const DEFAULT_PORT: u16 = 4222;

/// Run a development bus: nats-server, guard, sample agents
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Bus directory, made if it is not there; a temporary one if not given
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Port of the nats-server; 4222 if it is free, else any
    #[arg(long, conflicts_with = "dir")]
    port: Option<u16>,
    /// Begin with this policy
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    logging::start(LogFormat::Text, "warn,async_nats=off")?;
    let runtime = runtime()?;
    // Before anything is made, so that an early Ctrl-C still cleans up.
    let shutdown = CancellationToken::new();
    runtime.block_on(async { guard::stop_at_signal(&shutdown) })?;
    let binary = nats_server(output)?;
    let (dir, _temporary) = match &args.dir {
        Some(dir) => (dir.clone(), None),
        None => {
            let temporary = Temporary::new("dev")?;
            (temporary.path().join("bus"), Some(temporary))
        }
    };
    if !dir.join(FILE_NAME).exists() {
        make(&dir, args)?;
    }
    let bus = BusDir::open(&dir)?;
    let agents = sample_agents(&bus)?;
    runtime.block_on(serve(&bus, binary, &agents, shutdown, output))
}

fn make(dir: &Path, args: &Args) -> Result<(), Failure> {
    let policy = match &args.policy {
        Some(path) => super::policy::source(path)?,
        None => PolicySource::new("policy.toml", DEFAULT_POLICY),
    };
    let port = match args.port {
        Some(port) => port,
        None => free_port(DEFAULT_PORT)?,
    };
    let bus = Name::parse("dev").map_err(|refused| init::unissued("bus", refused))?;
    let http_listen = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port(DEFAULT_HTTP_LISTEN.port())?));
    init::create(
        dir,
        &Plan {
            bus,
            urls: vec![format!("nats://127.0.0.1:{port}")],
            policy,
            http_listen,
            signers: init::Signers::ONE,
        },
    )
}

/// alice and bob, and one agent named for each team, unless they are there already.
fn sample_agents(bus: &BusDir) -> Result<Vec<PathBuf>, Failure> {
    let (bundle, _) = bus.bundle()?;
    let tables = bundle.tables();
    let mut wanted: Vec<(Name, Name)> = Vec::new();
    let parse = |name: &str| Name::parse(name).map_err(|refused| init::unissued("agent", refused));
    if let Some(team) = chatty_team(&bundle) {
        wanted.push((parse("alice")?, team.clone()));
        wanted.push((parse("bob")?, team));
    }
    wanted.extend(tables.teams.iter().map(|team| (team.name.clone(), team.name.clone())));
    let registry = super::registry::Registry::read(bus)?;
    let offline = OfflineArg { offline: None };
    let mut paths = Vec::new();
    for (name, team) in wanted {
        if registry.get(name.as_str()).is_none() {
            let grant = Grant {
                team: &team,
                clearance: None,
                compartments: None,
                integrity: None,
                zones: &[],
                days: 30,
                role: Role::Agent,
            };
            add(bus, &offline, &name, &grant)?;
        }
        paths.push(bus.agents().join(format!("{name}.creds")));
    }
    Ok(paths)
}

/// A team whose agents may talk to one another on `hello.world`.
fn chatty_team(bundle: &Bundle) -> Option<Name> {
    let hello = Subject::parse("hello.world").ok()?;
    let rule = bundle
        .rules()
        .iter()
        .find(|rule| rule.kind == MessageKind::Stream && rule.pattern.matches(&hello))?;
    let tables: &Tables = bundle.tables();
    let able = |team: &&sealbus_envelope::policy::Team| {
        let names = |parties: &[sealbus_envelope::policy::Party]| {
            parties.iter().any(|party| party.who == sealbus_envelope::policy::Who::Team(team.name.clone()))
        };
        names(&rule.publishers) && names(&rule.subscribers)
    };
    // Not one of few rights, nor the watchers: whoever reads the example should see an ordinary team.
    let ordinary = |team: &&sealbus_envelope::policy::Team| able(team) && team.name.as_str() == "analyst";
    tables
        .teams
        .iter()
        .find(ordinary)
        .or_else(|| tables.teams.iter().find(able))
        .map(|team| team.name.clone())
}

async fn serve(
    bus: &BusDir,
    binary: NatsServerBinary,
    agents: &[PathBuf],
    shutdown: CancellationToken,
    output: &Output,
) -> Result<(), Failure> {
    let version = binary.version().to_string();
    let mut server = start_server(bus, binary).await?;
    let running = service::start(bus.config.clone()).await.map_err(guard::failure)?;
    let ready = now();
    let stop = shutdown.child_token();
    let mut task = tokio::spawn(running.run(stop.clone()));
    introduce(bus, &server, &version, agents, output)?;

    let mut news = News { next_leaf: 0, since: ready };
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let outcome = loop {
        tokio::select! {
            () = shutdown.cancelled() => break Ok(()),
            _ = tick.tick() => {
                if let Err(failure) = follow(bus, &mut news, output) {
                    break Err(failure);
                }
            }
            ended = &mut task => {
                server.kill().await.ok();
                return match ended {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(error)) => Err(guard::failure(error)),
                    Err(error) => {
                        let message = "the guard broke down";
                        let remedy = "report this as a fault of sealbus";
                        Err(Failure::because(Exit::Failure, "guard", message, remedy, error))
                    }
                };
            }
            ended = server.wait() => {
                let log = server.log_tail();
                let message = match ended {
                    Ok(()) => format!("nats-server ended by itself; the end of its log:\n{log}"),
                    Err(error) => error.to_string(),
                };
                break Err(Failure::told(Exit::Failure, "nats_server", message, "start again"));
            }
        }
    };
    stop.cancel();
    let _ = tokio::time::timeout(Duration::from_secs(15), task).await;
    if outcome.is_ok() && !output.is_json() {
        follow(bus, &mut news, output)?;
        output.remark(paint(FAINT, "stopped"));
    }
    server.stop().await.ok();
    outcome
}

fn introduce(
    bus: &BusDir,
    server: &NatsProcess,
    version: &str,
    agents: &[PathBuf],
    output: &Output,
) -> Result<(), Failure> {
    let url = server.url();
    let config = &bus.config.path;
    let object = json!({
        "ready": true,
        "url": url,
        "config": config,
        "status": format!("http://{}/statusz", bus.config.http_listen),
        "agents": agents,
        "oncall": bus.agents().join("oncall.creds"),
    });
    let dir = bus.agents();
    let file = |path: &Path| word(&path.display().to_string()).into_owned();
    let creds = |name: &str| file(&dir.join(format!("{name}.creds")));
    let sealbus = called();
    let hello = if agents.iter().any(|path| path.ends_with("alice.creds")) {
        format!(
            "In a second terminal:\n  {}\nIn a third:\n  {}\n",
            paint(STRONG, format_args!("{sealbus} sub 'hello.>' --creds {}", creds("alice"))),
            paint(STRONG, format_args!("{sealbus} pub hello.world 'good morning' --creds {}", creds("bob"))),
        )
    } else {
        String::new()
    };
    let others: Vec<_> = agents
        .iter()
        .filter_map(|path| path.file_stem()?.to_str())
        .filter(|name| !matches!(*name, "alice" | "bob"))
        .collect();
    let text = format!(
        "{} on {url} (nats-server {version}), bus directory {}\n\n{hello}\nMore agents, one for each team, in \
         {}: {}\nEvents: {sealbus} events --creds {}\nStatus: {sealbus} status --config {}\nCtrl-C ends it all.\n",
        paint(STRONG, "A development bus is running"),
        bus.root().display(),
        dir.display(),
        others.join(", "),
        creds("oncall"),
        file(config),
    );
    output.show(&object, text)
}

/// What of the log is to be shown: what happened since the guard was ready. Its start, and its own probes of
/// the server, are no news.
struct News {
    next_leaf: u64,
    since: Millis,
}

/// Shows what the log has gained.
fn follow(bus: &BusDir, news: &mut News, output: &Output) -> Result<(), Failure> {
    let filter = Filter { from_leaf: news.next_leaf, since: Some(news.since), ..Filter::default() };
    let found = match search(&bus.config.audit_dir, filter) {
        Ok(found) => found,
        // Written to while it is read; the next look finds it whole.
        Err(_) => return Ok(()),
    };
    let (bundle, _) = bus.bundle()?;
    for found in found {
        let Ok(found) = found else { return Ok(()) };
        news.next_leaf = found.leaf + 1;
        if output.is_json() {
            let entry = found.entry.to_json().map_err(|error| unreadable(bus, error))?;
            output.text(entry)?;
        } else {
            output.text(line(found.leaf, &found.entry, Some(bundle.tables())))?;
        }
    }
    Ok(())
}

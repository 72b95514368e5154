//! `sealbus demo`: the whole bus at work on a real project's dependencies, and under attack.

mod show;

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Instant,
};

use sealbus_envelope::{identity::Role, name::Name};
use tokio_util::sync::CancellationToken;

use super::{
    agent::add::{Grant, add},
    busdir::{BusDir, OfflineArg},
    failure::{Exit, Failure},
    guard,
    init::{self, Plan, private_dir},
    local::{Temporary, free_port, nats_server, start_server},
    logging::{self, LogFormat},
    output::Output,
    runtime,
};
use crate::{
    demo::{
        self, AGENTS, DemoError, Stage,
        outcome::Outcome,
        progress::{Progress, Teller},
        project::{Project, ProjectError},
    },
    policy::{DEFAULT_POLICY, source::PolicySource},
};
use show::Show;

const EXAMPLES: &str = "\
Examples:
  sealbus demo                              review the dependencies of the Rust project you are in
  sealbus demo --project ../other           of another one
  sealbus demo --keep out                   keep the bus, its audit log and the report
  sealbus demo --json | jq .attacks

Makes a bus in a temporary directory, runs nats-server and the guard, and lets its agents review
the project. In the middle of it one turns hostile; every attack is shown with who stopped it.
Nothing is written to the project. Exit code 1 if a message was lost, an attack was not stopped, an
honest agent was denied anything, or the audit log does not verify.";

/// Watch agents review a project's dependencies while one of them turns hostile
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The Rust project to review, or a directory in it
    #[arg(long, value_name = "DIR", default_value = ".")]
    project: PathBuf,
    /// Keep bus directory, audit log and report in this directory, made if it is not there
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let begun = Instant::now();
    logging::start(LogFormat::Text, "off")?;
    let show = Show::new(output.is_json(), begun);
    let (dir, _temporary) = match &args.keep {
        Some(dir) => (kept(dir)?, None),
        None => {
            let temporary = Temporary::new("demo")?;
            (temporary.path().to_owned(), Some(temporary))
        }
    };
    let mut outcome = runtime()?.block_on(async {
        let interrupted = CancellationToken::new();
        guard::stop_at_signal(&interrupted)?;
        // Whatever runs ends with the future that owns it.
        tokio::select! {
            outcome = play(args, &dir, &show, output) => outcome,
            () = interrupted.cancelled() => {
                Err(Failure::told(Exit::Failure, "interrupted", "the demo was interrupted", "run it again"))
            }
        }
    })?;
    outcome.elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    if output.is_json() {
        output.object(&outcome)?;
    } else {
        show.end(&outcome, args.keep.as_deref());
    }
    if outcome.is_good() { Ok(()) } else { Err(Failure::shown(Exit::Failure)) }
}

async fn play(args: &Args, dir: &Path, show: &Show, output: &Output) -> Result<Outcome, Failure> {
    let (teller, mut told) = Teller::new();
    let shown = async {
        while let Some(progress) = told.recv().await {
            show.progress(&progress);
        }
    };
    // The teller goes with the run, and with the last teller what is shown ends.
    let (outcome, ()) = tokio::join!(set_up(args, dir, teller, output), shown);
    outcome
}

async fn set_up(args: &Args, dir: &Path, teller: Teller, output: &Output) -> Result<Outcome, Failure> {
    teller.tell(Progress::Step("Set up".to_owned()));
    let project = Project::read(&args.project).await.map_err(|error| unreadable(&error))?;
    let (_, all) = project.packages();
    let what = if project.own { "packages of its own, for it has no others" } else { "dependencies" };
    let only = if project.partial { ", those for this platform" } else { "" };
    teller.tell(Progress::Done(format!("{} has {all} {what}{only}: read with cargo metadata", project.name)));

    let binary = nats_server(output)?;
    let bus = bus(&dir.join("bus"))?;
    teller.tell(Progress::Done(format!(
        "a bus with a signed policy and {} agents, each with credentials of its own",
        AGENTS.len() + 1
    )));
    let version = binary.version().to_string();
    let mut server = start_server(&bus, binary).await?;
    teller.tell(Progress::Done(format!("nats-server {version} started at {}", server.url())));
    let report = args.keep.as_ref().map(|dir| dir.join("report.md"));
    let stage = Stage { config: bus.config.clone(), agents: bus.agents(), project, report };
    let outcome = demo::run(stage, teller).await.map_err(|error| broken(&error));
    // Nobody is connected any more, and it keeps nothing that is needed; killed when dropped in any case.
    let _ = server.kill().await;
    let mut outcome = outcome?;
    outcome.versions.nats_server = version;
    Ok(outcome)
}

/// A bus on this machine with the policy that comes with Sealbus, and all agents.
fn bus(dir: &Path) -> Result<BusDir, Failure> {
    let parse = |name: &str| Name::parse(name).map_err(|refused| init::unissued("bus", refused));
    let plan = Plan {
        bus: parse("demo")?,
        urls: vec![format!("nats://127.0.0.1:{}", free_port(0)?)],
        policy: PolicySource::new("policy.toml", DEFAULT_POLICY),
        http_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, free_port(0)?)),
        signers: init::Signers::ONE,
    };
    init::create(dir, &plan)?;
    let bus = BusDir::open(dir)?;
    let offline = OfflineArg { offline: None };
    for (name, team) in AGENTS {
        let team = parse(team)?;
        let grant = Grant {
            team: &team,
            clearance: None,
            compartments: None,
            integrity: None,
            zones: &[],
            days: 1,
            role: Role::Agent,
        };
        add(&bus, &offline, &parse(name)?, &grant)?;
    }
    Ok(bus)
}

/// The directory that is kept, new or empty.
fn kept(dir: &Path) -> Result<PathBuf, Failure> {
    if !dir.exists() {
        private_dir(dir)?;
    }
    let mut entries = fs::read_dir(dir).map_err(|source| Failure::io("look into", dir, source))?;
    if entries.next().is_some() {
        let message = format!("`{}` is not empty", dir.display());
        let remedy = "name a directory that does not exist yet; nothing is replaced";
        return Err(Failure::told(Exit::Failure, "dir_in_use", message, remedy));
    }
    Ok(dir.to_owned())
}

fn unreadable(error: &ProjectError) -> Failure {
    Failure::told(Exit::Failure, "project", error.to_string(), error.remedy())
}

fn broken(error: &DemoError) -> Failure {
    let remedy = "run it again with SEALBUS_LOG=info and --keep DIR, and look at what was logged";
    Failure::told(Exit::Failure, "demo", format!("the demo broke off: {error}"), remedy)
}

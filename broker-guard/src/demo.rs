//! `sealbus demo`: the whole bus at work on real input, and under attack.
//!
//! Agents review a Rust project's dependencies: a collector reads them, three analysts look at licences,
//! versions and risk, an aggregator checks where each finding comes from and merges them, a reporter writes
//! the report, and people read it. In the middle of it the collector turns hostile. What is shown is what
//! happened: every number is counted by who sent or got a message, every attack's end is taken from the
//! server's, the guard's or the reader's own words.
//!
//! | room | what it is |
//! | --- | --- |
//! | [`project`] | the input: `cargo metadata` |
//! | `review` | what the analysts look for; pure |
//! | `agents` | one file an agent; they share nothing but the bus |
//! | `hostile` | the attacks, and how each is seen to be stopped |
//! | `watch`, `wire`, `session` | the instruments: events, and NATS without a client library |
//! | [`outcome`] | what came of it |

mod agents;
mod hostile;
mod messages;
pub mod outcome;
pub mod progress;
pub mod project;
mod report;
mod review;
mod session;
mod watch;
mod wire;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use sealbus_client::Credentials;
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    audit::{note::NoteKey, verify},
    config::Config,
    keyfile::{GuardKeys, KeyFileError},
    service::{self, ServiceError, log_name},
};
use agents::{
    aggregator::{Aggregator, Checked},
    analyst::Analyst,
    collector::{Collected, Collector},
    duty::{Duty, Received},
    oncall::{Heard, OnCall},
    reporter::Reporter,
};
use hostile::Rig;
use outcome::{Ledger, Outcome};
use progress::{Progress, Teller};
use project::Project;
use report::Report;
use review::Review;
use wire::WireError;

/// How long all the work may take, far longer than it does.
const PATIENCE: Duration = Duration::from_secs(180);

/// The agents that a demo needs: name and team. Beside them, `oncall` of `sealbus init`, who hears events.
pub const AGENTS: [(&str, &str); 8] = [
    ("collector", "collector"),
    ("licence", "analyst"),
    ("versions", "analyst"),
    ("risk", "analyst"),
    ("aggregator", "aggregator"),
    ("reporter", "reporter"),
    ("duty", "observer"),
    ("witness", "observer"),
];

/// Why a demo did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// An agent's client reports an error.
    #[error("agent `{who}`: {source}")]
    Client {
        /// The agent.
        who: String,
        /// The client's own.
        #[source]
        source: Box<sealbus_client::Error>,
    },
    /// A credentials file is not good.
    #[error(transparent)]
    Credentials(#[from] sealbus_client::CredentialsError),
    /// A connection without the client failed.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The guard does not run.
    #[error("the guard does not run: {0}")]
    Service(#[from] Box<ServiceError>),
    /// The guard's keys cannot be read.
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    /// A stream of an honest agent ended.
    #[error("agent `{who}`: {what} ended before its work was done")]
    Ended {
        /// The agent.
        who: String,
        /// What ended.
        what: &'static str,
    },
    /// A finding's chain does not hold.
    #[error("a finding of `{sender}` was not merged: {what}")]
    Chain {
        /// Who sent the finding.
        sender: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The attacks cannot be made.
    #[error("the attacks cannot be prepared: {0}")]
    Hostile(String),
    /// The report cannot be written.
    #[error("cannot write the report `{}`: {source}", file.display())]
    Report {
        /// Where.
        file: PathBuf,
        /// The operating system's own.
        source: std::io::Error,
    },
    /// A task ended without a result.
    #[error("an agent broke down: {0}")]
    Task(#[from] tokio::task::JoinError),
    /// It took too long.
    #[error("the agents were not done after {} seconds: a message was lost, or the machine is very busy", PATIENCE.as_secs())]
    Late,
}

impl DemoError {
    fn client(who: &str, source: sealbus_client::Error) -> Self {
        Self::Client { who: who.to_owned(), source: Box::new(source) }
    }

    fn hostile(fault: &impl ToString) -> Self {
        Self::Hostile(fault.to_string())
    }
}

/// What a demo needs: a bus on this machine whose nats-server runs.
#[derive(Debug)]
pub struct Stage {
    /// The guard's configuration.
    pub config: Config,
    /// Where the credentials files are, `NAME.creds` for each of [`AGENTS`] and for `oncall`.
    pub agents: PathBuf,
    /// What is reviewed.
    pub project: Project,
    /// Where to write the report.
    pub report: Option<PathBuf>,
}

impl Stage {
    fn credentials(&self, name: &str) -> Result<Credentials, DemoError> {
        Ok(Credentials::load(self.agents.join(format!("{name}.creds")))?)
    }
}

/// Runs the demo: starts the guard in this process and the agents as tasks of their own, waits for them,
/// stops the guard and checks its log.
///
/// Dropping the future ends all of it.
///
/// # Errors
/// [`DemoError`] if it could not come to its end. What went wrong in it is in the outcome.
pub async fn run(stage: Stage, teller: Teller) -> Result<Outcome, DemoError> {
    let begun = Instant::now();
    let running = service::start(stage.config.clone()).await.map_err(Box::new)?;
    let metrics = running.metrics();
    let stop = CancellationToken::new();
    let guard = AbortOnDropHandle::new(tokio::spawn(running.run(stop.clone())));
    teller.done(format!("guard started in {} ms", begun.elapsed().as_millis()));

    let collector = stage.credentials("collector")?;
    let hostile = collector.credential().token().to_string();
    let oncall = OnCall::join(&stage.credentials("oncall")?, hostile.clone()).await?;
    let oncall = AbortOnDropHandle::new(tokio::spawn(oncall.run()));
    let work = timeout(PATIENCE, at_work(&stage, &teller, collector));
    let (ledger, done) = work.await.map_err(|_| DemoError::Late)??;

    stop.cancel();
    guard.await?.map_err(Box::new)?;
    let heard = oncall.await??;
    let verified = verify_log(&stage.config)?;
    let (published, delivered) = (ledger.published(), ledger.delivered());
    let outcome = Outcome::new(ledger, done, heard, hostile, &metrics, verified, stage.report.as_ref());
    tell_end(&outcome, &teller, published, delivered);
    Ok(outcome)
}

/// What the agents handed back besides counts.
struct Done {
    attacks: Vec<progress::Attack>,
    report: Report,
}

/// Joins all agents, lets them work, and waits for them: nothing but their handles connects them here.
async fn at_work(
    stage: &Stage,
    teller: &Teller,
    collector: Credentials,
) -> Result<(Ledger, Done), DemoError> {
    let project = stage.project.clone();
    let (count, all) = project.packages();
    teller.step("Agents join, each with its own credentials and connection");
    let file = stage.report.clone();
    let analyst = async |review: Review| {
        let credentials = stage.credentials(review.name())?;
        Ok((review.name(), Analyst::join(credentials, review, teller.clone()).await?))
    };
    let [licence, versions, risk] = Review::ALL;
    // All are subscribed before anything is published: who subscribes later has missed what came before.
    let (duty, reporter, aggregator, licence, versions, risk, collector) = tokio::try_join!(
        Duty::join(stage.credentials("duty")?),
        Reporter::join(stage.credentials("reporter")?, project.name.clone(), file),
        Aggregator::join(stage.credentials("aggregator")?, teller.clone()),
        analyst(licence),
        analyst(versions),
        analyst(risk),
        Collector::join(collector, project, teller.clone()),
    )?;
    let analysts = [licence, versions, risk];
    let rig = Rig {
        oncall: stage.credentials("oncall")?,
        witness: stage.credentials("witness")?,
        broker: GuardKeys::load(&stage.config)?.guard,
    };
    teller.done("collector; analysts licence, versions, risk; aggregator; reporter; duty; on call");

    teller.step(format!("First batch: {count} direct of {all} dependencies"));
    let duty = AbortOnDropHandle::new(tokio::spawn(duty.run()));
    let reporter = AbortOnDropHandle::new(tokio::spawn(reporter.run()));
    let aggregator = AbortOnDropHandle::new(tokio::spawn(aggregator.run()));
    let analysts: Vec<_> = analysts
        .into_iter()
        .map(|(name, analyst)| (name, AbortOnDropHandle::new(tokio::spawn(analyst.run()))))
        .collect();
    let collector = AbortOnDropHandle::new(tokio::spawn(collector.run(rig)));

    let analysts = async {
        let mut agents = Vec::new();
        for (name, analyst) in analysts {
            agents.push((name, analyst.await??));
        }
        Ok::<_, DemoError>(agents)
    };
    // The first to fail ends the wait, and with it the others.
    let (collected, mut agents, aggregated, reported, received) = tokio::try_join!(
        async { collector.await? },
        analysts,
        async { aggregator.await? },
        async { reporter.await? },
        async { duty.await? },
    )?;
    let Collected { tally, witness, attacks } = collected;
    let ((aggregator, checked), (reporter, report), (duty, received)) = (aggregated, reported, received);
    agents.extend([("witness", witness), ("aggregator", aggregator), ("reporter", reporter), ("duty", duty)]);
    let mut ledger = Ledger::default();
    ledger.add("collector", tally);
    // Nobody goes before all are done, and no reader before those whom it reads.
    for (name, agent) in agents {
        ledger.add(name, agent.leave().await?);
    }
    tell_report(teller, checked, &report, &received);
    Ok((ledger, Done { attacks, report }))
}

fn tell_report(teller: &Teller, checked: Checked, report: &Report, received: &Received) {
    teller.step("The others have finished their work");
    teller.done(format!(
        "aggregator: {} findings traced to {} sources before they were merged",
        checked.chains, checked.links
    ));
    teller.done(format!(
        "duty: report of {} bytes from {}, label {}, {} sources",
        received.bytes, received.sender, received.label, received.sources
    ));
    for (severity, title, count) in report.gravest(6) {
        let packages = if count == 1 { "package" } else { "packages" };
        teller.work(severity.word(), format!("{count} {packages}: {title}"));
    }
}

fn tell_end(outcome: &Outcome, teller: &Teller, published: u64, delivered: u64) {
    teller.step("The books");
    let told = |good: bool, text: String| {
        teller.tell(if good { Progress::Done(text) } else { Progress::Failed(text) });
    };
    let lost = outcome.lost;
    told(lost == 0, format!("{published} messages published, {delivered} delivered, {lost} lost"));
    let refused = outcome.attacks.iter().filter(|attack| attack.stopped_by.is_some()).count();
    told(refused == outcome.attacks.len(), format!("{refused} of {} attacks stopped", outcome.attacks.len()));
    let honest = outcome.honest_denied;
    told(honest == 0, format!("{honest} denials to honest agents"));
    for denial in &outcome.honest_denials {
        teller.failed(denial.clone());
    }
    let entries = outcome.audit.entries;
    match &outcome.audit.fault {
        None => teller.done(format!("audit log: {entries} entries, none changed, none missing")),
        Some(fault) => teller.failed(format!("audit log: {fault}")),
    }
}

/// Checks the whole log, as `sealbus audit verify` does.
fn verify_log(config: &Config) -> Result<outcome::Audit, DemoError> {
    let credential = crate::keyfile::read_credential(&config.keys.credential, config)?;
    let public = *credential.claims().identity.as_bytes();
    let report = NoteKey::new(&log_name(config), public).map_err(|error| error.to_string()).and_then(|key| {
        verify::verify(&config.audit_dir, &key, &verify::VerifyOptions::default())
            .map_err(|error| error.to_string())
    });
    Ok(match report {
        Ok(report) => outcome::Audit { entries: report.checkpoint.size, verified: true, fault: None },
        Err(fault) => outcome::Audit { entries: 0, verified: false, fault: Some(fault) },
    })
}

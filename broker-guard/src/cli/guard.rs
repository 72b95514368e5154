//! `sealbus guard`: the service.

use tokio_util::sync::CancellationToken;

use super::{
    busdir::BusArg,
    failure::{Exit, Failure},
    logging::{self, LogFormat},
    output::Output,
    runtime,
};
use crate::{
    audit::store::OpenError,
    config::Config,
    service::{self, ServiceError},
};

const EXAMPLES: &str = "\
Examples:
  sealbus guard --config /etc/sealbus
  SEALBUS_LOG=debug sealbus guard --log-format json

Stops in order at SIGINT or SIGTERM: what was received is finished and the audit log is closed.
A new policy.bundle or status.bin is taken up without a restart. Health: GET /healthz, /readyz,
/statusz, /metrics at `http_listen` of the configuration.";

/// Run the guard of a bus
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    bus: BusArg,
    /// How log lines look; SEALBUS_LOG sets what is logged
    #[arg(long, value_enum, default_value = "text", env = "SEALBUS_LOG_FORMAT")]
    log_format: LogFormat,
}

pub(crate) fn run(args: &Args, _: &Output) -> Result<(), Failure> {
    logging::start(args.log_format, "info,async_nats=off")?;
    let config = Config::load(&args.bus.config)?;
    runtime()?.block_on(async {
        let shutdown = CancellationToken::new();
        stop_at_signal(&shutdown)?;
        service::run(config, shutdown).await.map_err(failure)
    })
}

/// Cancels `shutdown` at SIGINT or SIGTERM.
pub(crate) fn stop_at_signal(shutdown: &CancellationToken) -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let told = |source| {
        let message = "cannot listen for signals";
        Failure::because(Exit::Failure, "signals", message, "report this as a fault of sealbus", source)
    };
    let mut interrupt = signal(SignalKind::interrupt()).map_err(told)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(told)?;
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        shutdown.cancel();
    });
    Ok(())
}

/// What a guard that did not start, or stopped, says.
pub(crate) fn failure(error: ServiceError) -> Failure {
    let told = |exit, code, error: &ServiceError, remedy| {
        Failure::told(exit, code, format!("the guard does not run: {error}"), remedy)
    };
    match error {
        ServiceError::Keys(error) => error.into(),
        error @ ServiceError::InForce(_) => told(
            Exit::Config,
            "policy_or_status",
            &error,
            "sign what is missing with `sealbus policy sign` and `sealbus agent renew-status`",
        ),
        error @ ServiceError::Http { .. } => {
            told(Exit::Failure, "http_listen", &error, "see whether another guard runs here already")
        }
        error @ (ServiceError::Link(_) | ServiceError::Subscribe(_)) => told(
            Exit::Failure,
            "bus_unreachable",
            &error,
            "start nats-server with the nats.conf of this bus; `sealbus doctor` looks closer",
        ),
        error @ ServiceError::Audit(
            OpenError::SetBack { .. }
            | OpenError::Forked(_)
            | OpenError::Root(_)
            | OpenError::Damaged { .. }
            | OpenError::Tile(_)
            | OpenError::Note(_),
        ) => told(
            Exit::Unverified,
            "audit_not_verified",
            &error,
            "keep the disk as it is for who investigates; put the right log back, or accept that it is lost \
             with `sealbus audit accept-loss`",
        ),
        error @ (ServiceError::Audit(_) | ServiceError::AuditClose(_)) => told(
            Exit::Failure,
            "audit_log",
            &error,
            "see whether the disk is full or another guard uses the log; check it with `sealbus audit verify`",
        ),
        error => {
            told(Exit::Failure, "guard", &error, "see whether the state directory is whole and writable")
        }
    }
}

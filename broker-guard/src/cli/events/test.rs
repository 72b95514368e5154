//! `sealbus events test`: do events arrive where they should?

use sealbus_envelope::identity::KeyKind;
use serde_json::json;

use super::super::{
    busdir::BusArg,
    failure::{Exit, Failure},
    output::{BAD, GOOD, Output, paint},
    runtime,
};
use crate::{
    clock::now,
    events::{
        Event, Kind,
        ocsf::{self, Source},
        settings::WebhookSettings,
    },
    keyfile::read_seed,
};

const EXAMPLES: &str = "\
Examples:
  sealbus events test
  sealbus events test --webhook pager --json

Sends each webhook of sealbus.toml one event of kind `test`, signed as all others, whatever the
webhook's filter says, and shows what it answers. Exit code 1 if one does not take it.";

/// Send a test event to every webhook
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Only to this one
    #[arg(long, value_name = "NAME")]
    webhook: Option<String>,
    #[command(flatten)]
    bus: BusArg,
}

pub(super) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let config = args.bus.open()?.config;
    let wanted = |webhook: &&WebhookSettings| args.webhook.as_ref().is_none_or(|name| *name == webhook.name);
    let webhooks: Vec<_> = config.events.webhooks.iter().filter(wanted).collect();
    if webhooks.is_empty() {
        let message = match &args.webhook {
            Some(name) => format!("sealbus.toml has no webhook `{name}`"),
            None => "sealbus.toml has no webhook".to_owned(),
        };
        let remedy = "name one under [[events.webhooks]]; the comments in sealbus.toml show how";
        return Err(Failure::told(Exit::Config, "no_webhook", message, remedy));
    }
    let time = now();
    // The guard's number is not ours to use, so the id is of another form.
    let guard = read_seed(&config.keys.guard, KeyKind::User).map(|seed| seed.public().to_nkey(KeyKind::User));
    let source = Source {
        bus: config.roots.name.to_string(),
        bus_id: config.bus().to_string(),
        guard: guard.unwrap_or_else(|_| "test".to_owned()),
        epoch: 0,
    };
    let event = ocsf::write(&Event::new(Kind::Test, time).detail("sealbus events test"), &source, time.0);
    let body = serde_json::to_vec(&event).map_err(|error| Failure::output(error.into()))?;
    let mut failed = 0;
    for settings in webhooks {
        let webhook = settings.open().map_err(|error| {
            let remedy = "correct it in sealbus.toml; see `sealbus events test --help`";
            Failure::told(Exit::Config, "webhook", error.to_string(), remedy)
        })?;
        let outcome = runtime()?.block_on(webhook.deliver(&source.uid(time.0), time, body.clone().into()));
        let (name, ok) = (&settings.name, outcome.is_ok());
        let said = outcome.err().map(|error| error.to_string());
        failed += u32::from(!ok);
        let mark = if ok { paint(GOOD, "✓").to_string() } else { paint(BAD, "✗").to_string() };
        output.show(
            &json!({ "webhook": name, "delivered": ok, "error": said }),
            format_args!("{mark} {name}: {}", said.as_deref().unwrap_or("delivered")),
        )?;
    }
    if failed == 0 { Ok(()) } else { Err(Failure::shown(Exit::Failure)) }
}

//! The bypass probe: with a credential that may do little, tries what nobody but the guard may do. Everything
//! must be refused, by the server itself.

use std::{path::Path, time::Duration};

use async_nats::{ConnectOptions, Event, ServerError};
use sealbus_client::Credentials;
use sealbus_envelope::{
    identity::SessionId,
    name::{AgentToken, Name},
    subject::Partition,
};
use tokio::{sync::mpsc, time::timeout};

use super::{
    super::{
        bare::{self, Bare},
        busdir::BusDir,
        failure::Failure,
        init::generate,
    },
    Chart,
};
use crate::bus::probe;

/// How long the server has to refuse.
const PATIENCE: Duration = Duration::from_secs(2);

const REMEDY: &str = "stop the bus: compare nats.conf with what `sealbus init` writes, and look for users and \
                      mappings that were added";

pub(super) async fn check(dir: &BusDir, creds: Option<&Path>, chart: &mut Chart<'_>) -> Result<(), Failure> {
    logins(dir, chart).await?;
    let path = creds.map_or_else(|| dir.agents().join("oncall.creds"), Path::to_owned);
    let credentials = match Credentials::load(&path) {
        Ok(credentials) => credentials,
        Err(error) => {
            let remedy = "name credentials that may do little with `--creds FILE`";
            return chart.mind("probe", Failure::from(error).to_text(), remedy);
        }
    };
    let (sender, mut events) = mpsc::unbounded_channel();
    let bare = match bare::connect(&credentials, sender).await {
        Ok(bare) => bare,
        Err(failure) => return chart.failed("probe's login", &failure),
    };
    chart.good("probe", format!("logged in as {}", credentials.credential().token()))?;
    for (what, subject) in publishes(&credentials, &bare) {
        publish(&bare, &mut events, &what, subject, chart).await?;
    }
    for (what, subject) in subscribes(&credentials) {
        subscribe(&bare, &mut events, &what, subject, chart).await?;
    }
    Ok(())
}

/// Logins that must fail.
async fn logins(dir: &BusDir, chart: &mut Chart<'_>) -> Result<(), Failure> {
    let stranger = generate();
    let seed = stranger.to_nkey_seed(sealbus_envelope::identity::KeyKind::User);
    for (what, options) in [
        ("login without credentials", ConnectOptions::new()),
        ("login with a made-up token", ConnectOptions::with_token("let-me-in".to_owned())),
        ("login with an nkey nobody knows", ConnectOptions::with_nkey(seed.to_string())),
        ("login with a password", ConnectOptions::with_user_and_password("admin".into(), "admin".into())),
    ] {
        let options = match &dir.config.tls_ca {
            Some(ca) => options.add_root_certificates(ca.clone()),
            None => options,
        };
        let options = options.require_tls(dir.config.requires_tls());
        match probe::lets_in(&dir.config.urls, options).await {
            Ok(false) => chart.good(what, "refused")?,
            Ok(true) => {
                let remedy = "stop the bus: the auth callout is not in force; use the nats.conf that \
                              `sealbus init` writes";
                chart.open(what, "was let in", remedy)?;
            }
            Err(untold) => {
                chart.wrong(what, format!("could not be tried: {untold}"), "see the server's log")?;
            }
        }
    }
    Ok(())
}

/// An agent that is not the probe's.
fn other_agent() -> Option<AgentToken> {
    Some(AgentToken::new(&Name::parse("somebody").ok()?, generate().public()))
}

fn publishes(credentials: &Credentials, bare: &Bare) -> Vec<(String, String)> {
    let wire = credentials.bus().subjects();
    let own = credentials.credential().token();
    let mut tries: Vec<(&str, String)> = vec![
        (
            "publish past the guard, to readers",
            wire.delivery(sealbus_envelope::label::Level::LOWEST, "doctor"),
        ),
        ("publish as the guard, to its own box", wire.session_box(own, &bare.session, "welcome")),
        ("publish a heartbeat", wire.heartbeat(Partition::of(own))),
        ("publish an event", wire.event("denied")),
        ("publish on a subject of no rule", wire.ingress(own, "doctor.no-such-rule")),
        (
            "speak for a session that is not its own",
            wire.control(own, &SessionId::from_bytes([7; 32]), "hello"),
        ),
        ("answer a login for the guard", "$SYS.REQ.USER.AUTH".to_owned()),
        ("disconnect somebody", "$SYS.REQ.SERVER.X.KICK".to_owned()),
        ("list connections", "$SYS.REQ.SERVER.PING.CONNZ".to_owned()),
        ("list streams", "$JS.API.STREAM.LIST".to_owned()),
        ("delete a stream", "$JS.API.STREAM.DELETE.doctor".to_owned()),
        ("acknowledge for somebody", "$JS.ACK.doctor".to_owned()),
        ("write into somebody's inbox", "_INBOX.doctor".to_owned()),
        ("write into the guard's inbox", format!("{}.doctor", crate::natsserver::INBOX_PREFIX)),
        ("publish outside the bus", "doctor.outside".to_owned()),
    ];
    if let Some(other) = other_agent() {
        tries.push(("publish in another agent's name", wire.ingress(&other, "hello.doctor")));
        tries.push(("write into another agent's box", wire.session_box(&other, &bare.session, "grant")));
    }
    tries.into_iter().map(|(what, subject)| (what.to_owned(), subject)).collect()
}

fn subscribes(credentials: &Credentials) -> Vec<(String, String)> {
    let wire = credentials.bus().subjects();
    let prefix = wire.prefix();
    [
        ("read what agents send to the guard", wire.ingress_all()),
        ("read what agents say to the guard", wire.control_all()),
        ("read everybody's boxes", format!("{prefix}.box.>")),
        ("read every delivery", format!("{prefix}.out.>")),
        ("read the whole bus", format!("{prefix}.>")),
        ("read everything", ">".to_owned()),
        ("read inboxes", "_INBOX.>".to_owned()),
        ("read the guard's inbox", format!("{}.>", crate::natsserver::INBOX_PREFIX)),
        ("read the server's own subjects", "$SYS.>".to_owned()),
        ("read logins", "$SYS.REQ.USER.AUTH".to_owned()),
        ("read stream administration", "$JS.>".to_owned()),
    ]
    .into_iter()
    .map(|(what, subject)| (what.to_owned(), subject))
    .collect()
}

async fn publish(
    bare: &Bare,
    events: &mut mpsc::UnboundedReceiver<Event>,
    what: &str,
    subject: String,
    chart: &mut Chart<'_>,
) -> Result<(), Failure> {
    let sent = bare
        .client
        .publish(subject.clone(), "sealbus doctor".into())
        .await
        .map_err(|error| error.to_string());
    judge(bare, events, what, &subject, sent, chart).await
}

async fn subscribe(
    bare: &Bare,
    events: &mut mpsc::UnboundedReceiver<Event>,
    what: &str,
    subject: String,
    chart: &mut Chart<'_>,
) -> Result<(), Failure> {
    let subscription = bare.client.subscribe(subject.clone()).await;
    let sent = subscription.as_ref().map(|_| ()).map_err(ToString::to_string);
    judge(bare, events, what, &subject, sent, chart).await
}

/// Waits for the server's refusal of `subject`.
async fn judge(
    bare: &Bare,
    events: &mut mpsc::UnboundedReceiver<Event>,
    what: &str,
    subject: &str,
    sent: Result<(), String>,
    chart: &mut Chart<'_>,
) -> Result<(), Failure> {
    if let Err(error) = sent {
        return chart.wrong(what, format!("`{subject}` could not be tried: {error}"), "try again");
    }
    if let Err(error) = bare.client.flush().await {
        return chart.wrong(what, format!("`{subject}` could not be tried: {error}"), "try again");
    }
    let quoted = format!("\"{subject}\"").to_ascii_lowercase();
    let refusal = async {
        while let Some(event) = events.recv().await {
            match event {
                Event::ServerError(ServerError::Other(text)) => {
                    let text = text.to_ascii_lowercase();
                    if text.contains("permissions violation") && text.contains(&quoted) {
                        return Some(());
                    }
                }
                Event::Disconnected | Event::Closed => return None,
                _ => {}
            }
        }
        None
    };
    match timeout(PATIENCE, refusal).await {
        Ok(Some(())) => chart.good(what, format!("`{subject}` refused")),
        Ok(None) => chart.wrong(what, format!("`{subject}`: the connection ended instead"), "try again"),
        Err(_) => chart.open(what, &format!("`{subject}` was not refused"), REMEDY),
    }
}

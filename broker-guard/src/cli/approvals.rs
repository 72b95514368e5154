//! `sealbus approvals`: what waits for people, looking at it, and deciding; and who may decide.

mod decide;
mod key;
mod list;
mod people;
mod revoke_key;
mod show;
mod submit;

use std::path::PathBuf;

use clap::Subcommand;
use sealbus_client::{Client, ConnectOptions, Credentials};
use sealbus_envelope::{
    approval::SignedApproval,
    control::{HeldReport, Submitted},
    hash::Hash,
    identity::BusId,
    label::Label,
    policy::Tables,
    reason::Reason,
    time::Millis,
};

use super::{
    busdir::BusArg,
    failure::{Exit, Failure},
    output::Output,
    page::{self, AddressArg},
    session::{self, printable},
};

/// Look at what waits for approval; approve or deny it; see and revoke who may
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    List(list::Args),
    Show(show::Args),
    Approve(decide::ApproveArgs),
    Deny(decide::DenyArgs),
    Submit(submit::Args),
    People(people::Args),
    Key(key::Args),
    RevokeKey(revoke_key::Args),
}

pub(crate) fn run(command: &Command, output: &Output) -> Result<(), Failure> {
    match command {
        Command::List(args) => list::run(args, output),
        Command::Show(args) => show::run(args, output),
        Command::Approve(args) => decide::approve(args, output),
        Command::Deny(args) => decide::deny(args, output),
        Command::Submit(args) => submit::run(args, output),
        Command::People(args) => people::run(args, output),
        Command::Key(args) => key::run(args, output),
        Command::RevokeKey(args) => revoke_key::run(args, output),
    }
}

/// How the guard is reached: at its page on this machine, or over the bus as an agent.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct WayArg {
    /// Ask over the bus as this agent, from any machine, instead of at the guard's page
    #[arg(long, value_name = "FILE")]
    creds: Option<PathBuf>,
    #[command(flatten)]
    address: AddressArg,
    #[command(flatten)]
    bus: BusArg,
}

/// The guard, reached.
enum Way {
    Page { address: std::net::SocketAddr, bus: BusId, tables: Option<Box<Tables>> },
    Bus { client: Client, bus: BusId },
}

impl WayArg {
    /// Reaches the guard. Over the bus only within a runtime.
    async fn open(&self) -> Result<Way, Failure> {
        if let Some(path) = &self.creds {
            let credentials = Credentials::load(path)?;
            let bus = credentials.credential().claims().bus;
            let client = ConnectOptions::new(credentials).connect().await.map_err(session::failure)?;
            return Ok(Way::Bus { client, bus });
        }
        let dir = self.bus.open()?;
        let tables = dir.bundle().ok().map(|(_, policy)| Box::new(policy.tables().clone()));
        Ok(Way::Page { address: self.address.of(&dir.config), bus: dir.config.roots.bus(), tables })
    }

    /// The bus, without reaching anybody.
    fn bus_id(&self) -> Result<BusId, Failure> {
        match &self.creds {
            Some(path) => Ok(Credentials::load(path)?.credential().claims().bus),
            None => Ok(self.bus.open()?.config.roots.bus()),
        }
    }
}

impl Way {
    const fn bus(&self) -> BusId {
        match self {
            Self::Page { bus, .. } | Self::Bus { bus, .. } => *bus,
        }
    }

    /// What is held, and how many more are not listed.
    async fn held(&self) -> Result<(Vec<HeldReport>, u32), Failure> {
        match self {
            Self::Page { address, .. } => {
                let held = page::get(*address, "/held")?.read(*address, "/held")?;
                Ok((held, 0))
            }
            Self::Bus { client, .. } => {
                let list = client.held().await.map_err(session::failure)?;
                Ok((list.held, list.more))
            }
        }
    }

    /// The sealed bytes of something held.
    async fn sealed(&self, digest: Hash) -> Result<Vec<u8>, Failure> {
        match self {
            Self::Page { address, .. } => {
                let path = format!("/held/{}", data_encoding::HEXLOWER.encode(&digest));
                let answer = page::get(*address, &path)?;
                if answer.code == 200 { Ok(answer.body) } else { Err(not_held(&path)) }
            }
            Self::Bus { client, .. } => Ok(client.held_envelope(digest).await.map_err(session::failure)?.1),
        }
    }

    async fn submit(&self, approval: &SignedApproval) -> Result<Submitted, Failure> {
        match self {
            Self::Page { address, .. } => {
                let answer = page::post(*address, "/approvals", &approval.encode())?;
                serde_json::from_slice(&answer.body).map_err(|_| {
                    let said = printable(String::from_utf8_lossy(&answer.body).trim());
                    let message =
                        format!("the guard at {address} took no approval: {said} ({})", answer.code);
                    Failure::told(Exit::Failure, "approval_not_taken", message, "try again: `sealbus status`")
                })
            }
            Self::Bus { client, .. } => client.submit_approval(approval).await.map_err(session::failure),
        }
    }

    fn label(&self, label: Label) -> String {
        match self {
            Self::Page { tables: Some(tables), .. } => tables.show(label),
            Self::Page { tables: None, .. } => format!("level {}", label.level.number()),
            Self::Bus { client, .. } => client.show_label(label),
        }
    }

    async fn close(self) {
        if let Self::Bus { client, .. } = self {
            // What was asked was answered: nothing is lost.
            let _ = client.close().await;
        }
    }

    /// The one held envelope whose digest begins with `prefix`.
    async fn find(&self, prefix: &str) -> Result<HeldReport, Failure> {
        check_prefix(prefix)?;
        pick(self.held().await?.0, prefix)
    }
}

/// How many characters of a digest name an envelope. A sender tries out envelopes until one's digest begins as
/// another's does: for 4 characters in no time, for 16 not in the time that anything waits.
const SHORTEST: usize = 16;

fn check_prefix(prefix: &str) -> Result<(), Failure> {
    if prefix.len() >= SHORTEST && prefix.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(());
    }
    let message = format!("`{}` is no beginning of a digest", printable(prefix));
    let remedy =
        format!("give at least {SHORTEST} of its characters, as `sealbus approvals list` shows them");
    Err(Failure::told(Exit::Config, "usage", message, remedy))
}

/// By the digest only: an envelope's id is for its sender to choose, who could choose what an approver is about to type.
fn pick(held: Vec<HeldReport>, prefix: &str) -> Result<HeldReport, Failure> {
    let wanted = prefix.to_ascii_lowercase();
    let mut found = held.into_iter().filter(|one| one.digest.starts_with(&wanted));
    let one = found.next().ok_or_else(|| not_held(prefix))?;
    if found.next().is_some() {
        let message = format!("several that are held begin with `{wanted}`");
        return Err(Failure::told(Exit::Config, "ambiguous", message, "give more of the digest"));
    }
    Ok(one)
}

fn not_held(what: &str) -> Failure {
    let message = format!("nothing is held that begins with `{}`", printable(what));
    let remedy = "it may have been decided: see `sealbus approvals list`, then `sealbus audit search`; over the \
                  bus you see what your agent may read";
    Failure::told(Exit::Failure, Reason::NotHeld.code(), message, remedy)
}

/// The digest of a report.
fn digest(report: &HeldReport) -> Result<Hash, Failure> {
    whole_digest(&report.digest).ok_or_else(|| {
        Failure::told(
            Exit::Unverified,
            "bad_answer",
            "the guard gave no digest",
            "see which guard answers there",
        )
    })
}

fn whole_digest(text: &str) -> Option<Hash> {
    let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?;
    Hash::try_from(bytes).ok()
}

fn short(text: &str) -> String {
    text.chars().take(SHORTEST).collect()
}

/// A time of day, and how far away it is.
fn when(time: Millis, now: Millis) -> String {
    format!("{} ({})", super::when::rfc3339(time), super::when::relative(time, now))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use sealbus_envelope::name::Name;

    use super::*;

    fn held(digest: &str, envelope: &str) -> HeldReport {
        HeldReport {
            digest: digest.to_owned(),
            envelope: envelope.to_owned(),
            sender: "desk-abcdefghij".to_owned(),
            session: String::new(),
            rule: Name::parse("pay").unwrap(),
            flow_grant: None,
            subject: "pay.now".to_owned(),
            label: Label::BOTTOM,
            size: 1,
            sealed: Millis(0),
            received: Millis(0),
            until: Millis(1),
            holds: vec![],
        }
    }

    fn why(refused: Result<HeldReport, Failure>) -> String {
        refused.unwrap_err().to_text()
    }

    #[test]
    fn an_envelope_is_named_by_its_digest_and_not_by_what_its_sender_chose() {
        let honest = "5f3a".repeat(16);
        let other = "0123".repeat(16);
        // Its id begins as the digest of the other does.
        let both = || vec![held(&other, &honest), held(&honest, "77")];
        assert_eq!(pick(both(), &honest.to_uppercase()).unwrap().digest, honest);
        assert!(why(pick(vec![held(&other, &honest)], &honest)).contains("nothing is held"));
        assert!(check_prefix("5f3a").is_err(), "as short, a sender makes one that begins alike");
        assert!(check_prefix("5f3a5f3a5f3a5f3").is_err());
        assert!(check_prefix("5f3a5f3a5f3a5f3g").is_err());
        assert!(check_prefix("5f3a5f3a5f3a5f3a").is_ok());
        assert_eq!(short(&honest).len(), SHORTEST, "what is listed can be typed");
        let alike = vec![held(&honest, "1"), held(&honest, "2")];
        assert!(why(pick(alike, &short(&honest))).contains("several"));
    }
}

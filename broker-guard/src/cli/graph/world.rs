//! What a query is asked of: a policy, the agents with credentials, a time.

use std::{fs, path::Path};

use sealbus_envelope::{
    policy::{Bundle, Records},
    time::Millis,
};

use super::super::{
    busdir::{BusArg, BusDir},
    failure::{Exit, Failure},
    policy::source,
    registry::{Registry, revoked_at},
    when,
};
use crate::{
    clock::now,
    graph::{Facts, Holder, Standing, TrustGraph, UnknownHolder, View, members},
    policy::{
        self,
        bundle::{self, ServiceKeys},
        diagnostic::nearest,
    },
};

/// What most queries take.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct WorldArgs {
    #[command(flatten)]
    pub(crate) bus: BusArg,
    /// Another policy than the one in force: a version that was kept, a bundle, or a policy file
    #[arg(long, value_name = "VERSION|FILE")]
    policy: Option<String>,
    /// Look at this time: credentials and flow grants count if they are good then
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// As if nothing were in observe mode
    #[arg(long)]
    enforced: bool,
    /// Leave credentials out: any member of each team instead
    #[arg(long)]
    teams: bool,
}

/// A policy and those under it.
pub(crate) struct World {
    pub(crate) dir: BusDir,
    pub(crate) records: Records,
    /// None if nobody signed it.
    pub(crate) version: Option<u64>,
    pub(crate) holders: Vec<Holder>,
    pub(crate) view: View,
}

impl WorldArgs {
    /// The bus as it is.
    pub(crate) const fn of(bus: BusArg) -> Self {
        Self { bus, policy: None, at: None, enforced: false, teams: false }
    }

    /// With another policy, if one is given.
    pub(crate) fn with_policy(self, which: Option<&str>) -> Self {
        Self { policy: which.map(str::to_owned).or(self.policy), ..self }
    }

    /// Reads everything. `stolen` names an agent that counts as let in, whatever became of its credential.
    pub(crate) fn open(&self, stolen: Option<&str>) -> Result<World, Failure> {
        let dir = self.bus.open()?;
        let (in_force, _) = dir.bundle()?;
        let at = time(self.at.as_deref(), "at")?.unwrap_or_else(now);
        let view = if self.enforced { View::enforced(at) } else { View::at(at) };
        let (records, version) = match &self.policy {
            Some(which) => find(&dir, &in_force, which)?,
            None => (in_force.records().clone(), Some(in_force.head().fields().version)),
        };
        let mut holders = if self.teams { members(&records.tables) } else { agents(&dir, &in_force, at)? };
        for holder in &mut holders {
            if stolen == Some(holder.name().as_str()) && holder.standing != Standing::NoAgent {
                holder.standing = Standing::Valid;
            }
        }
        Ok(World { dir, records, version, holders, view })
    }
}

impl World {
    pub(crate) fn graph(&self) -> TrustGraph<'_> {
        TrustGraph::new(Facts::records(&self.records), self.holders.clone(), self.view)
    }

    /// Which policy was asked, in words.
    pub(crate) fn policy(&self) -> String {
        self.version
            .map_or_else(|| "an unsigned policy".to_owned(), |version| format!("policy version {version}"))
    }
}

/// A time on the command line.
pub(crate) fn time(text: Option<&str>, argument: &str) -> Result<Option<Millis>, Failure> {
    let parse = |text: &str| {
        when::parse(text, now()).map_err(|told| {
            let message = format!("`--{argument} {text}` is not a time");
            Failure::told(Exit::Failure, "bad_time", message, told)
        })
    };
    text.map(parse).transpose()
}

/// Everybody the issuer signed a credential for.
pub(crate) fn agents(dir: &BusDir, in_force: &Bundle, at: Millis) -> Result<Vec<Holder>, Failure> {
    let status = dir.status(in_force)?;
    let registry = Registry::read(dir)?;
    let holder = |entry| {
        let revoked = revoked_at(&status, entry).is_some_and(|revoked| revoked <= at);
        Holder::agent(entry.credential.claims(), revoked, at)
    };
    Ok(registry.iter().map(|(_, entry)| holder(entry)).collect())
}

/// The policy meant by a version number, the path of a bundle or the path of a policy file.
pub(crate) fn find(dir: &BusDir, in_force: &Bundle, which: &str) -> Result<(Records, Option<u64>), Failure> {
    if let Ok(version) = which.parse::<u64>() {
        return Ok((dir.kept(version)?.records().clone(), Some(version)));
    }
    let path = Path::new(which);
    if path.extension().is_some_and(|extension| extension == "toml") {
        let checked = policy::check(&source(path)?)?;
        let tables = in_force.tables();
        let services = ServiceKeys { status: tables.status_key.clone(), guards: tables.guards.clone() };
        return Ok((bundle::records(&checked.policy, &services, &dir.config.roots), None));
    }
    let bytes = fs::read(path).map_err(|source| Failure::io("read", path, source))?;
    let bundle = dir.signed(path, &bytes)?;
    Ok((bundle.records().clone(), Some(bundle.head().fields().version)))
}

impl From<UnknownHolder> for Failure {
    fn from(error: UnknownHolder) -> Self {
        let remedy = match &error.near {
            Some(near) => format!("did you mean `{near}`? `sealbus agent list` shows all"),
            None => "see `sealbus agent list`; with `--teams`, name a team".to_owned(),
        };
        Self::told(Exit::Failure, "unknown_agent", error.to_string(), remedy)
    }
}

/// No rule covers the subject.
pub(crate) fn unknown_subject(records: &Records, subject: &str) -> Failure {
    let patterns = records.rules.iter().map(|rule| rule.pattern.as_str());
    let remedy = match nearest(subject, patterns) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "`sealbus graph at` shows every rule's pattern".to_owned(),
    };
    Failure::told(Exit::Failure, "unknown_subject", format!("no rule covers `{subject}`"), remedy)
}

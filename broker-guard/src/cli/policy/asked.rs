//! What commands about a policy ask of: the policy in force, a file, a bundle; and for whom.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use sealbus_envelope::{identity::Claims, label::Label, name::Name, policy::Draft};

use super::{
    super::{
        busdir::BusArg,
        failure::{Exit, Failure},
        init::parse_name,
        registry::Registry,
    },
    source_of,
};
use crate::policy::{self, compile::CompileError, trial::Trial, words::parse_label};

/// The first byte of a bundle: no text begins with it.
const BUNDLE: u8 = 0x95;

/// Which policy is asked.
#[derive(Debug, Args)]
pub(super) struct PolicyArg {
    /// Ask this policy file, signed bundle or kept version instead of the policy in force
    #[arg(long, value_name = "FILE|VERSION")]
    pub(super) policy: Option<PathBuf>,
    #[command(flatten)]
    pub(super) bus: BusArg,
}

impl PolicyArg {
    pub(super) fn trial(&self) -> Result<Trial, Failure> {
        match &self.policy {
            Some(path) => load(path, &self.bus),
            None => {
                let (bundle, _) = self.bus.open()?.bundle()?;
                Trial::of_bundle(&bundle).map_err(|error| unusable(&error))
            }
        }
    }
}

/// A policy file, or a signed bundle of the bus, be it a draft with too few signatures.
pub(super) fn load(path: &Path, bus: &BusArg) -> Result<Trial, Failure> {
    let version = path.to_str().and_then(|text| text.parse().ok()).filter(|_| !path.exists());
    if let Some(version) = version {
        let bundle = bus.open()?.kept(version)?;
        return Trial::of_bundle(&bundle).map_err(|error| unusable(&error));
    }
    let bytes = fs::read(path).map_err(|source| {
        let message = format!("cannot read the policy `{}`", path.display());
        let remedy = "name a policy file or a signed bundle";
        Failure::because(Exit::Config, "policy_unreadable", message, remedy, source)
    })?;
    if bytes.first() == Some(&BUNDLE) {
        let dir = bus.open()?;
        // Who is to sign a draft looks first at what it changes. Nothing that is asked here puts anything into force.
        if let Ok(draft) = Draft::verify(&bytes, &dir.config.roots) {
            return Trial::of_draft(&draft).map_err(|error| unusable(&error));
        }
        let bundle = dir.signed(path, &bytes)?;
        return Trial::of_bundle(&bundle).map_err(|error| unusable(&error));
    }
    let policy = policy::check(&source_of(path, bytes)?)?.policy;
    Trial::of_policy(&policy).map_err(|error| unusable(&error))
}

/// A checked policy always compiles; a bundle that other means have signed may not.
fn unusable(error: &CompileError) -> Failure {
    let message = format!("the policy cannot be used: {error}");
    Failure::told(Exit::Config, "policy_unusable", message, "run `sealbus policy check` on its source")
}

/// For whom it is asked.
#[derive(Debug, Args)]
pub(super) struct WhoArg {
    /// Name of the agent; of an agent of the bus its credential is looked up
    #[arg(long, value_parser = parse_name)]
    agent: Option<Name>,
    /// A team: an agent that has all that its team has
    #[arg(long, value_parser = parse_name, required_unless_present = "agent")]
    team: Option<Name>,
}

impl WhoArg {
    pub(super) fn claims(&self, trial: &Trial, bus: &BusArg) -> Result<Claims, Failure> {
        match (&self.team, &self.agent) {
            (Some(team), agent) => Ok(trial.member(agent.as_ref().unwrap_or(team), team)),
            (None, agent) => {
                let name = agent.as_ref().map(Name::as_str).unwrap_or_default();
                Ok(Registry::read(&bus.open()?)?.find(name)?.credential.claims().clone())
            }
        }
    }
}

/// A label on the command line.
pub(super) fn label(trial: &Trial, text: &str) -> Result<Label, Failure> {
    parse_label(trial.tables(), text).map_err(|error| {
        let remedy = "write it in the policy's words, such as `internal/deps/untrusted`";
        Failure::told(Exit::Denied, "unknown_label", error.to_string(), remedy)
    })
}

/// `RULE=LABEL`: what was read, and under which rule.
pub(super) fn read_under(trial: &Trial, text: &str) -> Result<(Name, Label), Failure> {
    let parts = text.split_once('=').and_then(|(rule, words)| Some((Name::parse(rule).ok()?, words)));
    let Some((rule, words)) = parts else {
        let message = format!("`{text}` does not say under which rule it was read");
        let remedy = "write RULE=LABEL, such as `findings=internal/deps/untrusted`";
        return Err(Failure::told(Exit::Failure, "bad_floor", message, remedy));
    };
    Ok((rule, label(trial, words)?))
}

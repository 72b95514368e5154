//! `sealbus policy sign`: the policy file becomes the signed bundle that guards and agents enforce, with one
//! command or from hand to hand.

use std::path::{Path, PathBuf};

use sealbus_envelope::policy::Draft;

use super::{
    super::{
        busdir::{BusArg, BusDir, OfflineArg},
        failure::{Exit, Failure},
        output::Output,
        registry::Registry,
    },
    changes::Changes,
    check, issue,
};
use crate::{
    keyfile::replace_public,
    policy::bundle::{self, ServiceKeys},
};
use serde_json::json;

const EXAMPLES: &str = "\
Examples:
  sealbus policy sign
  sealbus policy sign --config /etc/sealbus --offline /media/keys/offline

Signs `policy.toml` of the bus directory with the policy keys, one version above the one in
force, and writes `policy.bundle`. A guard on this machine takes it up by itself; for others,
`sealbus policy publish`.

If the quorum's keys are in different hands:
  sealbus policy sign --out draft.bundle          the first holder begins a draft
  sealbus policy sign --add draft.bundle --show   the next looks at what it says
  sealbus policy diff policy.bundle draft.bundle  and at which flows it opens and closes
  sealbus policy sign --add draft.bundle          and adds a signature
  sealbus policy publish draft.bundle             once there are enough";

/// Sign the policy and put it into force
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Write a draft with the signatures of the keys at hand, and put nothing into force
    #[arg(long, value_name = "FILE", conflicts_with = "add")]
    out: Option<PathBuf>,
    /// Add the signatures of the keys at hand to this draft
    #[arg(long, value_name = "FILE")]
    add: Option<PathBuf>,
    /// With --add: sign only if the draft says what this policy file says
    #[arg(long, value_name = "FILE", requires = "add")]
    policy: Option<PathBuf>,
    /// With --add: show what the draft says, and sign nothing
    #[arg(long, requires = "add")]
    show: bool,
    #[command(flatten)]
    bus: BusArg,
    #[command(flatten)]
    offline: OfflineArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let dir = args.bus.open()?;
    if let Some(draft) = &args.add {
        return add(args, &dir, draft, output);
    }
    let checked = check::read(&dir.policy(), output)?;
    let _lock = Registry::lock(&dir)?;
    let (in_force, _) = dir.bundle()?;
    let tables = in_force.tables();
    let services = ServiceKeys { status: tables.status_key.clone(), guards: tables.guards.clone() };
    let next = bundle::records(&checked.policy, &services, &dir.config.roots);
    if next == *in_force.records() {
        let version = in_force.head().fields().version;
        let object = json!({ "policy": dir.config.policy, "version": version, "changed": false });
        let text = format!("Nothing changed: version {version} says the same and stays in force");
        return output.show(&object, text);
    }
    issue::issue(&dir, &args.offline, &in_force, next, args.out.as_deref(), output)
}

/// Adds the signatures of the keys at hand. The draft was verified whole: the root under the signatures is that
/// of the records shown.
fn add(args: &Args, dir: &BusDir, path: &Path, output: &Output) -> Result<(), Failure> {
    let roots = &dir.config.roots;
    let bytes = std::fs::read(path).map_err(|source| Failure::io("read", path, source))?;
    let mut draft = Draft::verify(&bytes, roots).map_err(|refused| issue::unverified(path, refused))?;
    let refuse =
        |code, message: String, remedy: &str| Err(Failure::told(Exit::Denied, code, message, remedy));
    // A key holder's machine need not have what is in force.
    let in_force = dir.bundle().ok().map(|(in_force, _)| in_force);
    if let Some(in_force) = &in_force {
        issue::refuse_renumbered(in_force.tables(), &draft.records().tables)?;
        let (offered, version) = (draft.fields().version, in_force.head().fields().version);
        if offered <= version {
            let message = format!("the draft is version {offered}, and version {version} is in force");
            return refuse("rolled_back", message, "begin a new draft: `sealbus policy sign --out FILE`");
        }
    }
    if let Some(policy) = &args.policy {
        let checked = check::read(policy, output)?;
        let tables = &draft.records().tables;
        let services = ServiceKeys { status: tables.status_key.clone(), guards: tables.guards.clone() };
        if bundle::records(&checked.policy, &services, roots) != *draft.records() {
            let message = format!("the draft does not say what `{}` says", policy.display());
            return refuse("other_policy", message, "look at the draft with `--show`, and ask who began it");
        }
    }
    let changes = in_force.as_ref().map(|in_force| Changes::between(in_force.records(), draft.records()));
    if !args.show {
        let keys = dir.offline(&args.offline).policy_keys_at_hand()?;
        let fresh: Vec<_> = keys.iter().filter(|key| draft.signers().all(|by| by != key.public())).collect();
        if fresh.is_empty() {
            let message = format!("every policy key that is here has signed `{}` already", path.display());
            return refuse(
                "already_signed",
                message,
                "give it to another key holder; one key is one signature",
            );
        }
        for key in fresh {
            draft.sign(key, roots).map_err(|refused| issue::unverified(path, refused))?;
        }
        replace_public(path, &draft.encode())?;
    }
    issue::tell_draft(dir, path, &draft, changes.as_ref(), output)
}

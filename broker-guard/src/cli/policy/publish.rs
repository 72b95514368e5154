//! `sealbus policy publish`: a signed policy goes to all guards, through the servers.

use std::path::{Path, PathBuf};

use sealbus_envelope::policy::{Bundle, Draft};
use serde_json::json;

use super::{
    super::{
        busdir::{BusArg, BusDir, OfflineArg},
        failure::{Exit, Failure},
        output::{GOOD, Output, paint},
        registry::Registry,
        runtime,
    },
    bucket, issue,
};
use crate::{
    bus::bucket::{Bucket, Stored},
    policy::bundle,
};

const EXAMPLES: &str = "\
Examples:
  sealbus policy publish                    what `sealbus policy sign` put into policy.bundle
  sealbus policy publish draft.bundle       a draft that the quorum has signed
  sealbus policy publish draft.bundle --local

Stores the policy under its version in the policy bucket on the servers, reads it back,
verifies it, makes it the current one, and puts it into this bus directory. Guards take it up by
themselves. Servers are not trusted with it: whoever reads it verifies the signatures.";

/// Give a signed policy to all guards
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The signed policy; `policy.bundle` of the bus directory if not given
    file: Option<PathBuf>,
    /// Put it into the bus directory only, not on the servers
    #[arg(long)]
    local: bool,
    #[command(flatten)]
    bus: BusArg,
    #[command(flatten)]
    offline: OfflineArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let dir = args.bus.open()?;
    let path = args.file.clone().unwrap_or_else(|| dir.config.policy.clone());
    let bytes = std::fs::read(&path).map_err(|source| Failure::io("read", &path, source))?;
    let bundle = signed(&dir, &path, &bytes)?;
    let lock = Registry::lock(&dir)?;
    let (in_force, _) = dir.bundle()?;
    refuse_lower(&in_force, &bundle)?;
    let new = bundle.head().fields().version > in_force.head().fields().version;
    let mut status = None;
    if new {
        issue::refuse_renumbered(in_force.tables(), bundle.tables())?;
        // Read before anything is written, so that a key file at fault stops the whole command.
        status = issue::status_key(&dir, &args.offline, &in_force)?;
    }
    let published = if args.local { false } else { runtime()?.block_on(publish(&dir, &bundle, &bytes))? };
    let status_version = if new { issue::install(&dir, &in_force, &bundle, status)? } else { None };
    drop(lock);

    let fields = bundle.head().fields();
    let object = json!({
        "version": fields.version,
        "digest": issue::hex(&fields.root),
        "signatures": bundle.head().signers().len(),
        "policy": dir.config.policy,
        "installed": new,
        "published": published,
        "already_published": !args.local && !published,
        "status_version": status_version,
    });
    let place = match (args.local, published) {
        (true, _) => format!("in {}", dir.config.policy.display()),
        (false, true) => "published; guards take it up by themselves".to_owned(),
        (false, false) => "was published already, and is there unchanged".to_owned(),
    };
    output.show(&object, format!("{} policy version {} {place}", paint(GOOD, "✓"), fields.version))?;
    if new && status_version.is_none() {
        issue::remark_status(output);
    }
    Ok(())
}

/// The file as a bundle that the quorum signed and a guard can enforce.
fn signed(dir: &BusDir, path: &Path, bytes: &[u8]) -> Result<Bundle, Failure> {
    let roots = &dir.config.roots;
    let draft = Draft::verify(bytes, roots).map_err(|refused| issue::unverified(path, refused))?;
    if draft.missing() > 0 {
        let (path, signers) = (path.display(), draft.signers().len());
        let message = format!("`{path}` has {signers} of {} signatures", roots.quorum);
        let remedy = format!("give it to another key holder: `sealbus policy sign --add {path}`");
        return Err(Failure::told(Exit::Unverified, "too_few_signatures", message, remedy));
    }
    match bundle::load(bytes, roots, 0) {
        Ok((bundle, _)) => Ok(bundle),
        Err(error) => Err(Failure::bundle(path, &error)),
    }
}

fn refuse_lower(in_force: &Bundle, bundle: &Bundle) -> Result<(), Failure> {
    let (now, offered) = (in_force.head().fields(), bundle.head().fields());
    if offered.version < now.version {
        let message =
            format!("version {} is older than version {}, which is in force", offered.version, now.version);
        let remedy = format!("to go back to it: `sealbus policy rollback {}`", offered.version);
        return Err(Failure::told(Exit::Denied, "rolled_back", message, remedy));
    }
    if offered.version == now.version && offered.root != now.root {
        return Err(twice(offered.version));
    }
    Ok(())
}

fn twice(version: u64) -> Failure {
    let message = format!("another policy was signed as version {version}");
    Failure::told(Exit::Denied, "rolled_back", message, "sign this one again: it gets the next version")
}

/// Whether it had to be written.
async fn publish(dir: &BusDir, bundle: &Bundle, bytes: &[u8]) -> Result<bool, Failure> {
    let told = |error| bucket::failure(&error);
    let shelf = bucket::open(dir).await?;
    let fields = *bundle.head().fields();
    let version = fields.version;
    let current = shelf.current().await.map_err(told)?;
    if let Some(current) = current.filter(|current| *current > version)
        && overtaken(dir, &shelf, current).await
    {
        let message =
            format!("version {current} is published already, which is higher than version {version}");
        let remedy =
            "get it with `sealbus policy history --fetch`, then sign this policy as the next version";
        return Err(Failure::told(Exit::Denied, "rolled_back", message, remedy));
    }
    let there =
        |bytes: &[u8]| Bundle::verify(bytes, &dir.config.roots).ok().map(|there| *there.head().fields());
    let stored = shelf.get(version).await.map_err(told)?;
    let known = stored.as_ref().and_then(|stored| stored.bytes.as_deref()).and_then(there);
    let known = known.filter(|known| known.version == version);
    if known.is_some_and(|known| known.root != fields.root) {
        return Err(twice(version));
    }
    // What is there and does not verify is in nobody's way.
    if known.is_none() {
        shelf.put(version, bytes, stored.map_or(0, |stored| stored.revision)).await.map_err(told)?;
        let back = shelf.get(version).await.map_err(told)?;
        if !matches!(&back, Some(Stored { bytes: Some(back), .. }) if there(back).is_some_and(|back| back == fields))
        {
            return Err(not_read_back(version));
        }
    }
    if current == Some(version) {
        return Ok(known.is_none());
    }
    shelf.set_current(version).await.map_err(told)?;
    if shelf.current().await.map_err(told)? == Some(version) { Ok(true) } else { Err(not_read_back(version)) }
}

fn not_read_back(version: u64) -> Failure {
    let message = format!("the servers acknowledged version {version}, and give something else back");
    let remedy = "somebody else writes there, or the servers lie: see who holds the login, and publish again";
    Failure::told(Exit::Unverified, "not_read_back", message, remedy)
}

/// Whether the bucket holds a higher version that the quorum signed. A number without a good policy is nonsense,
/// which is written over.
async fn overtaken(dir: &BusDir, shelf: &Bucket, current: u64) -> bool {
    let stored = shelf.get(current).await.ok().flatten().and_then(|stored| stored.bytes);
    let verified = stored.and_then(|bytes| Bundle::verify(&bytes, &dir.config.roots).ok());
    verified.is_some_and(|there| there.head().fields().version == current)
}

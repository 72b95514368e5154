//! What `sign` and `rollback` have in common: the next version, signed here or begun as a draft, and put in
//! place.

use std::path::Path;

use sealbus_envelope::{
    identity::{DEFAULT_STATUS_MS, KeyKind, PublicKey, SigningKey},
    name::Name,
    policy::{Bundle, Draft, Records, Tables},
    reason::Refused,
};
use serde_json::{Value, json};

use super::{
    super::{
        busdir::{BusDir, OfflineArg, write_status},
        failure::{Exit, Failure},
        output::{GOOD, Output, paint},
    },
    changes::Changes,
};
use crate::{
    archive::{self, Archive},
    clock::now,
    keyfile::replace_public,
    policy::bundle,
};

/// Every version that was signed or put in place here.
pub(super) fn archive(dir: &BusDir) -> Archive {
    Archive::new(dir.root().join(archive::DIRECTORY))
}

/// A version that nobody signed yet, as far as this directory knows.
fn next_version(dir: &BusDir, in_force: &Bundle) -> Result<u64, Failure> {
    let archive = archive(dir);
    let kept = archive.versions().map_err(|source| Failure::io("look into", archive.dir(), source))?;
    Ok(kept.last().copied().unwrap_or(0).max(in_force.head().fields().version) + 1)
}

/// Signs `records` as the next version: here and now, or as a draft in `out` with the keys at hand.
pub(super) fn issue(
    dir: &BusDir,
    offline: &OfflineArg,
    in_force: &Bundle,
    records: Records,
    out: Option<&Path>,
    output: &Output,
) -> Result<(), Failure> {
    refuse_renumbered(in_force.tables(), &records.tables)?;
    let version = next_version(dir, in_force)?;
    let place = dir.offline(offline);
    let changes = Changes::between(in_force.records(), &records);
    let Some(out) = out else {
        let keys = place.policy_keys()?;
        // Read before anything is written, so that a key file at fault stops the whole command.
        let status = status_key(dir, offline, in_force)?;
        let signers: Vec<&SigningKey> = keys.iter().collect();
        let path = &dir.config.policy;
        let bundle = Bundle::sign(records, version, now(), &signers, &dir.config.roots)
            .map_err(|refused| Failure::bundle(path, &refused.into()))?;
        bundle::load(&bundle.encode(), &dir.config.roots, 0)
            .map_err(|error| Failure::bundle(path, &error))?;
        let status_version = install(dir, in_force, &bundle, status)?;
        return tell(dir, &bundle, status_version, &changes, output);
    };
    let keys = place.policy_keys_at_hand()?;
    let signers: Vec<&SigningKey> = keys.iter().collect();
    let draft = Draft::begin(records, version, now(), &signers, &dir.config.roots)
        .map_err(|refused| Failure::bundle(out, &refused.into()))?;
    replace_public(out, &draft.encode())?;
    tell_draft(dir, out, &draft, Some(&changes), output)
}

/// The status statement and its key, if the key is at hand.
pub(super) fn status_key(
    dir: &BusDir,
    offline: &OfflineArg,
    bundle: &Bundle,
) -> Result<Option<(sealbus_envelope::identity::Status, SigningKey)>, Failure> {
    let place = dir.offline(offline);
    if !place.has_status() {
        return Ok(None);
    }
    Ok(Some((dir.status(bundle)?, place.status(bundle)?)))
}

/// Puts a verified bundle where this machine's guard looks, and keeps it and what it replaces. Returns the
/// version of the status statement that names it, if that could be signed.
pub(super) fn install(
    dir: &BusDir,
    in_force: &Bundle,
    bundle: &Bundle,
    status: Option<(sealbus_envelope::identity::Status, SigningKey)>,
) -> Result<Option<u64>, Failure> {
    let (archive, version) = (archive(dir), bundle.head().fields().version);
    for kept in [in_force, bundle] {
        archive.keep(kept.head().fields().version, &kept.encode())?;
    }
    replace_public(&dir.config.policy, &bundle.encode())?;
    // The bundle before the statement that names it: a statement ahead of its bundle would look like a
    // rolled-back policy to every agent.
    let Some((mut status, key)) = status else { return Ok(None) };
    status.version += 1;
    status.policy_version = status.policy_version.max(version);
    status.issued = now();
    status.valid_until = status.issued.plus(DEFAULT_STATUS_MS);
    write_status(dir, &status, &key)?;
    Ok(Some(status.version))
}

fn tell(
    dir: &BusDir,
    bundle: &Bundle,
    status_version: Option<u64>,
    changes: &Changes,
    output: &Output,
) -> Result<(), Failure> {
    let (path, version, signatures) =
        (&dir.config.policy, bundle.head().fields().version, bundle.head().signers().len());
    let object = json!({
        "policy": path,
        "version": version,
        "changed": true,
        "rules": bundle.rules().len(),
        "signatures": signatures,
        "status_version": status_version,
        "digest": hex(&bundle.head().fields().root),
        "changes": changes,
    });
    let text = format!(
        "{} policy version {version}: {} teams, {} rules, {signatures} signature{}, in {}",
        paint(GOOD, "✓"),
        bundle.tables().teams.len(),
        bundle.rules().len(),
        if signatures == 1 { "" } else { "s" },
        path.display(),
    );
    output.show(&object, text)?;
    if status_version.is_none() {
        remark_status(output);
    }
    Ok(())
}

/// That agents do not hear of the new version from the status statement.
pub(super) fn remark_status(output: &Output) {
    if !output.is_json() {
        output.remark(
            "The status key is not here: run `sealbus agent renew-status` where it is, so that agents learn \
             of this version from the status statement too.",
        );
    }
}

/// How far a draft is, and what it says.
pub(super) fn tell_draft(
    dir: &BusDir,
    path: &Path,
    draft: &Draft,
    changes: Option<&Changes>,
    output: &Output,
) -> Result<(), Failure> {
    let roots = &dir.config.roots;
    let (fields, records) = (draft.fields(), draft.records());
    let signed_by: Vec<String> = draft.signers().map(nkey).collect();
    let object = json!({
        "draft": path,
        "version": fields.version,
        "digest": hex(&fields.root),
        "teams": records.tables.teams.len(),
        "rules": records.rules.len(),
        "signatures": signed_by.len(),
        "quorum": roots.quorum,
        "signed_by": signed_by,
        "complete": draft.missing() == 0,
        "changes": changes,
    });
    output.show(&object, draft_text(roots.quorum, path, draft, changes))
}

fn draft_text(quorum: usize, path: &Path, draft: &Draft, changes: Option<&Changes>) -> String {
    let (fields, records, path) = (draft.fields(), draft.records(), path.display());
    let signers: Vec<_> = draft.signers().map(short).collect();
    let mut text = format!(
        "{path}: policy version {}, {} teams, {} rules, {} flow grants\n  digest   {}\n  signed   {} of {quorum}: {}",
        fields.version,
        records.tables.teams.len(),
        records.rules.len(),
        records.grants.len(),
        hex(&fields.root),
        signers.len(),
        signers.join(", "),
    );
    if let Some(changes) = changes {
        text = format!("{text}\n{}", changes.lines());
    }
    if draft.missing() == 0 {
        format!("{text}\n{} Complete. Put it into force: sealbus policy publish {path}", paint(GOOD, "✓"))
    } else {
        format!(
            "{text}\n{} of {quorum} signatures; give it to another key holder: sealbus policy sign --add {path}",
            signers.len()
        )
    }
}

/// Labels on the wire are numbers: a name that moves would relabel everything that was ever sealed.
pub(super) fn refuse_renumbered(old: &Tables, new: &Tables) -> Result<(), Failure> {
    let lists: [(&str, &[Name], &[Name]); 3] = [
        ("levels", &old.levels, &new.levels),
        ("compartments", &old.compartments, &new.compartments),
        ("integrity", &old.integrity, &new.integrity),
    ];
    for (what, old, new) in lists {
        if !new.starts_with(old) {
            let was: Vec<_> = old.iter().map(|name| format!("\"{name}\"")).collect();
            let message = format!("`{what}` no longer begins with the names that are in force");
            let remedy = format!("begin with [{}] in this order and append new names", was.join(", "));
            return Err(Failure::told(Exit::Config, "renumbered", message, remedy));
        }
    }
    Ok(())
}

/// A draft or bundle that does not verify.
pub(super) fn unverified(path: &Path, refused: Refused) -> Failure {
    let reason = refused.reason;
    let message = format!("`{}` is refused: {} [{reason}]", path.display(), reason.meaning());
    let remedy = "get it again from who made it; sign nothing that does not verify";
    Failure::told(Exit::Unverified, "policy_unverified", message, remedy)
}

/// A policy key in full.
pub(super) fn nkey(key: &PublicKey) -> String {
    key.to_nkey(KeyKind::User)
}

/// A policy key as far as one looks at it.
pub(super) fn short(key: &PublicKey) -> String {
    nkey(key).chars().take(8).collect()
}

/// Bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

/// An object with another key.
pub(super) fn with(mut object: Value, key: &str, value: Value) -> Value {
    if let Some(map) = object.as_object_mut() {
        map.insert(key.to_owned(), value);
    }
    object
}

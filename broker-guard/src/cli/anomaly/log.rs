//! What the audit log says, as the detector is told it.

use std::{collections::HashSet, path::Path};

use sealbus_envelope::{reason::Reason, time::Millis};

use super::{
    super::failure::{Exit, Failure},
    alarms::Alarms,
};
use crate::{
    anomaly::{Observation, Sent},
    audit::{
        entry::{Body, ConnectionResult, Entry},
        hex::Hex,
        parents::Lineage,
        search::{Filter, search},
    },
    quarantine::evidence::{Proof, Weight, weigh},
};

/// Replays the log in a directory, twice over for parents that are not true.
pub(super) fn replay(dir: &Path, alarms: &mut Alarms<'_>) -> Result<(), Failure> {
    let unreadable = |error: &dyn std::fmt::Display| {
        let message = format!("audit log `{}`: {error}", dir.display());
        let remedy = "see whether the path is right; `sealbus audit verify` tells what is damaged";
        Failure::told(Exit::Failure, "audit_unreadable", message, remedy)
    };
    // Else a path that was mistyped would be a log without alarms.
    std::fs::read_dir(dir).map_err(|error| unreadable(&error))?;
    let entries = || search(dir, Filter::default()).map_err(|error| unreadable(&error));
    let (mut lineage, mut waiting) = (Lineage::default(), HashSet::new());
    for found in entries()? {
        lineage.note(&found.map_err(|error| unreadable(&error))?.entry);
    }
    for found in entries()? {
        let found = found.map_err(|error| unreadable(&error))?;
        see(&found.entry, &mut waiting, alarms)?;
        // Once for an envelope, however many it names: as the guard tells it.
        if let Some(finding) = lineage.check(found.leaf, &found.entry).first() {
            alarms.see(&finding.sender, Observation::UntrueParents, found.entry.time)?;
        }
    }
    Ok(())
}

fn short(bytes: &[u8; 32]) -> u64 {
    let mut first = [0; 8];
    first.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    u64::from_le_bytes(first)
}

/// What an entry says of an agent. The log has neither sizes nor numbers, nor where a connection came from. What
/// is `waiting` for people was seen when it came, as the guard saw it.
fn see(entry: &Entry<'_>, waiting: &mut HashSet<Hex<32>>, alarms: &mut Alarms<'_>) -> Result<(), Failure> {
    let now: Millis = entry.time;
    match &entry.body {
        Body::Held(held) => {
            waiting.insert(held.digest);
            let sent = Sent {
                rule: &held.rule,
                label: held.label,
                session: short(&held.session.0),
                ..Sent::plain(now, &held.subject, 0)
            };
            alarms.see(&held.sender, Observation::Sent(sent), now)
        }
        // The entry of its admission follows at once, if it is released.
        Body::HoldEnded(ended) if !ended.released => {
            waiting.remove(&ended.digest);
            Ok(())
        }
        Body::Admitted(admitted) if waiting.remove(&admitted.digest) => Ok(()),
        Body::Admitted(admitted) => {
            let sent = Sent {
                rule: &admitted.rule,
                label: admitted.label,
                session: short(&admitted.session.0),
                ..Sent::plain(admitted.guard_time, &admitted.subject, 0)
            };
            alarms.see(&admitted.sender, Observation::Sent(sent), now)
        }
        Body::Denied(denied) => {
            let Some(sender) = &denied.sender else { return Ok(()) };
            let reason = Reason::ALL.iter().copied().find(|reason| reason.code() == denied.reason);
            // A digest is known only of what was signed.
            let proof = denied
                .digest
                .map_or(Proof::Attested, |digest| Proof::Signed { envelope: digest.0, knew_policy: true });
            let observation = match reason.map(|reason| weigh(reason, &proof)) {
                Some(Weight::Hard) => Observation::BadContent,
                Some(Weight::Soft) => Observation::SignedDenial,
                _ if reason == Some(Reason::Replay) && denied.digest.is_some() => {
                    Observation::Replayed { mark: None }
                }
                _ => Observation::Junk,
            };
            (0..denied.count.clamp(1, 1_000)).try_for_each(|_| alarms.see(sender, observation, now))
        }
        Body::Session(session) => {
            let id = short(&session.session.0);
            let observation = match session.event.as_ref() {
                "hello" => Observation::Connected { session: id, place: 0 },
                _ => Observation::Left { session: id },
            };
            alarms.see(&session.agent, observation, now)
        }
        Body::Connection(connection) if connection.result == ConnectionResult::Lobby => {
            match &connection.agent {
                Some(agent) if connection.reason.as_deref() != Some(Reason::Quarantined.code()) => {
                    alarms.see(agent, Observation::FailedLogin, now)
                }
                _ => Ok(()),
            }
        }
        Body::KeyGranted(granted) => {
            alarms.see(&granted.sender, Observation::Granted { reader: &granted.reader }, now)
        }
        _ => Ok(()),
    }
}

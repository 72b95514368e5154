//! Teams whose agents the bus could not let in: their permissions do not fit into a NATS login.

use sealbus_envelope::{identity::SessionId, name::Name, policy::Team, subject::WireSubjects};

use super::{
    super::{
        diagnostic::{Code, Finding, Findings},
        permissions::{MAX_PERMISSION_BYTES, Permissions, PermissionsError},
    },
    View,
};

/// As long as an agent's name gets.
const LONGEST: &str = "agent-of-the-longest-name-there-";

pub(super) fn lint(view: &View<'_>, findings: &mut Findings) {
    let Ok(agent) = Name::parse(LONGEST) else { return };
    for team in view.policy.teams.iter().map(|team| &team.record) {
        if let Some(bytes) = too_large(view, &agent, team) {
            let message = format!(
                "an agent of team `{}` would need {bytes} bytes of permissions, more than {MAX_PERMISSION_BYTES}",
                team.name
            );
            findings.push(
                Finding::error(
                    Code::PermissionsTooLarge,
                    message,
                    view.places.team(&team.name),
                    "its agents could not connect",
                )
                .help("cover several of its rules by one with a wider pattern, or divide the team"),
            );
        }
    }
}

fn too_large(view: &View<'_>, agent: &Name, team: &Team) -> Option<usize> {
    let policy = view.trial.compiled();
    let who = policy.principal(&view.trial.member(agent, &team.name)).ok()?;
    let session = SessionId::from_bytes([0; 32]);
    match Permissions::of_session(policy, &who, &session, &WireSubjects::default()) {
        Err(PermissionsError::TooLarge { bytes, .. }) => Some(bytes),
        _ => None,
    }
}

//! What may flow into a message: its parents, the session's floor, and what a flow grant lifts.
//!
//! The guard checks the same. Checked here too, so that an honest mistake is told before anything is sent.

use std::sync::Arc;

use sealbus_envelope::{
    identity::Claims,
    label::Label,
    policy::{Faults, FlowGrant, Rule},
    reason::Reason,
    subject::Subject,
};

use crate::{
    clock,
    error::{Error, ErrorKind, Result},
    policy_view::View,
    publish::Publish,
};

/// What a message derives from, and the flow grant that it uses.
pub(crate) struct Flow<'a> {
    publish: &'a Publish,
    floor: Label,
    grant: Option<Arc<FlowGrant>>,
}

impl<'a> Flow<'a> {
    /// Looks the grant up that the message names.
    pub(crate) fn of(publish: &'a Publish, floor: Label, view: &View) -> Result<Self> {
        let grant = match &publish.flow_grant {
            None => None,
            Some(name) => Some(view.flow_grant(name).cloned().ok_or_else(|| {
                Error::with_reason(
                    ErrorKind::NotAllowed,
                    Reason::FlowGrantUnknown,
                    format!("no flow grant `{}` concerns this agent", name.escape_debug()),
                )
            })?),
        };
        Ok(Self { publish, floor, grant })
    }

    /// The least label that a message with no label of its own gets, before the rule's default is joined.
    pub(crate) fn least(&self) -> Label {
        let parents = self.publish.parents.iter().map(|parent| parent.label);
        match &self.grant {
            // Whoever names a grant wants what it gives.
            Some(grant) => grant.to_label,
            None => parents.fold(self.floor, Label::join),
        }
    }

    /// Whether `label` is one that the guard will let pass.
    pub(crate) fn check(
        &self,
        view: &View,
        rule: &Rule,
        claims: &Claims,
        subject: &Subject,
        label: Label,
    ) -> Result<()> {
        let mut faults = Faults::observing(view.tables.observes(rule, claims));
        let told = |refused: sealbus_envelope::reason::Refused| {
            let detail = format!("label {} for `{subject}`", view.tables.show(label));
            Error::with_reason(ErrorKind::NotAllowed, refused.reason, detail)
        };
        if let Some(grant) = &self.grant {
            let size = self.publish.content.payload.len();
            grant
                .check_use(claims, subject.as_str(), label, size, clock::now())
                .or_else(|misuse| faults.found(misuse.reason, misuse.what))
                .map_err(told)?;
        }
        let lifted = |from| self.grant.as_ref().is_some_and(|grant| grant.lifts(from));
        let above = |from: Label| label.dominates(from) || lifted(from);
        if !self.publish.parents.iter().all(|parent| above(parent.label)) {
            faults.found(Reason::BelowParents, "label").map_err(told)?;
        }
        // Which rule each part of the floor came by only the guard knows, so a grant is left for it to judge.
        if self.grant.is_none() && !label.dominates(self.floor) {
            faults.found(Reason::BelowFloor, "label").map_err(told)?;
        }
        Ok(())
    }
}

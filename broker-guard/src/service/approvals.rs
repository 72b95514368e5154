//! What people signed about held envelopes, brought to the guard's page; and what it tells of them.

use axum::body::Bytes;
use sealbus_envelope::{
    approval::SignedApproval,
    control::{HeldReport, Submitted},
    hash::Hash,
    reason::Refused,
};
use tokio::sync::oneshot;

use super::running::Guard;
use crate::clock::now;

impl Guard {
    pub(super) async fn approval(&mut self, approval: SignedApproval, answer: oneshot::Sender<Submitted>) {
        let submitted = self.desk.approve(Ok(approval), now());
        self.carry_out().await;
        // Fails only when nobody waits for the answer any more.
        let _ = answer.send(submitted);
    }

    /// Counts, logs and tells of what is no approval.
    pub(super) async fn no_approval(&mut self, signed: Option<&SignedApproval>, refused: Refused) {
        let _answered_before = self.desk.refuse_approval(signed, refused, now());
        self.carry_out().await;
    }

    pub(super) fn tell_held(&self, answer: oneshot::Sender<Vec<HeldReport>>) {
        let _ = answer.send(self.desk.held_reports(now()));
    }

    pub(super) fn hand_held(&self, digest: &Hash, answer: oneshot::Sender<Option<Bytes>>) {
        let _ = answer.send(self.desk.held_bytes(digest));
    }
}

//! What the sessions want done is carried out: first the log and the store, then the telling.

use sealbus_envelope::{control::kind, time::Millis};

use super::Desk;
use crate::{
    audit::entry::{Body, Record},
    bus::egress::Outgoing,
    effect::Effect,
};

impl Desk {
    /// Carries effects out: first the log, then the telling, so that nobody holds what the log does not know.
    pub(super) fn carry_out(&mut self, now: Millis) {
        let effects: Vec<Effect> = self.effects.drain().collect();
        let records: Vec<Record<'static>> = effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Record(body) => Some(Record { time: now, body: body.clone() }),
                _ => None,
            })
            .collect();
        let granted = records.iter().filter(|record| matches!(record.body, Body::KeyGranted(_))).count();
        self.unsaved.extend(effects.iter().filter_map(|effect| match effect {
            Effect::RaiseFloor(raise) => Some(raise.clone()),
            _ => None,
        }));
        let logged = self.save_floors() && self.append_records(&records, now);
        if logged {
            self.metrics.grants.inc_by(u64::try_from(granted).unwrap_or(0));
        }
        for effect in effects {
            match effect {
                Effect::RaiseFloor(_) => {}
                // What is not logged does not happen: no session is let in, no key is handed over (its reader
                // asks again). But nobody's loss of a right waits for the log.
                Effect::Tell { kind, .. } if !logged && kind != kind::REKEY => {}
                Effect::Tell { agent, session, kind, payload } => {
                    self.todo.publish.push(Outgoing::tell(&self.wire, &agent, session, kind, payload));
                }
                Effect::Beat(partition) => {
                    if let Some(beat) = self.heartbeat(now) {
                        self.todo.publish.push(Outgoing::heartbeat(&self.wire, partition, beat));
                    }
                }
                Effect::Disconnect { session, reason } => self.todo.disconnect.push((session, reason)),
                Effect::Approve { agent, session, approval } => {
                    self.approval_brought(&agent, session, &approval, now);
                }
                Effect::TellHeld { agent, session, ask } => self.tell_held(&agent, session, &ask, now),
                Effect::Record(body) => self.saw_record(&body, now),
            }
        }
    }
}

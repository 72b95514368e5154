//! An agent in quarantine that is kept busy apart, where the policy wants it: it is answered as if it were on the bus,
//! so that who holds its key does not learn at once that it was found out.
//!
//! Nothing here touches the roster: nobody hears of its sessions, it is granted no key and delivered nothing, and what
//! it publishes is kept as evidence. No verdict is signed for it, neither a true one, which would tell, nor a false
//! one, which would be a lie over the guard's name.

use sealbus_envelope::{
    control::{self, Hello, Open, Readers, SessionStatement, Subscribe, Subscribed, kind, verb},
    identity::{Credential, SessionCertificate},
    name::AgentToken,
    reason::{Reason, Refused},
    subject::Control,
};

use super::Sessions;
use crate::effect::Effects;

/// The most sessions that are kept busy at once; at one more all are forgotten and answered no more.
const MOST: usize = 256;

impl Sessions {
    /// Whether who is in quarantine is kept busy apart.
    #[must_use]
    pub fn diverts(&self) -> bool {
        self.in_force.policy.supervision().anomaly.divert
    }

    /// Answers as if its sender were on the bus.
    pub(super) fn entertain(
        &mut self,
        subject: &Control<'_>,
        payload: &[u8],
        effects: &mut Effects,
    ) -> Result<(), Refused> {
        let agent = AgentToken::parse(subject.agent)?;
        match subject.verb {
            verb::GREET => {
                effects.beat(subject.partition);
                Ok(())
            }
            verb::HELLO => self.welcome_apart(subject, &agent, &control::decode(payload)?, effects),
            verb::SUBSCRIBE => {
                let Some(session) = self.diverted.get(subject.session) else { return Ok(()) };
                let Subscribe { id, .. } = control::decode(payload)?;
                effects.tell(&agent, session.id(), kind::SUBSCRIBED, &Subscribed { id, refused: None })
            }
            verb::OPEN => {
                let Some(session) = self.diverted.get(subject.session) else { return Ok(()) };
                let open: Open = control::decode(payload)?;
                let bus = self.roots.bus();
                let statement = SessionStatement::verify(&open.statement, bus, session, self.guard)?;
                for key in statement.keys {
                    // A key that nobody reads.
                    let nobody = Readers { key: key.key, refused: None, readers: vec![], more: false };
                    effects.tell(&agent, session.id(), kind::READERS, &nobody)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn welcome_apart(
        &mut self,
        subject: &Control<'_>,
        agent: &AgentToken,
        hello: &Hello,
        effects: &mut Effects,
    ) -> Result<(), Refused> {
        let bus = self.roots.bus();
        let credential = Credential::verify(&hello.credential, bus, &self.roots.issuer)?;
        let certificate = SessionCertificate::verify(&hello.certificate, bus)?;
        if credential.token() != agent || *certificate.identity() != credential.claims().identity {
            return Err(Refused::new(Reason::WrongSender, "hello"));
        }
        let id = certificate.id();
        if id.token() != subject.session {
            return Err(Refused::new(Reason::WrongSession, "hello"));
        }
        SessionStatement::verify(&hello.statement, bus, &certificate, self.guard)?;
        let principal = self
            .in_force
            .policy
            .principal(credential.claims())
            .map_err(|reason| Refused::new(reason, "credential.team"))?;
        let welcome = self.welcome(&principal, agent, id)?;
        if self.diverted.len() >= MOST {
            self.diverted.clear();
        }
        self.diverted.insert(subject.session.to_owned(), certificate);
        effects.tell_encoded(agent, id, kind::WELCOME, welcome);
        Ok(())
    }
}

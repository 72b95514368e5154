//! What is known of an envelope that failed a check.

use sealbus_envelope::{
    hash::Hash,
    identity::SessionId,
    keys::KeyId,
    label::Label,
    name::AgentToken,
    reason::Refused,
    time::Millis,
    wire::{Decoded, EnvelopeId, Header, SeenRoots, Verified},
};

use crate::roster::session::LiveSession;

/// An envelope that failed a check, with what was known of it by then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// Why, and which part gave the reason.
    pub refused: Refused,
    /// The agent that the broker attests.
    pub agent: Option<AgentToken>,
    /// The session that the header claims.
    pub session: Option<SessionId>,
    /// The envelope's id.
    pub envelope: Option<EnvelopeId>,
    /// Its digest.
    pub digest: Option<Hash>,
    /// The rule that it names.
    pub rule: Option<String>,
    /// The logical subject on the wire.
    pub subject: Option<String>,
    /// The label that it claims.
    pub label: Option<Label>,
    /// The key and number that it claims.
    pub number: Option<(KeyId, u64)>,
    /// When it was sealed, as it claims.
    pub issued_at: Option<Millis>,
    /// Whether the sender gets a signed verdict: it asked for one, and never was nor will be told otherwise about this
    /// envelope.
    pub confirm: bool,
    /// Whether a session of the attested agent verifiably signed it. What nobody signed proves nothing
    /// against anybody: a hostile server can put any bytes on any subject.
    pub signed: bool,
}

impl Denial {
    /// A denial of which nothing else is known.
    #[must_use]
    pub const fn bare(refused: Refused) -> Self {
        Self {
            refused,
            agent: None,
            session: None,
            envelope: None,
            digest: None,
            rule: None,
            subject: None,
            label: None,
            number: None,
            issued_at: None,
            confirm: false,
            signed: false,
        }
    }

    /// With what the header says.
    #[must_use]
    pub fn about(mut self, header: &Header<'_>) -> Self {
        self.session = Some(header.session);
        self.envelope = Some(header.id);
        self.rule = Some(header.rule.to_owned());
        self.label = Some(header.label);
        self.number = Some((header.key, header.sequence));
        self.issued_at = Some(header.issued_at);
        self.confirm = header.flags.confirm();
        self
    }
}

/// What the checks find out on their way, borrowed: most envelopes pass, and then none of it is copied.
#[derive(Debug, Default)]
pub(super) struct Known<'s, 'a> {
    pub(super) agent: Option<&'s str>,
    pub(super) subject: Option<&'s str>,
    pub(super) header: Option<Header<'a>>,
    pub(super) digest: Option<Hash>,
    pub(super) signed: bool,
}

impl<'a> Known<'_, 'a> {
    /// Verifies the envelope, and remembers that its session signed it.
    pub(super) fn verify(
        &mut self,
        decoded: Decoded<'a>,
        session: &LiveSession,
        seen: &impl SeenRoots,
    ) -> Result<Verified<'a>, Refused> {
        let verified = decoded.verify(&session.certificate, &session.credential, seen)?;
        self.signed = true;
        self.digest = Some(verified.digest());
        Ok(verified)
    }

    /// A session signed it, as was verified elsewhere.
    pub(super) const fn verified(&mut self, digest: Hash) {
        self.signed = true;
        self.digest = Some(digest);
    }

    /// Whether the claimed session signed it, though another check failed already: a contradiction under a
    /// valid signature is evidence, any other is noise.
    pub(super) fn look(&mut self, decoded: &Decoded<'_>, session: &LiveSession, seen: &impl SeenRoots) {
        self.digest = decoded.signed_by(&session.certificate, seen).ok();
        self.signed = self.digest.is_some();
    }

    pub(super) fn denial(self, refused: Refused) -> Denial {
        let mut denial = Denial::bare(refused);
        if let Some(header) = &self.header {
            denial = denial.about(header);
        }
        denial.agent = self.agent.and_then(|agent| AgentToken::parse(agent).ok());
        denial.subject = self.subject.map(str::to_owned);
        denial.digest = self.digest;
        denial.signed = self.signed;
        denial
    }
}

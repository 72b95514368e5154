//! What the desk tells the anomaly detector, and what it does about what that finds.

use std::sync::Arc;

use sealbus_envelope::{
    control::{self, verb},
    hash::{Hash, hex},
    identity::SessionId,
    keys::KeyId,
    name::AgentToken,
    reason::Reason,
    subject::Control,
    time::Millis,
};

use super::Desk;
use crate::{
    anomaly::{Action, Detector, Finding, Mark, Observation, Sent, Settings, known::mix, parents::Parents},
    audit::entry::Body,
    bus::{
        auth::{ConnectionDecision, Outcome},
        egress::Outgoing,
    },
    check::{Denial, Permit},
    events::{Event, Kind},
    quarantine::{
        evidence::{Proof, Response, Weight, weigh},
        state::{Cause, State, Trigger},
    },
    store::Store,
};

/// How often what was learned is put on disk, in milliseconds: losing a minute of it is fine.
const SAVE_EVERY_MS: u64 = 60_000;

/// The detector, and when it was saved.
#[derive(Debug, Default)]
pub(super) struct Watching {
    /// For a benchmark: the detector is told of no envelope.
    off: bool,
    detector: Detector,
    parents: Parents,
    saved: Millis,
    ticked: Millis,
}

/// The first eight bytes of what is random or a digest.
fn short(bytes: &[u8]) -> u64 {
    let mut first = [0; 8];
    first.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    u64::from_le_bytes(first)
}

/// The number that an envelope was signed under, and which envelope it is.
fn mark(key: &KeyId, sequence: u64, digest: &Hash) -> Mark {
    Mark { number: mix(short(key.as_bytes()) ^ mix(sequence)), envelope: short(digest) }
}

impl Watching {
    /// A session ended.
    pub(super) fn left(&mut self, agent: &AgentToken, session: SessionId, now: Millis) {
        let session = short(session.as_bytes());
        // The end of a session takes nobody over a threshold.
        let _ = self.detector.observe(agent.as_str(), Observation::Left { session }, now);
    }

    /// A person let an agent back: what it does from now on is what is usual.
    pub(super) fn anew(&mut self, agent: &AgentToken) {
        self.detector.release(agent.as_str(), self.ticked);
    }
}

impl Desk {
    /// Goes on with what was learned before the guard was restarted: who was watched is watched still.
    pub fn resume_watching(&mut self, watched: impl IntoIterator<Item = AgentToken>, now: Millis) {
        self.watching.detector.set(self.anomaly_settings());
        // Not kept on disk: what was admitted before is no evidence.
        self.watching.parents = Parents::since(now);
        match self.store.baselines() {
            Ok(learned) => {
                let unread = learned
                    .into_iter()
                    .filter(|(agent, saved)| !self.watching.detector.restore(agent.clone(), saved, now))
                    .count();
                if unread > 0 {
                    tracing::info!(unread, "what is usual for some agents is learned anew");
                }
            }
            Err(error) => tracing::warn!(%error, "what is usual for agents is learned anew"),
        }
        for agent in watched {
            self.watching.detector.resume_watch(&agent, now);
        }
    }

    fn anomaly_settings(&self) -> Settings {
        Settings::from_record(&self.sessions.in_force().policy.supervision().anomaly)
    }

    /// The policy in force may set other thresholds.
    pub(super) fn watch_by_policy(&mut self) {
        self.watching.detector.set(self.anomaly_settings());
    }

    /// An envelope was admitted, or passed every check and waits for people: it counts when it comes, never when it
    /// is released or, out of evidence, delivered after all. The hot path.
    pub(super) fn saw_sent(&mut self, permit: &Permit<'_>, size: usize, now: Millis) {
        if self.watching.off {
            return;
        }
        let header = permit.verified().header();
        let sent = Sent {
            sealed: header.issued_at,
            subject: header.subject,
            rule: header.rule,
            label: header.label,
            size: u32::try_from(size).unwrap_or(u32::MAX),
            count: 1,
            gap: permit.gap(),
            session: short(header.session.as_bytes()),
            mark: Some(mark(&header.key, header.sequence, &permit.verified().digest())),
        };
        if let Some(finding) = self.watching.detector.observe(header.sender, Observation::Sent(sent), now) {
            self.found(header.sender, &finding, now);
        }
        let digest = permit.verified().digest();
        if let Some((parent, fault)) = self.watching.parents.fault(header.sender, header.parents()) {
            let (parent, envelope) = (hex(&parent), hex(&digest));
            tracing::debug!(agent = header.sender, envelope, parent, ?fault, "a parent is not true");
            // Once for an envelope, however many it names.
            let finding = self.watching.detector.observe(header.sender, Observation::UntrueParents, now);
            finding.into_iter().for_each(|finding| self.found(header.sender, &finding, now));
        }
        self.watching.parents.sent(digest, header.session, header.rule, header.label);
    }

    /// Something was denied, and weighed by [`weigh`].
    pub(super) fn saw_denied(&mut self, agent: &AgentToken, denial: &Denial, proof: &Proof, now: Millis) {
        let reason = denial.refused.reason;
        let observation = match weigh(reason, proof) {
            Weight::Hard => Observation::BadContent,
            Weight::Soft if matches!(proof, Proof::Signed { knew_policy: true, .. }) => {
                Observation::SignedDenial
            }
            // Before it could know the policy it did nothing wrong.
            Weight::Soft => return,
            Weight::None if reason == Reason::Replay && denial.signed => {
                let number = denial.number.zip(denial.digest);
                let mark = number.map(|((key, sequence), digest)| mark(&key, sequence, &digest));
                Observation::Replayed { mark }
            }
            // Signed, but late or too fast: what a server brings about as easily.
            Weight::None if denial.signed => return,
            Weight::None => Observation::Junk,
        };
        self.observe(agent, observation, now);
    }

    /// The log is told of what happened: some of it says something about an agent.
    pub(super) fn saw_record(&mut self, body: &Body<'_>, now: Millis) {
        match body {
            Body::KeyGranted(granted) => {
                let session = SessionId::from_bytes(granted.sender_session.0);
                self.watching.parents.granted(session, &granted.rule, granted.label, &granted.reader);
                if let Ok(sender) = AgentToken::parse(&granted.sender) {
                    self.observe(&sender, Observation::Granted { reader: &granted.reader }, now);
                }
            }
            Body::Session(session) => {
                let id = SessionId::from_bytes(session.session.0);
                if let Some(live) = self.sessions.roster().get(id) {
                    let certified_from = live.certificate.validity().not_before;
                    self.watching.parents.began(id, live.agent(), certified_from);
                }
            }
            _ => {}
        }
    }

    /// A control message came: a subscription says what an agent wants to read, be it refused or not.
    pub(super) fn saw_control(&mut self, subject: &Control<'_>, payload: &[u8], now: Millis) {
        if subject.verb == verb::SUBSCRIBE
            && let Ok(agent) = AgentToken::parse(subject.agent)
            && self.sessions.roster().of_agent(agent.as_str()).next().is_some()
            && let Ok(control::Subscribe { rule, .. }) = control::decode(payload)
        {
            self.observe(&agent, Observation::Asked { rule: rule.as_str() }, now);
        }
    }

    /// A connection was judged.
    pub fn saw_connection(&mut self, decision: &ConnectionDecision, now: Millis) {
        let (Some(agent), Some(session)) = (&decision.agent, &decision.session) else { return };
        let observation = match (decision.outcome, decision.reason) {
            (Outcome::Admitted, _) if !decision.again => Observation::Connected {
                session: short(session.as_bytes()),
                place: crate::anomaly::known::digest(&decision.host),
            },
            // That it is in quarantine, or that its papers ran out, it learns by trying.
            (Outcome::Lobby | Outcome::Refused, Some(refused)) if is_odd(refused.reason) => {
                Observation::FailedLogin
            }
            _ => return,
        };
        self.observe(agent, observation, now);
    }

    fn observe(&mut self, agent: &AgentToken, observation: Observation<'_>, now: Millis) {
        if let Some(finding) = self.watching.detector.observe(agent.as_str(), observation, now) {
            self.found(agent.as_str(), &finding, now);
        }
    }

    /// Says what was found, and has it done unless the agent is only observed.
    fn found(&mut self, agent: &str, finding: &Finding, now: Millis) {
        let Ok(agent) = AgentToken::parse(agent) else { return };
        let observed = self.is_observed(&agent);
        let Finding { action, score, signed, threshold, .. } = finding;
        let instead = if observed { ", were it not for observe mode" } else { "" };
        let mut event = Event::new(Kind::Anomaly, now).because(Reason::Anomalous).about(&agent);
        event.what = finding.main().map(|signal| signal.name().to_owned());
        event.detail = Some(format!(
            "{}{instead}: score {score:.2}, {signed:.2} of it signed, threshold {threshold:.2}; {}",
            action.code(),
            finding.show()
        ));
        self.todo.publish.push(Outgoing::event(&self.wire, &event));
        tracing::info!(%agent, action = action.code(), score, signed, signals = finding.show(), observed, "anomaly");
        if observed {
            return;
        }
        let what = finding.main().map_or("score", |signal| signal.name());
        let cause = || Cause {
            trigger: Trigger::Anomaly,
            reason: Reason::Anomalous,
            what: if finding.signals.is_empty() { what.to_owned() } else { finding.show() },
            envelopes: Vec::new(),
            order: None,
        };
        // A directed workflow pauses for what its sender signed, not for what a server says of it.
        if matches!(action, Action::Watch) && signed >= threshold {
            self.member_deviated(&agent, State::Watched, &cause(), now);
        }
        let response = match action {
            Action::Watch => Response::Watch(cause()),
            Action::Calm => Response::Calm,
            Action::Quarantine => Response::Quarantine(cause()),
        };
        self.todo.offenders.push((agent, response));
    }

    /// Whether the agent's team, or the whole bus, is in observe mode.
    fn is_observed(&self, agent: &AgentToken) -> bool {
        let policy = &self.sessions.in_force().policy;
        let session = self.sessions.roster().of_agent(agent.as_str()).next();
        session.map_or(policy.tables().observe, |session| policy.observes_all_of(&session.principal))
    }

    /// Lets time pass for the detector; now and then what it learned is saved.
    pub(super) fn tick_watching(&mut self, now: Millis) {
        self.watching.ticked = now;
        for (agent, finding) in self.watching.detector.tick(now) {
            self.found(agent.as_str(), &finding, now);
        }
        for (signal, count) in self.watching.detector.take_fired() {
            self.metrics.anomaly(signal.name(), count);
        }
        self.metrics.watched(self.watching.detector.watched());
        if now.since(self.watching.saved) >= SAVE_EVERY_MS || now < self.watching.saved {
            self.watching.saved = now;
            self.save_baselines(false);
        }
    }

    /// Puts what was learned on disk: beside the loop if there is a runtime, else (at the end) at once.
    pub(super) fn save_baselines(&mut self, at_once: bool) {
        let learned = self.watching.detector.save(false);
        if learned.is_empty() {
            return;
        }
        let store = Arc::clone(&self.store);
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if !at_once => {
                runtime.spawn_blocking(move || save(&store, &learned));
            }
            _ => save(&store, &learned),
        }
    }

    /// Tells the detector of no envelope from now on. Nothing that runs as a guard calls it: it is for the benchmark
    /// that says what the detector costs.
    #[doc(hidden)]
    pub const fn stop_watching(&mut self) {
        self.watching.off = true;
    }

    /// The score of an agent and how much of it is signed.
    #[must_use]
    pub fn anomaly_score(&self, agent: &str) -> Option<(f32, f32)> {
        self.watching.detector.score(agent)
    }
}

/// Nothing rests on it but what is learned anew.
fn save(store: &Store, learned: &[(AgentToken, Vec<u8>)]) {
    if let Err(error) = store.put_baselines(learned) {
        tracing::warn!(%error, "what is usual for agents could not be saved");
    }
}

/// Whether a refused login says something about who has the key.
const fn is_odd(reason: Reason) -> bool {
    !matches!(
        reason,
        Reason::Quarantined
            | Reason::Revoked
            | Reason::GuardUnavailable
            | Reason::Overloaded
            | Reason::StoreUnavailable
            | Reason::CredentialExpired
            | Reason::CertificateExpired
            | Reason::StatusExpired
            | Reason::NotYetValid
            | Reason::NoPolicy
            | Reason::UnknownTeam
            | Reason::WrongZone
            | Reason::AboveCeiling
            | Reason::SessionEnded
            | Reason::RateLimited
    )
}

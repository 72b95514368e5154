//! What is kept of agents that are off the bus, and its delivery after all: off the loop, for disk and stream take
//! their time.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_nats::HeaderMap;
use bytes::Bytes;
use sealbus_envelope::{
    hash::{Hash, hex},
    identity::{PublicKey, SigningKey},
    reason::Reason,
    subject::WireSubjects,
};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::running::Guard;
use crate::{
    bus::{
        desk::quarantine::{Again, PapersOf},
        link,
        stream::{Stream, StreamSpec},
    },
    clock::now,
    config::Config,
    events::{Event, Kind},
    metrics::Metrics,
    quarantine::{
        custody::{Claimed, Custody, Fate, Job, Place, Sealed},
        enforce::Bars,
    },
    store::{
        Store, StoreError,
        evidence::{Listed, Waiting},
    },
};

/// What waits to be written. Past it, it is counted only.
const WAITING: usize = 4_096;
/// What is written together.
const BATCH: usize = 128;
/// How many envelopes are judged again between two turns of the loop.
const REPLAYED: usize = 64;
/// How long a replay waits for a log that takes nothing.
const RETRY: Duration = Duration::from_secs(1);
/// How long a replay waits for a paused workflow, or for a stream that does not answer.
const STALLED: Duration = Duration::from_secs(5);
/// What was known of an envelope, in the stream.
const CONTEXT: &str = "Sealbus-Evidence";

/// The stream of evidence, made unless it is there; none if it cannot be had.
pub(super) async fn open_stream(
    config: &Config,
    key: &SigningKey,
    wire: &WireSubjects,
    servers: usize,
) -> Option<Stream> {
    let limits = config.evidence?;
    let spec = StreamSpec {
        max_msgs: Some(limits.max_messages),
        ..StreamSpec::evidence(wire, limits.max_bytes, limits.max_age)
    };
    let made = match link::connect(config, key, "for evidence").await {
        Ok(link) => Stream::ensure(link.client, &spec, servers).await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match made {
        Ok((stream, _)) => Some(stream),
        Err(error) => {
            tracing::warn!(error, "evidence is kept on the guard's disk only");
            None
        }
    }
}

/// Where evidence goes, and where it comes from.
#[derive(Debug, Clone)]
pub(super) struct Custodian {
    store: Arc<Store>,
    bars: Arc<Bars>,
    stream: Option<Stream>,
    wire: WireSubjects,
    replays: mpsc::Sender<Replay>,
}

/// A part of a replay: what is to be judged, and what became of the parts before.
#[derive(Debug)]
pub(super) struct Replay {
    identity: PublicKey,
    job: Job,
    again: Vec<Again>,
    papers: PapersOf,
    outcomes: BTreeMap<&'static str, u64>,
    /// What comes next could not be read.
    stalled: bool,
}

impl Custodian {
    /// Keeps evidence in the background. Gives itself, where evidence is handed over, and the parts of replays for
    /// the loop to judge.
    pub(super) fn start(
        store: Arc<Store>,
        bars: Arc<Bars>,
        stream: Option<Stream>,
        wire: WireSubjects,
    ) -> (Self, mpsc::Sender<Custody>, mpsc::Receiver<Replay>) {
        let (sender, mut incoming) = mpsc::channel(WAITING);
        let (replays, judged) = mpsc::channel(1);
        let custodian = Self { store, bars, stream, wire, replays };
        let keeper = custodian.clone();
        tokio::spawn(async move {
            let mut batch = Vec::with_capacity(BATCH);
            while incoming.recv_many(&mut batch, BATCH).await > 0 {
                keeper.keep(batch.drain(..)).await;
            }
        });
        (custodian, sender, judged)
    }

    async fn keep(&self, batch: impl Iterator<Item = Custody>) {
        let (mut papers, mut listed, mut dropped) = (Vec::new(), Vec::new(), Vec::new());
        for custody in batch {
            let agent = match &custody {
                Custody::Session(papers) => &papers.agent,
                Custody::Envelope(sealed) => &sealed.agent,
                Custody::Dropped { agent, .. } => agent,
            };
            // Who is in no book is not off the bus: the disk refused, and the guard has said so.
            let Some(identity) = self.bars.by_agent(agent.as_str()).map(|known| known.identity) else {
                continue;
            };
            match custody {
                Custody::Session(session) => papers.push((identity, *session)),
                Custody::Dropped { count, .. } => dropped.push((identity, count)),
                Custody::Envelope(sealed) => {
                    let streamed = self.publish(&sealed).await;
                    match streamed {
                        Streamed::Again => dropped.push((identity, 1)),
                        Streamed::At(place) => {
                            listed.push(Listed { identity, sealed: *sealed, streamed: Some(place) });
                        }
                        Streamed::Not => listed.push(Listed { identity, sealed: *sealed, streamed: None }),
                    }
                }
            }
        }
        let store = Arc::clone(&self.store);
        let written = tokio::task::spawn_blocking(move || {
            store.keep_papers(&papers)?;
            store.keep_evidence(&listed, &dropped)
        });
        if let Ok(Err(error)) = written.await {
            tracing::error!(%error, "evidence could not be kept");
        }
    }

    async fn publish(&self, sealed: &Sealed) -> Streamed {
        let Some(stream) = &self.stream else { return Streamed::Not };
        let digest: Hash = Sha256::digest(&sealed.bytes).into();
        let claims = Claimed::read(&sealed.bytes);
        let context = json!({
            "agent": sealed.agent,
            "time": sealed.time,
            "subject": sealed.subject,
            "reason": sealed.reason,
            "trigger": sealed.trigger,
            "session": claims.as_ref().map(|claims| claims.session.to_string()),
            "rule": claims.as_ref().map(|claims| &claims.rule),
            "label": claims.as_ref().map(|claims| claims.label),
            "digest": claims.as_ref().map(|claims| hex(&claims.digest)),
        });
        let mut headers = HeaderMap::new();
        headers.insert(CONTEXT, context.to_string().as_str());
        let subject = format!("{}.evidence.{}", self.wire.prefix(), sealed.agent);
        let id = format!("{}-{}", sealed.agent, hex(&digest));
        match stream.publish(subject, &id, headers, sealed.bytes.clone()).await {
            // The very same bytes are there already: one copy is as good as many.
            Ok(stored) if stored.duplicate => Streamed::Again,
            Ok(stored) => Streamed::At(stored.sequence),
            Err(error) => {
                tracing::warn!(%error, "evidence is kept on the guard's disk instead");
                Streamed::Not
            }
        }
    }

    /// Takes up what was begun before the guard started.
    pub(super) fn resume(&self) -> Result<(), StoreError> {
        for (identity, job) in self.store.replays()? {
            self.continue_replay(identity, job, BTreeMap::new(), Duration::ZERO);
        }
        Ok(())
    }

    /// Begins a replay.
    pub(super) fn begin(&self, identity: PublicKey, job: Job) {
        self.continue_replay(identity, job, BTreeMap::new(), Duration::ZERO);
    }

    /// Gets the next part of a replay and hands it to the loop.
    fn continue_replay(
        &self,
        identity: PublicKey,
        job: Job,
        outcomes: BTreeMap<&'static str, u64>,
        after: Duration,
    ) {
        let custodian = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            match custodian.part(&identity, job).await {
                Ok((again, papers, stalled)) => {
                    let part = Replay { identity, job, again, papers, outcomes, stalled };
                    // Fails only when the guard is stopping; the next one goes on with it.
                    let _ = custodian.replays.send(part).await;
                }
                Err(error) => tracing::error!(%error, "a replay stops until the guard starts again"),
            }
        });
    }

    /// What is to be judged next, and whether it ends early because something behind it cannot be read now. A
    /// server that is away must not make evidence disappear: only what it says it does not have is given up.
    async fn part(&self, identity: &PublicKey, job: Job) -> Result<(Vec<Again>, PapersOf, bool), StoreError> {
        let (store, key) = (Arc::clone(&self.store), identity.clone());
        let read = tokio::task::spawn_blocking(move || {
            let waiting = store.waiting_evidence(&key, job.upto, REPLAYED)?;
            let mut papers = PapersOf::new();
            for session in waiting.iter().filter_map(|(kept, _)| Some(kept.claims.as_ref()?.session)) {
                if !papers.contains_key(&session)
                    && let Some(found) = store.papers(&key, session)?
                {
                    papers.insert(session, found);
                }
            }
            Ok((waiting, papers))
        });
        let (waiting, papers): (Vec<Waiting>, PapersOf) = match read.await {
            Ok(read) => read?,
            Err(_) => return Ok((Vec::new(), PapersOf::new(), true)),
        };
        let mut again = Vec::with_capacity(waiting.len());
        for (kept, bytes) in waiting {
            let bytes = match (bytes, kept.place) {
                (Some(bytes), _) => Some(bytes),
                (None, Place::Stream(sequence)) => match self.fetch(sequence).await {
                    Ok(bytes) => bytes,
                    Err(error) => {
                        tracing::warn!(error, "a replay waits for evidence that cannot be read");
                        return Ok((again, papers, true));
                    }
                },
                (None, _) => None,
            };
            // A server may hand back what it likes: what was listed is known by its digest.
            let claimed = kept.claims.as_ref().map(|claims| claims.digest);
            let whole = |bytes: &Vec<u8>| Claimed::read(bytes).map(|claims| claims.digest) == claimed;
            again.push(Again { bytes: bytes.filter(whole).map(Bytes::from), kept });
        }
        Ok((again, papers, false))
    }

    /// The bytes, or nothing if the stream says that it does not have them.
    async fn fetch(&self, sequence: u64) -> Result<Option<Vec<u8>>, String> {
        let Some(stream) = &self.stream else {
            return Err("the stream of evidence could not be had when the guard started".to_owned());
        };
        let record = stream.get(sequence).await.map_err(|error| error.to_string())?;
        Ok(record.map(|record| record.payload))
    }
}

enum Streamed {
    At(u64),
    Again,
    Not,
}

/// Hands evidence over; what there is no room for is counted.
pub(super) fn hand_over(to: &mpsc::Sender<Custody>, custody: Vec<Custody>, metrics: &Metrics) {
    for custody in custody {
        if to.try_send(custody).is_err() {
            metrics.evidence_dropped.inc();
        }
    }
}

impl Guard {
    /// Ends a replay because its agent is off the bus again: what it did not come to is kept, for people who know of
    /// that to decide.
    async fn end_replay(&mut self, identity: &PublicKey, job: Job) {
        if let Err(error) = self.store.end_replay(identity) {
            return tracing::error!(%error, "a replay stops until the guard starts again");
        }
        let detail = format!("replay by order {} is ended: the agent is off the bus again", hex(&job.order));
        let mut event = Event::new(Kind::Evidence, now()).detail(detail);
        event.agent = self.bars.get(identity).map(|record| record.agent.to_string());
        self.event(event).await;
    }

    /// Judges a part of a replay: what passes is logged, its decision written down, then it is delivered.
    pub(super) async fn replay(&mut self, part: Replay) {
        let Replay { identity, job, again, mut papers, mut outcomes, mut stalled } = part;
        match self.store.account(&identity) {
            Ok(account) if account.job == Some(job) => {}
            Ok(_) => return,
            Err(error) => return tracing::error!(%error, "a replay stops until the guard starts again"),
        }
        if self.bars.is_barred(&identity) {
            return self.end_replay(&identity, job).await;
        }
        // Whatever else the desk has to do is done first: what it does for this waits for the disk.
        self.carry_out().await;
        let judged = self.desk.judge_again(&identity, &again, &mut papers, now());
        if judged.contains(&Some(Reason::AuditUnavailable)) {
            self.carry_out().await;
            return self.custodian.continue_replay(identity, job, outcomes, RETRY);
        }
        // What was not judged, and all behind it, stays as it is and is tried again.
        stalled |= judged.len() < again.len();
        if stalled && judged.is_empty() {
            return self.custodian.continue_replay(identity, job, outcomes, STALLED);
        }
        let decided: Vec<_> = again
            .iter()
            .zip(&judged)
            .map(|(again, refused)| (again.kept.clone(), refused.map_or(Fate::Delivered, Fate::Refused)))
            .collect();
        let done =
            !stalled && (again.last().is_none_or(|last| last.kept.n >= job.upto) || again.len() < REPLAYED);
        let papers: Vec<_> = papers.into_values().collect();
        if let Err(error) = self.store.decide_evidence(&identity, &decided, &papers, done) {
            // Nothing of it leaves the guard: it would be delivered again when the disk is back.
            drop(self.desk.take_todo());
            tracing::error!(%error, "a replay stops until the guard starts again");
            return;
        }
        self.carry_out().await;
        for refused in judged {
            *outcomes.entry(refused.map_or("delivered", Reason::code)).or_default() += 1;
        }
        if !done {
            let after = if stalled { STALLED } else { Duration::ZERO };
            return self.custodian.continue_replay(identity, job, outcomes, after);
        }
        let told: Vec<_> = outcomes.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
        let told = if told.is_empty() { "nothing was kept".to_owned() } else { told.join(", ") };
        let mut event =
            Event::new(Kind::Evidence, now()).detail(format!("replay by order {}: {told}", hex(&job.order)));
        event.agent = self.bars.get(&identity).map(|record| record.agent.to_string());
        event.count = Some(outcomes.values().sum());
        self.event(event).await;
    }
}

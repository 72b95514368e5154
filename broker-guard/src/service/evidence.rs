//! What is kept of agents that are off the bus, and its delivery after all: off the loop, for disk and stream take
//! their time.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::HeaderMap;
use bytes::Bytes;
use sealbus_envelope::{
    hash::{Hash, hex},
    identity::{PublicKey, SigningKey},
    name::AgentToken,
    reason::Reason,
    subject::WireSubjects,
};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::{sync::mpsc, task::JoinHandle};

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
        bars::Bars,
        custody::{Claimed, Custody, Fate, Job, Papers, Place, Sealed},
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
/// How long what is written together may wait for the stream. A server that answers slowly, or never, must not keep
/// evidence in memory, where it is lost with the guard.
const STREAM_PATIENCE: Duration = Duration::from_secs(1);
/// How long evidence goes to the guard's disk instead, once the stream has failed.
const STREAM_REST: Duration = Duration::from_secs(30);
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
    ) -> (Self, Handing, mpsc::Receiver<Replay>) {
        let (sender, mut incoming) = mpsc::channel(WAITING);
        let (replays, judged) = mpsc::channel(1);
        let custodian = Self { store, bars, stream, wire, replays };
        let keeper = custodian.clone();
        let keeping = tokio::spawn(async move {
            let mut batch = Vec::with_capacity(BATCH);
            let mut rests_until = None;
            while incoming.recv_many(&mut batch, BATCH).await > 0 {
                keeper.keep(batch.drain(..), &mut rests_until).await;
            }
        });
        let handing = Handing { to: sender, keeping, papers: Vec::new(), missed: HashMap::new() };
        (custodian, handing, judged)
    }

    /// Papers first: nothing can be judged without them, and they wait for no server.
    async fn keep(&self, batch: impl Iterator<Item = Custody>, rests_until: &mut Option<Instant>) {
        let (mut papers, mut envelopes, mut dropped) = (Vec::new(), Vec::new(), Vec::new());
        for custody in batch {
            let agent = match &custody {
                Custody::Session(papers) => &papers.agent,
                Custody::Envelope(sealed) => &sealed.agent,
                Custody::Dropped { agent, .. } => agent,
            };
            // Who is in no book is not off the bus: the disk refused, and the guard has said so.
            let Some(known) = self.bars.by_agent(agent.as_str()) else { continue };
            let (identity, incident) = (known.identity, known.record.times);
            match custody {
                Custody::Session(session) => papers.push((identity, Papers { incident, ..*session })),
                Custody::Dropped { count, .. } => dropped.push((identity, count)),
                Custody::Envelope(sealed) => envelopes.push((identity, *sealed, incident)),
            }
        }
        if !papers.is_empty() {
            self.write(move |store| store.keep_papers(&papers)).await;
        }
        let begun = Instant::now();
        let mut listed = Vec::with_capacity(envelopes.len());
        for (identity, sealed, incident) in envelopes {
            let rests = rests_until.is_some_and(|until| Instant::now() < until);
            let left = STREAM_PATIENCE.saturating_sub(begun.elapsed());
            let streamed = match &self.stream {
                Some(stream) if !rests => {
                    let published = tokio::time::timeout(left, self.publish(stream, &sealed)).await;
                    published.unwrap_or_else(|_| Err("it does not answer in time".to_owned()))
                }
                _ => Ok(Streamed::Not),
            };
            match streamed {
                Ok(Streamed::Again) => dropped.push((identity, 1)),
                Ok(Streamed::At(place)) => {
                    listed.push(Listed { identity, sealed, streamed: Some(place), incident })
                }
                Ok(Streamed::Not) => listed.push(Listed { identity, sealed, streamed: None, incident }),
                Err(error) => {
                    tracing::warn!(
                        error,
                        "the stream fails, so evidence is kept on the guard's disk for a while"
                    );
                    *rests_until = Some(Instant::now() + STREAM_REST);
                    listed.push(Listed { identity, sealed, streamed: None, incident });
                }
            }
        }
        if !listed.is_empty() || !dropped.is_empty() {
            self.write(move |store| store.keep_evidence(&listed, &dropped)).await;
        }
    }

    async fn write(&self, act: impl FnOnce(&Store) -> Result<(), StoreError> + Send + 'static) {
        let store = Arc::clone(&self.store);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || act(&store)).await {
            tracing::error!(%error, "evidence could not be kept");
        }
    }

    async fn publish(&self, stream: &Stream, sealed: &Sealed) -> Result<Streamed, String> {
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
            Ok(stored) if stored.duplicate => Ok(Streamed::Again),
            Ok(stored) => Ok(Streamed::At(stored.sequence)),
            Err(error) => Err(error.to_string()),
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
            // Nothing calls when a log, a workflow or a stream goes on.
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

/// The way from the loop to who keeps evidence, which the loop never waits for.
#[derive(Debug)]
pub(super) struct Handing {
    to: mpsc::Sender<Custody>,
    keeping: JoinHandle<()>,
    /// Papers that there was no room for: the next time they go first.
    papers: Vec<Custody>,
    /// Envelopes that there was no room for, to be counted in their agent's account.
    missed: HashMap<AgentToken, u64>,
}

impl Handing {
    /// Hands evidence over; what there is no room for is counted.
    pub(super) fn hand_over(&mut self, custody: Vec<Custody>, metrics: &Metrics) {
        let missed = self.missed.drain().map(|(agent, count)| Custody::Dropped { agent, count });
        let before: Vec<_> = self.papers.drain(..).chain(missed).collect();
        for custody in before.into_iter().chain(custody) {
            let Err(error) = self.to.try_send(custody) else { continue };
            match error.into_inner() {
                papers @ Custody::Session(_) => self.papers.push(papers),
                Custody::Dropped { agent, count } => *self.missed.entry(agent).or_default() += count,
                Custody::Envelope(sealed) => {
                    metrics.evidence_dropped.inc();
                    *self.missed.entry(sealed.agent).or_default() += 1;
                }
            }
        }
    }

    /// Hands over what is left, and waits until all of it is written.
    pub(super) async fn finish(mut self, metrics: &Metrics, patience: Duration) {
        self.hand_over(Vec::new(), metrics);
        drop(self.to);
        if tokio::time::timeout(patience, self.keeping).await.is_err() {
            tracing::error!("stopped before all evidence was written");
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
        if let Some(record) = self.bars.get(identity) {
            (event.agent, event.incident) = (Some(record.agent.to_string()), Some(record.opened));
        }
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
        if let Some(record) = self.bars.get(&identity) {
            (event.agent, event.incident) = (Some(record.agent.to_string()), Some(record.opened));
        }
        event.count = Some(outcomes.values().sum());
        self.event(event).await;
    }
}

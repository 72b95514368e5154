//! Keeps the policy and the status up to date: a task of its own, so that verifying and compiling a large
//! policy delays no envelope. The loop gets only what may come into force, and what was refused.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use sealbus_envelope::reason::Reason;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    bus::{
        bucket::{Bucket, BucketError, Stored, Writes, Written},
        link::Link,
    },
    reload::{Changed, Loader, Offer, Place, ReloadError, Watch},
    sessions::InForce,
};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How often the bucket is asked, besides when something is written: a notice may be lost.
const ASK: Duration = Duration::from_secs(10);
/// Who can write the bucket can do so without end; it is looked at no more often than this.
const PACE: Duration = Duration::from_millis(250);
/// How long servers may take to store what they passed on already.
const SETTLE: Duration = Duration::from_millis(100);
/// Versions that were touched and are to be looked at. Beyond that the rest is passed over.
const TOUCHED: usize = 64;

/// What the keeper found.
#[derive(Debug)]
pub(super) enum Found {
    /// To come into force.
    New(Box<InForce>),
    /// Offered, and no good.
    Refused(ReloadError),
}

/// The task's state.
pub(super) struct Keeper {
    loader: Arc<Loader>,
    watch: Watch,
    bucket: Option<Shelf>,
    in_force: InForce,
    found: mpsc::Sender<Found>,
    /// The number in the bucket that was refused last: told once, not at every look.
    complained: Option<u64>,
}

/// The bucket and the connection that it is read through.
pub(super) struct Shelf {
    link: Link,
    bucket: Bucket,
}

impl Shelf {
    /// Finds the bucket, or makes it. `None` if the servers have no streams.
    pub(super) async fn open(link: Link, servers: usize) -> Option<Self> {
        let bucket = Bucket::new(link.client.clone());
        let mut made = bucket.make(servers).await;
        if let Err(BucketError::Refused(said)) = &made {
            tracing::warn!(said, "no policy bucket on several servers; it is made on one");
            made = bucket.make(1).await;
        }
        match made {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!(
                    "the policy bucket has other settings than it was made with; \
                    what is in it may be deleted, and what is not signed is refused as ever"
                );
            }
            Err(BucketError::Absent) => {
                tracing::info!("no JetStream in the bus's account: policies come from the guard's file only");
                return None;
            }
            Err(error) => tracing::warn!(%error, "no policy bucket"),
        }
        Some(Self { link, bucket })
    }

    /// The current policy of the bucket, if it is good.
    ///
    /// # Errors
    /// [`ReloadError`] if there is one and it is not good. That the bucket cannot be read is none.
    pub(super) async fn newest(&self, loader: &Arc<Loader>) -> Result<Option<Offer>, ReloadError> {
        match self.bucket.current().await {
            Ok(current) => match judge(current, 0, loader.published()?) {
                Verdict::Fetch(version) => fetch(&self.bucket, loader, version).await,
                Verdict::Same => Ok(None),
                Verdict::Wrong(error) => Err(error),
            },
            Err(error) => {
                tracing::warn!(%error, "the policy bucket cannot be read");
                Ok(None)
            }
        }
    }
}

enum Verdict {
    Same,
    Fetch(u64),
    Wrong(ReloadError),
}

/// What the number in the bucket means, by the version in force and the highest ever found in the bucket.
fn judge(current: Option<u64>, in_force: u64, published: u64) -> Verdict {
    match current {
        None if published == 0 => Verdict::Same,
        None => Verdict::Wrong(ReloadError::Bucket {
            what: format!("it has no current version, and version {published} was there before"),
            reason: Reason::RolledBack,
        }),
        Some(current) if current < published => Verdict::Wrong(ReloadError::Bucket {
            what: format!(
                "it says that version {current} is current, and version {published} was there before"
            ),
            reason: Reason::RolledBack,
        }),
        Some(current) if current > in_force => Verdict::Fetch(current),
        // Lower than a policy that came by file is no rollback, only not published yet.
        Some(_) => Verdict::Same,
    }
}

async fn fetch(bucket: &Bucket, loader: &Arc<Loader>, version: u64) -> Result<Option<Offer>, ReloadError> {
    let wrong = |what: String| ReloadError::Bucket { what, reason: Reason::PolicyInvalid };
    let bytes = match bucket.get(version).await {
        Ok(Some(Stored { bytes: Some(bytes), .. })) => bytes,
        Ok(Some(Stored { bytes: None, .. })) => return Err(wrong(format!("version {version} is not whole"))),
        Ok(None) => return Err(wrong(format!("version {version} is said to be current, and is not there"))),
        Err(error) => {
            tracing::warn!(%error, version, "a published policy cannot be read; it is tried again");
            return Ok(None);
        }
    };
    let offer = blocking(loader, move |loader| loader.verify(bytes, Place::Bucket(version))).await?;
    if offer.version() == version {
        Ok(Some(offer))
    } else {
        Err(wrong(format!("what is there as version {version} is version {}", offer.version())))
    }
}

impl Keeper {
    pub(super) fn new(
        loader: Arc<Loader>,
        watch: Watch,
        bucket: Option<Shelf>,
        in_force: InForce,
        found: mpsc::Sender<Found>,
    ) -> Self {
        Self { loader, watch, bucket, in_force, found, complained: None }
    }

    /// Until `stop`, or until nobody listens.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut writes = match &self.bucket {
            Some(shelf) => shelf.bucket.writes().await.ok(),
            None => None,
        };
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ask = interval(ASK);
        ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut calm = Instant::now();
        loop {
            let alive = tokio::select! {
                () = stop.cancelled() => false,
                _ = look.tick() => match self.watch.changed() {
                    Some(changed) => self.files(changed).await,
                    None => true,
                },
                _ = ask.tick(), if self.bucket.is_some() => self.ask().await,
                Some(written) = next(&mut writes) => {
                    sleep_until(calm).await;
                    let going_on = self.written(written, &mut writes).await;
                    calm = Instant::now() + PACE;
                    going_on
                }
            };
            if !alive {
                return;
            }
        }
    }

    async fn files(&mut self, changed: Changed) -> bool {
        let now = self.in_force.clone();
        let outcome = blocking(&self.loader, move |loader| loader.files(&now, changed)).await;
        self.tell(outcome).await
    }

    /// Puts forward what may come into force.
    async fn tell(&mut self, outcome: Result<InForce, ReloadError>) -> bool {
        let found = match outcome {
            Ok(in_force) => {
                self.in_force = in_force.clone();
                Found::New(Box::new(in_force))
            }
            Err(error) => Found::Refused(error),
        };
        self.found.send(found).await.is_ok()
    }

    async fn ask(&mut self) -> bool {
        let Some(shelf) = self.bucket.as_ref().filter(|shelf| shelf.link.is_up()) else { return true };
        match shelf.bucket.current().await {
            Ok(current) => self.current(current).await,
            Err(error) => {
                tracing::debug!(%error, "the policy bucket cannot be read");
                true
            }
        }
    }

    /// Takes in all that was written by now, then looks at each version once.
    async fn written(&mut self, first: Written, writes: &mut Option<Writes>) -> bool {
        let (mut current, mut touched) = (None, BTreeSet::new());
        let mut next = Some(first);
        while let Some(written) = next {
            match written {
                Written::Current(version) => current = Some(version),
                Written::Version(version) if touched.len() < TOUCHED => {
                    touched.insert(version);
                }
                Written::Version(_) => {}
            }
            next = writes.as_mut().and_then(Writes::ready);
        }
        // A notice may come before the servers have stored it, but what a number names is stored already.
        if current.is_some() {
            self.complained = None;
            if !self.current(current).await {
                return false;
            }
        }
        if !touched.is_empty() {
            sleep(SETTLE).await;
        }
        for version in touched {
            if let Some(error) = self.tampered(version).await
                && !self.tell(Err(error)).await
            {
                return false;
            }
        }
        true
    }

    async fn current(&mut self, current: Option<u64>) -> bool {
        let published = match self.loader.published() {
            Ok(published) => published,
            Err(error) => return self.tell(Err(error)).await,
        };
        let outcome = match judge(current, self.in_force.policy.version(), published) {
            Verdict::Same => return self.same(current).await,
            Verdict::Wrong(error) => Err(error),
            Verdict::Fetch(version) => match &self.bucket {
                Some(shelf) => match fetch(&shelf.bucket, &self.loader, version).await {
                    Ok(Some(offer)) => blocking(&self.loader, move |loader| loader.accept(offer)).await,
                    Ok(None) => return true,
                    Err(error) => Err(error),
                },
                None => return true,
            },
        };
        if outcome.is_err() {
            let number = current.unwrap_or(0);
            if self.complained.replace(number) == Some(number) {
                return true;
            }
        } else {
            self.complained = None;
        }
        self.tell(outcome).await
    }

    /// The bucket agrees with what is in force: from now on it may not go back behind that.
    async fn same(&mut self, current: Option<u64>) -> bool {
        self.complained = None;
        let in_force = self.in_force.policy.version();
        if current != Some(in_force) || self.loader.published().is_ok_and(|published| published >= in_force) {
            return true;
        }
        match self.tampered(in_force).await {
            None => match self.loader.saw_published(in_force) {
                Ok(()) => true,
                Err(error) => self.tell(Err(error)).await,
            },
            Some(error) => {
                self.complained = current;
                self.tell(Err(error)).await
            }
        }
    }

    /// Whether what the bucket has as a version that was in force is something else.
    async fn tampered(&self, version: u64) -> Option<ReloadError> {
        if version > self.in_force.policy.version() {
            return None;
        }
        let stored = self.bucket.as_ref()?.bucket.get(version).await.ok()??;
        let what = format!("what is there as version {version} is not what was in force as that");
        let wrong = Some(ReloadError::Bucket { what, reason: Reason::PolicyInvalid });
        let Some(bytes) = stored.bytes else { return wrong };
        let same = blocking(&self.loader, move |loader| {
            let Some((said, digest)) = loader.signed(&bytes) else { return false };
            // An old version of which there is no copy: at least it is signed, under its own number.
            said == version && loader.digest_of_copy(version).is_none_or(|known| known == digest)
        });
        if same.await { None } else { wrong }
    }
}

async fn next(writes: &mut Option<Writes>) -> Option<Written> {
    match writes {
        Some(open) => open.next().await,
        None => None,
    }
}

async fn blocking<T: Send + 'static>(
    loader: &Arc<Loader>,
    act: impl FnOnce(&Loader) -> T + Send + 'static,
) -> T {
    let loader = Arc::clone(loader);
    match tokio::task::spawn_blocking(move || act(&loader)).await {
        Ok(outcome) => outcome,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is ending, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}

//! Keeps the books true: what the store remembers from before the guard's start, who leaves, and what the
//! servers really hold.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use sealbus_envelope::reason::{Reason, Refused};
use tokio::{sync::mpsc, time::MissedTickBehavior};

use super::{
    registry::{Connection, ConnectionId},
    service::AuthError,
    shared::{Entry, Shared},
};
use crate::{
    bus::admin::{Departures, Survey},
    store::Store,
};

/// How often the books are compared with the servers.
const EVERY: Duration = Duration::from_secs(30);
/// The most changes written in one transaction.
const BATCH: usize = 1_024;

/// Takes from the store the connections that still live, and cuts those that nobody can be held to account
/// for: let in by a guard that died before it wrote them down. They connect again and are checked again.
pub(super) async fn restore(shared: &Arc<Shared>) -> Result<(), AuthError> {
    let survey = shared.admin.survey().await?;
    shared.servers_are(survey.answered.iter().map(|server| server.id.clone()));
    let there: HashSet<_> = survey.connections.iter().map(|listed| listed.id.clone()).collect();
    let answered: HashSet<_> = survey.answered.iter().map(|server| server.id.as_str()).collect();
    let stored = on_disk(shared, Store::connections).await?;
    let (mut gone, mut kept) = (Vec::new(), 0_usize);
    for stored in stored {
        let (server, client) = (stored.server.clone(), stored.client);
        // A server that did not answer may be slow to; the next comparison decides.
        let lives =
            there.contains(&ConnectionId::new(&server, client)) || !answered.contains(server.as_str());
        let connection = Connection::from_stored(stored).filter(|_| lives);
        if connection.is_some_and(|connection| shared.registry().claim(connection).is_ok()) {
            kept += 1;
        } else {
            gone.push((server, client));
        }
    }
    on_disk(shared, move |store| store.update_connections(&[], &gone)).await?;
    let strangers = strangers(shared, &survey);
    tracing::info!(kept, strangers = strangers.len(), silent = ?survey.silent, "connections from before the start");
    cut(shared, strangers).await;
    Ok(())
}

/// Strikes connections from the books as they end.
pub(super) async fn watch(shared: Arc<Shared>, mut departures: Departures) {
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => return,
            gone = departures.next() => match gone {
                Some(id) => shared.departed(&id),
                None => {
                    if !shared.stop.is_cancelled() {
                        tracing::error!("the system connection ended: departures are seen by comparison only");
                    }
                    return;
                }
            },
        }
    }
}

/// Compares the books with the servers every half minute: events get lost, and servers die without a word.
pub(super) async fn reconcile_now_and_then(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut suspects = HashSet::new();
    let mut silent_rounds = HashMap::new();
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        // Entered before the survey is taken, or they would be missing from it for being new.
        let before: Vec<_> = shared.registry().iter().map(|connection| connection.id.clone()).collect();
        match shared.admin.survey().await {
            Ok(survey) => {
                shared.servers_are(survey.answered.iter().map(|server| server.id.clone()));
                strike(&shared, &survey, before, &mut silent_rounds);
                // Twice in a row: a connection may be in the list before the answer that let it in is booked.
                let found: HashSet<_> = strangers(&shared, &survey).into_iter().collect();
                let sure: Vec<_> = found.intersection(&suspects).cloned().collect();
                suspects = found;
                cut(&shared, sure).await;
            }
            Err(error) => tracing::warn!(%error, "the books cannot be compared with the servers"),
        }
    }
}

/// Strikes what answering servers do not list, and everything of a server that was silent twice: if it still
/// runs it is cut off from the guard, and so are its clients.
fn strike(
    shared: &Shared,
    survey: &Survey,
    before: Vec<ConnectionId>,
    silent_rounds: &mut HashMap<Arc<str>, u32>,
) {
    let there: HashSet<_> = survey.connections.iter().map(|listed| &listed.id).collect();
    let answered: HashSet<_> = survey.answered.iter().map(|server| server.id.as_str()).collect();
    let servers = shared.registry().servers();
    silent_rounds.retain(|server, _| servers.contains(server) && !answered.contains(&**server));
    for server in servers.iter().filter(|server| !answered.contains(&***server)) {
        *silent_rounds.entry(Arc::clone(server)).or_insert(0) += 1;
    }
    for id in before {
        let silent = silent_rounds.get(&id.server).copied();
        if !there.contains(&id) && silent.is_none_or(|rounds| rounds >= 2) {
            shared.departed(&id);
        }
    }
}

/// Connections that a callout let in and that are not in the books.
fn strangers(shared: &Shared, survey: &Survey) -> Vec<ConnectionId> {
    if !shared.config.sole_guard {
        return Vec::new();
    }
    let registry = shared.registry();
    let strange = survey.connections.iter().filter(|listed| listed.by_callout);
    strange.filter(|listed| registry.get(&listed.id).is_none()).map(|listed| listed.id.clone()).collect()
}

async fn cut(shared: &Shared, strangers: Vec<ConnectionId>) {
    for id in strangers {
        let reason = Refused::new(Reason::UnknownSession, "connection");
        match shared.admin.kick(&id).await {
            Ok(_) => {
                tracing::warn!(connection = %id, reason = reason.reason.code(), "an unknown connection was cut")
            }
            Err(error) => tracing::error!(connection = %id, %error, "an unknown connection could not be cut"),
        }
    }
}

/// Writes the books, as many changes at once as there are. A guard killed before that cuts at its next start
/// those it cannot account for, which is why nobody waits for this.
pub(super) async fn keep_books(shared: Arc<Shared>, mut entries: mpsc::UnboundedReceiver<Entry>) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let last = tokio::select! {
            // Decisions under way may still enter something; what is missed is cut at the next start.
            () = shared.stop.cancelled() => true,
            more = entries.recv_many(&mut batch, BATCH) => more == 0,
        };
        if last {
            while let Ok(entry) = entries.try_recv() {
                batch.push(entry);
            }
        }
        if !batch.is_empty() {
            write(&shared, &mut batch).await;
        }
        if last {
            return;
        }
    }
}

async fn write(shared: &Arc<Shared>, batch: &mut Vec<Entry>) {
    // One connection may come and go in one batch, never go and come.
    let (mut came, mut gone) = (Vec::new(), Vec::new());
    for entry in batch.drain(..) {
        match entry {
            Entry::Came(connection) => came.push(connection.to_stored()),
            Entry::Gone(id) => gone.push((id.server.to_string(), id.client)),
        }
    }
    if let Err(error) = on_disk(shared, move |store| store.update_connections(&came, &gone)).await {
        tracing::error!(%error, "the connections could not be written down; after a restart they are cut");
    }
}

async fn on_disk<T: Send + 'static>(
    shared: &Arc<Shared>,
    act: impl FnOnce(&Store) -> Result<T, crate::store::StoreError> + Send + 'static,
) -> Result<T, AuthError> {
    let store = Arc::clone(&shared.store);
    match tokio::task::spawn_blocking(move || act(&store)).await {
        Ok(result) => Ok(result?),
        Err(error) => Err(AuthError::Bus(format!("a task of the guard ended early ({error})"))),
    }
}

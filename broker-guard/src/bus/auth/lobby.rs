//! The lobby: an agent that is known but refused may listen to its own box for ten seconds, in which the guard
//! repeats why. Without it, "quarantined", "expired" and "guard absent" all look alike to the agent.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use sealbus_envelope::{
    control::{self, LobbyNotice, kind},
    reason::Reason,
};

use super::{
    registry::ConnectionId,
    shared::{Shared, lock},
    verify::{LOBBY_MS, Proven},
};

/// The agent hears the notice once it has subscribed; it is not known when that is.
const REPEAT: Duration = Duration::from_millis(200);
/// Who is held back for a second is not let listen for ten: the notice was heard by then.
const SHORT: Duration = Duration::from_secs(1);
/// The lobby is for listening. Who says more there than this floods the server, which is told of nobody.
const MOST_SAID: u64 = 64;
/// How often the server is asked how much was said, in repeats of the notice.
const LISTEN_EVERY: u32 = 4;
/// The most lobbies at once: refused agents that try again and again must not cost the guard more than this.
const MOST: usize = 256;

/// Who is in the lobby: one connection an identity.
#[derive(Default)]
pub(super) struct Lobbies(Mutex<HashMap<[u8; 32], ConnectionId>>);

impl Lobbies {
    /// Takes a place, if there is one and the identity has none.
    pub(super) fn enter(&self, proven: &Proven, id: &ConnectionId) -> bool {
        let mut lobbies = lock(&self.0);
        let identity = *proven.credential.claims().identity.as_bytes();
        if lobbies.len() >= MOST || lobbies.contains_key(&identity) {
            return false;
        }
        lobbies.insert(identity, id.clone());
        true
    }

    /// Gives the place of a connection back.
    pub(super) fn leave(&self, id: &ConnectionId) {
        lock(&self.0).retain(|_, waiting| waiting != id);
    }

    fn has(&self, id: &ConnectionId) -> bool {
        lock(&self.0).values().any(|waiting| waiting == id)
    }
}

/// Tells the reason until the connection is gone or its time is over.
pub(super) async fn tell(shared: Arc<Shared>, proven: Proven, id: ConnectionId, reason: Reason) {
    let Ok(notice) = control::encode(&LobbyNotice { reason }) else { return };
    let subject =
        shared.config.wire.session_box(proven.credential.token(), &proven.certificate.id(), kind::LOBBY);
    let short = reason == Reason::RateLimited;
    let over = tokio::time::sleep(if short { SHORT } else { Duration::from_millis(LOBBY_MS) });
    tokio::pin!(over);
    let mut ticks = tokio::time::interval(REPEAT);
    let mut repeats = 0_u32;
    let mut cut = short;
    loop {
        tokio::select! {
            () = &mut over => break,
            () = shared.stop.cancelled() => break,
            _ = ticks.tick() => {}
        }
        if !shared.lobbies.has(&id)
            || shared.client.publish(subject.clone(), notice.clone().into()).await.is_err()
        {
            break;
        }
        repeats += 1;
        if repeats % LISTEN_EVERY == 2 && shared.admin.said(&id).await.is_ok_and(|said| said > MOST_SAID) {
            lock(&shared.backoff).hold(proven.credential.token(), shared.authority.now());
            cut = true;
            break;
        }
    }
    if cut && let Err(error) = shared.admin.kick(&id).await {
        tracing::warn!(%error, "a connection in the lobby could not be cut");
    }
    // The server ends the connection by its expiry; the place is free from now.
    shared.departed(&id);
}

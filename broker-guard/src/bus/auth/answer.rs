//! From a server's question to its answer.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use async_nats::Message;
use futures_util::StreamExt as _;
use sealbus_envelope::{
    reason::{Reason, Refused},
    time::Millis,
};
use tokio::sync::{Semaphore, oneshot};

use super::{
    decision::{ConnectionDecision, Outcome},
    jwt::{AuthRequest, BadRequest, XKEY_HEADER},
    lobby,
    registry::ConnectionId,
    service::{DEADLINE, ProbeSeen},
    shared::{Shared, connection, lock},
    verify::{self, Admission, Decision, Proven},
    zone::Place,
};
use crate::policy::permissions::Permissions;

/// Questions worked on at once. Each is a millisecond's work at most; the rest wait for others' servers.
const AT_ONCE: usize = 256;
/// Questions accepted before the guard says it is overloaded, by not answering.
const PENDING: usize = 4_096;
/// How late who is held back is refused; below the server's patience, and the guard's own deadline.
const LATE_BY: Duration = Duration::from_secs(1);

pub(super) async fn listen(shared: Arc<Shared>, mut questions: async_nats::Subscriber) {
    let (pending, at_once) = (Arc::new(Semaphore::new(PENDING)), Arc::new(Semaphore::new(AT_ONCE)));
    loop {
        let message = tokio::select! {
            () = shared.stop.cancelled() => break,
            message = questions.next() => message,
        };
        let Some(message) = message else {
            if !shared.stop.is_cancelled() {
                tracing::error!("the guard's connection ended: nobody can connect");
            }
            break;
        };
        let Ok(place) = Arc::clone(&pending).try_acquire_owned() else {
            shared.counters.dropped.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let (task, at_once) = (Arc::clone(&shared), Arc::clone(&at_once));
        shared.tasks.spawn(async move {
            let _place = place;
            let answer = async {
                let _turn = at_once.acquire().await;
                answer(&task, message).await;
            };
            if tokio::time::timeout(DEADLINE, answer).await.is_err() {
                task.counters.dropped.fetch_add(1, Ordering::Relaxed);
                tracing::warn!("an auth callout was not answered in time");
            }
        });
    }
}

async fn answer(shared: &Arc<Shared>, message: Message) {
    let start = Instant::now();
    let Some(reply) = message.reply else { return };
    let xkey = message.headers.as_ref().and_then(|headers| headers.get(XKEY_HEADER));
    let xkey = xkey.map(async_nats::HeaderValue::as_str);
    let (now, keys) = (shared.authority.now(), &shared.config.keys);
    let request = match AuthRequest::open(&message.payload, xkey, keys, now) {
        Ok(request) => request,
        Err(bad) => return complain(shared, bad),
    };
    let probe = lock(&shared.probes).remove(&request.shown.token);
    if let Some(seen) = probe {
        let server = request.server.clone();
        let _ = seen.send(ProbeSeen { server, nonce: !request.client.nonce.is_empty() });
        let refusal = request.refuse(keys, "probe", now);
        let _ = shared.client.publish(reply, refusal.into()).await;
        return;
    }
    let (decision, again) = if shared.knows(&request.server).await {
        shared.settle(&request).await
    } else {
        let reason = Refused::new(Reason::WrongConnection, "server");
        (Decision::Refuse { proven: None, reason }, false)
    };
    let id = ConnectionId::new(&request.server.id, request.client.id);
    let diverted = match &decision {
        Decision::Lobby { proven, reason } if reason.reason == Reason::Quarantined => shared.diverted(proven),
        _ => None,
    };
    let mut apart = false;
    let decision = match decision {
        // It is in the log before it is in. Who is in already, and asked about again, stays.
        Decision::Admit(admission) if !again => {
            let told = Told { now, id: &id, request: &request, again, start };
            let (logged, answer) = oneshot::channel();
            let told = told.about(Outcome::Admitted, None, Some(&admission.proven));
            shared.authority.decided(told, Some(logged));
            if answer.await == Ok(true) {
                Decision::Admit(admission)
            } else {
                shared.departed(&id);
                let reason = Refused::new(Reason::AuditUnavailable, "audit log");
                Decision::Lobby { proven: Box::new(admission.proven), reason }
            }
        }
        decision => decision,
    };
    let (outcome, reason, proven, bytes) = match decision {
        Decision::Admit(admission) => {
            let Admission { proven, permissions, until, .. } = *admission;
            let bytes = request.admit(keys, &shared.config.account, &permissions, until, now);
            (Outcome::Admitted, None, Some(proven), bytes)
        }
        Decision::Lobby { proven, reason } if !again && let Some((permissions, until)) = diverted => {
            let bytes = request.admit(keys, &shared.config.account, &permissions, until, now);
            // In the books like a lobby: it is on no roster, and no proof that the agent is still on the bus.
            let _ =
                shared.registry().claim(connection(&id, &proven, Place::of(&request), &permissions, true));
            apart = true;
            (Outcome::Lobby, Some(reason), Some(*proven), bytes)
        }
        // Who was in and no longer may be is cut by a refusal; the lobby would leave its subscriptions be.
        Decision::Lobby { proven, reason }
            if !again && shared.may_hear(proven.credential.token()) && shared.lobbies.enter(&proven, &id) =>
        {
            let agent = proven.credential.token();
            let permissions = Permissions::lobby(agent, &proven.certificate.id(), &shared.config.wire);
            let until = now.plus(verify::LOBBY_MS);
            let bytes = request.admit(keys, &shared.config.account, &permissions, until, now);
            // A lobby is never refused by the books.
            let _ =
                shared.registry().claim(connection(&id, &proven, Place::of(&request), &permissions, true));
            (Outcome::Lobby, Some(reason), Some(*proven), bytes)
        }
        Decision::Lobby { proven, reason } | Decision::Refuse { proven: Some(proven), reason } => {
            let bytes = request.refuse(keys, reason.reason.code(), now);
            (Outcome::Refused, Some(reason), Some(*proven), bytes)
        }
        Decision::Refuse { proven: None, reason } => {
            let bytes = request.refuse(keys, reason.reason.code(), now);
            (Outcome::Refused, Some(reason), None, bytes)
        }
    };
    // Who floods and was told so already: a refusal at once would only be asked for again at once.
    if outcome == Outcome::Refused
        && let Some(proven) = &proven
        && shared.holds_back(proven.credential.token())
        && let Ok(_place) = shared.late.try_acquire()
    {
        tokio::time::sleep(LATE_BY).await;
    }
    // Above max_payload the server would see no answer at all, and nobody would know why.
    let fits = bytes.len() <= shared.client.server_info().max_payload;
    if !fits {
        tracing::error!(
            connection = %id, bytes = bytes.len(),
            "the answer is larger than the server's max_payload; raise it, or give the team fewer rules"
        );
    }
    if fits && let Err(error) = shared.client.publish(reply, bytes.into()).await {
        tracing::error!(%error, "an auth callout could not be answered");
    }
    if outcome == Outcome::Lobby
        && !apart
        && let (Some(proven), Some(reason)) = (&proven, reason)
    {
        shared.tasks.spawn(lobby::tell(Arc::clone(shared), proven.clone(), id.clone(), reason.reason));
    }
    let counter = match outcome {
        Outcome::Admitted => &shared.counters.admitted,
        Outcome::Lobby => &shared.counters.lobby,
        Outcome::Refused | Outcome::Kicked => &shared.counters.refused,
    };
    counter.fetch_add(1, Ordering::Relaxed);
    let told = Told { now, id: &id, request: &request, again, start }.about(outcome, reason, proven.as_ref());
    tracing::info!(
        outcome = outcome.code(),
        reason = reason.map(|refused| refused.reason.code()),
        what = reason.map(|refused| refused.what),
        agent = told.agent.as_ref().map(tracing::field::display),
        connection = %id,
        server = %request.server.name,
        host = %request.client.host,
        again,
        "connection"
    );
    if outcome != Outcome::Admitted || again {
        shared.authority.decided(told, None);
    }
}

/// What is told of a decision, whatever it is.
struct Told<'a> {
    now: Millis,
    id: &'a ConnectionId,
    request: &'a AuthRequest,
    again: bool,
    start: Instant,
}

impl Told<'_> {
    fn about(
        &self,
        outcome: Outcome,
        reason: Option<Refused>,
        proven: Option<&Proven>,
    ) -> ConnectionDecision {
        ConnectionDecision {
            time: self.now,
            outcome,
            reason,
            agent: proven.map(|proven| proven.credential.token().clone()),
            identity: proven.map(|proven| proven.credential.claims().identity.clone()),
            session: proven.map(|proven| proven.certificate.id()),
            connection: Some(self.id.clone()),
            server: self.request.server.name.clone(),
            host: self.request.client.host.clone(),
            again: self.again,
            took: self.start.elapsed(),
        }
    }
}

/// A question that is not a server's gets no answer: whoever asked learns nothing.
fn complain(shared: &Shared, bad: BadRequest) {
    shared.counters.bad.fetch_add(1, Ordering::Relaxed);
    tracing::warn!(error = %bad, "an auth callout was not answered");
}

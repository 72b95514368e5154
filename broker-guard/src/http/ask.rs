//! What comes in over HTTP for the guard's loop, and its answers: orders, and what it is to tell.
//!
//! An order proves itself, so it needs no login. Nor can those that are none keep out one that is: what nobody
//! entitled has signed is refused here, off the loop, at the cost of a comparison or of one signature.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use data_encoding::HEXLOWER_PERMISSIVE;
use sealbus_envelope::{
    approval::SignedApproval,
    control::{HeldReport, Submitted},
    hash::{Context, Hash, hash},
    identity::Roots,
    order::SignedOrder,
    reason::{Reason, Refused},
};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::{oversight::pause::WorkflowReport, quarantine::report::AgentReport, taint::report::FloorReport};

/// Questions that wait for the loop. At one more the asker is told to come again.
const WAITING: usize = 16;

/// Something asked of the loop.
#[derive(Debug)]
pub enum Ask {
    /// Carry out an order.
    Order {
        /// The order, or why it is none.
        order: Result<Box<SignedOrder>, NoOrder>,
        /// Where the answer goes.
        answer: oneshot::Sender<OrderAnswer>,
    },
    /// Tell every floor.
    Floors(oneshot::Sender<Vec<FloorReport>>),
    /// Take what a person signed about a held envelope.
    Approve {
        /// It, or why it is none.
        approval: Result<Box<SignedApproval>, Refused>,
        /// Where the answer goes.
        answer: oneshot::Sender<Submitted>,
    },
    /// Tell what is held.
    Held(oneshot::Sender<Vec<HeldReport>>),
    /// Hand out the sealed bytes of something held.
    HeldBytes(Hash, oneshot::Sender<Option<Bytes>>),
    /// Tell every workflow that has a mode or is paused.
    Workflows(oneshot::Sender<Vec<WorkflowReport>>),
    /// Tell of every agent that was ever watched or off the bus.
    Quarantine(oneshot::Sender<Vec<AgentReport>>),
}

/// Bytes that are no order of this bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoOrder {
    /// Why.
    pub refused: Refused,
    /// Hash of the bytes.
    pub digest: Hash,
}

/// What became of an order: the answer to `POST /orders`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderAnswer {
    /// Whether it is carried out.
    pub accepted: bool,
    /// The order's id, in hexadecimal, if it is one.
    pub id: Option<String>,
    /// The stable reason code, if refused.
    pub reason: Option<Reason>,
    /// Which part of the order gave the reason.
    pub what: Option<String>,
}

impl OrderAnswer {
    /// Carried out.
    #[must_use]
    pub fn accepted(order: &SignedOrder) -> Self {
        Self { accepted: true, id: Some(order.order().id.to_string()), reason: None, what: None }
    }

    /// Refused.
    #[must_use]
    pub fn refused(order: Option<&SignedOrder>, refused: Refused) -> Self {
        Self {
            accepted: false,
            id: order.map(|order| order.order().id.to_string()),
            reason: Some(refused.reason),
            what: Some(refused.what.to_owned()),
        }
    }

    const fn status(&self) -> StatusCode {
        match self.reason {
            None => StatusCode::OK,
            Some(Reason::AuditUnavailable | Reason::StoreUnavailable) => StatusCode::SERVICE_UNAVAILABLE,
            Some(_) => StatusCode::FORBIDDEN,
        }
    }
}

/// Where the pages ask.
#[derive(Debug, Clone)]
pub struct Asking {
    roots: Arc<Roots>,
    asks: mpsc::Sender<Ask>,
}

impl Asking {
    /// Both ends.
    #[must_use]
    pub fn new(roots: Roots) -> (Self, mpsc::Receiver<Ask>) {
        let (sender, asks) = mpsc::channel(WAITING);
        (Self { roots: Arc::new(roots), asks: sender }, asks)
    }

    async fn ask<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, Response> {
        let (sender, answer) = oneshot::channel();
        match self.asks.try_send(make(sender)) {
            Ok(()) => answer.await.map_err(|_| unheard()),
            Err(mpsc::error::TrySendError::Full(_)) => {
                Err((StatusCode::TOO_MANY_REQUESTS, "too much is asked at once; try again\n").into_response())
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Err(unheard()),
        }
    }
}

fn unheard() -> Response {
    (
        StatusCode::SERVICE_UNAVAILABLE,
        "the guard takes no orders now: it is stopping, or waits for a policy\n",
    )
        .into_response()
}

pub(super) async fn order(State(asking): State<Asking>, body: Bytes) -> Response {
    let order = SignedOrder::verify(&body, &asking.roots)
        .map(Box::new)
        .map_err(|refused| NoOrder { refused, digest: hash(Context::Order, &[&body]) });
    match asking.ask(|answer| Ask::Order { order, answer }).await {
        Ok(answer) => (answer.status(), Json(answer)).into_response(),
        Err(response) => response,
    }
}

/// Takes an approval: it proves itself, whoever brings it.
pub(super) async fn approve(State(asking): State<Asking>, body: Bytes) -> Response {
    let approval = SignedApproval::verify(&body, asking.roots.bus()).map(Box::new);
    match asking.ask(|answer| Ask::Approve { approval, answer }).await {
        Ok(answer) => {
            let status = match answer.refused {
                None => StatusCode::OK,
                Some(Reason::AuditUnavailable | Reason::StoreUnavailable) => StatusCode::SERVICE_UNAVAILABLE,
                Some(Reason::NotHeld) => StatusCode::NOT_FOUND,
                Some(_) => StatusCode::FORBIDDEN,
            };
            (status, Json(answer)).into_response()
        }
        Err(response) => response,
    }
}

pub(super) async fn held(State(asking): State<Asking>) -> Response {
    match asking.ask(Ask::Held).await {
        Ok(held) => Json(held).into_response(),
        Err(response) => response,
    }
}

pub(super) async fn held_bytes(State(asking): State<Asking>, Path(digest): Path<String>) -> Response {
    let none = || (StatusCode::NOT_FOUND, "no envelope with this digest is held\n").into_response();
    let digest = HEXLOWER_PERMISSIVE.decode(digest.as_bytes()).ok();
    let Some(digest) = digest.and_then(|bytes| Hash::try_from(bytes).ok()) else { return none() };
    match asking.ask(|answer| Ask::HeldBytes(digest, answer)).await {
        Ok(Some(bytes)) => ([(CONTENT_TYPE, "application/octet-stream")], bytes).into_response(),
        Ok(None) => none(),
        Err(response) => response,
    }
}

pub(super) async fn floors(State(asking): State<Asking>) -> Response {
    match asking.ask(Ask::Floors).await {
        Ok(floors) => Json(floors).into_response(),
        Err(response) => response,
    }
}

pub(super) async fn workflows(State(asking): State<Asking>) -> Response {
    match asking.ask(Ask::Workflows).await {
        Ok(workflows) => Json(workflows).into_response(),
        Err(response) => response,
    }
}

pub(super) async fn quarantine(State(asking): State<Asking>) -> Response {
    match asking.ask(Ask::Quarantine).await {
        Ok(agents) => Json(agents).into_response(),
        Err(response) => response,
    }
}

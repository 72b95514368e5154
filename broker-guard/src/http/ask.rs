//! What comes in over HTTP for the guard's loop, and its answers: orders, and what it is to tell.
//!
//! An order proves itself, so it needs no login. Nor can those that are none keep out one that is: what nobody
//! entitled has signed is refused here, off the loop, at the cost of a comparison or of one signature, and orders wait
//! apart from all else that anybody may ask. What the pages ask costs the loop a tenth of its time at most, however
//! often they are asked.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

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
    hash::{Context, Hash, hash, hex},
    identity::Roots,
    order::SignedOrder,
    reason::{Reason, Refused},
};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::{
    oversight::{approvers::Approvers, pause::WorkflowReport},
    quarantine::report::AgentReport,
    taint::report::FloorReport,
};

/// Questions of a kind that wait for the loop. At one more the asker is told to come again.
const WAITING: usize = 16;
/// Behind each question of a page the pages wait this many times as long as its answer took.
const REST: u32 = 9;

/// Something asked of the loop.
#[derive(Debug)]
pub enum Ask {
    /// Carry out an order.
    Order {
        /// The order.
        order: Box<SignedOrder>,
        /// Where the answer goes.
        answer: oneshot::Sender<OrderAnswer>,
    },
    /// Log and tell of what was brought as an order and is none. Its bringer has its answer already.
    NoOrder(NoOrder),
    /// Tell every floor.
    Floors(oneshot::Sender<Vec<FloorReport>>),
    /// Take what a person signed about a held envelope.
    Approve {
        /// It.
        approval: Box<SignedApproval>,
        /// Where the answer goes.
        answer: oneshot::Sender<Submitted>,
    },
    /// Count and tell of what was brought as an approval and does not count. Its bringer has its answer already.
    NoApproval {
        /// It, if it is one: of somebody who may approve nothing.
        approval: Option<Box<SignedApproval>>,
        /// Why.
        refused: Refused,
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
    approvers: Approvers,
    orders: mpsc::Sender<Ask>,
    approvals: mpsc::Sender<Ask>,
    pages: mpsc::Sender<Ask>,
    junk: mpsc::Sender<Ask>,
}

/// Where the loop hears it.
#[derive(Debug)]
pub struct Asks {
    orders: mpsc::Receiver<Ask>,
    approvals: mpsc::Receiver<Ask>,
    pages: mpsc::Receiver<Ask>,
    junk: mpsc::Receiver<Ask>,
    /// Until then no page is answered and no junk told of.
    rest: Instant,
}

impl Asks {
    /// The next: an order before an approval, because not everybody can sign one, and either before pages and junk.
    /// `None` once nobody can ask any more. Nothing is lost if this is dropped before it is done.
    pub async fn next(&mut self) -> Option<Ask> {
        let Self { orders, approvals, pages, junk, rest } = self;
        let page = async {
            tokio::time::sleep_until((*rest).into()).await;
            tokio::select! {
                Some(ask) = pages.recv() => Some(ask),
                Some(ask) = junk.recv() => Some(ask),
                else => None,
            }
        };
        tokio::select! {
            biased;
            Some(ask) = orders.recv() => Some(ask),
            Some(ask) = approvals.recv() => Some(ask),
            Some(ask) = page => Some(ask),
            else => None,
        }
    }

    /// The loop was at a question of a page since `began`: the pages wait for a multiple of that, or who asks often
    /// kept the loop from what agents send.
    pub fn answered_page(&mut self, began: Instant) {
        self.rest = Instant::now() + began.elapsed().min(Duration::from_secs(1)) * REST;
    }
}

impl Asking {
    /// Both ends. An approval by none of `approvers` does not get as far as the loop.
    #[must_use]
    pub fn new(roots: Roots, approvers: Approvers) -> (Self, Asks) {
        let (orders, for_orders) = mpsc::channel(WAITING);
        let (approvals, for_approvals) = mpsc::channel(WAITING);
        let (pages, for_pages) = mpsc::channel(WAITING);
        let (junk, for_junk) = mpsc::channel(WAITING);
        let asks = Asks {
            orders: for_orders,
            approvals: for_approvals,
            pages: for_pages,
            junk: for_junk,
            rest: Instant::now(),
        };
        (Self { roots: Arc::new(roots), approvers, orders, approvals, pages, junk }, asks)
    }

    /// Asks in one of the queues, and waits for the answer.
    async fn ask<T>(
        queue: &mpsc::Sender<Ask>,
        make: impl FnOnce(oneshot::Sender<T>) -> Ask,
    ) -> Result<T, Response> {
        let (sender, answer) = oneshot::channel();
        match queue.try_send(make(sender)) {
            Ok(()) => answer.await.map_err(|_| unheard()),
            Err(mpsc::error::TrySendError::Full(_)) => {
                Err((StatusCode::TOO_MANY_REQUESTS, "too much is asked at once; try again\n").into_response())
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Err(unheard()),
        }
    }

    /// Has junk told of, unless so much waits already that more of it would not be told anyway.
    fn tell(&self, junk: Ask) {
        let _full = self.junk.try_send(junk);
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
    let order = match SignedOrder::verify(&body, &asking.roots) {
        Ok(order) => Box::new(order),
        Err(refused) => {
            asking.tell(Ask::NoOrder(NoOrder { refused, digest: hash(Context::Order, &[&body]) }));
            let answer = OrderAnswer::refused(None, refused);
            return (answer.status(), Json(answer)).into_response();
        }
    };
    match Asking::ask(&asking.orders, |answer| Ask::Order { order, answer }).await {
        Ok(answer) => (answer.status(), Json(answer)).into_response(),
        Err(response) => response,
    }
}

/// Takes an approval: it proves itself, whoever brings it. What a stranger signed waits with no person's.
pub(super) async fn approve(State(asking): State<Asking>, body: Bytes) -> Response {
    // Without a loop it is not known who may approve.
    if asking.approvals.is_closed() {
        return unheard();
    }
    let refuse = |approval: Option<Box<SignedApproval>>, refused| {
        let envelope = approval.as_ref().map(|signed| hex(&signed.approval().envelope)).unwrap_or_default();
        asking.tell(Ask::NoApproval { approval, refused });
        (StatusCode::FORBIDDEN, Json(Submitted::refused(envelope, refused))).into_response()
    };
    let approval = match SignedApproval::verify(&body, asking.roots.bus()) {
        Ok(approval) => Box::new(approval),
        Err(refused) => return refuse(None, refused),
    };
    if !asking.approvers.has(approval.key()) {
        return refuse(Some(approval), Refused::new(Reason::ApprovalInvalid, "approval.key"));
    }
    match Asking::ask(&asking.approvals, |answer| Ask::Approve { approval, answer }).await {
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
    match Asking::ask(&asking.pages, Ask::Held).await {
        Ok(held) => Json(held).into_response(),
        Err(response) => response,
    }
}

pub(super) async fn held_bytes(State(asking): State<Asking>, Path(digest): Path<String>) -> Response {
    let none = || (StatusCode::NOT_FOUND, "no envelope with this digest is held\n").into_response();
    let digest = HEXLOWER_PERMISSIVE.decode(digest.as_bytes()).ok();
    let Some(digest) = digest.and_then(|bytes| Hash::try_from(bytes).ok()) else { return none() };
    match Asking::ask(&asking.pages, |answer| Ask::HeldBytes(digest, answer)).await {
        Ok(Some(bytes)) => ([(CONTENT_TYPE, "application/octet-stream")], bytes).into_response(),
        Ok(None) => none(),
        Err(response) => response,
    }
}

pub(super) async fn floors(State(asking): State<Asking>) -> Response {
    match Asking::ask(&asking.pages, Ask::Floors).await {
        Ok(floors) => Json(floors).into_response(),
        Err(response) => response,
    }
}

pub(super) async fn workflows(State(asking): State<Asking>) -> Response {
    match Asking::ask(&asking.pages, Ask::Workflows).await {
        Ok(workflows) => Json(workflows).into_response(),
        Err(response) => response,
    }
}

pub(super) async fn quarantine(State(asking): State<Asking>) -> Response {
    match Asking::ask(&asking.pages, Ask::Quarantine).await {
        Ok(agents) => Json(agents).into_response(),
        Err(response) => response,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

    use sealbus_envelope::{
        approval::Approval,
        identity::SigningKey,
        name::Name,
        order::{Draft, Order, OrderId, OrderKind, Target, Workflow},
        time::Millis,
    };

    use super::*;

    /// A bus with one policy key, and an order that it signed.
    fn scene() -> (Roots, Bytes) {
        let mut rng = rand_core::UnwrapErr(getrandom::SysRng);
        let (issuer, signer) = (SigningKey::generate(&mut rng), SigningKey::generate(&mut rng));
        let roots = Roots {
            name: Name::parse("test").unwrap(),
            issuer: issuer.public().clone(),
            policy_keys: vec![signer.public().clone()],
            quorum: 1,
        };
        let order = Order {
            bus: roots.bus(),
            id: OrderId::generate(&mut rng),
            kind: OrderKind::Pause,
            target: Target::Workflow(Workflow::parse("team:web").unwrap()),
            reason: "looking into it".to_owned(),
            issued: Millis(1_000),
            valid_until: Millis(61_000),
        };
        let mut draft = Draft::new(order, &roots).unwrap();
        draft.sign(&signer, &roots).unwrap();
        (roots, draft.encode().into())
    }

    /// What a handler answers, or `None` if it waits for the loop.
    async fn at_once(handler: impl Future<Output = Response>) -> Option<StatusCode> {
        tokio::select! {
            biased;
            response = handler => Some(response.status()),
            () = std::future::ready(()) => None,
        }
    }

    #[tokio::test]
    async fn neither_junk_nor_questions_keep_an_order_out() {
        let (roots, signed) = scene();
        let (asking, mut asks) = Asking::new(roots, Approvers::default());
        let state = || State(asking.clone());
        for _ in 0..3 * WAITING {
            let junk = Bytes::from_static(b"junk");
            assert_eq!(at_once(order(state(), junk.clone())).await, Some(StatusCode::FORBIDDEN));
            assert_eq!(at_once(approve(state(), junk)).await, Some(StatusCode::FORBIDDEN));
        }
        for _ in 0..WAITING {
            assert_eq!(at_once(held(state())).await, None, "junk keeps no question out");
        }
        assert_eq!(at_once(held(state())).await, Some(StatusCode::TOO_MANY_REQUESTS));
        assert_eq!(at_once(order(state(), signed)).await, None, "it waits for the loop");
        let Some(Ask::Order { order, .. }) = asks.next().await else { panic!("not the order first") };
        assert_eq!(order.order().kind, OrderKind::Pause);
    }

    #[tokio::test]
    async fn what_strangers_sign_keeps_no_approval_out() {
        let (roots, _) = scene();
        let bus = roots.bus();
        let signed = |n: u8, key: &SigningKey| {
            let approval = Approval { bus, envelope: [n; 32], approve: true, time: Millis(1) };
            Bytes::from(SignedApproval::sign(&approval, key).encode())
        };
        let [ann, stranger] = [1, 2].map(|n| SigningKey::from_seed(&[n; 32]));
        let (asking, mut asks) = Asking::new(roots, Approvers::of([ann.public().clone()]));
        let state = || State(asking.clone());
        for _ in 0..3 * WAITING {
            let refused = at_once(approve(state(), signed(1, &stranger))).await;
            assert_eq!(refused, Some(StatusCode::FORBIDDEN));
        }
        assert_eq!(at_once(approve(state(), signed(2, &ann))).await, None, "it waits for the loop");
        let Some(Ask::Approve { approval, .. }) = asks.next().await else { panic!("not hers first") };
        assert_eq!(approval.key(), ann.public());
        let Some(Ask::NoApproval { approval, refused }) = asks.next().await else { panic!("untold") };
        assert_eq!((approval.unwrap().key(), refused.what), (stranger.public(), "approval.key"));

        drop(asks);
        let unheard = at_once(approve(state(), signed(1, &stranger))).await;
        assert_eq!(unheard, Some(StatusCode::SERVICE_UNAVAILABLE), "nobody knows whether it is a stranger");
    }

    #[tokio::test]
    async fn pages_rest_while_orders_go_on() {
        let (roots, signed) = scene();
        let (asking, mut asks) = Asking::new(roots, Approvers::default());
        asks.rest = Instant::now() + Duration::from_secs(3_600);
        assert_eq!(at_once(held(State(asking.clone()))).await, None);
        assert!(tokio::time::timeout(Duration::ZERO, asks.next()).await.is_err(), "a page is answered");
        assert_eq!(at_once(order(State(asking.clone()), signed)).await, None);
        assert!(matches!(asks.next().await, Some(Ask::Order { .. })));

        let began = Instant::now().checked_sub(Duration::from_millis(100)).unwrap();
        asks.answered_page(began);
        assert!(asks.rest >= began + Duration::from_millis(1_000));
    }
}

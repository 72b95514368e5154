//! What the guard is measured against: a relay that forwards what it reads and does nothing else.
#![expect(clippy::expect_used, reason = "a benchmark that cannot be set up stops")]

use async_nats::{Client, Subject};
use futures_util::{FutureExt as _, StreamExt as _};

/// As many as the guard takes at once.
const TURN: usize = 256;

/// Forwards from `from` to `to` in one task, until its runtime ends.
pub(crate) async fn spawn(client: Client, from: &'static str, to: &'static str) {
    let mut incoming = client.subscribe(from).await.expect("a subscription");
    client.flush().await.expect("the server answers");
    tokio::spawn(async move {
        let to = Subject::from_static(to);
        let mut turn = Vec::with_capacity(TURN);
        while let Some(first) = incoming.next().await {
            turn.push(first);
            while turn.len() < TURN
                && let Some(Some(message)) = incoming.next().now_or_never()
            {
                turn.push(message);
            }
            for message in turn.drain(..) {
                client.publish(to.clone(), message.payload).await.expect("a connection");
            }
        }
    });
}

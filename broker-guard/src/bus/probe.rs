//! Whether a server lets a test connection in, told by its answer to a question. The client library takes the
//! server's first word for a yes, and a server that waits for the callout may say PING before it refuses: an
//! open door would be seen where nobody answered in time.

use std::{future::pending, time::Duration};

use async_nats::{ConnectErrorKind, ConnectOptions, Event, RequestErrorKind, ServerError, ToServerAddrs};
use tokio::sync::mpsc;

/// How long a server has to refuse, its own wait for the callout's answer included.
pub const PATIENCE: Duration = Duration::from_secs(6);

/// Why it is not known whether a server lets a connection in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Untold {
    /// It could not be reached, or ended the attempt otherwise than by a refusal.
    #[error(transparent)]
    Failed(#[from] async_nats::ConnectError),
    /// Within [`PATIENCE`] it neither refused nor answered, or it closed the connection without a word.
    #[error("the server neither refused the connection nor answered on it")]
    Silent,
}

/// Connects with these options, asks one question, and leaves. Events and reconnects of the options are set here.
///
/// # Errors
/// [`Untold`]: take it for neither.
pub async fn lets_in(urls: impl ToServerAddrs, options: ConnectOptions) -> Result<bool, Untold> {
    let (sender, mut events) = mpsc::unbounded_channel();
    let options =
        options.connection_timeout(PATIENCE).max_reconnects(1).ignore_discovered_servers().event_callback(
            move |event| {
                // Whoever listened knows enough.
                drop(sender.send(event));
                async {}
            },
        );
    let told = async {
        let client = match options.connect(urls).await {
            Ok(client) => client,
            Err(error) => {
                return match error.kind() {
                    ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => Ok(false),
                    _ => Err(error.into()),
                };
            }
        };
        let question = async {
            match client.request(client.new_inbox(), "".into()).await {
                Ok(_) => true,
                Err(error) if error.kind() == RequestErrorKind::NoResponders => true,
                // The events say why.
                Err(_) => pending().await,
            }
        };
        tokio::select! {
            let_in = said(&mut events) => let_in.ok_or(Untold::Silent),
            let_in = question => Ok(let_in),
        }
    };
    tokio::time::timeout(PATIENCE, told).await.unwrap_or(Err(Untold::Silent))
}

/// Waits until the server refuses the connection, or a question on it: who may not ask is in. None when it ended
/// without a word of that.
async fn said(events: &mut mpsc::UnboundedReceiver<Event>) -> Option<bool> {
    loop {
        match events.recv().await? {
            Event::ServerError(ServerError::AuthorizationViolation) => return Some(false),
            Event::ServerError(ServerError::Other(text))
                if text.to_ascii_lowercase().contains("permissions violation") =>
            {
                return Some(true);
            }
            Event::Closed => return None,
            _ => {}
        }
    }
}

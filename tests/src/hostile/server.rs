//! The hostile server: a connection that may publish and hear everything in the bus's account, as whoever runs
//! the server can. It is minted with the callout's key behind the guard's back.
#![expect(clippy::panic, reason = "a fixture that cannot work fails its test")]

use nkeys::KeyPair;
use sealbus_envelope::proof::admission::HEADER_NAME;

use super::watch::Watch;
use crate::{
    bus::TestBus,
    callout::{Answer, Callout, User},
    raw::{RawClient, RawMessage, Refusal, session},
    server::TestServer,
};

const TOKEN: &str = "hostile-server";

/// A connection without limits. The guard finds and cuts it within a minute, and at its next start.
pub struct HostileServer {
    /// The connection.
    pub raw: RawClient,
}

impl HostileServer {
    /// Gets in before a guard starts.
    ///
    /// # Panics
    /// If the server does not let it.
    pub async fn enter_unwatched(bus: &mut TestBus) -> Self {
        let server = bus.server();
        let _callout = callout(server).await;
        let raw = RawClient::connect(&server.address(), session(TOKEN, &KeyPair::new_user())).await;
        match raw {
            Ok(raw) => Self { raw },
            Err(refusal) => panic!("a callout without a guard is refused: {refusal:?}"),
        }
    }

    /// Gets in while the guard runs.
    ///
    /// # Panics
    /// If the guard answers for it a hundred times in a row before it answers itself.
    pub async fn enter(bus: &mut TestBus) -> Self {
        let mut watch = Watch::start(bus).await;
        let server = bus.server();
        let _callout = callout(server).await;
        for _ in 0..100 {
            // Both answer, the guard with a refusal; the server takes what comes first. But a refusal that
            // comes a moment later cuts the connection again, so that is waited for.
            let tried = RawClient::connect(&server.address(), session(TOKEN, &KeyPair::new_user())).await;
            watch.event("the guard's refusal", |event| event.get("what") == Some(&"auth token".into())).await;
            let Ok(mut raw) = tried else { continue };
            let mut lives = true;
            for _ in 0..20 {
                lives = lives && raw.arrived().await.is_ok();
            }
            if lives {
                return Self { raw };
            }
        }
        panic!("the guard is always quicker");
    }

    /// Puts an envelope on any subject, with any admission.
    ///
    /// # Errors
    /// Whatever the server says; it should say nothing.
    pub async fn inject(
        &mut self,
        subject: &str,
        admission: Option<&str>,
        bytes: &[u8],
    ) -> Result<(), Refusal> {
        let headers = admission.map(|text| format!("NATS/1.0\r\n{HEADER_NAME}: {text}\r\n\r\n"));
        self.raw.publish_bytes(subject, None, &headers.unwrap_or_default(), bytes).await
    }
}

async fn callout(server: &TestServer) -> Callout {
    Callout::start(server, |request| {
        if request.token() == TOKEN { Answer::Admit(User::new(&[">"], &[">"])) } else { Answer::Silence }
    })
    .await
}

/// The proof of admission that a delivery carries.
///
/// # Panics
/// If it has none.
#[must_use]
pub fn admission_of(delivery: &RawMessage) -> String {
    let headers = String::from_utf8_lossy(&delivery.headers).into_owned();
    let prefix = format!("{HEADER_NAME}: ");
    match headers.lines().find_map(|line| line.strip_prefix(&prefix)) {
        Some(text) => text.to_owned(),
        None => panic!("a delivery without admission: {headers}"),
    }
}

//! What Sealbus relies on nats-server to do, tried on the real one. If a newer server fails a test here, a
//! promise in the threat model hangs on it: read the test's comment before changing anything.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod guard_logins;
mod login;
mod permissions;
mod streams;

use nkeys::KeyPair;
use sealbus_tests::{
    callout::{Answer, Callout, User},
    raw::{RawClient, session},
    server::{ServerSpec, TestServer},
};

/// A server whose callout makes `user` of everyone.
async fn serving(user: User) -> (TestServer, Callout) {
    let server = TestServer::start(ServerSpec::default()).await;
    let callout = Callout::start(&server, move |_| Answer::Admit(user.clone())).await;
    (server, callout)
}

fn list(entries: &[&str]) -> Vec<String> {
    entries.iter().map(|entry| (*entry).to_owned()).collect()
}

async fn agent(server: &TestServer, token: &str) -> RawClient {
    RawClient::connect(&server.address(), session(token, &KeyPair::new_user())).await.unwrap()
}

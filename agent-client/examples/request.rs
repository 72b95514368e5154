//! Asks, or answers in upper case:
//! `cargo run --example request -- agents/worker.creds tools.shout` answers,
//! `cargo run --example request -- agents/planner.creds tools.shout "hello"` asks.
use std::time::Duration;

use sealbus_client::{Client, Credentials};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut given = std::env::args().skip(1);
    let usage = "usage: request CREDENTIALS SUBJECT [TEXT]";
    let (file, subject) = (given.next().ok_or(usage)?, given.next().ok_or(usage)?);
    let client = Client::connect(Credentials::load(file)?).await?;
    if let Some(text) = given.next() {
        let reply = client.request(&subject, text, Duration::from_secs(10)).await?;
        println!("{} says: {}", reply.sender(), String::from_utf8_lossy(reply.payload()));
        client.close().await?;
    } else {
        let requests = client.serve(&subject).await?;
        requests.answer(|request| async move { request.payload().to_ascii_uppercase() }).await;
    }
    Ok(())
}

//! Prints what comes, with where it comes from:
//! `cargo run --example subscribe -- agents/analyst.creds "collect.>"`
use sealbus_client::{Client, Credentials};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let [file, pattern] = given.try_into().map_err(|_| "usage: subscribe CREDENTIALS PATTERN")?;
    let client = Client::connect(Credentials::load(file)?).await?;
    let mut events = client.events();
    let mut messages = client.subscribe(&pattern).await?;
    loop {
        tokio::select! {
            Some(message) = messages.next() => {
                println!("{}\n{}\n", message.provenance(), String::from_utf8_lossy(message.payload()));
            }
            Some(event) = events.next() => eprintln!("{event}"),
            else => return Ok(()),
        }
    }
}

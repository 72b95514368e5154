//! Publishes one message and waits for the guard's verdict:
//! `cargo run --example publish -- agents/collector.creds collect.web.raw "hello"`
use sealbus_client::{Client, Credentials, Publish};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [file, subject, text] = arguments()?;
    let client = Client::connect(Credentials::load(file)?).await?;
    let publish = Publish::new(subject, text).content_type("text/plain");
    let receipt = client.send_confirmed(publish).await?;
    println!("admitted, position {} of the guard's log", receipt.decision.position);
    client.close().await?;
    Ok(())
}

fn arguments() -> Result<[String; 3], &'static str> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    given.try_into().map_err(|_| "usage: publish CREDENTIALS SUBJECT TEXT")
}

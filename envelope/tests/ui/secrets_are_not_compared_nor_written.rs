//! Secrets have no `==` (it is not constant-time), no `Display` and no serde.
use sealbus_envelope::{identity::SigningKey, keys::{ReaderSecret, SenderKey}};

fn equal(a: &SenderKey, b: &SenderKey) -> bool {
    a == b
}

fn shown(secret: &ReaderSecret) -> String {
    secret.to_string()
}

fn written(key: &SigningKey) -> serde_json::Value {
    serde_json::to_value(key).unwrap()
}

fn main() {}

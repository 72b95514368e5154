//! The guard's page, over HTTP: what it says, and what it is told; and what its store says when no guard runs.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    time::Duration,
};

use serde::de::DeserializeOwned;

use super::{
    busdir::BusDir,
    failure::{Exit, Failure},
};
use crate::{
    config::Config,
    service::STORE_FILE,
    store::{Store, StoreError},
};

const PATIENCE: Duration = Duration::from_secs(3);
/// The longest answer that is read, in bytes.
const MAX_ANSWER: u64 = 32 << 20;

/// Where the guard is asked.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct AddressArg {
    /// Where the guard serves its status, instead of what the configuration says
    #[arg(long, value_name = "IP:PORT")]
    address: Option<SocketAddr>,
}

impl AddressArg {
    /// As given, or of the configuration at `config`.
    pub(crate) fn read(&self, config: &Path) -> Result<SocketAddr, Failure> {
        match self.address {
            Some(address) => Ok(address),
            None => Ok(Config::load(config)?.http_listen),
        }
    }

    /// As given, or of the configuration.
    pub(crate) fn of(&self, config: &Config) -> SocketAddr {
        self.address.unwrap_or(config.http_listen)
    }
}

/// An answer: its code, and what it says.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// What the page at `path` says if all is well.
    pub(crate) fn read<T: DeserializeOwned>(&self, address: SocketAddr, path: &str) -> Result<T, Failure> {
        let strange = |error| silent(address, path, error);
        if self.code != 200 {
            return Err(strange(std::io::Error::other(format!("the answer's code is {}", self.code))));
        }
        serde_json::from_slice(&self.body).map_err(|error| strange(error.into()))
    }
}

/// What the page at `path` says.
pub(crate) fn get(address: SocketAddr, path: &str) -> Result<Answer, Failure> {
    exchange(address, "GET", path, &[]).map_err(|error| silent(address, path, error))
}

/// Tells the page at `path` something.
pub(crate) fn post(address: SocketAddr, path: &str, body: &[u8]) -> Result<Answer, Failure> {
    exchange(address, "POST", path, body).map_err(|error| silent(address, path, error))
}

/// What the page at `path` says, or if no guard runs what `read` finds in its store; and which of the two it was, `guard`
/// or `store`.
pub(crate) fn get_or_store<T: DeserializeOwned>(
    dir: &BusDir,
    address: SocketAddr,
    path: &str,
    read: impl FnOnce(&Store) -> Result<T, Failure>,
) -> Result<(T, &'static str), Failure> {
    let silent = match get(address, path).and_then(|answer| answer.read(address, path)) {
        Ok(said) => return Ok((said, "guard")),
        Err(silent) => silent,
    };
    let file = dir.config.state_dir.join(STORE_FILE);
    if !file.exists() {
        return Err(silent);
    }
    let store = match Store::open(&file) {
        Ok(store) => store,
        // A guard that runs has it; then what is wrong is that it does not answer.
        Err(StoreError::Locked(_)) => return Err(silent),
        Err(error) => return Err(unreadable_store(error)),
    };
    Ok((read(&store)?, "store"))
}

/// The store of a guard that does not run cannot be read.
#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
pub(crate) fn unreadable_store(error: StoreError) -> Failure {
    let remedy = "see what holds the file, and whether it is whole";
    Failure::told(Exit::Failure, "store", error.to_string(), remedy)
}

fn silent(address: SocketAddr, path: &str, source: std::io::Error) -> Failure {
    let message = format!("no guard answers at http://{address}{path}");
    let remedy = "start it with `sealbus guard`, or name where it serves its status with `--address`";
    Failure::because(Exit::Failure, "guard_unreachable", message, remedy, source)
}

/// One question and its answer. HTTP/1.0, so that the answer is not chunked and ends with the connection.
fn exchange(address: SocketAddr, method: &str, path: &str, body: &[u8]) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    )?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    parse(&answer).ok_or_else(|| std::io::Error::other("the answer is not the guard's"))
}

fn parse(answer: &[u8]) -> Option<Answer> {
    let split = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let (head, body) = answer.split_at(split);
    let line = std::str::from_utf8(head).ok()?.lines().next()?;
    let code = line.strip_prefix("HTTP/1.0 ").or_else(|| line.strip_prefix("HTTP/1.1 "))?;
    Some(Answer { code: code.get(..3)?.parse().ok()?, body: body.get(4..).unwrap_or_default().to_vec() })
}

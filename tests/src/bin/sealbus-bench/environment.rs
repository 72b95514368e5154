//! What the figures were measured on: without it they mean nothing.

use std::fs;

use serde::Serialize;

/// The lock file that this binary was built with names every version.
const LOCK: &str = include_str!("../../../../Cargo.lock");
const LIBRARIES: &[&str] = &["async-nats", "chacha20poly1305", "ed25519-dalek", "sha2", "tokio"];
const PEERS: &[&str] = &["cedar-policy", "vodozemac", "openmls", "openmls_rust_crypto"];

/// Machine and versions, taken before the run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Environment {
    cpu: String,
    cores: usize,
    /// One, five and fifteen minutes.
    load_average_before: Vec<f64>,
    system: String,
    build: &'static str,
    sealbus: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    nats_server: Option<String>,
    libraries: Vec<String>,
}

impl Environment {
    pub(crate) fn take() -> Self {
        let peers = if cfg!(feature = "peers") { PEERS } else { &[] };
        Self {
            cpu: cpu(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            load_average_before: load(),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            sealbus: env!("CARGO_PKG_VERSION"),
            nats_server: None,
            libraries: LIBRARIES.iter().chain(peers).map(|name| locked(name)).collect(),
        }
    }

    pub(crate) fn with_server(mut self, version: String) -> Self {
        self.nats_server = Some(version);
        self
    }

    pub(crate) fn lines(&self) -> String {
        let load: Vec<_> = self.load_average_before.iter().map(|load| format!("{load:.2}")).collect();
        let server = self.nats_server.iter().map(|version| format!("nats-server {version}, "));
        format!(
            "{}, {} cores, {}, load average before {}\nsealbus {} ({}), {}{}",
            self.cpu,
            self.cores,
            self.system,
            if load.is_empty() { "unknown".to_owned() } else { load.join(" ") },
            self.sealbus,
            self.build,
            server.collect::<String>(),
            self.libraries.join(", "),
        )
    }
}

fn cpu() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(|| "unknown cpu".to_owned(), |(_, model)| model.trim().to_owned())
}

fn load() -> Vec<f64> {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).filter_map(|load| load.parse().ok()).collect()
}

/// Where two versions are locked, the newest: ours; the older one is some peer's.
fn locked(name: &str) -> String {
    let head = format!("name = \"{name}\"\nversion = \"");
    let versions = LOCK.match_indices(&head).filter_map(|(at, _)| {
        let rest = LOCK.get(at.saturating_add(head.len())..)?;
        rest.split('"').next()
    });
    let newest = versions
        .max_by_key(|version| version.split('.').map(|part| part.parse().unwrap_or(0)).collect::<Vec<u64>>());
    format!("{name} {}", newest.unwrap_or("unknown"))
}

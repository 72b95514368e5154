//! What the running servers and the running guard say.

use std::{str::FromStr as _, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    net::TcpStream,
    time::timeout,
};

use super::{
    super::{busdir::BusDir, failure::Failure, status},
    Chart,
    files::Facts,
};
use crate::natsserver::{check_version, parse_version};

const PATIENCE: Duration = Duration::from_secs(3);
/// A server's first line is shorter than this, in bytes.
const MAX_INFO: u64 = 64 << 10;

/// Whether a server and the guard both answer.
pub(super) async fn check(dir: &BusDir, facts: &Facts, chart: &mut Chart<'_>) -> Result<bool, Failure> {
    let mut any = false;
    for url in &dir.config.urls {
        any |= server(url, dir, chart).await?;
    }
    Ok(guard(dir, facts, chart)? && any)
}

async fn server(url: &str, dir: &BusDir, chart: &mut Chart<'_>) -> Result<bool, Failure> {
    let what = format!("nats-server {url}");
    let info = match timeout(PATIENCE, info(url)).await {
        Ok(Ok(info)) => info,
        Ok(Err(error)) => {
            chart.wrong(what, error.to_string(), "start it with the nats.conf of this bus")?;
            return Ok(false);
        }
        Err(_) => {
            chart.wrong(
                what,
                "does not answer",
                "see whether the address is right and nothing is in between",
            )?;
            return Ok(false);
        }
    };
    let text = |key: &str| info.get(key).and_then(Value::as_str).unwrap_or_default();
    let flag = |key: &str| info.get(key).and_then(Value::as_bool).unwrap_or(false);
    match parse_version(text("version")).and_then(|version| check_version(&version)) {
        Ok(()) => {
            chart.good(&what, format!("`{}`, version {}, fit", text("server_name"), text("version")))?
        }
        Err(unfit) => chart.wrong(&what, unfit.to_string(), "update nats-server before anything else")?,
    }
    if !flag("auth_required") {
        let remedy =
            "use the nats.conf that `sealbus init` writes: with `auth_callout`, without `no_auth_user`";
        chart.open(&what, "lets anybody in without a login", remedy)?;
    } else if text("nonce").is_empty() {
        let remedy = "name an nkey user in `accounts`: only then do clients get a nonce to sign";
        chart.wrong(&what, "gives no nonce to sign", remedy)?;
    }
    if dir.config.requires_tls() && !flag("tls_required") {
        chart.wrong(&what, "does not ask for TLS", "add `tls { … }` to nats.conf")?;
    } else if !dir.config.requires_tls() && !is_loopback(url) {
        let detail = "no TLS: the network sees subjects, timing and who talks, though no payload";
        chart.mind(&what, detail, "add `tls { … }` to nats.conf and `tls://` to `urls`")?;
    }
    Ok(true)
}

fn is_loopback(url: &str) -> bool {
    async_nats::ServerAddr::from_str(url).is_ok_and(|address| {
        address.host() == "localhost"
            || address.host().parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    })
}

/// A server's first line, which it says to everybody before TLS and login.
async fn info(url: &str) -> std::io::Result<Value> {
    let address = async_nats::ServerAddr::from_str(url)?;
    let stream = TcpStream::connect((address.host(), address.port())).await?;
    let mut line = String::new();
    BufReader::new(stream.take(MAX_INFO)).read_line(&mut line).await?;
    let strange = || std::io::Error::other("what answers there is no nats-server");
    let json = line.strip_prefix("INFO ").ok_or_else(strange)?;
    serde_json::from_str(json.trim()).map_err(|_| strange())
}

fn guard(dir: &BusDir, facts: &Facts, chart: &mut Chart<'_>) -> Result<bool, Failure> {
    let report = match status::ask(dir.config.http_listen) {
        Ok(report) => report,
        Err(failure) => {
            chart.failed("guard", &failure)?;
            return Ok(false);
        }
    };
    match &report.not_ready {
        None if report.ready => {
            let detail = format!(
                "{}, {} sessions, connected to {}",
                report.version,
                report.sessions.len(),
                report.server
            );
            chart.good("guard", detail)?;
        }
        why => {
            let detail = format!("admits nothing: {}", why.as_deref().unwrap_or("it is starting"));
            chart.wrong("guard", detail, "see its log")?;
        }
    }
    if report.bus != dir.config.roots.name.as_str() {
        let detail = format!("what answers at {} guards bus `{}`", dir.config.http_listen, report.bus);
        chart.wrong("guard", detail, "give each guard its own `http_listen`")?;
    }
    for (what, file, running) in [
        ("policy in force", facts.policy_version, report.policy_version),
        ("status statement in force", facts.status_version, report.status_version),
    ] {
        match file {
            Some(file) if file == running => chart.good(what, format!("version {running}"))?,
            Some(file) => {
                let detail = format!("version {running}, and the file has {file}");
                chart.wrong(what, detail, "see the guard's log for why it does not take the file")?;
            }
            None => {}
        }
    }
    if let Some(fault) = &report.audit.fault {
        chart.wrong("audit log", fault, "free the guard's disk")?;
    }
    if report.dropped > 0 {
        let detail = format!("{} messages were lost before the guard read them", report.dropped);
        chart.mind("load", detail, "give the guard more processor, or lower the rules' rates")?;
    }
    Ok(report.ready)
}

//! Whether the servers are fit to be a bus: found out before the guard relies on them, because a bus without
//! the callout in force looks just like one with it until somebody hostile comes.

use std::{sync::Arc, time::Duration};

use async_nats::{Client, ConnectOptions};
use data_encoding::BASE64URL_NOPAD;

use super::{
    admin::{Admin, AdminError, ServerInfo},
    auth::Auth,
    probe,
};
use crate::natsserver::{UnfitVersion, check_version, parse_version};

/// Why the guard does not start on these servers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unfit {
    /// A server's version is not fit.
    #[error("server `{server}`: {source}")]
    Version {
        /// Its name.
        server: String,
        /// What is wrong.
        source: UnfitVersion,
    },
    /// A setting of nats.conf.
    #[error("server `{server}`: {what}; {remedy}")]
    Setting {
        /// Its name or address.
        server: String,
        /// What was found.
        what: String,
        /// What to change.
        remedy: &'static str,
    },
    /// The servers do not answer.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// A probe could not be made.
    #[error(
        "server `{server}` cannot be reached for a test connection: {detail}; check address and TLS settings"
    )]
    Unreachable {
        /// Its address.
        server: String,
        /// What failed.
        detail: String,
    },
}

/// What the bus needs of every server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// The least `max_payload`, in bytes: the largest envelope, and the callout's answer, must fit.
    pub max_payload: usize,
}

/// Makes the options of a test connection: as an agent would connect (TLS, certificate authorities), but
/// without any login.
pub type ProbeOptions = Arc<dyn Fn() -> ConnectOptions + Send + Sync>;

/// Checks, before anything else, every server that answers: version, limits, login, account. Returns them.
///
/// # Errors
/// [`Unfit`] says what to change.
pub async fn check_servers(guard: &Client, admin: &Admin, needs: Needs) -> Result<Vec<ServerInfo>, Unfit> {
    let servers = admin.servers().await?;
    for server in &servers {
        fit_version(&server.name, &server.version)?;
    }
    let info = guard.server_info();
    let setting =
        |what: String, remedy| Err(Unfit::Setting { server: info.server_name.clone(), what, remedy });
    fit_version(&info.server_name, &info.version)?;
    if !info.auth_required {
        return setting(
            "it asks nobody to log in".to_owned(),
            "remove `no_auth_user` from nats.conf, which `sealbus init` writes without it",
        );
    }
    if info.nonce.is_empty() {
        let remedy = "name an nkey user in `accounts`: only then do servers give clients a nonce to sign";
        return setting("it gives no nonce to sign".to_owned(), remedy);
    }
    if info.max_payload < needs.max_payload {
        let what = format!("max_payload is {}, the bus needs {}", info.max_payload, needs.max_payload);
        return setting(what, "raise `max_payload`");
    }
    let own = admin.connections(&info.server_id).await?;
    if !own.iter().any(|listed| listed.id.client == info.client_id) {
        let what = format!("the guard's login is not in account `{}`", admin.account());
        return setting(
            what,
            "put the guard's nkey into the bus's account, or name that account to the guard",
        );
    }
    Ok(servers)
}

fn fit_version(server: &str, version: &str) -> Result<(), Unfit> {
    let fit = parse_version(version).and_then(|version| check_version(&version));
    fit.map_err(|source| Unfit::Version { server: server.to_owned(), source })
}

/// Proves that the callout is in force on the server at `url`: a connection without a login, and one with a
/// token that nobody was given, must both be refused, and the question about the second must come to `auth`.
///
/// # Errors
/// [`Unfit`] says what to change.
pub async fn prove_callout(auth: &Auth, url: &str, options: &ProbeOptions) -> Result<(), Unfit> {
    if connects(url, options()).await? {
        return Err(Unfit::Setting {
            server: url.to_owned(),
            what: "it lets clients in that do not log in".to_owned(),
            remedy: "remove `no_auth_user` from nats.conf and add `authorization { auth_callout … }`",
        });
    }
    let mut random = [0; 24];
    getrandom::fill(&mut random).map_err(|error| Unfit::Unreachable {
        server: url.to_owned(),
        detail: format!("no randomness: {error}"),
    })?;
    let token = format!("probe-{}", BASE64URL_NOPAD.encode(&random));
    let asked = auth.expect_probe(token.clone());
    if connects(url, options().token(token)).await? {
        return Err(Unfit::Setting {
            server: url.to_owned(),
            what: "it lets clients in with a made-up token".to_owned(),
            remedy: "remove users without a login from nats.conf and add `authorization { auth_callout … }`",
        });
    }
    // The refusal is the answer to the question, or the server's own: then nobody asked.
    match tokio::time::timeout(Duration::from_millis(200), asked).await {
        Ok(Ok(_)) => Ok(()),
        _ => Err(Unfit::Setting {
            server: url.to_owned(),
            what: "it refuses clients without asking this guard, or asks it unsealed".to_owned(),
            remedy: "check `auth_callout` in nats.conf: `account` is the bus's, `issuer` and `xkey` are this guard's",
        }),
    }
}

async fn connects(url: &str, options: ConnectOptions) -> Result<bool, Unfit> {
    let tried = probe::lets_in(url, options).await;
    tried.map_err(|untold| Unfit::Unreachable { server: url.to_owned(), detail: untold.to_string() })
}

//! A login as an agent makes it, without the client on top: for watching events and for trying what the
//! servers refuse.

use std::{sync::Arc, time::Duration};

use async_nats::ConnectOptions;
use sealbus_client::{Credentials, credentials::Ca};
use sealbus_envelope::{
    control::AuthToken,
    identity::{SessionCertificate, SessionId},
    reason::Refused,
    time::Validity,
};

use super::{
    failure::{Exit, Failure},
    init::{CLOCK_SKEW, generate},
};
use crate::clock::now;

/// How long such a session lasts at most: a day, in milliseconds.
const SESSION_MS: u64 = 24 * 3_600_000;

/// A connection and the session that it logged in with.
#[derive(Debug)]
pub(crate) struct Bare {
    pub(crate) client: async_nats::Client,
    pub(crate) session: SessionId,
}

/// Connects with `credentials`; `events` hears what becomes of the connection.
pub(crate) async fn connect(
    credentials: &Credentials,
    events: tokio::sync::mpsc::UnboundedSender<async_nats::Event>,
) -> Result<Bare, Failure> {
    let credential = credentials.credential();
    credential.check_time(now()).map_err(|refused| unfit(&refused))?;
    let key = Arc::new(generate());
    let not_before = now().minus(CLOCK_SKEW);
    let not_after = now().plus(SESSION_MS).min(credential.claims().validity.not_after);
    let certificate = SessionCertificate::issue(
        credential.claims().bus,
        credentials.identity(),
        &key,
        Validity { not_before, not_after },
    )
    .map_err(|refused| unfit(&refused))?;
    let session = certificate.id();
    let token = AuthToken {
        credential: credential.as_str().to_owned(),
        certificate: certificate.as_bytes().to_vec().into(),
    };
    let token = token.to_text().map_err(|refused| unfit(&refused))?;
    let options = ConnectOptions::with_auth_callback(move |nonce| {
        let (key, token) = (Arc::clone(&key), token.clone());
        async move {
            let signature = key.sign_nonce(&nonce).map_err(async_nats::AuthError::new)?;
            let mut auth = async_nats::Auth::new();
            auth.token = Some(token);
            auth.signature = Some(signature.to_vec());
            Ok(auth)
        }
    })
    .no_echo()
    .connection_timeout(Duration::from_secs(5))
    .event_callback(move |event| {
        // Whoever listened may be gone.
        drop(events.send(event));
        async {}
    });
    let options = trust(options, credentials.bus().ca())?;
    let client =
        options.connect(credentials.urls()).await.map_err(|error| connect_failure(credentials, &error))?;
    Ok(Bare { client, session })
}

fn trust(options: ConnectOptions, ca: Option<&Ca>) -> Result<ConnectOptions, Failure> {
    match ca {
        None => Ok(options),
        Some(Ca::Path(path)) => Ok(options.require_tls(true).add_root_certificates(path.clone())),
        Some(Ca::Pem(pem)) => {
            // The library reads authorities from files only; this one holds nothing secret.
            let mut random = [0; 8];
            let told = |source| Failure::io("write", &std::env::temp_dir(), source);
            getrandom::fill(&mut random).map_err(|error| told(std::io::Error::other(error)))?;
            let name = format!("sealbus-ca-{}.pem", data_encoding::HEXLOWER.encode(&random));
            let path = std::env::temp_dir().join(name);
            crate::keyfile::replace_public(&path, pem.as_bytes())?;
            Ok(options.require_tls(true).add_root_certificates(path))
        }
    }
}

fn unfit(refused: &Refused) -> Failure {
    let message = format!("the credentials are refused: {refused}");
    Failure::told(Exit::Config, "credentials_refused", message, refused.reason.remedy())
}

fn connect_failure(credentials: &Credentials, error: &async_nats::ConnectError) -> Failure {
    use async_nats::ConnectErrorKind as Kind;
    let urls = credentials.urls().join(", ");
    match error.kind() {
        Kind::AuthorizationViolation | Kind::Authentication => Failure::told(
            Exit::Denied,
            "login_refused",
            format!("{urls} does not let `{}` in", credentials.credential().claims().name),
            "see whether the guard runs (`sealbus status`) and the agent is valid (`sealbus agent show`)",
        ),
        _ => Failure::told(
            Exit::Failure,
            "bus_unreachable",
            format!("cannot connect to {urls}: {error}"),
            "see whether nats-server runs there",
        ),
    }
}

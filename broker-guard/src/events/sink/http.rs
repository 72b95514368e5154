//! One POST to a web server: HTTP/1.1, TLS by rustls, no redirects, no cookies, no proxy, nothing kept open.

use std::{io, net::IpAddr, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Uri,
    header::{CONNECTION, CONTENT_TYPE, HOST, HeaderMap, RETRY_AFTER, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::ring},
};

/// Longer waits are not asked of us.
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(10);

/// Why an address cannot be posted to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No URL of the web.
    #[error("this is not an address such as `https://hooks.example.com/sealbus`")]
    NotOne,
    /// A login in it would end up in logs.
    #[error("this address holds a login; the signature is what tells the receiver who sends")]
    Login,
    /// Everybody on the way could read it.
    #[error("`http://` would send events in the clear: use `https://`; only loopback addresses need not")]
    Clear,
}

/// Why a POST failed before there was an answer. It never repeats what was sent.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// No TLS.
    #[error("TLS: {0}")]
    Tls(io::Error),
    /// The server does not speak HTTP, or closed the connection.
    #[error("HTTP: {0}")]
    Http(#[from] hyper::Error),
    /// It took too long.
    #[error("no answer in time")]
    Late,
}

/// What the server answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// How long it wants to be left alone.
    pub retry_after: Option<Duration>,
}

/// Where to post to.
#[derive(Clone)]
pub struct Address {
    uri: Uri,
    host: String,
    port: u16,
    tls: Option<TlsConnector>,
}

impl std::fmt::Debug for Address {
    /// Paths of webhooks are often secret by themselves.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Address").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

/// Checks an address without its authorities.
///
/// # Errors
/// [`AddressError`].
pub fn check(url: &str) -> Result<Uri, AddressError> {
    let uri: Uri = url.parse().map_err(|_| AddressError::NotOne)?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(AddressError::NotOne);
    };
    if authority.as_str().contains('@') {
        return Err(AddressError::Login);
    }
    let host = authority.host().trim_matches(['[', ']']);
    let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match scheme {
        "https" if !host.is_empty() => Ok(uri),
        "http" if loopback => Ok(uri),
        "http" if !host.is_empty() => Err(AddressError::Clear),
        _ => Err(AddressError::NotOne),
    }
}

impl Address {
    /// An address, with the authorities in the PEM file `ca` instead of the system's.
    ///
    /// # Errors
    /// [`AddressError`], or the authorities cannot be read; in words.
    pub fn new(url: &str, ca: Option<&Path>) -> Result<Self, String> {
        let uri = check(url).map_err(|error| error.to_string())?;
        let https = uri.scheme_str() == Some("https");
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
        let tls = if https { Some(connector(ca)?) } else { None };
        Ok(Self { uri, host, port, tls })
    }

    /// The host, for logs.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Posts JSON and returns the answer's head; its body is not read, and no redirect is followed.
    ///
    /// # Errors
    /// [`PostError`].
    pub async fn post(
        &self,
        headers: HeaderMap,
        body: Bytes,
        patience: Duration,
    ) -> Result<Answer, PostError> {
        tokio::time::timeout(patience, self.exchange(headers, body)).await.unwrap_or(Err(PostError::Late))
    }

    async fn exchange(&self, headers: HeaderMap, body: Bytes) -> Result<Answer, PostError> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(PostError::Connect)?;
        match &self.tls {
            None => self.speak(stream, headers, body).await,
            Some(tls) => {
                let name = ServerName::try_from(self.host.clone())
                    .map_err(|error| PostError::Tls(io::Error::other(error)))?;
                let stream = tls.connect(name, stream).await.map_err(PostError::Tls)?;
                self.speak(stream, headers, body).await
            }
        }
    }

    async fn speak(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, PostError> {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let host = self.uri.authority().map_or("", |authority| authority.as_str());
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = path.parse().unwrap_or_default();
        *request.headers_mut() = headers;
        let agent = concat!("sealbus/", env!("CARGO_PKG_VERSION"));
        for (name, value) in
            [(HOST, host), (CONTENT_TYPE, "application/json"), (CONNECTION, "close"), (USER_AGENT, agent)]
        {
            if let Ok(value) = value.parse() {
                request.headers_mut().insert(name, value);
            }
        }
        let answer = sender.send_request(request);
        // The connection must be driven while the answer is waited for, and ends with it.
        let response = tokio::select! {
            biased;
            response = answer => response?,
            Err(error) = connection => return Err(error.into()),
        };
        Ok(Answer {
            status: response.status().as_u16(),
            retry_after: response
                .headers()
                .get(RETRY_AFTER)
                .and_then(|value| value.to_str().ok()?.parse().ok())
                .map(|seconds| Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER)),
        })
    }
}

fn connector(ca: Option<&Path>) -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            let told = |error: &dyn std::fmt::Display| format!("cannot read `{}`: {error}", path.display());
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| told(&error))? {
                roots.add(certificate.map_err(|error| told(&error))?).map_err(|error| told(&error))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err("no certificate authority is known: name one with `tls_ca`".to_owned());
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_keep_events_from_the_network_are_taken() {
        for good in ["https://hooks.example.com/x?y=z", "https://[2001:db8::1]:8443/", "http://127.0.0.1:9/a"]
        {
            assert!(check(good).is_ok(), "{good}");
        }
        for (bad, error) in [
            ("http://hooks.example.com/", AddressError::Clear),
            ("http://127.0.0.1.example.com/", AddressError::Clear),
            ("https://user:word@example.com/", AddressError::Login),
            ("ftp://example.com/", AddressError::NotOne),
            ("example.com", AddressError::NotOne),
            ("", AddressError::NotOne),
        ] {
            assert_eq!(check(bad), Err(error), "{bad}");
        }
    }
}

//! Events over HTTPS: taken by the server that the named authority vouches for, shown to no other.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::{sync::Arc, time::Duration};

use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use sealbus_envelope::time::Millis;
use sealbus_guard::{
    events::{
        Event, Kind,
        herald::Herald,
        ocsf::Source,
        queue::{Bound, Filter},
        sink::{
            Courier, Sink,
            http::{Address, PostError},
            signature::{Secret, Secrets},
            webhook::{DeliveryError, Webhook},
        },
    },
    metrics::Metrics,
};
use sealbus_tests::tls::Certificates;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring},
};

const PATIENCE: Duration = Duration::from_secs(30);

/// A web server with the certificate for 127.0.0.1 of the authority `zone`.
struct Receiver {
    listener: TcpListener,
    tls: TlsAcceptor,
}

impl Receiver {
    async fn start(certificates: &Certificates) -> Self {
        let files = certificates.server(false);
        let chain = CertificateDer::pem_file_iter(files.cert_file).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(files.key_file).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { listener, tls: TlsAcceptor::from(Arc::new(config)) }
    }

    fn url(&self, host: &str) -> String {
        format!("https://{host}:{}/hook", self.listener.local_addr().unwrap().port())
    }

    /// The next request, answered with 200; none if its sender did not come through the handshake.
    async fn next(&self) -> Option<String> {
        let (stream, _) = self.listener.accept().await.unwrap();
        let mut stream = self.tls.accept(stream).await.ok()?;
        let mut request = String::new();
        let mut buffer = [0; 4_096];
        loop {
            let body = request.split_once("\r\n\r\n").map(|(head, body)| (header(head), body.len()));
            if matches!(body, Some((length, there)) if there >= length) {
                break;
            }
            let read = stream.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
            request.push_str(std::str::from_utf8(buffer.get(..read)?).unwrap());
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        stream.shutdown().await.unwrap();
        Some(request)
    }
}

fn header(head: &str) -> usize {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    let length = lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    length.map_or(0, |(_, length)| length.parse().unwrap())
}

fn webhook(url: &str, certificates: &Certificates, authority: &str) -> Webhook {
    let address = Address::new(url, Some(&certificates.authority(authority))).unwrap();
    let secret = Secret::parse(&format!("whsec_{}", data_encoding::BASE64.encode(&[7; 32]))).unwrap();
    Webhook::new(address, Secrets::from(secret), PATIENCE, PATIENCE)
}

#[tokio::test]
async fn an_event_reaches_a_server_of_the_named_authority() {
    let dir = tempfile::tempdir().unwrap();
    let certificates = Certificates::make(dir.path());
    let receiver = Receiver::start(&certificates).await;
    let courier = Courier::Webhook(webhook(&receiver.url("127.0.0.1"), &certificates, "zone"));
    let sink = Sink { name: "pager".to_owned(), filter: Filter::default(), bound: Bound::default(), courier };
    let source = Source { bus: "demo".to_owned(), bus_id: "ab".to_owned(), guard: "U".to_owned(), epoch: 1 };
    let metrics = Metrics::new();
    let herald = Herald::start(source, vec![sink], metrics.clone());
    herald.report(&Event::new(Kind::Quarantine, Millis(1)).about("mallory-a2b3c4d5e6"));

    let request = tokio::time::timeout(PATIENCE, receiver.next()).await.unwrap().unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /hook HTTP/1.1\r\n") && head.contains("webhook-signature: v1,"), "{head}");
    let event: Value = serde_json::from_str(body).unwrap();
    assert_eq!(event.pointer("/metadata/event_code"), Some(&"quarantine".into()), "{event}");
    herald.stop(PATIENCE).await;
    let text = metrics.render();
    assert!(text.contains("sealbus_sink_delivered_total{sink=\"pager\"} 1"), "{text}");
}

/// Whoever redirects the name or the address of a receiver gets a handshake and nothing of the event.
#[tokio::test]
async fn a_server_of_another_authority_or_another_name_is_shown_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let certificates = Certificates::make(dir.path());
    let receiver = Receiver::start(&certificates).await;
    for (host, authority, fault) in
        [("127.0.0.1", "other", "UnknownIssuer"), ("localhost", "zone", "not valid for name")]
    {
        let webhook = webhook(&receiver.url(host), &certificates, authority);
        let posting = webhook.deliver("id", Millis(1), "{\"secret\":1}".into());
        let (outcome, request) = tokio::join!(posting, receiver.next());
        assert_eq!(request, None, "{host} by {authority}");
        match outcome {
            Err(DeliveryError::Unreachable(PostError::Tls(error))) => {
                assert!(error.to_string().contains(fault), "{error}");
            }
            outcome => panic!("{host} by {authority}: {outcome:?}"),
        }
    }
}

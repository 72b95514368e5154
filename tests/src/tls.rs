//! Certificates for one test: an authority, a server of it, and clients of it or of another.
#![expect(clippy::expect_used, reason = "a fixture that cannot be made fails its test")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use async_nats::ConnectOptions;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use sealbus_guard::natsserver::Tls;
use sha2::{Digest as _, Sha256};

/// An authority, and what it issued, as files in a test's directory.
#[derive(Debug, Clone)]
pub struct Certificates {
    dir: PathBuf,
}

impl Certificates {
    /// Two authorities, `zone` and `other`, and for each a client; a server at 127.0.0.1 of the first.
    ///
    /// # Panics
    /// If they cannot be written.
    #[must_use]
    pub fn make(dir: &Path) -> Self {
        let made = Self { dir: dir.to_owned() };
        for authority in ["zone", "other"] {
            let mut params = CertificateParams::new(vec![]).expect("parameters");
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(rcgen::DnType::CommonName, authority);
            let key = KeyPair::generate().expect("a key");
            let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
            made.write(&format!("{authority}-ca.pem"), &issuer.pem());
            for (name, subject) in [("server", "127.0.0.1"), ("client", "agent")] {
                let params = CertificateParams::new(vec![subject.to_owned()]).expect("parameters");
                let key = KeyPair::generate().expect("a key");
                let certificate = params.signed_by(&key, &issuer).expect("a certificate");
                made.write(&format!("{authority}-{name}.pem"), &certificate.pem());
                made.write(&format!("{authority}-{name}.key"), &key.serialize_pem());
            }
        }
        let both = ["zone", "other"].map(|name| fs::read_to_string(made.path(&format!("{name}-ca.pem"))));
        let both: Vec<_> = both.into_iter().map(|pem| pem.expect("an authority")).collect();
        made.write("client-cas.pem", &both.concat());
        made
    }

    /// TLS for a server that asks for a client certificate of either authority if `verify`.
    #[must_use]
    pub fn server(&self, verify: bool) -> Tls {
        Tls {
            cert_file: self.path("zone-server.pem"),
            key_file: self.path("zone-server.key"),
            client_ca_file: verify.then(|| self.path("client-cas.pem")),
        }
    }

    /// The certificate of an authority.
    #[must_use]
    pub fn authority(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}-ca.pem"))
    }

    /// Connects by TLS, showing the client certificate of `authority`.
    #[must_use]
    pub fn connect(&self, options: ConnectOptions, authority: &str) -> ConnectOptions {
        let file = |end| self.path(&format!("{authority}-client.{end}"));
        options
            .require_tls(true)
            .add_root_certificates(self.authority("zone"))
            .add_client_certificate(file("pem"), file("key"))
    }

    /// SHA-256 of an authority's certificate, in hex as policies have it.
    ///
    /// # Panics
    /// If it is not there.
    #[must_use]
    pub fn fingerprint(&self, authority: &str) -> String {
        let certificate = CertificateDer::from_pem_file(self.authority(authority)).expect("a certificate");
        data_encoding::HEXLOWER.encode(&Sha256::digest(&certificate))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("the test's directory can be written");
    }
}

//! The bus block: roots of trust, servers, prefix.

use std::path::PathBuf;

use sealbus_envelope::{
    identity::{KeyKind, PublicKey, Roots},
    name::Name,
    subject::WireSubjects,
};
use serde::{Deserialize, Serialize};

use super::error::Problem;

/// The certificate authority that TLS servers of the bus show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ca {
    /// A PEM file.
    Path(PathBuf),
    /// PEM text.
    Pem(String),
}

/// Which bus, what is trusted on it, where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bus {
    roots: Roots,
    urls: Vec<String>,
    subjects: WireSubjects,
    ca: Option<Ca>,
}

/// The block as written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    name: Name,
    issuer: String,
    policy_keys: Vec<String>,
    quorum: usize,
    urls: Vec<String>,
    #[serde(default = "default_prefix")]
    prefix: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ca: Option<Ca>,
}

fn default_prefix() -> String {
    WireSubjects::default().prefix().to_owned()
}

impl Bus {
    /// The bus of `roots` at `urls`, under the prefix `sb`.
    ///
    /// # Errors
    /// [`Problem::Roots`] if the quorum cannot be met; [`Problem::Urls`] if there is no URL or one is none
    /// of `nats://` or `tls://`.
    pub fn new(roots: Roots, urls: Vec<String>) -> Result<Self, Problem> {
        if roots.quorum == 0 || roots.quorum > roots.policy_keys.len() {
            return Err(Problem::Roots(format!(
                "a quorum of {} out of {} policy keys",
                roots.quorum,
                roots.policy_keys.len()
            )));
        }
        if urls.is_empty() {
            return Err(Problem::Urls("there is no server URL".to_owned()));
        }
        for url in &urls {
            let scheme = url.split_once("://").map(|(scheme, _)| scheme);
            if !matches!(scheme, Some("nats" | "tls")) || url.parse::<async_nats::ServerAddr>().is_err() {
                return Err(Problem::Urls(format!("`{}` is no server URL", url.escape_debug())));
            }
        }
        Ok(Self { roots, urls, subjects: WireSubjects::default(), ca: None })
    }

    /// With another prefix of its wire subjects.
    #[must_use]
    pub fn with_subjects(mut self, subjects: WireSubjects) -> Self {
        self.subjects = subjects;
        self
    }

    /// With the certificate authority of its TLS servers.
    #[must_use]
    pub fn with_ca(mut self, ca: Ca) -> Self {
        self.ca = Some(ca);
        self
    }

    /// The roots of trust.
    #[must_use]
    pub const fn roots(&self) -> &Roots {
        &self.roots
    }

    /// The servers' URLs.
    #[must_use]
    pub fn urls(&self) -> &[String] {
        &self.urls
    }

    /// The wire subjects.
    #[must_use]
    pub const fn subjects(&self) -> &WireSubjects {
        &self.subjects
    }

    /// The certificate authority of its TLS servers, if it has its own.
    #[must_use]
    pub const fn ca(&self) -> Option<&Ca> {
        self.ca.as_ref()
    }

    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        let text: Text = serde_json::from_str(text).map_err(|error| Problem::Bus(error.to_string()))?;
        let key = |name: &str, text: &str, kind| {
            PublicKey::from_nkey(text, kind).map_err(|_| {
                Problem::Roots(format!("{name} `{}` is no public key of its kind", text.escape_debug()))
            })
        };
        let roots = Roots {
            name: text.name,
            issuer: key("issuer", &text.issuer, KeyKind::Account)?,
            policy_keys: text
                .policy_keys
                .iter()
                .map(|text| key("policy key", text, KeyKind::User))
                .collect::<Result<_, _>>()?,
            quorum: text.quorum,
        };
        let subjects = WireSubjects::new(&text.prefix)
            .map_err(|_| Problem::Bus(format!("prefix `{}` is no subject", text.prefix.escape_debug())))?;
        Ok(Self { ca: text.ca, ..Self::new(roots, text.urls)?.with_subjects(subjects) })
    }

    pub(super) fn render(&self) -> String {
        let text = Text {
            name: self.roots.name.clone(),
            issuer: self.roots.issuer.to_nkey(KeyKind::Account),
            policy_keys: self.roots.policy_keys.iter().map(|key| key.to_nkey(KeyKind::User)).collect(),
            quorum: self.roots.quorum,
            urls: self.urls.clone(),
            prefix: self.subjects.prefix().to_owned(),
            ca: self.ca.clone(),
        };
        // Strings, numbers and lists: nothing here that JSON cannot say, but for a path that is not UTF-8.
        serde_json::to_string_pretty(&text).unwrap_or_default()
    }
}

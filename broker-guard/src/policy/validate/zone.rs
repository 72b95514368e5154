//! Zones: where agents run, and what that place must be like.

use sealbus_envelope::name::Name;
use sealbus_envelope::policy::{MAX_PLACE, MAX_PLACES, Zone, ZoneTls};

use super::Resolver;
use crate::policy::diagnostic::{Code, Finding};
use crate::policy::source::{At, Names, RawZone};

impl Resolver<'_> {
    pub(super) fn zone(&mut self, name: &At<String>, raw: &RawZone) -> Option<Zone> {
        let ceiling = self.clearance(raw.ceiling.as_ref());
        let (servers, tags) = (self.places(raw.servers.as_ref()), self.places(raw.tags.as_ref()));
        let cluster = raw.cluster.as_ref().map(|name| self.place(name));
        let choices =
            [("any", ZoneTls::Any), ("encrypted", ZoneTls::Encrypted), ("verified", ZoneTls::Verified)];
        let tls = self.choice("tls", raw.tls.as_ref(), choices).unwrap_or_default();
        let ca = raw.ca.as_ref().map(|ca| self.fingerprint(ca, tls));
        Some(Zone {
            name: Name::parse(&name.value).ok()?,
            ceiling: ceiling?,
            servers: servers?,
            // Written and not understood is not the same as not written.
            cluster: cluster.map_or(Some(None), |cluster| cluster.map(Some))?,
            tags: tags?,
            tls,
            ca: ca.map_or(Some(None), |ca| ca.map(Some))?,
        })
    }

    fn places(&mut self, names: Option<&Names>) -> Option<Vec<String>> {
        let Some(names) = names else { return Some(Vec::new()) };
        if names.value.len() > MAX_PLACES {
            let message = format!("a list of {} servers or tags", names.value.len());
            self.findings.push(
                Finding::error(Code::TooMany, message, names.span.clone(), "too many")
                    .help(format!("name at most {MAX_PLACES}, or tell the servers apart by a tag")),
            );
        }
        let mut all = Some(Vec::with_capacity(names.value.len()));
        for (n, name) in names.value.iter().enumerate() {
            self.once(names.value.iter().take(n), name);
            all = all.zip(self.place(name)).map(|(mut all, place)| {
                all.push(place);
                all
            });
        }
        all
    }

    fn place(&mut self, name: &At<String>) -> Option<String> {
        if (1..=MAX_PLACE).contains(&name.value.len()) {
            return Some(name.value.clone());
        }
        let message = "the name of a server, cluster or tag is empty or too long";
        self.findings.push(
            Finding::error(Code::InvalidName, message, name.span.clone(), "no name")
                .help(format!("write what `server_name`, `cluster.name` or `server_tags` says in nats.conf, 1 to {MAX_PLACE} bytes")),
        );
        None
    }

    fn fingerprint(&mut self, written: &At<String>, tls: ZoneTls) -> Option<[u8; 32]> {
        if tls != ZoneTls::Verified {
            self.findings.push(
                Finding::error(
                    Code::Conflict,
                    "a zone with `ca` and without `tls = \"verified\"`",
                    written.span.clone(),
                    "nothing is verified",
                )
                .help("write `tls = \"verified\"`, or remove `ca`"),
            );
        }
        let plain: String = written.value.chars().filter(|c| *c != ':').collect();
        let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(plain.as_bytes()).ok();
        let found = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        if found.is_none() {
            let message = format!("`{}` is not a SHA-256 fingerprint", written.value);
            self.findings.push(
                Finding::error(Code::InvalidValue, message, written.span.clone(), "not 64 hex digits")
                    .help("write what `openssl x509 -noout -fingerprint -sha256 -in CA.pem` prints"),
            );
        }
        found
    }
}

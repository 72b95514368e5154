//! Zones: places that agents run in, told apart by the servers they connect to.
//!
//! Guards hold connections to them. Readers do not: an envelope does not say where its sender was.

use crate::{
    hash::Hash,
    label::Clearance,
    name::{MAX_NAME, Name},
    policy::record::clearance,
    reason::{Reason, Refused},
    wire::codec::{Reader, Writer},
};

/// The most zones of a policy.
pub const MAX_ZONES: usize = 256;
/// The most servers, and the most tags, that a zone names.
pub const MAX_PLACES: usize = 64;
/// The longest name of a server, cluster or tag, in bytes.
pub const MAX_PLACE: usize = 128;

/// What a zone demands of the connection between agent and server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum ZoneTls {
    /// Nothing.
    #[default]
    Any,
    /// TLS.
    Encrypted,
    /// TLS, and a client certificate that the server verified.
    Verified,
}

/// A zone: no member of its teams is cleared above the ceiling, and they connect only where it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// Unique in the policy.
    pub name: Name,
    /// The highest clearance that may run there: who is cleared for more, for a higher level or another compartment,
    /// may not connect.
    pub ceiling: Clearance,
    /// The NATS servers (by `server_name`) its agents connect to; empty means any.
    pub servers: Vec<String>,
    /// The NATS cluster they connect to; none means any.
    pub cluster: Option<String>,
    /// Tags that the server must carry, all of them, in any case of their letters.
    pub tags: Vec<String>,
    /// What it demands of TLS.
    pub tls: ZoneTls,
    /// SHA-256 of the DER of a certificate that a verified chain must hold, such as the zone's own CA. Needs
    /// [`ZoneTls::Verified`].
    pub ca: Option<Hash>,
}

impl Zone {
    pub(super) fn write(&self, w: &mut Writer) {
        w.array(8).str(self.name.as_str()).uint(self.ceiling.level.number());
        w.uint(self.ceiling.compartments.bits());
        write_texts(w, &self.servers);
        w.option(self.cluster.as_ref(), |w, cluster| {
            w.str(cluster);
        });
        write_texts(w, &self.tags);
        w.uint(self.tls as u8).option(self.ca.as_ref(), |w, ca| {
            w.bin(ca);
        });
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, Refused> {
        r.array(8)?;
        Ok(Self {
            name: Name::parse(r.str(MAX_NAME)?)?,
            ceiling: clearance(r, "tables.zones")?,
            servers: read_texts(r)?,
            cluster: r.option(|r| Ok(r.str(MAX_PLACE)?.to_owned()))?,
            tags: read_texts(r)?,
            tls: match r.uint()? {
                0 => ZoneTls::Any,
                1 => ZoneTls::Encrypted,
                2 => ZoneTls::Verified,
                _ => return Err(Refused::new(Reason::BadEncoding, "tables.zones")),
            },
            ca: r.option(|r| r.bin_array())?,
        })
    }
}

fn write_texts(w: &mut Writer, texts: &[String]) {
    w.array(texts.len());
    for text in texts {
        w.str(text);
    }
}

fn read_texts(r: &mut Reader<'_>) -> Result<Vec<String>, Refused> {
    let count = r.array_len(MAX_PLACES)?;
    (0..count).map(|_| Ok(r.str(MAX_PLACE)?.to_owned())).collect()
}

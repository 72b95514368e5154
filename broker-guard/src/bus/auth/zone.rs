//! Where an agent connects from, held against the zone that its team runs in.
//!
//! What a server says of itself (its name, cluster and tags) is as good as the server: it signs the question with a
//! key that the roster knows, and its operators wrote its configuration. So a zone keeps agents from running in
//! the wrong place by mistake, or with a stolen key from outside; it is no defence against a server of the bus
//! that lies.

use sealbus_envelope::{
    identity::Claims,
    label::Clearance,
    policy::{Tables, Zone, ZoneTls},
    reason::{Reason, Refused},
};
use serde::{Deserialize, Serialize};

use super::jwt::AuthRequest;

/// Where a connection is, as its server says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The server's name.
    pub server: String,
    /// Its cluster.
    pub cluster: Option<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Whether the connection is encrypted.
    pub encrypted: bool,
    /// SHA-256 of the DER of each certificate in the chains that the server verified; empty if it verified none.
    pub verified: Vec<[u8; 32]>,
}

impl Place {
    /// What a server says of itself and of the connection.
    #[must_use]
    pub fn of(request: &AuthRequest) -> Self {
        let server = &request.server;
        Self {
            server: server.name.clone(),
            cluster: server.cluster.clone(),
            tags: server.tags.clone(),
            encrypted: request.tls.is_some(),
            verified: request.tls.as_ref().map(|tls| tls.verified()).unwrap_or_default(),
        }
    }

    fn is_in(&self, zone: &Zone) -> bool {
        let tagged = |tag: &String| self.tags.iter().any(|own| own.eq_ignore_ascii_case(tag));
        let secured = match zone.tls {
            ZoneTls::Any => true,
            ZoneTls::Encrypted => self.encrypted,
            ZoneTls::Verified => self.encrypted && !self.verified.is_empty(),
        };
        secured
            && (zone.servers.is_empty() || zone.servers.contains(&self.server))
            && (zone.cluster.is_none() || zone.cluster == self.cluster)
            && zone.tags.iter().all(tagged)
            && zone.ca.is_none_or(|ca| self.verified.contains(&ca))
    }
}

/// Whether the holder of `claims`, cleared for `clearance`, may connect here: in its team's zone, and in one of
/// those that its credential names, if it names any.
///
/// # Errors
/// `wrong_zone`, `above_ceiling`.
pub fn check(tables: &Tables, claims: &Claims, clearance: Clearance, place: &Place) -> Result<(), Refused> {
    let wrong = Refused::new(Reason::WrongZone, "connection");
    let of_team = tables.team(claims.team.as_str()).and_then(|team| team.zone.as_ref());
    let allowed = |name| claims.zones.is_empty() || claims.zones.contains(name);
    let mut zones: Vec<&Zone> = Vec::new();
    match of_team {
        Some(name) if !allowed(name) => return Err(wrong),
        Some(name) => zones.extend(tables.zone(name.as_str())),
        None if claims.zones.is_empty() => return Ok(()),
        None => zones.extend(claims.zones.iter().filter_map(|name| tables.zone(name.as_str()))),
    }
    zones.retain(|zone| place.is_in(zone));
    if zones.is_empty() {
        return Err(wrong);
    }
    if zones.iter().any(|zone| zone.ceiling.meet(clearance) == clearance) {
        Ok(())
    } else {
        Err(Refused::new(Reason::AboveCeiling, "credential.clearance"))
    }
}

#[cfg(test)]
mod tests;

//! Everything that is no envelope: credentials, certificates, keys, grants, status, policy, statements.

use serde_json::Value;

use crate::{Vectors, file::Vector, scene::refused, world::World};

#[path = "records/identity.rs"]
mod identity;
#[path = "records/key_grants.rs"]
mod key_grants;
#[path = "records/keys.rs"]
mod keys;
#[path = "records/orders.rs"]
mod orders;
#[path = "records/policy.rs"]
mod policy;
#[path = "records/statements.rs"]
mod statements;

struct Make<'w, 'v> {
    world: &'w World,
    vectors: &'v mut Vectors,
}

impl Make<'_, '_> {
    fn put(&mut self, name: &str, code: &str, purpose: &str, kind: &str, input: Value, context: Value) {
        let vector = Vector {
            purpose: purpose.to_owned(),
            kind: kind.to_owned(),
            input,
            context,
            expect: refused(code),
        };
        if code == "ok" { self.vectors.good(name, vector) } else { self.vectors.hostile(name, vector) }
    }
}

pub(crate) fn make(world: &World, vectors: &mut Vectors) {
    let mut make = Make { world, vectors };
    identity::credentials(&mut make);
    identity::certificates(&mut make);
    keys::reader_keys(&mut make);
    keys::box_keys(&mut make);
    key_grants::put(&mut make);
    statements::statuses(&mut make);
    policy::bundles(&mut make);
    policy::excerpts(&mut make);
    statements::sessions(&mut make);
    statements::heartbeats(&mut make);
    statements::auth_tokens(&mut make);
    orders::orders(&mut make);
    orders::approvals(&mut make);
}

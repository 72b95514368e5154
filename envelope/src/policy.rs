//! Policy as signed records, each provable alone, checked by guard and clients alike.
//!
//! ```
//! use sealbus_envelope::identity::{Roots, SigningKey};
//! use sealbus_envelope::policy::{Bundle, Tables};
//! use sealbus_envelope::{name::Name, time::Millis};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let rng = &mut rand_core::UnwrapErr(getrandom::SysRng);
//! let (issuer, policy_key, status) = (SigningKey::generate(rng), SigningKey::generate(rng), SigningKey::generate(rng));
//! let roots = Roots {
//!     name: Name::parse("demo")?, issuer: issuer.public().clone(),
//!     policy_keys: vec![policy_key.public().clone()], quorum: 1,
//! };
//! let tables = Tables {
//!     bus: roots.bus(), levels: vec![Name::parse("public")?], compartments: vec![],
//!     integrity: vec![Name::parse("untrusted")?], teams: vec![], status_key: status.public().clone(),
//!     guards: vec![], freshness_ms: 60_000, max_readers: 1_000,
//! };
//! let bundle = Bundle::sign(tables, vec![], 1, Millis(1), &[&policy_key], &roots)?;
//! let (head, tables, rules) = bundle.excerpt(|_| true).verify(&roots)?;
//! assert_eq!(head.fields().version, 1);
//! # Ok(())
//! # }
//! ```

mod bundle;
mod rule;

pub use bundle::{
    Bundle, BundleHead, Excerpt, ExcerptRule, HeadFields, MAX_BUNDLE, MAX_RULES, MAX_SIGNATURES,
};
pub use rule::{
    MAX_GUARDS, MAX_PARTIES, MAX_RECORD, MAX_TEAMS, MessageKind, Party, Rate, Rule, Tables, Team, Who,
    bundle_root, check_publish, check_read,
};

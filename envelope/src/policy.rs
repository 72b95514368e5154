//! Policy as signed records, each provable alone, checked by guard and clients alike.
//!
//! A [`Bundle`] is [`Tables`] (names, teams, zones, keys), [`Rule`]s, [`FlowGrant`]s and, for the guard alone, its
//! [`Supervision`], under one Merkle root that a quorum of policy keys signed. A client gets the part that concerns it, an [`Excerpt`], and checks it for itself.
//! Three questions are asked of a policy, here and nowhere else for clients; the guard's hot path answers them
//! from compiled tables and is tested against these:
//!
//! - **Access**: who may send what to whom. [`check_publish`] for the sender of an envelope, [`check_read`] for who
//!   is to read it. Rules only allow; what no rule allows does not pass.
//! - **Flow**: whether an envelope's label keeps to what it derives from. [`check_flow`] holds the label to the
//!   parents that the envelope names, but for what a [`FlowGrant`] lifts. What a sender was *given to read*, its taint
//!   floor, only a guard knows and holds it to.
//! - **Observe mode**: whether faults of senders are recorded and let pass, to try a policy before it is enforced.
//!   [`Tables::observes`] says where, [`Reason::is_observable`](crate::reason::Reason::is_observable) which, and
//!   [`Faults`] carries both through the checks. It is the quorum that lets observe, never a guard; and no reader is
//!   given anything for it, so [`check_read`] takes no [`Faults`].
//!
//! ```
//! use sealbus_envelope::identity::{Roots, SigningKey};
//! use sealbus_envelope::policy::{Bundle, Records, Tables};
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
//!     integrity: vec![Name::parse("untrusted")?], teams: vec![], zones: vec![], status_key: status.public().clone(),
//!     guards: vec![], freshness_ms: 60_000, max_readers: 1_000, observe: false,
//! };
//! let records = Records { tables, rules: vec![], grants: vec![], supervision: None };
//! let bundle = Bundle::sign(records, 1, Millis(1), &[&policy_key], &roots)?;
//! let (head, records) = bundle.excerpt(|_| true).verify(&roots)?;
//! assert_eq!(head.fields().version, 1);
//! assert_eq!(&records, bundle.records());
//! # Ok(())
//! # }
//! ```

mod access;
mod bundle;
mod faults;
mod flow;
mod oversight;
mod record;
mod rule;
mod supervision;
mod tables;
mod zone;

pub use access::{check_publish, check_read};
pub use bundle::{
    Bundle, BundleHead, Draft, Excerpt, ExcerptRecord, HeadFields, Leaves, MAX_BUNDLE, MAX_RULES,
    MAX_SIGNATURES, Records,
};
pub use faults::Faults;
pub use flow::{FlowGrant, MAX_GRANTS, check_flow};
pub use oversight::{ApproverList, Hold, MAX_APPROVALS, MAX_HOLD_MS, MAX_LISTS, MAX_PEOPLE, Oversight};
pub use record::MAX_RECORD;
pub use rule::{MAX_PARTIES, MessageKind, Party, Rate, Rule, Who};
pub use supervision::{AnomalyRecord, MAX_WEIGHTS, Supervision};
pub use tables::{MAX_GUARDS, MAX_TEAMS, Tables, TaintScope, Team};
pub use zone::{MAX_PLACE, MAX_PLACES, MAX_ZONES, Zone, ZoneTls};

//! What goes over the wire: the codec, the header, the envelope, the padded content.

pub mod codec;
mod envelope;
pub(crate) mod header;
mod payload;

pub use envelope::{
    Admitted, Decoded, MAX_ENVELOPE, Opened, ProvenAdmission, Sealed, SeenRoots, Verified, WIRE_VERSION,
    seal, sign,
};
pub use header::{EnvelopeId, Flags, Header, HeaderFields, MAX_HEADER, MAX_PARENTS, MAX_TTL_MS, Parent};
pub use payload::{Content, MAX_PAYLOAD, padme};

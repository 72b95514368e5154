//! What goes over the wire: the codec, the header, the envelope, the padded payload.

pub mod codec;

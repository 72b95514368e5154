//! Keys that seal: readers' keys, senders' keys, and the grants that carry one to the other.

mod grant;
mod reader;
mod sender;

pub use grant::{ENC_LEN, Grant, MAX_GRANT, SEALED_LEN, VerifiedGrant, grant};
pub use reader::{BoxKey, MAX_READER_KEY, PUBLIC_LEN, ReaderKey, ReaderSecret, SealingPublic};
pub use sender::{KeyId, KeyScope, SenderKey, TAG_LEN};

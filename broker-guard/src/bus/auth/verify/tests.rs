#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
use sealbus_envelope::name::AgentToken;

use super::*;

#[test]
fn digests_tell_permissions_apart() {
    let wire = WireSubjects::default();
    let agent = AgentToken::parse("collector-abcdefghij").unwrap();
    let other = AgentToken::parse("collector-abcdefghik").unwrap();
    let session = SessionId::from_bytes([7; 32]);
    let lobby = |agent| permissions_digest(&Permissions::lobby(agent, &session, &wire));
    assert_eq!(lobby(&agent), lobby(&agent));
    assert_ne!(lobby(&agent), lobby(&other));
    assert_ne!(lobby(&agent), permissions_digest(&Permissions::observer(&agent, &wire)));
}

#[test]
fn tokens_are_read_strictly() {
    for text in ["A", "AA==", "A A", "AAA+", "é"] {
        assert_eq!(base64url(text, "x").unwrap_err().reason, Reason::BadEncoding, "{text}");
    }
    assert!(base64url("", "x").unwrap().is_empty());
}

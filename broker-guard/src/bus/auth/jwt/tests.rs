#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
use nkeys::KeyPair;

use super::*;

const NOW: Millis = Millis(1_800_000_000_000);

struct Asking {
    server: KeyPair,
    sealer: XKey,
    guard: CalloutKeys,
}

impl Asking {
    fn new() -> Self {
        let issuer = SigningKey::from_seed(&[3; 32]);
        let guard = CalloutKeys { issuer, xkey: XKey::new_from_raw([4; 32]) };
        Self { server: KeyPair::new_server(), sealer: XKey::new_from_raw([5; 32]), guard }
    }

    fn claims(&self) -> Value {
        json!({
            "aud": AUDIENCE, "iss": self.server.public_key(), "iat": NOW.seconds(), "sub": "x",
            "nats": {
                "type": "authorization_request", "version": 2,
                "user_nkey": KeyPair::new_user().public_key(),
                "server_id": {
                    "id": self.server.public_key(), "name": "a", "cluster": "c", "tags": ["t"],
                    "version": "2.15.1", "xkey": self.sealer.public_key(),
                },
                "client_info": { "id": 7, "host": "h", "kind": "Client", "type": "nats", "nonce": "n" },
                "connect_opts": { "auth_token": "secret token", "sig": "secret signature" },
            },
        })
    }

    /// Signed by `key` and sealed to the guard.
    fn sealed(&self, claims: &Value, key: &KeyPair) -> Vec<u8> {
        let header = BASE64URL_NOPAD.encode(br#"{"typ":"JWT","alg":"ed25519-nkey"}"#);
        let signed = format!("{header}.{}", BASE64URL_NOPAD.encode(claims.to_string().as_bytes()));
        let signature = BASE64URL_NOPAD.encode(&key.sign(signed.as_bytes()).unwrap());
        let guard = XKey::from_public_key(&self.guard.xkey.public_key()).unwrap();
        self.sealer.seal(format!("{signed}.{signature}").as_bytes(), &guard).unwrap()
    }

    fn open(&self, bytes: &[u8]) -> Result<AuthRequest, BadRequest> {
        AuthRequest::open(bytes, Some(&self.sealer.public_key()), &self.guard, NOW)
    }

    fn with(&self, pointer: &str, value: Value) -> Result<AuthRequest, BadRequest> {
        let mut claims = self.claims();
        *claims.pointer_mut(pointer).unwrap() = value;
        self.open(&self.sealed(&claims, &self.server))
    }

    /// The claims of an answer, opened as the server does.
    fn read(&self, answer: &[u8]) -> Value {
        let guard = XKey::from_public_key(&self.guard.xkey.public_key()).unwrap();
        let token = String::from_utf8(self.sealer.open(answer, &guard).unwrap()).unwrap();
        verify_jwt(&token, self.guard.issuer.public()).unwrap()
    }
}

#[test]
fn a_servers_question_is_read() {
    let asking = Asking::new();
    let request = asking.open(&asking.sealed(&asking.claims(), &asking.server)).unwrap();
    assert_eq!((request.server.name.as_str(), request.client.id), ("a", 7));
    assert_eq!(
        (request.server.cluster.as_deref(), request.server.tags.as_slice()),
        (Some("c"), &["t".to_owned()][..])
    );
    assert_eq!((request.shown.token.as_str(), request.client.nonce.as_str()), ("secret token", "n"));
    // What an agent showed must not reach a log.
    let shown = format!("{request:?}{:?}", asking.guard);
    assert!(!shown.contains("secret") && !shown.contains("issuer_seed"), "{shown}");
}

#[test]
fn whoever_is_not_the_server_that_it_names_is_refused() {
    let asking = Asking::new();
    let claims = asking.claims();
    let good = asking.sealed(&claims, &asking.server);
    let open = |bytes: &[u8], xkey| AuthRequest::open(bytes, xkey, &asking.guard, NOW).unwrap_err();
    // In clear, as a server without xkey asks.
    assert_eq!(open(&good, None), BadRequest::Unsealed);
    // Sealed by somebody else than the header says, or to somebody else.
    assert_eq!(open(&good, Some(&XKey::new_from_raw([6; 32]).public_key())), BadRequest::NotForUs);
    let stranger = CalloutKeys { xkey: XKey::new_from_raw([9; 32]), issuer: SigningKey::from_seed(&[3; 32]) };
    let xkey = asking.sealer.public_key();
    assert_eq!(AuthRequest::open(&good, Some(&xkey), &stranger, NOW).unwrap_err(), BadRequest::NotForUs);
    // Signed by another server, or by no server at all.
    let other = KeyPair::new_server();
    assert_eq!(asking.open(&asking.sealed(&claims, &other)).unwrap_err(), BadRequest::BadSignature);
    assert_eq!(
        asking.with("/iss", json!(KeyPair::new_user().public_key())).unwrap_err(),
        BadRequest::Malformed("issuer")
    );
    // One server speaks for another: with its id, or so that the answer is sealed to its key.
    for pointer in ["/nats/server_id/id", "/nats/server_id/xkey"] {
        assert_eq!(asking.with(pointer, json!(other.public_key())).unwrap_err(), BadRequest::BadSignature);
    }
    // Something else that the server signed.
    assert_eq!(asking.with("/aud", json!("x")).unwrap_err(), BadRequest::Malformed("audience"));
    assert_eq!(asking.with("/nats/type", json!("x")).unwrap_err(), BadRequest::Malformed("audience"));
    // An answer about a system user, say.
    assert_eq!(
        asking.with("/nats/user_nkey", json!(KeyPair::new_account().public_key())).unwrap_err(),
        BadRequest::Malformed("user")
    );
    // A recording.
    for seconds in [NOW.seconds() - 100, NOW.seconds() + 100] {
        assert_eq!(asking.with("/iat", json!(seconds)).unwrap_err(), BadRequest::WrongTime);
    }
}

#[test]
fn junk_never_panics() {
    let asking = Asking::new();
    let good = asking.sealed(&asking.claims(), &asking.server);
    let guard = XKey::from_public_key(&asking.guard.xkey.public_key()).unwrap();
    for text in [&b""[..], b".", b"..", b"a.b.c", b"\xff", b"e30.e30.e30"] {
        let sealed = asking.sealer.seal(text, &guard).unwrap();
        assert!(asking.open(&sealed).is_err());
    }
    for end in 0..good.len() {
        assert!(asking.open(good.get(..end).unwrap()).is_err());
    }
    for xkey in ["", "X", &"X".repeat(56), &"é".repeat(28)] {
        assert!(AuthRequest::open(&good, Some(xkey), &asking.guard, NOW).is_err());
    }
}

/// Never an empty list, never a `name`, always an end.
#[test]
fn an_answer_says_exactly_what_is_allowed() {
    let asking = Asking::new();
    let request = asking.open(&asking.sealed(&asking.claims(), &asking.server)).unwrap();
    let agent = sealbus_envelope::name::AgentToken::parse("collector-abcdefghij").unwrap();
    let session = sealbus_envelope::identity::SessionId::from_bytes([7; 32]);
    let lobby = Permissions::lobby(&agent, &session, &sealbus_envelope::subject::WireSubjects::default());
    let until = Millis(NOW.0 + 10_999);
    let answer = asking.read(&request.admit(&asking.guard, "BUS", &lobby, until, NOW));
    assert_eq!(answer.pointer("/aud"), Some(&json!(asking.server.public_key())));
    assert_eq!(answer.pointer("/sub"), Some(&json!(request.user)));
    let user = answer.pointer("/nats/jwt").and_then(Value::as_str).unwrap();
    let user = verify_jwt(user, asking.guard.issuer.public()).unwrap();
    assert_eq!(user.pointer("/nats/pub"), Some(&json!({ "deny": [">"] })));
    let own = format!("sb.box.{agent}.{}.>", session.token());
    assert_eq!(user.pointer("/nats/sub"), Some(&json!({ "allow": [own] })));
    assert_eq!((user.get("aud"), user.get("name")), (Some(&json!("BUS")), None));
    assert_eq!(user.get("exp"), Some(&json!(NOW.seconds() + 10)));

    let refusal = asking.read(&request.refuse(&asking.guard, "revoked", NOW));
    assert_eq!(
        (refusal.pointer("/nats/error"), refusal.pointer("/nats/jwt")),
        (Some(&json!("revoked")), None)
    );
}

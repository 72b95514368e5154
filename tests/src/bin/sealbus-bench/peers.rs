//! What others do for a message of the same size: Megolm (Matrix's group ratchet) and MLS (RFC 9420).
//! Both encrypt and sign every message alone.
#![expect(clippy::expect_used, reason = "a benchmark that cannot be set up stops")]

use openmls::prelude::{tls_codec::DeserializeBytes as _, *};
use openmls_basic_credential::SignatureKeyPair;
use openmls_rust_crypto::OpenMlsRustCrypto;
use vodozemac::megolm::{GroupSession, InboundGroupSession, MegolmMessage, SessionConfig};

use crate::envelope::{Figures, MEGOLM_DECRYPT, MEGOLM_ENCRYPT, MLS_CREATE, MLS_PROCESS};

/// Closest to what Sealbus uses.
const SUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519;

/// A Megolm session and one who was given it.
pub(crate) struct Megolm {
    sender: GroupSession,
    reader: InboundGroupSession,
    payload: Vec<u8>,
}

impl Megolm {
    pub(crate) fn new(size: usize) -> Self {
        let config = SessionConfig::version_1();
        let sender = GroupSession::new(config);
        let reader = InboundGroupSession::new(&sender.session_key(), config);
        Self { sender, reader, payload: vec![b'x'; size] }
    }

    pub(crate) fn turn(&mut self, count: usize, figures: &mut Figures) {
        for _ in 0..count {
            let encrypt = figures.entry(MEGOLM_ENCRYPT).or_default();
            let bytes = encrypt.time(|| self.sender.encrypt(&self.payload).to_bytes());
            let opened = figures.entry(MEGOLM_DECRYPT).or_default().time(|| {
                let message = MegolmMessage::from_bytes(&bytes).expect("a message");
                self.reader.decrypt(&message).expect("a good message")
            });
            assert_eq!(opened.plaintext.len(), self.payload.len(), "the whole message");
        }
    }
}

/// One of a group of two.
struct Party {
    provider: OpenMlsRustCrypto,
    signer: SignatureKeyPair,
    credential: CredentialWithKey,
}

impl Party {
    fn new(name: &str) -> Self {
        let signer = SignatureKeyPair::new(SUITE.signature_algorithm()).expect("a key pair");
        let credential = CredentialWithKey {
            credential: BasicCredential::new(name.into()).into(),
            signature_key: signer.to_public_vec().into(),
        };
        Self { provider: OpenMlsRustCrypto::default(), signer, credential }
    }
}

/// A group of two.
pub(crate) struct Mls {
    sender: Party,
    sending: MlsGroup,
    reader: Party,
    reading: MlsGroup,
    payload: Vec<u8>,
}

impl Mls {
    pub(crate) fn new(size: usize) -> Self {
        let (sender, reader) = (Party::new("sender"), Party::new("reader"));
        let package = KeyPackage::builder()
            .build(SUITE, &reader.provider, &reader.signer, reader.credential.clone())
            .expect("a key package");
        let config =
            MlsGroupCreateConfig::builder().ciphersuite(SUITE).use_ratchet_tree_extension(true).build();
        let mut sending = MlsGroup::new(&sender.provider, &sender.signer, &config, sender.credential.clone())
            .expect("a group");
        let (_, welcome, _) = sending
            .add_members(&sender.provider, &sender.signer, std::slice::from_ref(package.key_package()))
            .expect("a welcome");
        sending.merge_pending_commit(&sender.provider).expect("a group of two");
        let bytes = welcome.to_bytes().expect("bytes");
        let welcome = MlsMessageIn::tls_deserialize_exact_bytes(&bytes).expect("a message");
        let MlsMessageBodyIn::Welcome(welcome) = welcome.extract() else { unwelcome() };
        let reading = StagedWelcome::new_from_welcome(&reader.provider, config.join_config(), welcome, None)
            .and_then(|staged| staged.into_group(&reader.provider))
            .expect("a group of two");
        Self { sender, sending, reader, reading, payload: vec![b'x'; size] }
    }

    pub(crate) fn turn(&mut self, count: usize, figures: &mut Figures) {
        for _ in 0..count {
            let bytes = figures.entry(MLS_CREATE).or_default().time(|| {
                let message = self
                    .sending
                    .create_message(&self.sender.provider, &self.sender.signer, &self.payload)
                    .expect("a message");
                message.to_bytes().expect("bytes")
            });
            let processed = figures.entry(MLS_PROCESS).or_default().time(|| {
                let message = MlsMessageIn::tls_deserialize_exact_bytes(&bytes).expect("a message");
                let message = message.try_into_protocol_message().expect("a message of the group");
                self.reading.process_message(&self.reader.provider, message).expect("a good message")
            });
            let ProcessedMessageContent::ApplicationMessage(text) = processed.into_content() else {
                unwelcome()
            };
            assert_eq!(text.into_bytes().len(), self.payload.len(), "the whole message");
        }
    }
}

#[expect(clippy::panic, reason = "a benchmark that measures something else stops")]
fn unwelcome() -> ! {
    panic!("openmls gave another kind of message")
}

//! Envelopes as nobody honest makes them: any header, any ciphertext, any proof, signed by any key.
#![expect(clippy::expect_used, reason = "a fixture that cannot work fails its test")]

use sealbus_envelope::{
    hash::{self, Context, Hash},
    identity::{Purpose, SessionId, SigningKey},
    proof::batch::{self, BatchProof},
    wire::{
        HeaderFields,
        codec::{Reader, Writer},
    },
};

/// The three parts of an envelope, to be changed one by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// The header's bytes.
    pub header: Vec<u8>,
    /// The ciphertext.
    pub ciphertext: Vec<u8>,
    /// The proof's bytes.
    pub proof: Vec<u8>,
}

impl Parts {
    /// Takes an envelope apart.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn of(envelope: &[u8]) -> Self {
        let mut r = Reader::new(envelope, "envelope");
        r.array(4).expect("an envelope");
        let _version = r.uint().expect("a version");
        let mut part = || r.bin(1 << 20).expect("a part").to_vec();
        Self { header: part(), ciphertext: part(), proof: part() }
    }

    /// A header over a ciphertext that nobody can open, signed by `key` for `session`.
    ///
    /// # Panics
    /// If the header's form is not right.
    #[must_use]
    pub fn signed(fields: &HeaderFields, session: SessionId, key: &SigningKey) -> Self {
        let header = fields.encode().expect("a header's form");
        let mut parts = Self { header, ciphertext: vec![0x5a; 64], proof: vec![] };
        parts.sign(session, key);
        parts
    }

    /// Signs header and ciphertext as they are now.
    pub fn sign(&mut self, session: SessionId, key: &SigningKey) {
        let digest = self.digest();
        let proof = batch::sign(key, Purpose::Batch, session.as_bytes(), &[digest]).pop();
        self.proof = proof.map(|proof| proof.encode()).unwrap_or_default();
    }

    /// The digest of header and ciphertext.
    #[must_use]
    pub fn digest(&self) -> Hash {
        hash::hash(Context::Envelope, &[&self.header, &self.ciphertext])
    }

    /// The proof, read.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn read_proof(&self) -> BatchProof {
        BatchProof::decode(&self.proof).expect("a proof")
    }

    /// The envelope's bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(self.header.len() + self.ciphertext.len() + self.proof.len() + 32);
        w.array(4).uint(1u8).bin(&self.header).bin(&self.ciphertext).bin(&self.proof);
        w.into_bytes()
    }
}

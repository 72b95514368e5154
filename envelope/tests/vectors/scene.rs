//! One delivery in the making: every part of it can be bent before it is put together.

use chacha20poly1305::{AeadInOut as _, KeyInit as _, XChaCha20Poly1305, XNonce};
use sealbus_envelope::{
    hash::{Hash, hex},
    identity::{Claims, Credential, Member, Purpose, SigningKey},
    keys::SenderKey,
    label::Label,
    policy::{Bundle, Tables},
    proof::{
        admission::{self, Admission, Decision, Verdict},
        batch::{self, BatchProof},
    },
    subject::{Partition, WireSubjects},
    time::Millis,
    wire::{codec::Writer, padme},
};
use serde_json::{Value, json};

use crate::{
    file::Vector,
    world::{DAY, NOW, Rng, World, envelope_digest, label, secret},
};

/// One element, written.
pub(crate) fn element(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut w = Writer::default();
    write(&mut w);
    w.into_bytes()
}

pub(crate) fn bin(bytes: &[u8]) -> Vec<u8> {
    element(|w| {
        w.bin(bytes);
    })
}

pub(crate) fn str(text: &str) -> Vec<u8> {
    element(|w| {
        w.str(text);
    })
}

pub(crate) fn uint(value: u64) -> Vec<u8> {
    element(|w| {
        w.uint(value);
    })
}

pub(crate) fn nil() -> Vec<u8> {
    vec![0xc0]
}

pub(crate) fn labelled(label: Label) -> Vec<u8> {
    element(|w| {
        w.array(3).uint(label.level.number()).uint(label.compartments.bits()).uint(label.integrity.number());
    })
}

/// An array of elements that were written before.
pub(crate) fn array(elements: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = element(|w| {
        w.array(elements.len());
    });
    bytes.extend(elements.concat());
    bytes
}

pub(crate) fn parents(list: &[(Hash, Label)]) -> Vec<u8> {
    array(&list.iter().map(|(digest, label)| array(&[bin(digest), labelled(*label)])).collect::<Vec<_>>())
}

/// The places of the header's elements.
pub(crate) mod at {
    pub(crate) const BUS: usize = 0;
    pub(crate) const ID: usize = 1;
    pub(crate) const SENDER: usize = 2;
    pub(crate) const SESSION: usize = 3;
    pub(crate) const RULE: usize = 4;
    pub(crate) const SUBJECT: usize = 5;
    pub(crate) const LABEL: usize = 6;
    pub(crate) const FLOW_GRANT: usize = 7;
    pub(crate) const KEY: usize = 8;
    pub(crate) const SEQUENCE: usize = 9;
    pub(crate) const ISSUED: usize = 10;
    pub(crate) const TTL: usize = 11;
    pub(crate) const PARENTS: usize = 12;
    pub(crate) const REQUEST: usize = 13;
    pub(crate) const FLAGS: usize = 14;
}

pub(crate) struct Scene<'w> {
    pub(crate) world: &'w World,
    // the envelope
    pub(crate) version: Vec<u8>,
    pub(crate) header: Vec<Vec<u8>>,
    pub(crate) id: [u8; 16],
    pub(crate) sequence: u64,
    pub(crate) plaintext: Vec<u8>,
    pub(crate) secret: Hash,
    pub(crate) key: SenderKey,
    pub(crate) signer: SigningKey,
    pub(crate) scope: [u8; 32],
    pub(crate) purpose: Purpose,
    /// Digests of the same batch before this one.
    pub(crate) before: usize,
    pub(crate) after: usize,
    // the admission
    pub(crate) decision: Decision,
    pub(crate) guard: SigningKey,
    // the reader
    pub(crate) subject: String,
    /// What the header names, unless it was set apart.
    pub(crate) logical: &'w str,
    pub(crate) tables: Tables,
    pub(crate) now: u64,
    pub(crate) me: Member,
    pub(crate) members: Vec<Member>,
    pub(crate) guards: Vec<Credential>,
    pub(crate) revoked: Vec<sealbus_envelope::identity::PublicKey>,
    pub(crate) read: Vec<u64>,
    pub(crate) asked: Vec<Hash>,
    pub(crate) epochs: Vec<(u8, u64)>,
    pub(crate) policies: Vec<(u64, Hash, u64)>,
    pub(crate) has_key: bool,
    pub(crate) key_scope: Option<sealbus_envelope::keys::KeyScope>,
}

/// The plaintext as it must be: length, inner text, zeros.
pub(crate) fn plaintext(inner: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(inner.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(inner);
    bytes.resize(padme(bytes.len()), 0);
    bytes
}

pub(crate) fn content(content_type: &str, trace: Option<&str>, payload: &[u8]) -> Vec<u8> {
    array(&[str(content_type), trace.map_or_else(nil, str), bin(payload)])
}

impl<'w> Scene<'w> {
    /// `collector` sends a note to `analyst`.
    pub(crate) fn new(world: &'w World, name: &str) -> Self {
        Self::from_to(world, name, "collector", "notes", "collect.web.raw", label(1, 0b01, 0), "analyst")
    }

    pub(crate) fn from_to(
        world: &'w World,
        name: &str,
        from: &str,
        rule: &str,
        subject: &'w str,
        label: Label,
        to: &str,
    ) -> Self {
        let mut rng = Rng::new(name);
        let agent = &world.agents[from];
        let key = world.sender_key(from, rule, label);
        let token = agent.member.token();
        let bundle = world.bundle(world.tables(), 3);
        let digest = bundle.head().fields().root;
        let (id, sequence) = (rng.bytes(), 7);
        let header = vec![
            bin(world.bus().as_bytes()),
            bin(&id),
            str(token.as_str()),
            bin(agent.member.session().as_bytes()),
            str(rule),
            str(subject),
            labelled(label),
            nil(),
            bin(key.id().as_bytes()),
            uint(sequence),
            uint(NOW - 1_000),
            uint(60_000),
            array(&[]),
            nil(),
            uint(0),
        ];
        Self {
            world,
            version: uint(1),
            header,
            id,
            sequence,
            plaintext: plaintext(&content("text/plain", None, b"hello")),
            secret: secret(&format!("{from} {rule} {label:?}")),
            key,
            signer: SigningKey::from_seed(&agent.session.to_seed()),
            scope: *agent.member.session().as_bytes(),
            purpose: Purpose::Batch,
            before: 0,
            after: 0,
            decision: Decision {
                verdict: Verdict::Admit,
                policy_version: 3,
                policy_digest: digest,
                partition: Partition::of(token).number(),
                epoch: 2,
                position: 41,
                time: Millis(NOW - 900),
                observed: false,
            },
            guard: SigningKey::from_seed(&world.guard.to_seed()),
            subject: WireSubjects::default().delivery(label.level, subject),
            logical: subject,
            tables: world.tables(),
            now: NOW,
            me: world.agents[to].member.clone(),
            members: vec![agent.member.clone()],
            guards: vec![world.guard_credential.clone()],
            revoked: vec![super::world::key("thief").public().clone()],
            read: vec![0, 1, 2, 5],
            asked: vec![],
            epochs: vec![],
            policies: vec![(2, secret("policy 2"), NOW - 20 * DAY), (3, digest, NOW - 10 * DAY)],
            has_key: true,
            key_scope: None,
        }
    }

    pub(crate) fn set(mut self, place: usize, element: Vec<u8>) -> Self {
        self.header[place] = element;
        self
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The sender's credential is another than at first.
    pub(crate) fn sender_claims(mut self, change: impl FnOnce(&mut Claims)) -> Self {
        let member = &self.members[0];
        let mut claims = member.claims().clone();
        change(&mut claims);
        let credential = Credential::issue(&claims, &self.world.issuer).unwrap();
        self.members[0] = Member::new(credential, member.certificate().clone()).unwrap();
        self
    }

    pub(crate) fn reader_claims(mut self, change: impl FnOnce(&mut Claims)) -> Self {
        let mut claims = self.me.claims().clone();
        change(&mut claims);
        let credential = Credential::issue(&claims, &self.world.issuer).unwrap();
        self.me = Member::new(credential, self.me.certificate().clone()).unwrap();
        self
    }

    pub(crate) fn header_bytes(&self) -> Vec<u8> {
        array(&self.header)
    }

    pub(crate) fn ciphertext(&self, header: &[u8]) -> Vec<u8> {
        let mut nonce = [0; 24];
        nonce[..16].copy_from_slice(&self.id);
        nonce[16..].copy_from_slice(&self.sequence.to_be_bytes());
        let mut text = self.plaintext.clone();
        XChaCha20Poly1305::new((&self.secret).into())
            .encrypt_in_place(&XNonce::from(nonce), header, &mut text)
            .unwrap();
        text
    }

    /// The proof for this digest, in its batch.
    pub(crate) fn proof(&self, digest: &Hash) -> BatchProof {
        let others = |from: usize, count: usize| (from..from + count).map(|n| secret(&format!("leaf {n}")));
        let digests: Vec<Hash> =
            others(0, self.before).chain([*digest]).chain(others(1000, self.after)).collect();
        batch::sign(&self.signer, self.purpose, &self.scope, &digests).swap_remove(self.before)
    }

    pub(crate) fn frame(&self, header: &[u8], ciphertext: &[u8], proof: &[u8]) -> Vec<u8> {
        array(&[self.version.clone(), bin(header), bin(ciphertext), bin(proof)])
    }

    pub(crate) fn admission(&self, digest: &Hash) -> Admission {
        admission::sign(&self.guard, self.world.bus(), &[(*digest, self.decision)]).remove(0)
    }

    /// The parts as they should be: header, ciphertext, digest, proof.
    pub(crate) fn parts(&self) -> (Vec<u8>, Vec<u8>, Hash, BatchProof) {
        let header = self.header_bytes();
        let ciphertext = self.ciphertext(&header);
        let digest = envelope_digest(&header, &ciphertext);
        let proof = self.proof(&digest);
        (header, ciphertext, digest, proof)
    }

    pub(crate) fn envelope(&self) -> Vec<u8> {
        let (header, ciphertext, _, proof) = self.parts();
        self.frame(&header, &ciphertext, &proof.encode())
    }

    pub(crate) fn digest(&self) -> Hash {
        self.parts().2
    }

    /// What the reader knows.
    pub(crate) fn context(&self) -> Value {
        let bundle: Bundle = self.world.bundle(self.tables.clone(), 3);
        let revoked: Vec<_> = self.revoked.iter().collect();
        let status = self.world.status(&revoked).sign(&self.world.status_key).unwrap();
        let scope = self.key_scope.as_ref().unwrap_or(self.key.scope());
        let keys = json!([{
            "secret": hex(&self.secret),
            "session": scope.session.to_string(),
            "rule": scope.rule,
            "label": [scope.label.level.number(), scope.label.compartments.bits(), scope.label.integrity.number()],
            "epoch": scope.epoch,
            "read": self.read,
        }]);
        json!({
            "roots": roots(self.world),
            "prefix": "sb",
            "now": self.now,
            "skew_ms": 30_000,
            "policy": hex(&bundle.encode()),
            "policies": self.policies.iter().map(|(version, digest, since)| json!({
                "version": version, "digest": hex(digest), "since": since,
            })).collect::<Vec<_>>(),
            "epochs": self.epochs.iter()
                .map(|(partition, epoch)| json!({"partition": partition, "epoch": epoch})).collect::<Vec<_>>(),
            "status": hex(&status),
            "me": member(&self.me),
            "members": self.members.iter().map(member).collect::<Vec<_>>(),
            "guards": self.guards.iter().map(Credential::as_str).collect::<Vec<_>>(),
            "keys": if self.has_key { keys } else { json!([]) },
            "asked": self.asked.iter().map(|digest| hex(digest)).collect::<Vec<_>>(),
        })
    }

    pub(crate) fn vector(
        &self,
        purpose: &str,
        envelope: &[u8],
        admission: Option<&str>,
        expect: Value,
    ) -> Vector {
        Vector {
            purpose: purpose.to_owned(),
            kind: "delivery".to_owned(),
            input: json!({ "envelope": hex(envelope), "admission": admission, "subject": self.subject }),
            context: self.context(),
            expect,
        }
    }
}

pub(crate) fn member(member: &Member) -> Value {
    json!({
        "credential": member.credential().as_str(),
        "certificate": hex(member.certificate().as_bytes()),
    })
}

pub(crate) fn roots(world: &World) -> Value {
    use sealbus_envelope::identity::KeyKind;
    json!({
        "bus_name": world.roots.name,
        "issuer": world.roots.issuer.to_nkey(KeyKind::Account),
        "policy_keys": world.roots.policy_keys.iter().map(|key| key.to_nkey(KeyKind::User)).collect::<Vec<_>>(),
        "quorum": world.roots.quorum,
    })
}

pub(crate) fn refused(code: &str) -> Value {
    json!({ "refused": code })
}

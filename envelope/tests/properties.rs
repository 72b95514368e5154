//! The whole way of a message, for whatever labels, parents, sizes and batches; and that no byte of it
//! can be changed on the way. And that no secret shows itself.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use proptest::prelude::*;
use sealbus_envelope::{
    hash::Hash,
    identity::{BusId, Claims, Credential, KeyKind, Purpose, Role, SessionCertificate, SigningKey},
    keys::{self, Grant, KeyScope, ReaderKey, ReaderSecret, SenderKey},
    label::{Clearance, Compartments, Integrity, Label, Level},
    name::Name,
    proof::admission::{self, Admission, Decision, Verdict},
    subject::Subject,
    time::{Millis, Validity},
    wire::{self, Content, Decoded, EnvelopeId, Flags, HeaderFields, Opened, Parent},
};
use zeroize::Zeroizing;

struct Bus {
    id: BusId,
    guard: SigningKey,
    guard_credential: Credential,
    session: SigningKey,
    credential: Credential,
    certificate: SessionCertificate,
}

fn bus() -> Bus {
    let [issuer, guard, agent, session] = [1, 2, 3, 4].map(|n| SigningKey::from_seed(&[n; 32]));
    let id = BusId::new(issuer.public(), &Name::parse("test").unwrap());
    let validity = Validity { not_before: Millis(1_000), not_after: Millis(90_000_000) };
    let claims = |identity: &SigningKey, name: &str, role| Claims {
        bus: id,
        identity: identity.public().clone(),
        name: Name::parse(name).unwrap(),
        team: Name::parse("team").unwrap(),
        role,
        clearance: Clearance::default(),
        integrity_ceiling: Integrity::HIGHEST,
        zones: vec![],
        validity,
    };
    Bus {
        id,
        guard_credential: Credential::issue(&claims(&guard, "guard", Role::Guard), &issuer).unwrap(),
        credential: Credential::issue(&claims(&agent, "agent", Role::Agent), &issuer).unwrap(),
        certificate: SessionCertificate::issue(id, &agent, &session, validity).unwrap(),
        guard,
        session,
    }
}

fn labels() -> impl Strategy<Value = Label> {
    (0u8..16, any::<u64>(), 0u8..8).prop_map(|(level, compartments, integrity)| {
        Label::new(
            Level::new(level).unwrap(),
            Compartments::from_bits(compartments),
            Integrity::new(integrity).unwrap(),
        )
    })
}

fn parents() -> impl Strategy<Value = Vec<Parent>> {
    prop::collection::btree_map(any::<Hash>(), labels(), 0..20)
        .prop_map(|map| map.into_iter().map(|(digest, label)| Parent { digest, label }).collect())
}

prop_compose! {
    fn messages()(
        label in labels(),
        parents in parents(),
        payload in prop::collection::vec(any::<u8>(), 0..5_000),
        content_type in "[ -~]{0,128}",
        trace in prop::option::of("[0-9a-f-]{0,64}"),
        subject in "[!#%-)+-\\-/-=?-~]{1,12}(\\.[!#%-)+-\\-/-=?-~]{1,12}){0,6}",
        sequence: u64,
        issued in 1_000u64..u64::MAX / 2,
        ttl in 1u32..=604_800_000,
        request: Option<Hash>,
        flow_grant in prop::option::of("[a-z][a-z0-9-]{0,47}"),
        confirm: bool,
        secret: Hash,
        id: [u8; 16],
    ) -> (HeaderFields, Content, Hash) {
        let bus = bus();
        let mut content = Content::new(content_type, payload);
        content.traceparent = trace;
        let scope = scope(&bus, label);
        let fields = HeaderFields {
            bus: bus.id,
            id: EnvelopeId::from_bytes(id),
            sender: bus.credential.token().clone(),
            session: bus.certificate.id(),
            rule: scope.rule.clone(),
            subject: Subject::parse(&subject).unwrap(),
            label,
            flow_grant: flow_grant.map(|name| Name::parse(&name).unwrap()),
            key: SenderKey::new(Zeroizing::new(secret), scope).id(),
            sequence,
            issued_at: Millis(issued),
            ttl_ms: ttl,
            parents,
            request,
            flags: if confirm { Flags::CONFIRM } else { Flags::NONE },
        };
        (fields, content, secret)
    }
}

fn scope(bus: &Bus, label: Label) -> KeyScope {
    KeyScope {
        bus: bus.id,
        session: bus.certificate.id(),
        rule: Name::parse("rule").unwrap(),
        label,
        epoch: 1,
    }
}

fn decision() -> Decision {
    Decision {
        verdict: Verdict::Admit,
        policy_version: 1,
        policy_digest: [1; 32],
        partition: 1,
        epoch: 1,
        position: 1,
        time: Millis(2_000),
        observed: false,
    }
}

/// The whole way, from bytes to message.
fn open(bus: &Bus, bytes: &[u8], admission: &str, key: &SenderKey) -> Option<Opened> {
    let decoded = Decoded::decode(bytes).ok()?;
    let verified = decoded.verify(&bus.certificate, &bus.credential, &()).ok()?;
    let admission = Admission::decode(admission).ok()?;
    verified.admit(&admission, &bus.guard_credential, &()).ok()?.open(key).ok()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_sealed_opens_as_it_was(batch in prop::collection::vec(messages(), 1..12), pick: prop::sample::Index) {
        let bus = bus();
        let sealed: Vec<_> = batch
            .iter()
            .map(|(fields, content, secret)| {
                let key = SenderKey::new(Zeroizing::new(*secret), scope(&bus, fields.label));
                wire::seal(fields, content, &key).unwrap()
            })
            .collect();
        let envelopes = wire::sign(&sealed, bus.certificate.id(), &bus.session).unwrap();
        let decisions: Vec<_> = sealed.iter().map(|sealed| (sealed.digest(), decision())).collect();
        let admissions = admission::sign(&bus.guard, bus.id, &decisions);

        let n = pick.index(batch.len());
        let (fields, content, secret) = &batch[n];
        let key = SenderKey::new(Zeroizing::new(*secret), scope(&bus, fields.label));
        let opened = open(&bus, &envelopes[n], &admissions[n].encode(), &key).unwrap();
        prop_assert_eq!(opened.header(), fields);
        prop_assert_eq!(opened.content(), content);
        prop_assert_eq!(opened.digest(), sealed[n].digest());
        prop_assert_eq!(opened.decision(), &decision());
        prop_assert_eq!(Decoded::decode(&envelopes[n]).unwrap().encode().unwrap(), envelopes[n].clone());

        let other = SenderKey::new(Zeroizing::new([9; 32]), scope(&bus, fields.label));
        prop_assert!(open(&bus, &envelopes[n], &admissions[n].encode(), &other).is_none());
        let neighbour = (n + 1) % batch.len();
        if sealed[neighbour].digest() != sealed[n].digest() {
            prop_assert!(open(&bus, &envelopes[n], &admissions[neighbour].encode(), &key).is_none());
        }
    }

    #[test]
    fn a_grant_brings_the_key_and_nothing_else_does(secret: Hash, label in labels(), readers in 1usize..5, flip: prop::sample::Index, bit in 0u8..8) {
        let bus = bus();
        let rng = &mut rand_core::UnwrapErr(getrandom::SysRng);
        let validity = Validity { not_before: Millis(1_000), not_after: Millis(9_000) };
        let secrets: Vec<_> = (0..readers).map(|_| ReaderSecret::generate(rng)).collect();
        let records: Vec<_> = secrets
            .iter()
            .map(|secret| ReaderKey::issue(bus.id, bus.certificate.id(), &bus.session, secret, validity).unwrap())
            .collect();
        let key = SenderKey::new(Zeroizing::new(secret), scope(&bus, label));
        let list: Vec<_> = records.iter().map(|record| (record.digest(), record.public())).collect();
        let grants = keys::grant(&key, &bus.session, &list, rng).unwrap();
        let take = |bytes: &[u8], n: usize| {
            let verified = Grant::decode(bytes).ok()?.verify(&bus.certificate).ok()?;
            verified.open(&secrets[n], records[n].digest()).ok()
        };
        for (n, grant) in grants.iter().enumerate() {
            let opened = take(grant, n).unwrap();
            prop_assert!(opened.same_secret(&key) && opened.id() == key.id());
            prop_assert!(readers == 1 || take(grant, (n + 1) % readers).is_none());
        }
        let mut bent = grants[0].clone();
        let at = flip.index(bent.len());
        bent[at] ^= 1 << bit;
        prop_assert!(take(&bent, 0).is_none(), "byte {at} flipped");
    }
}

#[test]
fn no_byte_of_an_envelope_or_its_admission_can_be_changed() {
    let bus = bus();
    let label = Label::TOP;
    let key = SenderKey::new(Zeroizing::new([5; 32]), scope(&bus, label));
    let fields = HeaderFields {
        bus: bus.id,
        id: EnvelopeId::from_bytes([6; 16]),
        sender: bus.credential.token().clone(),
        session: bus.certificate.id(),
        rule: Name::parse("rule").unwrap(),
        subject: Subject::parse("a.b").unwrap(),
        label,
        flow_grant: Some(Name::parse("flow").unwrap()),
        key: key.id(),
        sequence: 300,
        issued_at: Millis(1_500),
        ttl_ms: 60_000,
        parents: vec![Parent { digest: [7; 32], label: Label::BOTTOM }],
        request: Some([8; 32]),
        flags: Flags::CONFIRM,
    };
    let seal = |n: u8| {
        let fields = HeaderFields { id: EnvelopeId::from_bytes([n; 16]), ..fields.clone() };
        wire::seal(&fields, &Content::new("text/plain", "hello"), &key).unwrap()
    };
    let sealed: Vec<_> = (0..3).map(seal).collect();
    let bytes = wire::sign(&sealed, bus.certificate.id(), &bus.session).unwrap().remove(1);
    let decisions: Vec<_> = sealed.iter().map(|sealed| (sealed.digest(), decision())).collect();
    let admission = admission::sign(&bus.guard, bus.id, &decisions).remove(1).encode();
    assert!(open(&bus, &bytes, &admission, &key).is_some());

    for at in 0..bytes.len() {
        for bit in [0, 3, 7] {
            let mut bent = bytes.clone();
            bent[at] ^= 1 << bit;
            assert!(open(&bus, &bent, &admission, &key).is_none(), "byte {at}, bit {bit}");
        }
    }
    for length in 0..bytes.len() {
        assert!(Decoded::decode(&bytes[..length]).is_err(), "{length} bytes");
    }
    for at in 0..admission.len() {
        for other in ['A', 'B', '-', '_', '=', ' ', '\0'] {
            let mut bent = admission.clone();
            bent.replace_range(at..=at, &other.to_string());
            assert!(
                bent == admission || open(&bus, &bytes, &bent, &key).is_none(),
                "character {at}: {other:?}"
            );
        }
    }
}

/// A verifier that has seen a root must say what one that has not says.
#[test]
fn a_remembered_root_is_good_for_its_own_scope_and_purpose_only() {
    use sealbus_envelope::{
        identity::PublicKey,
        proof::batch::{self, SignedRoot},
        wire::SeenRoots,
    };
    use std::{cell::RefCell, collections::HashSet};
    #[derive(Default)]
    struct Seen(RefCell<HashSet<(PublicKey, SignedRoot)>>);
    impl SeenRoots for Seen {
        fn contains(&self, signer: &PublicKey, root: &SignedRoot) -> bool {
            self.0.borrow().contains(&(signer.clone(), root.clone()))
        }
        fn insert(&self, signer: &PublicKey, root: SignedRoot) {
            self.0.borrow_mut().insert((signer.clone(), root));
        }
    }
    let key = SigningKey::from_seed(&[1; 32]);
    let seen = Seen::default();
    let proof = batch::sign(&key, Purpose::Batch, &[1; 32], &[[5; 32], [6; 32]]).remove(0);
    let root = proof.root(Purpose::Batch, &[1; 32], &[5; 32]).unwrap();
    root.verify(key.public()).unwrap();
    seen.insert(key.public(), root.clone());
    assert!(seen.contains(key.public(), &root));
    for (purpose, scope) in
        [(Purpose::Batch, [2; 32]), (Purpose::Admission, [1; 32]), (Purpose::Grant, [1; 32])]
    {
        let other = proof.root(purpose, &scope, &[5; 32]).unwrap();
        assert!(!seen.contains(key.public(), &other), "{purpose:?}");
        assert!(other.verify(key.public()).is_err());
    }
}

#[test]
fn debug_shows_no_secret() {
    let bus = bus();
    let secret = [0xab; 32];
    let key = SenderKey::new(Zeroizing::new(secret), scope(&bus, Label::BOTTOM));
    let reader = ReaderSecret::from_seed(&secret);
    let signing = SigningKey::from_seed(&secret);
    let content = Content::new("text/plain", secret);
    let sealed = format!("{:?}", Content::new("text/plain", "hello"));
    let seed = signing.to_nkey_seed(KeyKind::User);
    for shown in [
        format!("{key:?}{key:#?}"),
        format!("{reader:?}{reader:#?}"),
        format!("{signing:?}{signing:#?}"),
        format!("{content:?}{content:#?}"),
        format!("{:?}", sealbus_envelope::reader::ReadingKey::new(key.clone())),
    ] {
        assert!(
            !shown.contains("abababab")
                && !shown.contains("171, 171")
                && !shown.contains(seed.get(2..20).unwrap()),
            "{shown}"
        );
    }
    assert!(!sealed.contains("hello"));
    assert_eq!(format!("{reader:?}"), "ReaderSecret { .. }");
    assert_eq!(format!("{key:?}"), format!("SenderKey {{ id: KeyId({}), .. }}", key.id()));
}

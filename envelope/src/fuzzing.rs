//! What the fuzz targets call: each reads bytes that anybody may send, and asserts that what reads back
//! writes the same bytes. Two encodings of one value would be two digests, two signatures, two verdicts.
//!
//! Not part of the API: for `fuzz/` and for the test that replays its seeds.

#![expect(clippy::panic, reason = "a fuzz target reports by panicking")]

use crate::{
    approval::{self, SignedApproval},
    control::{self, AuthToken, Granted, Heartbeat, Hello, Open, Readers, Subscribe, Welcome},
    identity::{BusId, Credential, PublicKey, Revocation, Roots, SessionCertificate, SigningKey, Status},
    keys::Grant,
    name::Name,
    order::Draft,
    policy::{
        ApproverList, Bundle, BundleHead, FlowGrant, HeadFields, Hold, Leaves, Rule, Supervision, Tables,
    },
    proof::{admission::Admission, batch::BatchProof},
    reason::Refused,
    subject::{Pattern, Subject, WireSubjects},
    time::Millis,
    wire::{
        Decoded,
        codec::{Reader, Writer},
    },
};

/// Takes any bytes; panics if something is wrong.
pub type Target = fn(&[u8]);

/// Names and functions of all targets.
pub const TARGETS: &[(&str, Target)] = &[
    ("envelope", envelope),
    ("credential", credential),
    ("session_certificate", session_certificate),
    ("key_grant", key_grant),
    ("admission_header", admission_header),
    ("status", status),
    ("bundle", bundle),
    ("control", control_message),
    ("order", order),
    ("approval", approval_of_held),
];

fn same(what: &str, written: &[u8], read: &[u8]) {
    assert!(written == read, "{what} reads back as other bytes");
}

fn issuer() -> PublicKey {
    SigningKey::from_seed(&[1; 32]).public().clone()
}

/// The bus that structures name is taken from their own bytes where that gets the fuzzer further.
fn bus_of(bytes: &[u8], offset: usize) -> BusId {
    let id = bytes.get(offset..).and_then(<[u8]>::first_chunk::<32>).copied().unwrap_or_default();
    BusId::from_bytes(id)
}

/// An envelope from the bus.
pub fn envelope(bytes: &[u8]) {
    let Ok(decoded) = Decoded::decode(bytes) else { return };
    same("envelope", &decoded.encode().unwrap_or_default(), bytes);
    let header = decoded.claimed();
    let Ok(fields) = header.to_fields() else { panic!("a decoded header has valid fields") };
    let Ok(again) = fields.encode() else { panic!("a decoded header can be encoded") };
    assert!(bytes.windows(again.len()).any(|window| window == again), "header reads back as other bytes");
    assert!(header.parents().len() == fields.parents.len());
}

/// A credential: any text, and any claims under a good signature.
pub fn credential(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let issuer = issuer();
    let bus = bus_of(&[], 0);
    let _ = Credential::verify(text, bus, &issuer);
    if let Ok(claims) = serde_json::from_str(text) {
        let signed = crate::identity::sign_jwt(&claims, &SigningKey::from_seed(&[1; 32]));
        if let Ok(read) = Credential::verify(&signed, bus, &issuer) {
            same("credential", read.as_str().as_bytes(), signed.as_bytes());
            let Ok(again) = Credential::issue(read.claims(), &SigningKey::from_seed(&[1; 32])) else {
                return;
            };
            assert!(again.claims() == read.claims(), "claims are issued as other claims");
        }
    }
}

/// A session certificate.
pub fn session_certificate(bytes: &[u8]) {
    // 0x93, bin 8 head, array of six, version, bin 8 head: then the bus.
    for offset in [7, 8] {
        if let Ok(read) = SessionCertificate::verify(bytes, bus_of(bytes, offset)) {
            same("session certificate", read.as_bytes(), bytes);
        }
    }
}

/// A key grant, and the batch proof inside it.
pub fn key_grant(bytes: &[u8]) {
    if let Ok(grant) = Grant::decode(bytes) {
        same("grant", &grant.encode(), bytes);
    }
    if let Ok(proof) = BatchProof::decode(bytes) {
        same("proof", &proof.encode(), bytes);
    }
}

/// The admission header.
pub fn admission_header(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(admission) = Admission::decode(text) {
        same("admission", admission.encode().as_bytes(), bytes);
    }
}

/// A status statement and a heartbeat.
pub fn status(bytes: &[u8]) {
    let key = issuer();
    let _ = Status::verify(bytes, bus_of(&[], 0), &key);
    let _ = Heartbeat::verify(bytes, bus_of(&[], 0), std::slice::from_ref(&key));
    if let Ok(signer) = Heartbeat::signer(bytes) {
        let _ = Heartbeat::verify(bytes, bus_of(&[], 0), &[signer]);
    }
    // The body under a good signature: what a broken signer could say.
    let signing = SigningKey::from_seed(&[1; 32]);
    let mut w = Writer::default();
    w.array(2).bin(bytes).bin(&signing.sign(crate::identity::Purpose::Status, bytes));
    let signed = w.into_bytes();
    if let Ok(read) = Status::verify(&signed, bus_of(bytes, 4), &key) {
        same("status", &read.sign(&signing).unwrap_or_default(), &signed);
    }
}

/// A policy's head, tables, rules and flow grants, all of them under a good signature, and the subjects in them.
pub fn bundle(bytes: &[u8]) {
    let Ok(name) = Name::parse("fuzz") else { return };
    let roots = Roots { name, issuer: issuer(), policy_keys: vec![issuer()], quorum: 1 };
    if let Ok(head) = BundleHead::verify(bytes, &roots) {
        same("head", head.as_bytes(), bytes);
    }
    if let Ok(rule) = Rule::decode(bytes) {
        same("rule", &rule.encode(), bytes);
    }
    if let Ok(tables) = Tables::decode(bytes) {
        same("tables", &tables.encode(), bytes);
    }
    if let Ok(grant) = FlowGrant::decode(bytes) {
        same("flow grant", &grant.encode(), bytes);
    }
    if let Ok(supervision) = Supervision::decode(bytes) {
        same("supervision", &supervision.encode(), bytes);
    }
    let _ = signed_records(bytes, &roots);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let wire = WireSubjects::default();
    if let (Ok(subject), Ok(pattern)) = (Subject::parse(text), Pattern::parse(text)) {
        assert!(pattern.matches(&subject) && pattern.is_literal() && pattern.covers(&pattern));
    }
    let _ = (
        wire.read_ingress(text),
        wire.read_control(text),
        wire.read_delivery(text),
        wire.read_box_kind(text),
    );
    let _ = PublicKey::from_nkey(text, crate::identity::KeyKind::User);
    let _ = SigningKey::from_nkey_seed(text, crate::identity::KeyKind::User);
}

/// `[tables, [rule, …], [flow grant, …], supervision or nil]`, whatever they are, under a good signature: what a quorum could be brought to
/// sign. If it is a policy, each part of it is provable alone.
fn signed_records(bytes: &[u8], roots: &Roots) -> Result<(), Refused> {
    let mut r = Reader::new(bytes, "records");
    r.array(4)?;
    let tables = r.bin(bytes.len())?.to_vec();
    let mut list = || -> Result<Vec<Vec<u8>>, Refused> {
        let count = r.array_len(bytes.len())?;
        (0..count).map(|_| Ok(r.bin(bytes.len())?.to_vec())).collect()
    };
    let (rules, grants) = (list()?, list()?);
    let supervision = r.option(|r| Ok(r.bin(bytes.len())?.to_vec()))?;
    let leaves = Leaves { tables, rules, grants, supervision };
    r.finish()?;
    let signing = SigningKey::from_seed(&[1; 32]);
    let head = HeadFields {
        bus: roots.bus(),
        version: 1,
        root: leaves.tree().root(),
        leaves: u32::try_from(leaves.count()).unwrap_or(u32::MAX),
        issued: Millis(1),
    };
    let signature = signing.sign(crate::identity::Purpose::Bundle, &head.encode());
    let mut w = Writer::default();
    w.array(5)
        .bin(&BundleHead::assemble(&head, &[(signing.public().clone(), signature)]))
        .bin(&leaves.tables);
    for list in [&leaves.rules, &leaves.grants] {
        w.array(list.len());
        for leaf in list {
            w.bin(leaf);
        }
    }
    w.option(leaves.supervision.as_ref(), |w, leaf| {
        w.bin(leaf);
    });
    let whole = w.into_bytes();
    let bundle = Bundle::verify(&whole, roots)?;
    same("bundle", &bundle.encode(), &whole);
    assert!(bundle.records().leaves() == leaves, "records are written as other leaves");
    let Ok((_, part)) = bundle.excerpt(|_| true).verify(roots) else {
        panic!("a part of a bundle is provable")
    };
    assert!(part.tables == *bundle.tables() && part.rules == bundle.rules(), "a part is not what it was");
    assert!(part.grants.iter().all(|grant| bundle.grants().contains(grant)), "a flow grant that is none");
    Ok(())
}

/// An order as it comes, and as what a quorum signed.
pub fn order(bytes: &[u8]) {
    let Ok(name) = Name::parse("fuzz") else { return };
    let roots = Roots { name, issuer: issuer(), policy_keys: vec![issuer()], quorum: 1 };
    let signing = SigningKey::from_seed(&[1; 32]);
    let mut w = Writer::default();
    let signature = signing.sign(crate::identity::Purpose::Order, bytes);
    w.array(2).bin(bytes).array(1).array(2).bin(signing.public().as_bytes()).bin(&signature);
    for bytes in [bytes, &w.into_bytes()] {
        if let Ok(draft) = Draft::decode(bytes, &roots) {
            same("order", &draft.encode(), bytes);
            let Ok(again) = Draft::new(draft.order().clone(), &roots) else { panic!("a read order is one") };
            assert!(again.digest() == draft.digest(), "an order is written as another");
        }
    }
}

/// An approval as it comes, as what an approver signed, and as the header that carries it.
pub fn approval_of_held(bytes: &[u8]) {
    let Ok(name) = Name::parse("fuzz") else { return };
    let bus = BusId::new(&issuer(), &name);
    let signing = SigningKey::from_seed(&[1; 32]);
    let mut w = Writer::default();
    let signature = signing.sign(crate::identity::Purpose::Approval, bytes);
    w.array(3).bin(bytes).bin(signing.public().as_bytes()).bin(&signature);
    let signed = w.into_bytes();
    let people = vec![(name.clone(), signing.public().clone())];
    let hold = Hold { approvals: 1, deadline_ms: 1, lists: vec![ApproverList { name, after_ms: 0, people }] };
    let mut status = Status {
        bus,
        version: 1,
        policy_version: 1,
        issued: Millis(0),
        valid_until: Millis(1),
        revoked: vec![],
    };
    for bytes in [bytes, &signed] {
        let Ok(approval) = SignedApproval::verify(bytes, bus) else { continue };
        same("approval", &approval.encode(), bytes);
        let header = approval::header(std::slice::from_ref(&approval));
        let enough = approval::check(&hold, &status, &approval.approval().envelope, &header).is_ok();
        let says = approval.approval().approve && approval.key() == signing.public();
        assert!(enough == says, "an approval counts for what it does not say");
    }
    status.revoked.push(Revocation { identity: signing.public().clone(), at: Millis(0) });
    if let Ok(approval) = SignedApproval::verify(&signed, bus) {
        let header = approval::header(std::slice::from_ref(&approval));
        let enough = approval::check(&hold, &status, &approval.approval().envelope, &header).is_ok();
        assert!(!enough, "a revoked key approves");
    }
    if let Ok(header) = std::str::from_utf8(bytes) {
        let approved = approval::check(&hold, &status, &[7; 32], header);
        assert!(approved.is_err() || header.len() > 200, "a header without a signature approves");
    }
}

/// Control messages: the first byte chooses which.
pub fn control_message(bytes: &[u8]) {
    fn one<T: serde::Serialize + serde::de::DeserializeOwned>(bytes: &[u8]) {
        if let Ok(message) = control::decode::<T>(bytes) {
            same("control message", &control::encode(&message).unwrap_or_default(), bytes);
        }
    }
    let Some((which, bytes)) = bytes.split_first() else { return };
    match which % 9 {
        0 => one::<AuthToken>(bytes),
        1 => one::<Hello>(bytes),
        2 => one::<Subscribe>(bytes),
        3 => one::<Readers>(bytes),
        4 => one::<Granted>(bytes),
        5 => one::<Welcome>(bytes),
        6 => one::<control::DeniedNotice>(bytes),
        7 => one::<Open>(bytes),
        _ => one::<control::FloorNotice>(bytes),
    }
}

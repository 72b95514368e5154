//! Seal, verify and open an envelope, at three sizes: single, and 256 to a signature.
//!
//! Built with `--features peers`, Megolm and MLS do the same work turn by turn in the same run.
#![expect(clippy::expect_used, reason = "a benchmark that cannot be set up stops")]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rand_core::UnwrapErr;
use sealbus_envelope::{
    hash::Hash,
    identity::{BusId, Claims, Credential, Role, SessionCertificate, SigningKey},
    keys::{KeyScope, SenderKey},
    label::{Clearance, Integrity, Label},
    name::AgentToken,
    proof::admission::{self, Admission, Decision, Verdict},
    subject::Subject,
    time::{Millis, Validity},
    wire::{self, Content, Decoded, EnvelopeId, Flags, HeaderFields, SeenRoots},
};
use sealbus_guard::bus::seen::SeenCache;
use sealbus_tests::bus::{everything, name};

use crate::{
    environment::Environment,
    progress,
    report::{Report, Row},
    samples::Samples,
};

const SIZES: [usize; 3] = [128, 1_024, 16_384];
const BATCH: usize = 256;
/// Single operations a turn.
const TURN: usize = 32;
const NOW: Millis = Millis(1_800_000_000_000);

/// Figures of one size, by what was measured.
pub(crate) type Figures = BTreeMap<&'static str, Samples>;

/// Megolm's and MLS's operations that do as much as one of ours.
type Peers = (&'static str, &'static str);
/// What is shown, in order: the name, how many share a signature, and what it is measured beside.
const ROWS: &[(&str, usize, Option<Peers>)] = &[
    (SEAL, 1, Some((MEGOLM_ENCRYPT, MLS_CREATE))),
    (SEAL_BATCH, BATCH, Some((MEGOLM_ENCRYPT, MLS_CREATE))),
    (VERIFY, 1, None),
    (VERIFY_BATCH, BATCH, None),
    (OPEN, 1, None),
    (RECEIVE, 1, Some((MEGOLM_DECRYPT, MLS_PROCESS))),
    (RECEIVE_BATCH, BATCH, Some((MEGOLM_DECRYPT, MLS_PROCESS))),
    (MEGOLM_ENCRYPT, 1, None),
    (MEGOLM_DECRYPT, 1, None),
    (MLS_CREATE, 1, None),
    (MLS_PROCESS, 1, None),
];
const SEAL: &str = "sealbus seal+sign";
const SEAL_BATCH: &str = "sealbus seal+sign, batch";
const VERIFY: &str = "sealbus verify";
const VERIFY_BATCH: &str = "sealbus verify, batch";
const OPEN: &str = "sealbus open";
const RECEIVE: &str = "sealbus verify+admission+open";
const RECEIVE_BATCH: &str = "sealbus verify+admission+open, batch";
pub(crate) const MEGOLM_ENCRYPT: &str = "megolm encrypt";
pub(crate) const MEGOLM_DECRYPT: &str = "megolm decrypt";
pub(crate) const MLS_CREATE: &str = "openmls create";
pub(crate) const MLS_PROCESS: &str = "openmls process";

pub(crate) fn run(budget: Duration) -> Report {
    let mut report = Report::new("envelope", Environment::take());
    let share = budget / u32::try_from(SIZES.len()).unwrap_or(u32::MAX);
    for size in SIZES {
        progress::say(&format!("{size} bytes"));
        let figures = measure(size, share);
        let p50 = |what: &str| figures.get(what).map(Samples::p50_us);
        for &(what, batch, peers) in ROWS {
            let Some(samples) = figures.get(what) else { continue };
            let own = samples.p50_us();
            let mut row = Row::new(what)
                .with("payload_bytes", size)
                .with("messages_per_signature", batch)
                .measured("min_us", samples.min_us())
                .measured("p50_us", own)
                .measured("p99_us", samples.p99_us());
            if let Some((megolm, mls)) = peers
                && let (Some(megolm), Some(mls)) = (p50(megolm), p50(mls))
            {
                row = row
                    .measured("p50_ratio_to_megolm", own / megolm)
                    .measured("p50_ratio_to_openmls", own / mls);
            }
            report.push(row.with("samples", samples.len()));
        }
    }
    report.note(
        "A batch's samples are means over its 256 messages. Receiving verifies the sender's signature and the \
         guard's admission, which the peers have no counterpart of. The id of each envelope is drawn from the \
         operating system.",
    );
    report.note(if cfg!(feature = "peers") {
        "Megolm: vodozemac, AES-256 and an Ed25519 signature each. MLS: openmls with its in-memory store, a \
         group of two, MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519. All to bytes and from bytes."
    } else {
        "For Megolm and MLS beside these, build with `--features peers`."
    });
    report
}

fn measure(size: usize, budget: Duration) -> Figures {
    let mut figures = Figures::new();
    let mut bench = Bench::new(size);
    #[cfg(feature = "peers")]
    let (mut megolm, mut mls) = (crate::peers::Megolm::new(size), crate::peers::Mls::new(size));
    let begun = Instant::now();
    for turn in 0.. {
        bench.single(&mut figures);
        bench.batch(&mut figures);
        #[cfg(feature = "peers")]
        {
            megolm.turn(TURN, &mut figures);
            mls.turn(TURN, &mut figures);
        }
        if begun.elapsed() >= budget {
            break;
        }
        // Caches and branch predictors were cold in the first turn.
        if turn == 0 {
            figures.clear();
        }
    }
    figures
}

/// A sender, a guard and what they say.
struct Bench {
    bus: BusId,
    guard_key: SigningKey,
    guard: Credential,
    session_key: SigningKey,
    certificate: SessionCertificate,
    credential: Credential,
    key: SenderKey,
    sender: AgentToken,
    subject: Subject,
    content: Content,
    sequence: u64,
    seen: SeenCache,
}

impl Bench {
    fn new(size: usize) -> Self {
        let fresh = || SigningKey::generate(&mut UnwrapErr(getrandom::SysRng));
        let (issuer, identity, session_key, guard_key) = (fresh(), fresh(), fresh(), fresh());
        let bus = BusId::new(issuer.public(), &name("bench"));
        let issue = |key: &SigningKey, who: &str, role| {
            let claims = Claims {
                bus,
                identity: key.public().clone(),
                name: name(who),
                team: name("bench"),
                role,
                clearance: if role == Role::Guard { Clearance::default() } else { everything() },
                integrity_ceiling: Integrity::HIGHEST,
                zones: vec![],
                validity: Validity::starting(Millis::from_seconds(NOW.seconds()), 3_600_000),
            };
            Credential::issue(&claims, &issuer).expect("a credential")
        };
        let credential = issue(&identity, "sender", Role::Agent);
        let guard = issue(&guard_key, "guard", Role::Guard);
        let validity = Validity::starting(NOW, 3_600_000);
        let certificate =
            SessionCertificate::issue(bus, &identity, &session_key, validity).expect("a certificate");
        let scope = KeyScope {
            bus,
            session: certificate.id(),
            rule: name("findings"),
            label: Label::BOTTOM,
            epoch: 0,
        };
        Self {
            bus,
            guard_key,
            guard,
            session_key,
            key: SenderKey::generate(&mut UnwrapErr(getrandom::SysRng), scope),
            sender: credential.token().clone(),
            certificate,
            credential,
            subject: Subject::parse("findings.licence").expect("a subject"),
            content: Content::new("application/json", vec![b'x'; size]),
            sequence: 0,
            seen: SeenCache::default(),
        }
    }

    fn fields(&mut self) -> HeaderFields {
        self.sequence += 1;
        HeaderFields {
            bus: self.bus,
            id: EnvelopeId::generate(&mut UnwrapErr(getrandom::SysRng)),
            sender: self.sender.clone(),
            session: self.certificate.id(),
            rule: self.key.scope().rule.clone(),
            subject: self.subject.clone(),
            label: Label::BOTTOM,
            flow_grant: None,
            key: self.key.id(),
            sequence: self.sequence,
            issued_at: NOW,
            ttl_ms: 3_600_000,
            parents: vec![],
            request: None,
            flags: Flags::NONE,
        }
    }

    fn seal(&mut self, count: usize) -> Vec<Vec<u8>> {
        let sealed: Vec<_> = (0..count)
            .map(|_| {
                let fields = self.fields();
                wire::seal(&fields, &self.content, &self.key).expect("a sealed envelope")
            })
            .collect();
        wire::sign(&sealed, self.certificate.id(), &self.session_key).expect("a signed batch")
    }

    /// The guard's admissions of a batch, as they travel in a header.
    fn admit(&self, envelopes: &[Vec<u8>]) -> Vec<String> {
        let decisions: Vec<(Hash, Decision)> = (0..)
            .zip(envelopes)
            .map(|(position, bytes)| {
                let decision = Decision {
                    verdict: Verdict::Admit,
                    policy_version: 1,
                    policy_digest: [1; 32],
                    partition: 0,
                    epoch: 1,
                    position,
                    time: NOW,
                    observed: false,
                };
                (Decoded::decode(bytes).expect("an envelope").digest(), decision)
            })
            .collect();
        let admissions = admission::sign(&self.guard_key, self.bus, &decisions);
        admissions.iter().map(Admission::encode).collect()
    }

    fn verify<'a>(&self, bytes: &'a [u8], seen: &impl SeenRoots) -> wire::Verified<'a> {
        let decoded = Decoded::decode(bytes).expect("an envelope");
        decoded.verify(&self.certificate, &self.credential, seen).expect("a signature")
    }

    fn receive(&self, bytes: &[u8], admission: &str, seen: &impl SeenRoots) -> wire::Opened {
        let admission = Admission::decode(admission).expect("an admission");
        let verified = self.verify(bytes, seen);
        let admitted = verified.admit(&admission, &self.guard, seen).expect("an admission");
        admitted.open(&self.key).expect("an open envelope")
    }

    /// One envelope a signature, nothing remembered.
    fn single(&mut self, figures: &mut Figures) {
        for _ in 0..TURN {
            let envelope = figures.entry(SEAL).or_default().time(|| self.seal(1));
            let admission = self.admit(&envelope);
            let (Some(bytes), Some(admission)) = (envelope.first(), admission.first()) else { return };
            let verified = figures.entry(VERIFY).or_default().time(|| self.verify(bytes, &()));
            let decoded = Admission::decode(admission).expect("an admission");
            let admitted = verified.admit(&decoded, &self.guard, &()).expect("an admission");
            let open = figures.entry(OPEN).or_default();
            open.time(|| admitted.open(&self.key).expect("an open envelope"));
            figures.entry(RECEIVE).or_default().time(|| self.receive(bytes, admission, &()));
        }
    }

    /// 256 envelopes a signature; whoever verifies remembers roots, as guard and reader do.
    fn batch(&mut self, figures: &mut Figures) {
        let envelopes = figures.entry(SEAL_BATCH).or_default().time_many(BATCH, || self.seal(BATCH));
        let admissions = self.admit(&envelopes);
        figures.entry(VERIFY_BATCH).or_default().time_many(BATCH, || {
            for bytes in &envelopes {
                std::hint::black_box(self.verify(bytes, &self.seen));
            }
        });
        // What the guard saw the reader has not.
        self.seen = SeenCache::default();
        let received = figures.entry(RECEIVE_BATCH).or_default();
        received.time_many(BATCH, || {
            for (bytes, admission) in envelopes.iter().zip(&admissions) {
                std::hint::black_box(self.receive(bytes, admission, &self.seen));
            }
        });
    }
}

//! SPEC.md says what the code does: its tables of reasons, limits, purposes and hash contexts are compared.
//!
//! After a change: `SEALBUS_UPDATE_SPEC=1 cargo test -p sealbus-envelope --test spec`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fmt::Write as _, fs, path::PathBuf};

use sealbus_envelope::{
    approval::{MAX_APPROVAL, MAX_APPROVALS_HEADER},
    control::{MAX_AUTH_TOKEN, MAX_CONTROL, MAX_LIVE_KEYS},
    hash::Context,
    identity::{MAX_CERTIFICATE, MAX_CREDENTIAL, MAX_REVOKED, MAX_SESSION_MS, MAX_ZONES, Purpose},
    keys::{ENC_LEN, MAX_GRANT, MAX_READER_KEY, PUBLIC_LEN, SEALED_LEN, TAG_LEN},
    label::{Compartments, Integrity, Level},
    name::{MAX_AGENT_TOKEN, MAX_NAME},
    policy::{
        self, MAX_APPROVALS, MAX_BUNDLE, MAX_GRANTS, MAX_GUARDS, MAX_HOLD_MS, MAX_LISTS, MAX_PARTIES,
        MAX_PEOPLE, MAX_PLACE, MAX_PLACES, MAX_RECORD, MAX_RULES, MAX_SIGNATURES, MAX_TEAMS, MAX_WEIGHTS,
    },
    proof::{
        admission::{ADMISSION_RESERVE, MAX_ADMISSION},
        batch::{MAX_BATCH, MAX_PROOF},
    },
    reader::{DEFAULT_SKEW_MS, POLICY_GRACE_MS, ReplayWindow},
    reason::Reason,
    subject::{MAX_SUBJECT, MAX_TOKENS, Partition},
    wire::{MAX_ENVELOPE, MAX_HEADER, MAX_PARENTS, MAX_PAYLOAD, MAX_TTL_MS},
};

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("SPEC.md")
}

/// What stands between the two marks, replaced first if asked.
fn between(name: &str, should: &str) -> String {
    let mut text = fs::read_to_string(path()).unwrap();
    let (begin, end) =
        (format!("<!-- {name}: made by tests/spec.rs -->\n"), format!("<!-- end of {name} -->"));
    let (before, rest) = text.split_once(&begin).unwrap();
    let (is, after) = rest.split_once(&end).unwrap();
    let is = is.to_owned();
    if std::env::var_os("SEALBUS_UPDATE_SPEC").is_none() {
        return is;
    }
    text = format!("{before}{begin}{should}{end}{after}");
    fs::write(path(), text).unwrap();
    should.to_owned()
}

fn reasons() -> String {
    let mut table = String::from("| code | meaning | remedy |\n| --- | --- | --- |\n");
    for reason in Reason::ALL {
        writeln!(table, "| `{}` | {} | {} |", reason.code(), reason.meaning(), reason.remedy()).unwrap();
    }
    table
}

fn limits() -> String {
    let limits: [(u64, &str); 49] = [
        (MAX_ENVELOPE as u64, "bytes of an envelope: 1 MiB less the reserve for the admission header"),
        (ADMISSION_RESERVE as u64, "bytes of that reserve"),
        (MAX_HEADER as u64, "bytes of an envelope's header"),
        (MAX_PAYLOAD as u64, "bytes of a payload"),
        (128, "bytes of a content type"),
        (64, "bytes of a trace context"),
        (TAG_LEN as u64, "bytes of the cipher's tag"),
        (MAX_PARENTS as u64, "parents of an envelope"),
        (u64::from(MAX_TTL_MS), "milliseconds of time-to-live"),
        (MAX_BATCH as u64, "leaves of a batch"),
        (MAX_PROOF as u64, "bytes of a batch proof"),
        (MAX_ADMISSION as u64, "bytes of an admission before base64url"),
        (MAX_CREDENTIAL as u64, "bytes of a credential"),
        (MAX_ZONES as u64, "zones of a credential"),
        (MAX_CERTIFICATE as u64, "bytes of a session certificate"),
        (MAX_SESSION_MS, "milliseconds of a session"),
        (MAX_REVOKED as u64, "revocations of a status statement"),
        (1 << 20, "bytes of a status statement"),
        (MAX_BUNDLE as u64, "bytes of a policy bundle"),
        (MAX_RULES as u64, "rules of a policy"),
        (MAX_SIGNATURES as u64, "signatures on a policy"),
        (MAX_RECORD as u64, "bytes of a rule, of a flow grant, or of the tables"),
        (MAX_GRANTS as u64, "flow grants of a policy"),
        (MAX_TEAMS as u64, "teams of a policy"),
        (policy::MAX_ZONES as u64, "zones of a policy"),
        (MAX_PLACES as u64, "servers of a zone, and tags of a zone"),
        (MAX_PLACE as u64, "bytes of the name of a server or cluster, and of a tag"),
        (MAX_GUARDS as u64, "guards of a policy"),
        (MAX_PARTIES as u64, "parties on one side of a rule"),
        (u64::from(Level::COUNT), "levels"),
        (u64::from(Compartments::COUNT), "compartments"),
        (u64::from(Integrity::COUNT), "integrity ranks"),
        (MAX_READER_KEY as u64, "bytes of a reader or box key record"),
        (MAX_GRANT as u64, "bytes of a grant"),
        (MAX_CONTROL as u64, "bytes of a control message"),
        (MAX_AUTH_TOKEN as u64, "characters of an auth token"),
        (MAX_LIVE_KEYS as u64, "live keys of a session statement"),
        (MAX_LISTS as u64, "lists of approvers of a hold"),
        (MAX_PEOPLE as u64, "people on a list of approvers"),
        (u64::from(MAX_APPROVALS), "approvals that a hold wants, and that a header carries"),
        (u64::from(MAX_HOLD_MS), "milliseconds of a hold"),
        (MAX_APPROVAL as u64, "bytes of an approval"),
        (MAX_APPROVALS_HEADER as u64, "bytes of an approvals header before base64url"),
        (MAX_WEIGHTS as u64, "signals with a weight of their own"),
        (MAX_SUBJECT as u64, "bytes of a logical subject"),
        (MAX_TOKENS as u64, "tokens of a logical subject"),
        (ReplayWindow::WIDTH, "sequence numbers of a reader's replay window"),
        (POLICY_GRACE_MS, "milliseconds for which a replaced policy is still good"),
        (DEFAULT_SKEW_MS, "milliseconds that clocks may be apart"),
    ];
    let mut table = String::from("| limit | of |\n| --- | --- |\n");
    for (value, of) in limits {
        writeln!(table, "| {value} | {of} |").unwrap();
    }
    table
}

#[test]
fn the_table_of_reasons_is_the_code() {
    assert_eq!(between("reasons", &reasons()), reasons());
}

#[test]
fn the_table_of_limits_is_the_code() {
    assert_eq!(between("limits", &limits()), limits());
}

#[test]
fn the_text_names_every_constant_as_it_is() {
    let text = fs::read_to_string(path()).unwrap().replace('\n', " ").replace(',', "");
    let purposes = [
        ("session certificate", Purpose::SessionCertificate),
        ("session possession", Purpose::SessionPossession),
        ("batch", Purpose::Batch),
        ("grant", Purpose::Grant),
        ("reader key", Purpose::ReaderKey),
        ("box key", Purpose::BoxKey),
        ("admission", Purpose::Admission),
        ("status", Purpose::Status),
        ("bundle", Purpose::Bundle),
        ("hello", Purpose::Hello),
        ("heartbeat", Purpose::Heartbeat),
        ("order", Purpose::Order),
        ("approval", Purpose::Approval),
    ];
    for (name, purpose) in purposes {
        assert!(text.contains(&format!("| {name} | {} |", purpose as u8)), "{name}");
    }
    for context in [
        Context::Bus,
        Context::AgentToken,
        Context::Session,
        Context::Envelope,
        Context::SenderKey,
        Context::ReaderKey,
        Context::Grant,
        Context::Admission,
        Context::Partition,
        Context::Order,
    ] {
        let (zero, name) = context.text().split_last().unwrap();
        assert_eq!(*zero, 0);
        assert!(text.contains(&format!("| `{}` |", std::str::from_utf8(name).unwrap())), "{context:?}");
    }
    for said in [
        format!("Text with the limit {MAX_AGENT_TOKEN}"),
        format!("text with the limit {MAX_NAME}"),
        format!("partition: u8 < {}", Partition::COUNT),
        format!("enc: bytes[{ENC_LEN}] sealed: bytes[{SEALED_LEN}]"),
        format!("public: bytes≤{PUBLIC_LEN}"),
        format!("proof: bytes≤{MAX_PROOF}"),
        format!("At most {MAX_ENVELOPE} bytes"),
        format!("({MAX_TTL_MS}",).replace('(', ""),
    ] {
        assert!(text.contains(&said), "{said}");
    }
}

//! Entry coding: round trips, refusals, and the JSON that people search.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;

use super::{
    coding::{EntryError, VERSION},
    *,
};

fn admitted() -> Entry<'static> {
    Entry {
        time: Millis(1_700_000_000_123),
        position: Position { epoch: 2, n: 9 },
        body: Body::Admitted(Admitted {
            digest: Hex([1; 32]),
            envelope: Hex([2; 16]),
            sender: "crawler-abcdefghij".into(),
            session: Hex([3; 32]),
            rule: "collect-web".into(),
            subject: "collect.web.raw".into(),
            label: Label::default(),
            flow_grant: None,
            parents: vec![Hex([4; 32])].into(),
            policy_version: 3,
            guard_time: Millis(1_700_000_000_120),
            confirm: true,
            observed: None,
        }),
    }
}

fn bodies() -> impl Strategy<Value = Body<'static>> {
    let text = "[ -~]{0,40}";
    let some = prop::option::of(text.prop_map(Cow::from));
    let hash = any::<[u8; 32]>().prop_map(Hex);
    prop_oneof![
        Just(Body::Stop),
        (any::<bool>(), text).prop_map(|(clean, program)| Body::Start(Start {
            previous: clean.then_some(Position { epoch: 1, n: 2 }),
            clean,
            program: program.into()
        })),
        (any::<u64>(), prop::option::of(any::<u64>())).prop_map(|(from, to)| Body::Gap(Gap {
            epoch: 1,
            from,
            to,
            torn_bytes: 7,
            cause: GapCause::Crash
        })),
        (text, any::<u64>(), prop::option::of(hash.clone()), some.clone()).prop_map(
            |(reason, count, digest, sender)| Body::Denied(Denied {
                reason: reason.into(),
                count,
                digest,
                sender,
                ..Denied::default()
            })
        ),
        (hash.clone(), text, prop::collection::vec(hash, 0..4), some).prop_map(
            |(digest, subject, parents, observed)| {
                let Body::Admitted(base) = admitted().body else { return Body::Stop };
                Body::Admitted(Admitted {
                    digest,
                    subject: subject.into(),
                    flow_grant: None,
                    parents: parents.into(),
                    observed,
                    ..base
                })
            }
        ),
    ]
}

#[test]
fn json_is_one_readable_line() {
    insta::assert_snapshot!(admitted().to_json().unwrap());
    let stop = Entry { body: Body::Stop, ..admitted() };
    assert_eq!(stop.to_json().unwrap(), r#"{"time":1700000000123,"epoch":2,"n":9,"stop":{}}"#);
}

#[test]
fn an_admission_is_small() {
    let length = admitted().encode().unwrap().len();
    assert!(length < 250, "{length} bytes");
}

#[test]
fn stray_bytes_and_newer_versions_are_named() {
    let mut bytes = admitted().encode().unwrap();
    bytes.push(0);
    assert_eq!(Entry::decode(&bytes), Err(EntryError::Trailing(1)));
    *bytes.get_mut(1).unwrap() = VERSION + 1;
    assert_eq!(Entry::decode(&bytes), Err(EntryError::Version(VERSION + 1)));
    assert!(matches!(Entry::decode(b""), Err(EntryError::Form(_))));
}

proptest! {
    #[test]
    fn what_is_encoded_decodes(body in bodies(), time in any::<u64>().prop_map(Millis), epoch: u64, n: u64) {
        let entry = Entry { time, position: Position { epoch, n }, body };
        let bytes = entry.encode().unwrap();
        prop_assert_eq!(&Entry::decode(&bytes).unwrap(), &entry);
        prop_assert!(serde_json::from_str::<serde_json::Value>(&entry.to_json().unwrap()).is_ok());
        for cut in 0..bytes.len() {
            prop_assert!(Entry::decode(bytes.get(..cut).unwrap()).is_err());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        let _refused = Entry::decode(&bytes).is_err();
    }
}

//! The fuzzers' seeds are made from the vectors, and every run of the tests replays them.
//!
//! After a change of vectors: `SEALBUS_UPDATE_VECTORS=1 cargo test -p sealbus-envelope`.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use sealbus_envelope::{
    control::{self, FloorNotice, Granted, Welcome},
    fuzzing::TARGETS,
    identity::{BusId, Roots, SigningKey},
    label::Label,
    name::{AgentToken, Name},
    order::{Draft, Order, OrderId, OrderKind, Target},
    policy::{Bundle, Excerpt, ExcerptRecord},
    time::Millis,
    wire::codec::{Reader, Writer},
};
use serde_bytes::ByteBuf;
use serde_json::Value;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn unhex(value: &Value) -> Vec<u8> {
    HEXLOWER.decode(value.as_str().unwrap().as_bytes()).unwrap()
}

fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

/// What a vector is worth to a fuzzer: which target, which bytes.
fn seeds_of(vector: &Value) -> Vec<(&'static str, Vec<u8>)> {
    let (input, context) = (&vector["input"], &vector["context"]);
    match vector["kind"].as_str().unwrap() {
        "delivery" => {
            let mut seeds = vec![("envelope", unhex(&input["envelope"]))];
            seeds.extend(
                input["admission"].as_str().map(|text| ("admission_header", text.as_bytes().to_vec())),
            );
            seeds.extend(input["approvals"].as_str().map(|text| ("approval", text.as_bytes().to_vec())));
            seeds
        }
        "approval" => vec![("approval", unhex(&input["approval"]))],
        "order" => vec![("order", unhex(&input["order"]))],
        "credential" => {
            let text = input["credential"].as_str().unwrap();
            let mut seeds = vec![("credential", text.as_bytes().to_vec())];
            // Claims for the target's own bus and issuer, so that they get past the first checks.
            let body = text.split('.').nth(1).and_then(|body| BASE64URL_NOPAD.decode(body.as_bytes()).ok());
            if let Some(mut claims) = body.and_then(|body| serde_json::from_slice::<Value>(&body).ok()) {
                claims["sealbus"]["bus"] = "0".repeat(64).into();
                claims["iss"] = sealbus_envelope::identity::SigningKey::from_seed(&[1; 32])
                    .public()
                    .to_nkey(sealbus_envelope::identity::KeyKind::Account)
                    .into();
                seeds.push(("credential", claims.to_string().into_bytes()));
            }
            seeds
        }
        "certificate" => vec![("session_certificate", unhex(&input["certificate"]))],
        "grant" => {
            let grant = unhex(&input["grant"]);
            let granted = Granted {
                credential: context["sender"]["credential"].as_str().unwrap().to_owned(),
                certificate: ByteBuf::from(unhex(&context["sender"]["certificate"])),
                grants: vec![ByteBuf::from(grant.clone())],
            };
            vec![("key_grant", grant), ("control", [vec![4], control::encode(&granted).unwrap()].concat())]
        }
        "status" => {
            let status = unhex(&input["status"]);
            // [body, signature]: the target signs bodies itself.
            let body = match status.get(1) {
                Some(0xc4) => status.get(3..3 + usize::from(status[2])),
                _ => status.get(4..status.len() - 66),
            };
            let body = body.unwrap_or_default().to_vec();
            vec![("status", status), ("status", body)]
        }
        "heartbeat" => vec![("status", unhex(&input["heartbeat"]))],
        "excerpt" => {
            let path = |value: &Value| {
                value.as_array().unwrap().iter().map(|hash| unhex(hash).try_into().unwrap()).collect()
            };
            let records = |value: &Value| -> Vec<ExcerptRecord> {
                let record = |record: &Value| ExcerptRecord {
                    index: record["index"].as_u64().unwrap().try_into().unwrap(),
                    record: unhex(&record["record"]),
                    path: path(&record["path"]),
                };
                value.as_array().unwrap().iter().map(record).collect()
            };
            let mut excerpt = Excerpt {
                head: unhex(&input["head"]),
                tables: unhex(&input["tables"]),
                tables_path: path(&input["tables_path"]),
                rules: records(&input["rules"]),
                grants: records(&input["grants"]),
            };
            let mut seeds = vec![("bundle", excerpt.head.clone()), ("bundle", excerpt.tables.clone())];
            let shown = excerpt.rules.iter().chain(&excerpt.grants);
            seeds.extend(shown.map(|record| ("bundle", record.record.clone())));
            // One of each, so that a fuzzer need not carry all of them.
            excerpt.rules.truncate(1);
            excerpt.grants.truncate(1);
            let floor = FloorNotice { floor: Label::TOP };
            let welcome = Welcome {
                policy: excerpt,
                status: ByteBuf::from([1; 9]),
                guards: vec![],
                max_payload: 1 << 20,
                floor: floor.floor,
            };
            seeds.push(("control", [vec![5], control::encode(&welcome).unwrap()].concat()));
            seeds.push(("control", [vec![8], control::encode(&floor).unwrap()].concat()));
            seeds
        }
        "bundle" => records_on_the_targets_bus(&unhex(&input["bundle"]))
            .map(|records| vec![("bundle", records)])
            .unwrap_or_default(),
        "auth_token" => {
            let raw = BASE64URL_NOPAD.decode(input["auth_token"].as_str().unwrap().as_bytes());
            raw.map(|raw| vec![("control", [vec![0], raw].concat())]).unwrap_or_default()
        }
        _ => vec![],
    }
}

/// Orders of the target's own bus and key: unsigned and signed, and their bodies.
fn orders() -> Vec<(&'static str, Vec<u8>)> {
    let signer = SigningKey::from_seed(&[1; 32]);
    let name: Name = "fuzz".parse().unwrap();
    let (agent, policy_keys) = (name.clone(), vec![signer.public().clone()]);
    let roots = Roots { name, issuer: signer.public().clone(), policy_keys, quorum: 1 };
    let order = Order {
        bus: roots.bus(),
        id: OrderId::from_bytes([7; 16]),
        kind: OrderKind::ClearTaint,
        target: Target::Agent {
            token: AgentToken::new(&agent, signer.public()),
            identity: signer.public().clone(),
        },
        reason: "started again with an empty memory".to_owned(),
        issued: Millis(1_700_000_000_000),
        valid_until: Millis(1_700_000_600_000),
    };
    let mut draft = Draft::new(order, &roots).unwrap();
    let unsigned = draft.encode();
    // [body, []]: an array head, a head of two bytes, the body, an empty array.
    let body = unsigned[3..unsigned.len() - 1].to_vec();
    draft.sign(&signer, &roots).unwrap();
    vec![("body", body), ("unsigned", unsigned), ("signed", draft.encode())]
}

/// `[tables, [rule, …], [flow grant, …], supervision or nil]` of a bundle, with tables for the bus of the target, which
/// signs them itself.
fn records_on_the_targets_bus(bundle: &[u8]) -> Option<Vec<u8>> {
    let mut r = Reader::new(bundle, "bundle");
    r.array(5).ok()?;
    let _head = r.bin(bundle.len()).ok()?;
    let mut tables = r.bin(bundle.len()).ok()?.to_vec();
    let issuer = SigningKey::from_seed(&[1; 32]);
    let bus = BusId::new(issuer.public(), &Name::parse("fuzz").unwrap());
    // Behind the array's head, the version, and the head of the bytes.
    tables.get_mut(4..36)?.copy_from_slice(bus.as_bytes());
    let mut w = Writer::default();
    w.array(4).bin(&tables);
    for _ in 0..2 {
        let count = r.array_len(bundle.len()).ok()?;
        w.array(count);
        for _ in 0..count {
            w.bin(r.bin(bundle.len()).ok()?);
        }
    }
    let supervision = r.option(|r| Ok(r.bin(bundle.len())?.to_vec())).ok()?;
    w.option(supervision, |w, leaf| {
        w.bin(&leaf);
    });
    Some(w.into_bytes())
}

/// By target and file name; equal bytes once.
fn made() -> BTreeMap<(&'static str, String), Vec<u8>> {
    let mut made: BTreeMap<_, _> =
        orders().into_iter().map(|(name, seed)| (("order", name.to_owned()), seed)).collect();
    for kind in ["good", "hostile"] {
        for (name, text) in files(&root().join("vectors").join(kind)) {
            let vector = serde_json::from_slice(&text).unwrap();
            for (n, (target, bytes)) in seeds_of(&vector).into_iter().enumerate() {
                let seen = made.iter().any(|((known, _), seed)| *known == target && *seed == bytes);
                if !seen && bytes.len() <= 8192 {
                    made.insert((target, format!("{kind}-{}-{n}", name.trim_end_matches(".json"))), bytes);
                }
            }
        }
    }
    made
}

#[test]
fn the_seeds_are_made_from_the_vectors() {
    let made = made();
    for (target, _) in TARGETS {
        let directory = root().join("fuzz/seeds").join(target);
        let wanted: BTreeMap<_, _> = made
            .iter()
            .filter(|((of, _), _)| of == target)
            .map(|((_, name), seed)| (name.clone(), seed.clone()))
            .collect();
        assert!(!wanted.is_empty(), "no seed for {target}");
        if std::env::var_os("SEALBUS_UPDATE_VECTORS").is_some() {
            fs::create_dir_all(&directory).unwrap();
            // What a fuzzer found stays: it is no vector's.
            for (name, _) in files(&directory).iter().filter(|(name, _)| !name.starts_with("found-")) {
                fs::remove_file(directory.join(name)).unwrap();
            }
            for (name, seed) in &wanted {
                fs::write(directory.join(name), seed).unwrap();
            }
        }
        let committed: BTreeMap<_, _> =
            files(&directory).into_iter().filter(|(name, _)| !name.starts_with("found-")).collect();
        assert!(committed == wanted, "seeds of {target} are not those of the vectors");
    }
}

#[test]
fn no_seed_makes_a_target_panic() {
    for (name, target) in TARGETS {
        for (_, seed) in files(&root().join("fuzz/seeds").join(name)) {
            target(&seed);
        }
    }
}

#[test]
fn whole_policies_read_back() {
    let text = fs::read(root().join("vectors/good/bundle.json")).unwrap();
    let vector: Value = serde_json::from_slice(&text).unwrap();
    let bytes = unhex(&vector["input"]["bundle"]);
    let issuer = vector["context"]["roots"]["issuer"].as_str().unwrap();
    let keys = vector["context"]["roots"]["policy_keys"].as_array().unwrap();
    use sealbus_envelope::identity::{KeyKind, PublicKey, Roots};
    let roots = Roots {
        name: "vectors".parse().unwrap(),
        issuer: PublicKey::from_nkey(issuer, KeyKind::Account).unwrap(),
        policy_keys: keys
            .iter()
            .map(|key| PublicKey::from_nkey(key.as_str().unwrap(), KeyKind::User).unwrap())
            .collect(),
        quorum: 2,
    };
    assert_eq!(Bundle::verify(&bytes, &roots).unwrap().encode(), bytes);
}

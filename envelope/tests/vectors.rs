//! Golden vectors: every file under `vectors/` is replayed, and is exactly what the generator makes.
//!
//! After a deliberate change of format: `SEALBUS_UPDATE_VECTORS=1 cargo test -p sealbus-envelope --test vectors`.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

#[path = "vectors/approvals.rs"]
mod approvals;
#[path = "vectors/arrivals.rs"]
mod arrivals;
#[path = "vectors/deliveries.rs"]
mod deliveries;
#[path = "vectors/file.rs"]
mod file;
#[path = "vectors/flow.rs"]
mod flow;
#[path = "vectors/hostile.rs"]
mod hostile;
#[path = "vectors/observe.rs"]
mod observe;
#[path = "vectors/records.rs"]
mod records;
#[path = "vectors/scene.rs"]
mod scene;
#[path = "vectors/world.rs"]
mod world;

use std::{collections::BTreeMap, fs, path::PathBuf};

use file::Vector;
use serde_json::json;

/// Collects vectors by their path, such as `hostile/replay.json`.
#[derive(Default)]
struct Vectors {
    made: BTreeMap<String, Vector>,
    wrong: Vec<String>,
}

impl Vectors {
    /// A good one: what must come of it is what comes of it now, and it must be a success.
    fn good(&mut self, name: &str, mut vector: Vector) {
        vector.expect = vector.outcome();
        if vector.expect.get("ok").is_none() {
            self.wrong.push(format!("{name}: {}", vector.expect));
        }
        self.put(format!("good/{name}.json"), vector);
    }

    /// A hostile one: the reason is written down, not learned from the code under test.
    fn hostile(&mut self, name: &str, vector: Vector) {
        let outcome = vector.outcome();
        if outcome != vector.expect {
            self.wrong.push(format!("{name}: {outcome}, not {}", vector.expect));
        }
        self.put(format!("hostile/{name}.json"), vector);
    }

    fn put(&mut self, path: String, vector: Vector) {
        assert!(self.made.insert(path.clone(), vector).is_none(), "{path} is made twice");
    }
}

fn made() -> BTreeMap<String, Vector> {
    let world = world::World::new();
    let mut vectors = Vectors::default();
    deliveries::make(&world, &mut vectors);
    arrivals::make(&world, &mut vectors);
    flow::make(&world, &mut vectors);
    observe::make(&world, &mut vectors);
    approvals::make(&world, &mut vectors);
    hostile::make(&world, &mut vectors);
    records::make(&world, &mut vectors);
    assert!(vectors.wrong.is_empty(), "{:#?}", vectors.wrong);
    vectors.made
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

fn committed() -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for kind in ["good", "hostile"] {
        for entry in fs::read_dir(directory().join(kind)).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{kind}/{}", path.file_name().unwrap().to_str().unwrap());
            files.insert(name, fs::read_to_string(path).unwrap());
        }
    }
    files
}

#[test]
fn the_generator_makes_exactly_the_committed_files() {
    let made: BTreeMap<_, _> = made().into_iter().map(|(path, vector)| (path, vector.to_text())).collect();
    if std::env::var_os("SEALBUS_UPDATE_VECTORS").is_some() {
        for path in committed().keys().filter(|path| !made.contains_key(*path)) {
            fs::remove_file(directory().join(path)).unwrap();
        }
        for (path, text) in &made {
            fs::write(directory().join(path), text).unwrap();
        }
    }
    let committed = committed();
    for (path, text) in &made {
        assert!(committed.get(path) == Some(text), "{path} is not what the generator makes");
    }
    assert_eq!(committed.len(), made.len(), "files that nothing makes");
    let count = |kind: &str| made.keys().filter(|path| path.starts_with(kind)).count();
    let (good, hostile) = (count("good/"), count("hostile/"));
    assert!(good >= 80 && hostile >= 380, "{good} good, {hostile} hostile");
    println!("{good} good, {hostile} hostile");
}

#[test]
fn every_committed_vector_has_its_outcome() {
    let mut wrong = Vec::new();
    for (path, text) in committed() {
        let vector: Vector = serde_json::from_str(&text).unwrap();
        let outcome = vector.outcome();
        if outcome != vector.expect || path.starts_with("good/") != outcome.get("ok").is_some() {
            wrong.push(json!({ "path": path, "expected": vector.expect, "outcome": outcome }));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

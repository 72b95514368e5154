//! Every event against the part of the published schema that `tests/ocsf` keeps true.

use std::{collections::BTreeSet, fs, path::PathBuf};

use serde_json::Value;

use super::*;

fn directory() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/events"))
}

struct Schema(Value);

impl Schema {
    fn load() -> Self {
        let path = directory().join(format!("ocsf-{}.json", ocsf::VERSION));
        Self(serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap())
    }

    /// What is wrong with an object that should be as `definition`, and where.
    fn faults(
        &self,
        definition: &Value,
        object: &Value,
        profiles: &[&str],
        at: &str,
        faults: &mut Vec<String>,
    ) {
        let Some(fields) = object.as_object() else { return faults.push(format!("{at}: no object")) };
        let Some(attributes) = definition["attributes"].as_object() else {
            return faults.push(format!("{at}: not in the schema"));
        };
        let applies = |attribute: &Value| {
            attribute["profile"].as_str().is_none_or(|profile| profiles.contains(&profile))
        };
        for (name, attribute) in attributes {
            let required = attribute["requirement"] == "required" && applies(attribute);
            if required && !fields.contains_key(name) {
                faults.push(format!("{at}/{name}: required"));
            }
        }
        if let Some(any) = definition["constraints"]["at_least_one"].as_array()
            && !any.iter().any(|name| name.as_str().is_some_and(|name| fields.contains_key(name)))
        {
            faults.push(format!("{at}: none of {any:?}"));
        }
        for (name, value) in fields {
            let at = format!("{at}/{name}");
            let Some(attribute) = attributes.get(name).filter(|attribute| applies(attribute)) else {
                faults.push(format!("{at}: not in the schema"));
                continue;
            };
            let items = match (attribute["is_array"] == true, value.as_array()) {
                (true, Some(items)) => items.iter().collect(),
                (false, _) => vec![value],
                (true, None) => return faults.push(format!("{at}: no list")),
            };
            for item in items {
                self.attribute(attribute, item, profiles, &at, faults);
            }
        }
    }

    fn attribute(
        &self,
        attribute: &Value,
        value: &Value,
        profiles: &[&str],
        at: &str,
        faults: &mut Vec<String>,
    ) {
        let kind = attribute["type"].as_str().unwrap_or_default();
        if kind == "object_t" {
            let of = attribute["object_type"].as_str().unwrap_or_default();
            // `object` is any object: what is unmapped.
            if of != "object" {
                self.faults(&self.0["objects"][of], value, profiles, at, faults);
            }
            return;
        }
        let fits = match kind {
            "integer_t" | "long_t" | "timestamp_t" | "port_t" => value.is_i64() || value.is_u64(),
            "boolean_t" => value.is_boolean(),
            "json_t" => true,
            _ => value.is_string(),
        };
        if !fits {
            faults.push(format!("{at}: not of type {kind}"));
        }
        if let Some(known) = attribute["enum"].as_array()
            && !known.contains(value)
        {
            faults.push(format!("{at}: {value} is not one of {known:?}"));
        }
    }
}

/// Writes the samples anew with `SEALBUS_UPDATE_EVENTS=1`; `tests/ocsf/run.sh` validates them with the schema as
/// it is published.
#[test]
fn every_kind_of_event_is_as_the_schema_says() {
    let path = directory().join("samples.jsonl");
    let written =
        samples().into_iter().zip(1..).map(|(event, n)| format!("{}\n", ocsf::write(&event, &source(), n)));
    let lines: String = written.collect();
    if std::env::var_os("SEALBUS_UPDATE_EVENTS").is_some() {
        fs::write(&path, &lines).unwrap();
    }
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        lines,
        "stale; run this test with SEALBUS_UPDATE_EVENTS=1"
    );
    let schema = Schema::load();
    assert_eq!(schema.0["version"], ocsf::VERSION);
    let (mut kinds, mut faults) = (BTreeSet::new(), Vec::new());
    for (event, sequence) in samples().iter().zip(1..) {
        let written = ocsf::write(event, &source(), sequence);
        kinds.insert(event.kind.token());
        let uid = written["class_uid"].as_u64().unwrap();
        let classes = schema.0["classes"].as_object().unwrap();
        let class = classes.values().find(|class| class["uid"] == uid).unwrap();
        assert_eq!(written["category_uid"], class["category_uid"]);
        assert_eq!(written["type_uid"], uid * 100 + written["activity_id"].as_u64().unwrap());
        let profiles = written["metadata"]["profiles"].as_array().cloned().unwrap_or_default();
        let profiles: Vec<&str> = profiles.iter().filter_map(Value::as_str).collect();
        schema.faults(class, &written, &profiles, event.kind.token(), &mut faults);
        assert_eq!(ocsf::unmapped(&written).unwrap()["kind"], event.kind.token());
        assert_eq!(ocsf::time(&written), Some(NOON));
    }
    let all: BTreeSet<&str> = Kind::ALL.iter().map(|kind| kind.token()).collect();
    assert_eq!(kinds, all, "a kind without a sample");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_validator_finds_what_is_wrong() {
    let schema = Schema::load();
    let class = &schema.0["classes"]["application_lifecycle"];
    let good = ocsf::write(&Event::new(Kind::Started, NOON), &source(), 1);
    let faults = |change: fn(&mut Value)| {
        let (mut event, mut faults) = (good.clone(), Vec::new());
        change(&mut event);
        schema.faults(class, &event, &[], "", &mut faults);
        faults.len()
    };
    assert_eq!(faults(|_| {}), 0);
    assert_eq!(faults(|event| drop(event.as_object_mut().unwrap().remove("app"))), 1);
    assert_eq!(faults(|event| event["severity_id"] = 42.into()), 1);
    assert_eq!(faults(|event| event["time"] = "now".into()), 1);
    assert_eq!(faults(|event| event["metadata"]["product"] = serde_json::json!({ "version": "1" })), 1);
    assert_eq!(faults(|event| event["surprise"] = 1.into()), 1);
}

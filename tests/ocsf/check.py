"""Events against the published OCSF schema; see run.sh."""

import json
import re
import sys
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

root = Path(sys.argv[1])
samples = [json.loads(line) for line in (root / "broker-guard/tests/events/samples.jsonl").read_text().splitlines()]
version = samples[0]["metadata"]["version"]
published = get_ocsf_schema(version=version)
trimmed_path = root / f"broker-guard/tests/events/ocsf-{version}.json"


def validate():
    """With the JSON Schema of each event's class and profiles."""
    schemas = OcsfJsonSchemaEmbedded(published)
    faults = 0
    for sample in samples:
        name = schemas.lookup_class_name_from_uid(class_uid=sample["class_uid"])
        profiles = sample["metadata"].get("profiles", [])
        schema = schemas.get_class_schema(class_name=name, profiles=profiles)
        Draft202012Validator.check_schema(schema)
        for fault in Draft202012Validator(schema).iter_errors(sample):
            faults += 1
            place = "/".join(map(str, fault.absolute_path))
            print(f"{sample['metadata']['event_code']} ({name}): {place}: {fault.message[:300]}")
    kinds = {sample["metadata"]["event_code"] for sample in samples}
    print(f"{len(samples)} events of {len(kinds)} kinds against OCSF {version}: {faults} faults")
    return faults == 0


def trim():
    """Of the classes and objects that the samples use: the attributes that they use or must have."""
    classes, objects = {}, {}

    def keep(kept, definition, value):
        attributes = kept.setdefault("attributes", {})
        if definition.get("constraints"):
            kept["constraints"] = definition["constraints"]
        for name, attribute in definition["attributes"].items():
            profile = attribute.get("profile")
            required = attribute.get("requirement") == "required" and profile in (None, "security_control")
            if name not in value and not required:
                continue
            out = {"type": attribute["type"], "requirement": attribute["requirement"]}
            if attribute.get("is_array"):
                out["is_array"] = True
            if profile:
                out["profile"] = profile
            if "enum" in attribute and attribute["type"] == "integer_t":
                out["enum"] = sorted(map(int, attribute["enum"]))
            if attribute["type"] == "object_t":
                out["object_type"] = attribute["object_type"]
            attributes[name] = out
            if name in value and attribute["type"] == "object_t":
                of = attribute["object_type"]
                items = value[name] if attribute.get("is_array") else [value[name]]
                for item in items:
                    keep(objects.setdefault(of, {}), published["objects"][of], item)

    for sample in samples:
        name, definition = next(
            (name, found) for name, found in published["classes"].items() if found["uid"] == sample["class_uid"]
        )
        kept = classes.setdefault(name, {"uid": definition["uid"], "category_uid": definition["category_uid"]})
        keep(kept, definition, sample)
    head = (
        f"Part of the schema of OCSF {version} as published at https://schema.ocsf.io/{version}/export/schema, "
        "Apache-2.0 (https://github.com/ocsf/ocsf-schema/blob/main/LICENSE). Written by tests/ocsf/run.sh --trim."
    )
    trimmed = {"comment": head, "version": version, "classes": classes, "objects": objects}
    return json.dumps(trimmed, indent=1, sort_keys=True) + "\n"


def alerts():
    """That the rules are well formed; which metrics there are is for `cargo test` to know."""
    rules = [r for g in yaml.safe_load((root / "deploy/alerts.yml").read_text())["groups"] for r in g["rules"]]
    fine = True
    for rule in rules:
        name, expression = rule.get("alert", "?"), str(rule.get("expr", ""))
        faults = []
        if not re.fullmatch(r"Sealbus[A-Za-z]+", name):
            faults.append("its name")
        if not expression or any(expression.count(a) != expression.count(b) for a, b in ("()", "[]", "{}")):
            faults.append("its expression")
        if rule.get("labels", {}).get("severity") not in ("critical", "warning"):
            faults.append("its severity")
        if not re.fullmatch(r"\d+[smh]", str(rule.get("for", "0s"))):
            faults.append("its `for`")
        for key in ("summary", "description", "runbook"):
            if not str(rule.get("annotations", {}).get(key, "")).strip():
                faults.append(f"no {key}")
        if "sealbus " not in str(rule.get("annotations", {}).get("runbook", "")):
            faults.append("a runbook without a command")
        for fault in faults:
            fine = False
            print(f"deploy/alerts.yml: {name}: {fault}")
    if len({rule.get("alert") for rule in rules}) != len(rules):
        fine = False
        print("deploy/alerts.yml: two alerts have one name")
    print(f"{len(rules)} alert rules")
    return fine


if "--trim" in sys.argv:
    trimmed_path.write_text(trim())
fine = validate()
if trimmed_path.read_text() != trim():
    fine = False
    print(f"{trimmed_path.relative_to(root)} is not what is published: tests/ocsf/run.sh --trim")
fine = alerts() and fine
sys.exit(0 if fine else 1)

"""A second reader of Sealbus's format, written from envelope/SPEC.md alone, to check page and code.

Usage: reader.py VECTORS_DIRECTORY [FILE...]. Replays every vector and prints `N passed, N failed`.
Section numbers, here and in the modules beside it, are SPEC.md's. Kept plain: one function per structure, checks
in SPEC.md's order. This module replays the vectors, with the checks of section 14 and the statements of section 12.
"""

import json
import pathlib
import re
import struct
import sys

from crypto import public_key, verify, xchacha20poly1305_open
from encoding import TOKEN, Reader, Refused, base32, base64url, check, valid
from envelope import Admission, Envelope, read_plaintext
from keys import key_id, key_record, take_grant
from orders import ORDERS, Approval, Order, enough_approvals
from policy import Bundle, FlowGrant, Head, Rule
from rights import Faults, flow, may_publish, may_read
from who import Certificate, Credential, Member, Roots, Status, partition, version_and_bus, with_skew


class Context:
    def __init__(self, value):
        self.roots = Roots(value["roots"])
        bundle = Bundle(bytes.fromhex(value["policy"]), self.roots)
        self.tables = bundle.tables
        self.rules = {rule.name: rule for rule in bundle.rules}
        self.grants = {grant.name: grant for grant in bundle.grants}
        self.status = Status(bytes.fromhex(value["status"]), self.roots.bus, self.tables.status_key)
        self.me = self.member(value["me"])
        self.now, self.skew, self.prefix = value["now"], value["skew_ms"], value["prefix"]
        self.policies = [(p["version"], bytes.fromhex(p["digest"]), p["since"]) for p in value["policies"]]
        self.epochs = {e["partition"]: e["epoch"] for e in value["epochs"]}
        self.members = {m.session: m for m in map(self.member, value["members"])}
        guards = [Credential(text, self.roots) for text in value["guards"]]
        self.guards = {guard.identity: guard for guard in guards}
        self.keys, self.read = {}, {}
        for key in value["keys"]:
            secret = bytes.fromhex(key["secret"])
            scope = (self.roots.bus, bytes.fromhex(key["session"]), key["rule"], tuple(key["label"]), key["epoch"])
            self.keys[key_id(scope, secret)] = (secret, scope)
            self.read[key_id(scope, secret)] = set(key["read"])
        self.asked = {bytes.fromhex(digest) for digest in value["asked"]}

    def member(self, value):
        return Member(value["credential"], bytes.fromhex(value["certificate"]), self.roots)


def check_policy_version(context, admission):
    versions = context.policies
    check(versions, "no_policy")
    check(admission.policy_version <= versions[-1][0], "new_policy")
    at = [n for n, version in enumerate(versions) if version[0] == admission.policy_version]
    check(at, "old_policy")
    check(versions[at[0]][1] == admission.policy_digest, "bad_admission")
    if at[0] + 1 < len(versions):
        check(admission.time <= versions[at[0] + 1][2] + 30_000, "old_policy")


def delivery(given, value):
    context = Context(value)
    envelope = Envelope(bytes.fromhex(given["envelope"]))
    bus = context.roots.bus

    check(given["admission"] is not None, "not_admitted")
    admission = Admission(given["admission"])
    check(admission.guard in context.tables.guards, "wrong_role")
    guard = context.guards.get(admission.guard)
    check(guard, "bad_admission")
    check(guard.identity not in context.status.revoked, "revoked")
    check(guard.role == "guard", "wrong_role")
    admission.verify(bus, envelope.digest)
    check(admission.verdict == 1, "denied")
    guard.check_time(admission.time)
    check(admission.epoch >= context.epochs.get(admission.partition, 0), "old_epoch")
    check_policy_version(context, admission)

    check(envelope.bus == bus, "wrong_bus")
    sender = context.members.get(envelope.session)
    check(sender, "unknown_sender")
    check(envelope.sender == sender.token, "wrong_sender")
    check(sender.role == "agent", "wrong_role")
    check(admission.partition == partition(sender.token), "bad_admission")
    sender.check(context.status, admission.time)
    envelope.verify(sender)

    rule = context.rules.get(envelope.rule)
    check(rule, "unknown_rule")
    reply = envelope.request is not None
    check(rule.deadline or not reply, "wrong_pattern")
    faults = Faults(admission.observed and context.tables.observes(rule, sender.credential))
    may_publish(context.tables, rule, sender.credential, envelope.subject, envelope.label, reply, faults)
    flow(context.grants, sender.credential, envelope, admission.time, faults)
    may_read(context.tables, rule, context.me.credential, envelope.label, reply)
    used = context.grants.get(envelope.flow_grant)
    for hold in (rule.hold, used and used.approval):
        if hold:
            enough_approvals(hold, given.get("approvals"), context.status, bus, envelope.digest)
    if rule.deadline:
        box = f"{context.prefix}.box.{context.me.token}.{base32(context.me.session, 26)}"
        expected = f"{box}.{'reply' if reply else 'request'}"
    else:
        expected = f"{context.prefix}.out.{envelope.label[0]}.{envelope.subject}"
    check(given["subject"] == expected, "wrong_subject")
    check(not reply or envelope.request in context.asked, "no_request")

    read = context.read.get(envelope.key_id, set())
    check(envelope.sequence not in read, "replay")
    check(not read or max(read) - envelope.sequence < 1024, "replay")
    check(admission.time - context.now <= context.skew, "from_future")
    check(context.now - admission.time <= envelope.ttl + context.skew, "expired")
    check(envelope.key_id in context.keys, "unknown_key")
    secret, scope = context.keys[envelope.key_id]
    check(scope[:4] == (envelope.bus, envelope.session, envelope.rule, envelope.label), "key_mismatch")
    nonce = envelope.id + struct.pack(">Q", envelope.sequence)
    text = xchacha20poly1305_open(secret, nonce, envelope.ciphertext, envelope.header)
    content_type, trace, payload = read_plaintext(text)
    return {
        "digest": envelope.digest.hex(), "id": envelope.id.hex(), "sender": envelope.sender,
        "session": envelope.session.hex(), "rule": envelope.rule, "subject": envelope.subject,
        "label": list(envelope.label), "flow_grant": envelope.flow_grant, "key": envelope.key_id.hex(),
        "sequence": envelope.sequence, "issued_at": envelope.issued_at, "ttl_ms": envelope.ttl,
        "parents": [[digest.hex(), list(label)] for digest, label in envelope.parents],
        "request": envelope.request and envelope.request.hex(), "confirm": envelope.flags & 1 == 1,
        "admitted_at": admission.time, "policy_version": admission.policy_version,
        "partition": admission.partition, "epoch": admission.epoch, "position": admission.position,
        "observed": admission.observed, "content_type": content_type, "traceparent": trace,
        "payload": payload.hex(),
    }  # fmt: skip


def arrival(given, value):
    context = Context(value)
    session, head = context.me, context.prefix + ".in."
    check(given["subject"].startswith(head), "bad_subject")
    slot, dot, rest = given["subject"][len(head) :].partition(".")
    check(dot and re.fullmatch(r"0|[1-9][0-9]?", slot) and int(slot) < 64, "bad_subject")
    agent, dot, logical = rest.partition(".")
    check(dot, "bad_subject")
    check(TOKEN.fullmatch(agent), "bad_name")
    envelope = Envelope(bytes.fromhex(given["envelope"]))
    check(envelope.session == session.session and agent == session.token, "unknown_session")
    check(envelope.bus == context.roots.bus, "wrong_bus")
    check(envelope.sender == agent, "wrong_sender")
    check(envelope.subject == logical and int(slot) == partition(agent), "wrong_subject")
    window = context.tables.freshness
    check(envelope.issued_at - context.now <= window, "from_future")
    check(context.now - envelope.issued_at <= window, "stale")
    check(context.now - envelope.issued_at <= envelope.ttl, "expired")
    session.certificate.check_time(context.now)
    session.credential.check_time(context.now)
    key = next((key for key in value["open"] if key["key"] == envelope.key_id.hex()), None)
    if key:
        check(key["rule"] == envelope.rule and tuple(key["label"]) == envelope.label, "key_mismatch")
        check(envelope.sequence >= key["next"], "replay")
    check(session.role == "agent", "wrong_role")
    envelope.verify(session)
    rule = context.rules.get(envelope.rule)
    check(rule, "unknown_rule")
    reply = envelope.request is not None
    check(rule.deadline or not reply, "wrong_pattern")
    faults = Faults(context.tables.observes(rule, session.credential))
    may_publish(context.tables, rule, session.credential, envelope.subject, envelope.label, reply, faults)
    faults.check(envelope.size <= rule.max_bytes, "too_big_for_rule")
    used = flow(context.grants, session.credential, envelope, context.now, faults)
    check(key, "unknown_key")
    return {"digest": envelope.digest.hex(), "flow_grant": used and used.name, "observed": faults.first}


def grant(given, value):
    context = Context(value)
    keys = {bytes.fromhex(key["digest"]): bytes.fromhex(key["seed"]) for key in value["reader_keys"]}
    taken = take_grant(bytes.fromhex(given["grant"]), context.member(value["sender"]), keys, context)
    return {
        "key": taken.key_id.hex(), "session": taken.session.hex(), "rule": taken.rule,
        "label": list(taken.label), "epoch": taken.epoch,
    }  # fmt: skip


def reader(given, value):
    context = Context(value)
    rule = context.rules[value["rule"]]
    context.status.check_time(context.now)
    member = Member(given["credential"], bytes.fromhex(given["certificate"]), context.roots)
    check(member.role == "agent", "wrong_role")
    with_skew(context, lambda at: member.check(context.status, at))
    record = bytes.fromhex(given["reader_key"])
    owner, validity, public, digest = key_record(record, context.roots.bus, member.certificate.key, "reader key")
    check(owner == member.session, "wrong_session")
    with_skew(context, lambda at: valid(at, validity, "expired"))
    may_read(context.tables, rule, member.credential, tuple(value["label"]), value["for_reply"])
    return {
        "reader": member.token, "session": member.session.hex(), "digest": digest.hex(), "public": public.hex(),
    }  # fmt: skip


def credential(given, value):
    read = Credential(given["credential"], Roots(value["roots"]))
    read.check_time(value["now"])
    return {
        "token": read.token, "identity": read.identity.hex(), "name": read.name, "team": read.team,
        "role": read.role, "level": read.clearance[0], "compartments": read.clearance[1],
        "integrity": read.integrity, "zones": read.zones, "not_before": read.validity[0],
        "not_after": read.validity[1],
    }  # fmt: skip


def certificate(given, value):
    read = Certificate(bytes.fromhex(given["certificate"]), Roots(value["roots"]).bus)
    read.check_time(value["now"])
    return {
        "session": read.session.hex(), "token": base32(read.session, 26), "identity": read.identity.hex(),
        "session_key": read.key.hex(), "not_before": read.validity[0], "not_after": read.validity[1],
    }  # fmt: skip


def box_key(given, value):
    identity = bytes.fromhex(value["identity"])
    record = bytes.fromhex(given["box_key"])
    owner, validity, public, digest = key_record(record, Roots(value["roots"]).bus, identity, "box key")
    check(owner == identity, "wrong_sender")
    return {
        "digest": digest.hex(), "public": public.hex(), "not_before": validity[0], "not_after": validity[1],
    }  # fmt: skip


def status(given, value):
    read = Status(bytes.fromhex(given["status"]), Roots(value["roots"]).bus, bytes.fromhex(value["status_key"]))
    read.check_time(value["now"])
    return {
        "version": read.version, "policy_version": read.policy_version, "issued": read.issued,
        "valid_until": read.valid_until, "revoked": [[key.hex(), at] for key, at in read.revoked.items()],
    }  # fmt: skip


def show_hold(hold):
    return hold and {
        "approvals": hold.approvals, "deadline_ms": hold.deadline,
        "lists": [
            {"name": name, "after_ms": after, "people": [[who, key.hex()] for who, key in people]}
            for name, after, people in hold.lists
        ],
    }  # fmt: skip


def show_supervision(supervision):
    return supervision and {
        "quorums": [[ORDERS[kind][0], keys] for kind, keys in supervision.quorums],
        "watch": supervision.watch, "quarantine": supervision.quarantine, "half_life_ms": supervision.half_life,
        "warm_up_ms": supervision.warm_up_ms, "warm_up_messages": supervision.warm_up_messages,
        "divert": supervision.divert, "weights": [list(weight) for weight in supervision.weights],
    }  # fmt: skip


def show_policy(head, tables, rules, grants, supervision=None):
    return {
        "version": head.version,
        "digest": head.root.hex(),
        "observe": tables.observe,
        "teams": [
            {
                "name": team.name, "clearance": list(team.clearance), "integrity": team.integrity,
                "zone": team.zone, "taint": team.taint, "observe": team.observe, "oversight": team.oversight,
            }
            for team in tables.teams.values()
        ],
        "zones": [
            {
                "name": zone.name, "ceiling": list(zone.ceiling), "servers": zone.servers, "cluster": zone.cluster,
                "tags": zone.tags, "tls": zone.tls, "ca": zone.ca and zone.ca.hex(),
            }
            for zone in tables.zones.values()
        ],
        "rules": [
            {
                "name": rule.name, "fan_in": rule.fan_in, "observe": rule.observe, "hold": show_hold(rule.hold),
                "oversight": rule.oversight,
            }
            for rule in rules
        ],
        "grants": [
            {
                "name": grant.name, "team": grant.team, "from": grant.source, "to": grant.to,
                "from_label": list(grant.from_label), "to_label": list(grant.to_label),
                "max_bytes": grant.max_bytes, "rate": grant.rate and list(grant.rate), "expires": grant.expires,
                "approval": show_hold(grant.approval),
            }
            for grant in grants
        ],
        "supervision": show_supervision(supervision),
    }  # fmt: skip


def bundle(given, value):
    read = Bundle(bytes.fromhex(given["bundle"]), Roots(value["roots"]))
    return show_policy(read.head, read.tables, read.rules, read.grants, read.supervision)


def excerpt(given, value):
    head = Head(bytes.fromhex(given["head"]), Roots(value["roots"]))

    def path(hashes):
        return [bytes.fromhex(text) for text in hashes]

    def proven(record):
        check(record["index"] >= 1, "policy_invalid")
        data = bytes.fromhex(record["record"])
        head.leaf(data, record["index"], path(record["path"]))
        return data

    data = bytes.fromhex(given["tables"])
    head.leaf(data, 0, path(given["tables_path"]))
    tables = head.tables(data)
    rules = [Rule(proven(rule)) for rule in given["rules"]]
    return show_policy(head, tables, rules, [FlowGrant(proven(grant)) for grant in given["grants"]])


def statement(given, value):
    bus = Roots(value["roots"]).bus
    session = Certificate(bytes.fromhex(value["certificate"]), bus)
    r = Reader(bytes.fromhex(given["statement"]))
    r.array(2)
    body, signature = r.bin(limit=1 << 20), r.bin(64)
    r.end()
    verify(session.key, "hello", body, signature)
    r = Reader(body)
    r.array(6)
    version_and_bus(r, bus)
    said, epoch, challenge, keys = r.bin(32), r.uint(), r.bin(16), []
    for _ in range(r.array(limit=4096)):
        r.array(6)
        key = {
            "key": r.bin(32).hex(), "rule": r.name(), "label": list(r.label()), "epoch": r.uint(32),
            "next": r.uint(), "asker": r.option(lambda r: r.bin(32).hex()),
        }  # fmt: skip
        check(not keys or keys[-1]["key"] < key["key"], "bad_encoding")
        keys.append(key)
    r.end()
    check(said == session.session, "wrong_session")
    check((epoch, challenge.hex()) == (value["epoch"], value["challenge"]), "old_epoch")
    return {"session": said.hex(), "keys": keys}


def order(given, value):
    read = Order(bytes.fromhex(given["order"]), Roots(value["roots"]))
    read.check_time(value["now"])
    return {
        "id": read.id.hex(), "kind": read.kind, "target": read.target, "reason": read.reason, "issued": read.issued,
        "valid_until": read.valid_until, "signers": [key.hex() for key in read.signers], "digest": read.digest.hex(),
    }  # fmt: skip


def approval(given, value):
    read = Approval(bytes.fromhex(given["approval"]), Roots(value["roots"]).bus)
    return {
        "envelope": read.envelope.hex(), "approve": read.approve, "time": read.time, "key": read.key.hex(),
    }  # fmt: skip


def heartbeat(given, value):
    r = Reader(bytes.fromhex(given["heartbeat"]))
    r.array(3)
    body, key = r.bin(limit=256), public_key(r.bin(32))
    check(key.hex() in value["guards"], "wrong_role")
    signature = r.bin(64)
    r.end()
    verify(key, "heartbeat", body, signature)
    r = Reader(body)
    r.array(7)
    version_and_bus(r, Roots(value["roots"]).bus)
    read = {"guard": key.hex(), "epoch": r.uint(), "challenge": r.bin(16).hex()}
    read |= {name: r.uint() for name in ("policy_version", "status_version", "time")}
    r.end()
    return read


def auth_token(given, value):
    roots, text = Roots(value["roots"]), given["auth_token"]
    check(len(text) <= 3584, "too_large")
    data = base64url(text, "malformed")
    # A control message (section 13): what does not fit is malformed; what fits in another form is told apart.
    credential, certificate, end, strict = control_auth_token(data)
    check(end == len(data), "trailing_bytes")
    check(strict, "bad_encoding")
    member = Member(credential, certificate, roots)
    return {"agent": member.token, "session": member.session.hex()}


def control_auth_token(data):
    """Reads [str, bin] in any of MessagePack's forms; says whether it was in section 1's."""
    forms = {
        "array": {**{0x90 + n: (0, n) for n in range(16)}, 0xDC: (2, 0), 0xDD: (4, 0)},
        "str": {**{0xA0 + n: (0, n) for n in range(32)}, 0xD9: (1, 0), 0xDA: (2, 0), 0xDB: (4, 0)},
        "bin": {0xC4: (1, 0), 0xC5: (2, 0), 0xC6: (4, 0)},
    }
    at = 0

    def head(kind):
        nonlocal at
        check(at < len(data) and data[at] in forms[kind], "malformed")
        size, n = forms[kind][data[at]]
        check(at + 1 + size <= len(data), "malformed")
        n += int.from_bytes(data[at + 1 : at + 1 + size], "big")
        at += 1 + size
        return n

    def body(n):
        nonlocal at
        check(at + n <= len(data), "malformed")
        at += n
        return data[at - n : at]

    check(head("array") == 2, "malformed")
    try:
        credential = body(head("str")).decode()
    except UnicodeDecodeError:
        raise Refused("malformed") from None
    certificate = body(head("bin"))
    try:
        r = Reader(data[:at])
        r.array(2)
        r.str(1 << 20)
        r.bin()
        strict = True
    except Refused:
        strict = False
    return credential, certificate, at, strict


KINDS = {
    f.__name__: f
    for f in (
        delivery, arrival, grant, reader, credential, certificate, box_key, status, bundle, excerpt, statement,
        heartbeat, auth_token, order, approval,
    )
}  # fmt: skip


def main(directory, *files):
    passed, failed = 0, 0
    paths = [pathlib.Path(file) for file in files] or sorted(pathlib.Path(directory).glob("*/*.json"))
    for path in paths:
        vector = json.loads(path.read_text())
        try:
            outcome = {"ok": KINDS[vector["kind"]](vector["input"], vector["context"])}
        except Refused as refused:
            outcome = {"refused": str(refused)}
        if outcome == vector["expect"]:
            passed += 1
        else:
            failed += 1
            print(f"{path}: {outcome}, not {vector['expect']} ({vector['purpose']})")
    print(f"{passed} passed, {failed} failed")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""A second reader of Sealbus's format, written from envelope/SPEC.md alone, to check page and code.

Usage: reader.py VECTORS_DIRECTORY [FILE...]. Replays every vector and prints `N passed, N failed`.
Section numbers are SPEC.md's. Kept plain: one function per structure, checks in SPEC.md's order.
"""

import base64
import hashlib
import hmac
import json
import pathlib
import re
import struct
import sys
import unicodedata

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric import ed25519, mlkem, x25519
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305


class Refused(Exception):
    """A refusal with its reason code."""


def check(condition, code):
    if not condition:
        raise Refused(code)


# --- 1. Encoding ---


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def left(self):
        return len(self.data) - self.at

    def take(self, n):
        check(n <= self.left(), "truncated")
        self.at += n
        return self.data[self.at - n : self.at]

    def number(self, n):
        return int.from_bytes(self.take(n), "big")

    def end(self):
        check(self.left() == 0, "trailing_bytes")

    def length(self, forms, short=None):
        """A length behind its first byte; `forms` maps that byte to (bytes of length, least length)."""
        first = self.number(1)
        if short and short[0] <= first <= short[1]:
            return first - short[0]
        check(first in forms, "bad_encoding")
        size, least = forms[first]
        value = self.number(size)
        check(value >= least, "bad_encoding")
        return value

    def array(self, arity=None, limit=None, over="too_large"):
        n = self.length({0xDC: (2, 16)}, (0x90, 0x9F))
        check(limit is None or n <= limit, over)
        check(n <= self.left(), "truncated")
        check(arity is None or n == arity, "wrong_arity")
        return n

    def uint(self, bits=64):
        forms = {0xCC: (1, 1 << 7), 0xCD: (2, 1 << 8), 0xCE: (4, 1 << 16), 0xCF: (8, 1 << 32)}
        value = self.length(forms, (0x00, 0x7F))
        check(value < 1 << bits, "too_large")
        return value

    def bool(self):
        first = self.number(1)
        check(first in (0xC2, 0xC3), "bad_encoding")
        return first == 0xC3

    def bin(self, exact=None, limit=None):
        n = self.length({0xC4: (1, 0), 0xC5: (2, 1 << 8), 0xC6: (4, 1 << 16)})
        check(limit is None or n <= limit, "too_large")
        data = self.take(n)
        check(exact is None or n == exact, "bad_length")
        return data

    def str(self, limit, over="too_large"):
        n = self.length({0xD9: (1, 32), 0xDA: (2, 1 << 8)}, (0xA0, 0xBF))
        check(n <= limit, over)
        try:
            return self.take(n).decode("utf-8")
        except UnicodeDecodeError:
            raise Refused("bad_encoding") from None

    def option(self, read):
        if self.left() and self.data[self.at] == 0xC0:
            self.at += 1
            return None
        return read(self)

    # 4. Names, subjects, labels
    def name(self):
        return name(self.str(48))

    def token(self):
        text = self.str(59)
        check(TOKEN.fullmatch(text), "bad_name")
        return text

    def subject(self):
        return subject(self.str(200, "bad_subject"))

    def label(self):
        self.array(3)
        level = self.uint()
        check(level < 16, "bad_label")
        compartments = self.uint()
        integrity = self.uint()
        check(integrity < 8, "bad_label")
        return (level, compartments, integrity)


def write_uint(n):
    if n < 1 << 7:
        return bytes([n])
    for first, size in ((0xCC, 1), (0xCD, 2), (0xCE, 4), (0xCF, 8)):
        if n < 1 << 8 * size:
            return bytes([first]) + n.to_bytes(size, "big")
    raise ValueError(n)


def write_bin(data):
    n = len(data)
    if n < 1 << 8:
        return bytes([0xC4, n]) + data
    if n < 1 << 16:
        return b"\xc5" + struct.pack(">H", n) + data
    return b"\xc6" + struct.pack(">I", n) + data


def write_str(text):
    data = text.encode()
    assert len(data) < 256
    return (bytes([0xA0 + len(data)]) if len(data) < 32 else bytes([0xD9, len(data)])) + data


def write_array(*elements):
    assert len(elements) < 16
    return bytes([0x90 + len(elements)]) + b"".join(elements)


def write_label(label):
    return write_array(*map(write_uint, label))


def base64url(text, code):
    check(re.fullmatch(r"[A-Za-z0-9_-]*", text) and len(text) % 4 != 1, code)
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    check(base64.urlsafe_b64encode(data).rstrip(b"=").decode() == text, code)
    return data


def base32(data, n):
    return base64.b32encode(data).decode().lower()[:n]


# --- 2. Hashes ---


def H(context, *parts):
    text = f"sealbus/v1/{context}\0".encode()
    for part in parts:
        text += struct.pack(">I", len(part)) + part
    return hashlib.sha256(text).digest()


# --- 3. Keys and signatures ---

P = 2**255 - 19
D = -121665 * pow(121666, P - 2, P) % P


def decompress(data):
    """The point (x, y) that these bytes canonically encode, or None."""
    n = int.from_bytes(data, "little")
    y, sign = n & ((1 << 255) - 1), n >> 255
    if y >= P:
        return None
    xx = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(xx, (P + 3) // 8, P)
    if x * x % P != xx:
        x = x * pow(2, (P - 1) // 4, P) % P
    if x * x % P != xx or (x == 0 and sign):
        return None
    return (P - x if x & 1 != sign else x), y


def small_order(point):
    for _ in range(3):
        (x, y) = point
        k = D * x * x * y * y
        x, y = 2 * x * y * pow(1 + k, P - 2, P) % P, (y * y + x * x) * pow(1 - k, P - 2, P) % P
        point = (x, y)
    return point == (0, 1)


GOOD_KEYS = {}


def public_key(data):
    if data not in GOOD_KEYS:
        point = decompress(data)
        GOOD_KEYS[data] = point is not None and not small_order(point)
    check(GOOD_KEYS[data], "weak_key")
    return data


def verify_raw(key, text, signature, code="bad_signature"):
    point = decompress(signature[:32])
    check(point is not None and not small_order(point), code)
    try:
        # OpenSSL checks S < L and compares the bytes of R, so without the cofactor.
        ed25519.Ed25519PublicKey.from_public_bytes(key).verify(signature, text)
    except InvalidSignature:
        raise Refused(code) from None


PURPOSES = {
    "session certificate": 1, "session possession": 2, "batch": 3, "grant": 4, "reader key": 5, "box key": 6,
    "admission": 7, "status": 8, "bundle": 9, "hello": 10, "heartbeat": 11, "order": 12, "approval": 13,
}  # fmt: skip


def verify(key, purpose, text, signature, code="bad_signature"):
    verify_raw(key, bytes([0xFF, PURPOSES[purpose]]) + text, signature, code)


def crc16(data):
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc


def nkey(text, prefix, code="bad_name"):
    try:
        raw = base64.b32decode(text + "=" * (-len(text) % 8))
    except ValueError:
        raise Refused(code) from None
    check(len(text) == 56 and base64.b32encode(raw).decode().rstrip("=") == text, code)
    check(raw[0] == prefix and crc16(raw[:33]) == int.from_bytes(raw[33:], "little"), code)
    return public_key(raw[1:33])


# --- 4. Names, subjects, times ---

TOKEN = re.compile(r"[a-z][a-z0-9-]{0,47}-[a-z2-7]{10}")


def name(text):
    check(re.fullmatch(r"[a-z][a-z0-9-]{0,47}", text), "bad_name")
    return text


def subject(text, wildcards=False):
    tokens = text.split(".")
    check(1 <= len(text.encode()) <= 200 and len(tokens) <= 16, "bad_subject")
    for n, token in enumerate(tokens):
        if wildcards and (token == "*" or token == ">" and n == len(tokens) - 1):
            continue
        check(re.fullmatch(r"[\x21-\x7e]+", token) and not set(token) & set("*>$"), "bad_subject")
    return text


def matches(pattern, text):
    pattern, text = pattern.split("."), text.split(".")
    for n, want in enumerate(pattern):
        if n >= len(text):
            return False
        if want == ">":
            return True
        if want not in ("*", text[n]):
            return False
    return len(pattern) == len(text)


def dominates(a, b):
    return a[0] >= b[0] and a[1] & b[1] == b[1] and a[2] <= b[2]


def covers(clearance, label):
    return clearance[0] >= label[0] and clearance[1] & label[1] == label[1]


def agent_token(name, identity):
    return f"{name}-{base32(H('agent', identity), 10)}"


def partition(token):
    return H("partition", token.encode())[0] % 64


def valid(at, validity, late):
    check(at >= validity[0], "not_yet_valid")
    check(at < validity[1], late)


# --- 5. Who ---


class Roots:
    def __init__(self, value):
        self.name = value["bus_name"]
        self.issuer = nkey(value["issuer"], 0x00)
        self.issuer_text = value["issuer"]
        self.policy_keys = [nkey(key, 0xA0) for key in value["policy_keys"]]
        self.quorum = value["quorum"]
        self.bus = H("bus", self.issuer, self.name.encode())


def json_object(data, known):
    """A JSON object; a member of `known` that stands twice is refused, at any depth."""

    def pairs(members):
        names = [name for name, _ in members]
        if any(names.count(name) > 1 for name in known):
            raise ValueError("a member stands twice")
        return dict(members)

    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=pairs)
    except ValueError:
        raise Refused("credential_invalid") from None
    check(isinstance(value, dict), "credential_invalid")
    return value


def is_number(value, below=2**64):
    return type(value) is int and 0 <= value < below


class Credential:
    def __init__(self, text, roots):
        bad = "credential_invalid"
        check(len(text) <= 2048, "too_large")
        signed, dot, signature = text.rpartition(".")
        check(dot, bad)
        header, dot, body = signed.partition(".")
        check(dot, bad)
        head = json_object(base64url(header, bad), ["alg", "typ"])
        check(head.get("alg") == "ed25519-nkey", bad)
        check(isinstance(head.get("typ"), str) and head["typ"].upper() == "JWT", bad)
        signature = base64url(signature, bad)
        check(len(signature) == 64, bad)
        verify_raw(roots.issuer, signed.encode(), signature)

        ours = ["bus", "team", "role", "level", "compartments", "integrity", "zones"]
        claims = json_object(base64url(body, bad), ["iss", "sub", "name", "nbf", "exp", "sealbus", *ours])
        sealbus = claims.get("sealbus")
        check(isinstance(sealbus, dict) and sorted(sealbus) == sorted(ours), bad)
        for member in ("iss", "sub", "name"):
            check(isinstance(claims.get(member), str), bad)
        for member in ("bus", "team", "role"):
            check(isinstance(sealbus[member], str), bad)
        check(is_number(claims.get("nbf")) and is_number(claims.get("exp")), bad)
        check(is_number(sealbus["level"], 16) and is_number(sealbus["integrity"], 8), bad)
        check(sealbus["role"] in ("agent", "guard", "observer"), bad)
        zones, compartments = sealbus["zones"], sealbus["compartments"]
        check(isinstance(zones, list) and isinstance(compartments, list), bad)
        check(all(isinstance(zone, str) for zone in zones), bad)
        for text_ in [claims["name"], sealbus["team"], *zones]:
            try:
                name(text_)
            except Refused:
                raise Refused(bad) from None
        check(claims["iss"] == roots.issuer_text and len(zones) <= 8, bad)
        check(sealbus["bus"] == roots.bus.hex(), "wrong_bus")
        check(all(is_number(n, 64) for n in compartments), bad)
        check(claims["nbf"] < claims["exp"], bad)
        try:
            self.identity = nkey(claims["sub"], 0xA0)
        except Refused:
            raise Refused(bad) from None
        self.bus = roots.bus
        self.name, self.team, self.role = claims["name"], sealbus["team"], sealbus["role"]
        self.clearance = (sealbus["level"], sum({1 << n for n in compartments}))
        self.integrity, self.zones = sealbus["integrity"], zones
        self.validity = (min(claims["nbf"] * 1000, 2**64 - 1), min(claims["exp"] * 1000, 2**64 - 1))
        self.token = agent_token(self.name, self.identity)

    def check_time(self, at):
        valid(at, self.validity, "credential_expired")


class Certificate:
    def __init__(self, data, bus):
        check(len(data) <= 512, "too_large")
        r = Reader(data)
        r.array(3)
        body, possession, signature = r.bin(limit=512), r.bin(64), r.bin(64)
        r.end()
        r = Reader(body)
        r.array(6)
        version_and_bus(r, bus)
        self.identity = public_key(r.bin(32))
        self.key = public_key(r.bin(32))
        self.validity = (r.uint(), r.uint())
        r.end()
        check(0 < self.validity[1] - self.validity[0] <= 7 * 86_400_000, "bad_time")
        check(self.identity != self.key, "certificate_invalid")
        verify(self.key, "session possession", body, possession)
        verify(self.identity, "session certificate", body, signature)
        self.bus, self.session = bus, H("session", data)

    def check_time(self, at):
        valid(at, self.validity, "certificate_expired")


def version_and_bus(r, bus):
    check(r.uint() == 1, "unsupported_version")
    check(r.bin(32) == bus, "wrong_bus")


class Member:
    def __init__(self, credential, certificate, roots):
        self.credential = Credential(credential, roots)
        self.certificate = Certificate(certificate, roots.bus)
        check(self.credential.identity == self.certificate.identity, "wrong_sender")
        self.session, self.token, self.role = self.certificate.session, self.credential.token, self.credential.role

    def check(self, status, at):
        check(self.credential.identity not in status.revoked, "revoked")
        self.credential.check_time(at)
        self.certificate.check_time(at)


def with_skew(context, test):
    try:
        test(context.now)
    except Refused as refused:
        if str(refused) != "not_yet_valid":
            raise
        test(context.now + context.skew)


# --- 6. Status ---


class Status:
    def __init__(self, data, bus, key):
        check(len(data) <= 1 << 20, "too_large")
        r = Reader(data)
        r.array(2)
        body, signature = r.bin(limit=1 << 20), r.bin(64)
        r.end()
        verify(key, "status", body, signature)
        r = Reader(body)
        r.array(7)
        version_and_bus(r, bus)
        self.version, self.policy_version, self.issued, self.valid_until = (r.uint() for _ in range(4))
        self.revoked = {}
        last = b""
        for _ in range(r.array(limit=10_000)):
            r.array(2)
            identity, at = public_key(r.bin(32)), r.uint()
            check(last < identity, "status_invalid")
            self.revoked[identity] = at
            last = identity
        r.end()
        check(self.issued < self.valid_until, "bad_time")

    def check_time(self, now):
        check(now < self.valid_until, "status_expired")


# --- 7. Policy ---


def record(data, arity):
    check(len(data) <= 256 * 1024, "too_large")
    r = Reader(data)
    r.array(arity)
    check(r.uint() == 1, "unsupported_version")
    return r


def read_rate(r):
    r.array(2)
    return r.uint(32), r.uint(32)


def read_clearance(r):
    level = r.uint()
    check(level < 16, "bad_label")
    return level, r.uint()


def read_one_of(r, *names):
    n = r.uint()
    check(n < len(names), "bad_encoding")
    return names[n]


def read_parties(r):
    parties = []
    for _ in range(r.array(limit=256)):
        r.array(3)
        kind, who = r.uint(), r.name()
        check(kind in (0, 1), "bad_encoding")
        parties.append((kind, who, r.option(Reader.name)))
    return parties


def read_oversight(r):
    return read_one_of(r, None, "directed", "open-ended")


class Hold:
    def __init__(self, r):
        r.array(3)
        self.approvals, self.deadline = r.uint(), r.uint(32)
        self.lists = [self.read_list(r) for _ in range(r.array(limit=8))]
        people = [person for *_, people in self.lists for person in people]
        counted = min(len({name for name, _ in people}), len({key for _, key in people}))
        check(1 <= self.approvals <= 16, "policy_invalid")
        check(1 <= self.deadline <= 86_400_000, "policy_invalid")
        check(counted >= self.approvals, "policy_invalid")
        self.names = {}
        for who, key in people:
            self.names.setdefault(key, who)

    @staticmethod
    def read_list(r):
        r.array(3)
        return r.name(), r.uint(32), [Hold.read_person(r) for _ in range(r.array(limit=32))]

    @staticmethod
    def read_person(r):
        r.array(2)
        return r.name(), public_key(r.bin(32))


class Rule:
    def __init__(self, data):
        r = record(data, 15)
        self.name = r.name()
        self.pattern = subject(r.str(200), wildcards=True)
        self.deadline = r.uint(32)
        self.publishers, self.subscribers = read_parties(r), read_parties(r)
        self.low, self.high, self.default = r.label(), r.label(), r.label()
        self.max_bytes = r.uint(32)
        self.rate = r.option(read_rate)
        self.fan_in = r.option(lambda r: r.uint(32))
        self.observe = r.bool()
        self.hold = r.option(Hold)
        self.oversight = read_oversight(r)
        r.end()

    def names(self, parties, who):
        return any(name == (who.team, who.name)[kind] for kind, name, _ in parties)


class FlowGrant:
    def __init__(self, data):
        r = record(data, 11)
        self.name, self.team = r.name(), r.name()
        self.source = subject(r.str(200), wildcards=True)
        self.to = subject(r.str(200), wildcards=True)
        self.from_label, self.to_label = r.label(), r.label()
        self.max_bytes = r.option(lambda r: r.uint(32))
        self.rate = r.option(read_rate)
        self.expires = r.uint()
        self.approval = r.option(Hold)
        r.end()


class Team:
    def __init__(self, r):
        r.array(8)
        self.name, self.clearance, self.integrity = r.name(), read_clearance(r), r.uint()
        check(self.integrity < 8, "bad_label")
        self.zone = r.option(Reader.name)
        self.taint = read_one_of(r, "agent", "session")
        self.observe = r.bool()
        self.oversight = read_oversight(r)


class Zone:
    def __init__(self, r):
        r.array(8)
        self.name, self.ceiling = r.name(), read_clearance(r)
        self.servers = [r.str(128) for _ in range(r.array(limit=64))]
        self.cluster = r.option(lambda r: r.str(128))
        self.tags = [r.str(128) for _ in range(r.array(limit=64))]
        self.tls = read_one_of(r, "any", "encrypted", "verified")
        self.ca = r.option(lambda r: r.bin(32))


class Tables:
    def __init__(self, data):
        r = record(data, 12)
        self.bus = r.bin(32)
        self.levels = [r.name() for _ in range(r.array(limit=16))]
        self.compartments = [r.name() for _ in range(r.array(limit=64))]
        self.integrity = [r.name() for _ in range(r.array(limit=8))]
        self.teams = self.ascending(r, Team, 1024)
        self.zones = self.ascending(r, Zone, 256)
        self.status_key = public_key(r.bin(32))
        self.guards = [public_key(r.bin(32)) for _ in range(r.array(limit=64))]
        self.freshness, self.max_readers, self.observe = r.uint(32), r.uint(32), r.bool()
        r.end()

    @staticmethod
    def ascending(r, read, most):
        all, last = {}, ""
        for _ in range(r.array(limit=most)):
            one = read(r)
            check(last < one.name, "policy_invalid")
            all[one.name], last = one, one.name
        return all

    def observes(self, rule, who):
        return self.observe or rule.observe or who.team in self.teams and self.teams[who.team].observe

    def declares(self, label):
        return (
            label[0] < len(self.levels)
            and label[1] >> len(self.compartments) == 0
            and label[2] < len(self.integrity)
        )

    def clearance(self, who):
        if who.team not in self.teams:
            return None
        team = self.teams[who.team].clearance
        return min(team[0], who.clearance[0]), team[1] & who.clearance[1]


class Supervision:
    def __init__(self, data):
        r = record(data, 3)
        self.quorums = []
        for _ in range(r.array(limit=64)):
            r.array(2)
            kind, keys = r.uint(), r.uint()
            check(kind in ORDERS, "order_unknown")
            check(keys <= 255, "policy_invalid")
            check(not self.quorums or self.quorums[-1][0] < kind, "policy_invalid")
            self.quorums.append((kind, keys))
        r.array(7)
        self.watch, self.quarantine, self.half_life = r.uint(32), r.uint(32), r.uint(32)
        self.warm_up_ms, self.warm_up_messages, self.divert = r.uint(32), r.uint(32), r.bool()
        self.weights = []
        for _ in range(r.array(limit=64)):
            r.array(2)
            signal, weight = r.name(), r.uint(32)
            check(not self.weights or self.weights[-1][0] < signal, "policy_invalid")
            self.weights.append((signal, weight))
        check(0 < self.watch <= self.quarantine and self.half_life > 0, "policy_invalid")
        r.end()


class Head:
    def __init__(self, data, roots):
        r = Reader(data)
        r.array(2)
        body = r.bin(limit=256)
        signers = set()
        for _ in range(r.array(limit=16)):
            r.array(2)
            key, signature = r.bin(32), r.bin(64)
            check(key in roots.policy_keys, "policy_invalid")
            verify(key, "bundle", body, signature, "policy_invalid")
            check(key not in signers, "policy_invalid")
            signers.add(key)
        r.end()
        check(len(signers) >= roots.quorum > 0, "policy_invalid")
        r = Reader(body)
        r.array(6)
        check(r.uint() == 1, "unsupported_version")
        bus, self.version, self.root, self.leaves, self.issued = r.bin(32), r.uint(), r.bin(32), r.uint(32), r.uint()
        r.end()
        check(bus == roots.bus, "wrong_bus")
        self.bus = bus

    def leaf(self, data, index, path):
        root = root_from_path(data, index, self.leaves, path)
        check(root == self.root, "policy_invalid")

    def tables(self, data):
        tables = Tables(data)
        check(tables.bus == self.bus, "wrong_bus")
        return tables


class Bundle:
    def __init__(self, data, roots):
        check(len(data) <= 64 << 20, "too_large")
        r = Reader(data)
        r.array(5)
        self.head = Head(r.bin(limit=4096), roots)
        tables = r.bin(limit=64 << 20)
        rules, grants = ([r.bin(limit=64 << 20) for _ in range(r.array(limit=most))] for most in (20_000, 1_024))
        supervision = r.option(Reader.bin)
        r.end()
        leaves = [tables, *rules, *grants] + ([] if supervision is None else [supervision])
        check(self.head.leaves == len(leaves), "policy_invalid")
        check(tree(leaves) == self.head.root, "policy_invalid")
        self.tables = self.head.tables(tables)
        self.rules = [Rule(leaf) for leaf in rules]
        self.grants = [FlowGrant(leaf) for leaf in grants]
        for records in (self.rules, self.grants):
            check(len({record.name for record in records}) == len(records), "policy_invalid")
        self.supervision = None if supervision is None else Supervision(supervision)


class Faults:
    """Observe mode: faults that may be observed are kept and let pass; others refuse."""

    OBSERVABLE = {
        "not_publisher", "label_out_of_range", "above_integrity", "flow_grant_unknown", "flow_grant_mismatch",
        "flow_grant_expired", "below_parents", "below_floor", "too_big_for_rule", "rate_limited", "fan_in_exceeded",
    }  # fmt: skip

    def __init__(self, observing):
        self.observing, self.first = observing, None

    def check(self, condition, code):
        check(condition or self.observing and code in self.OBSERVABLE, code)
        if not condition and self.first is None:
            self.first = code
        return condition


def may_publish(tables, rule, who, text, label, reply, faults):
    if reply:
        check(rule.names(rule.subscribers, who), "not_subscriber")
    else:
        faults.check(rule.names(rule.publishers, who), "not_publisher")
    check(who.team in tables.teams, "unknown_team")
    check(matches(rule.pattern, text), "subject_outside_rule")
    check(tables.declares(label), "label_unknown")
    faults.check(in_range(rule, label), "label_out_of_range")
    check(covers(tables.clearance(who), label), "above_clearance")
    faults.check(label[2] <= min(tables.teams[who.team].integrity, who.integrity), "above_integrity")


def flow(grants, who, envelope, time, faults):
    """The flow grant that may be used, if there is one."""
    usable = None
    if envelope.flow_grant is not None:
        grant = grants.get(envelope.flow_grant)
        if faults.check(grant is not None, "flow_grant_unknown"):
            fits = (
                grant.team == who.team
                and matches(grant.to, envelope.subject)
                and dominates(envelope.label, grant.to_label)
                and (grant.max_bytes is None or envelope.size <= grant.max_bytes)
            )
            if faults.check(fits, "flow_grant_mismatch") and faults.check(time < grant.expires, "flow_grant_expired"):
                usable = grant
    kept = all(
        dominates(envelope.label, parent) or usable and dominates(usable.from_label, parent)
        for _, parent in envelope.parents
    )
    faults.check(kept, "below_parents")
    return usable


def in_range(rule, label):
    return dominates(rule.high, label) and dominates(label, rule.low)


def may_read(tables, rule, who, label, asked):
    if asked:
        check(rule.names(rule.publishers, who), "not_publisher")
    else:
        check(rule.names(rule.subscribers, who), "not_subscriber")
    clearance = tables.clearance(who)
    check(clearance is not None and covers(clearance, label), "above_clearance")


# --- 8. Keys ---


def small_order_x25519(point):
    try:
        secret = x25519.X25519PrivateKey.from_private_bytes(b"\1" * 32)
        secret.exchange(x25519.X25519PublicKey.from_public_bytes(point))
        return False
    except ValueError:
        return True


def sealing_public(data):
    check(len(data) == 1216, "bad_length")
    check(not small_order_x25519(data[-32:]), "weak_key")
    for n in range(0, 1152, 3):
        a, b, c = data[n : n + 3]
        check(a | (b & 15) << 8 < 3329 and b >> 4 | c << 4 < 3329, "weak_key")
    return data


def key_record(data, bus, signer, purpose):
    check(len(data) <= 1536, "too_large")
    r = Reader(data)
    r.array(2)
    body, signature = r.bin(limit=1536), r.bin(64)
    r.end()
    verify(signer, purpose, body, signature)
    r = Reader(body)
    r.array(6)
    version_and_bus(r, bus)
    owner, validity = r.bin(32), (r.uint(), r.uint())
    public = sealing_public(r.bin(limit=1216))
    r.end()
    check(validity[0] < validity[1], "bad_time")
    return owner, validity, public, H("reader-key", data)


def scope_bytes(bus, session, rule, label, epoch):
    return write_array(write_bin(bus), write_bin(session), write_str(rule), write_label(label), write_uint(epoch))


def key_id(scope, secret):
    return H("sender-key", scope_bytes(*scope), secret)


def hkdf_extract(salt, ikm):
    return hmac.digest(salt or bytes(32), ikm, "sha256")


def hkdf_expand(prk, info, n):
    out, block = b"", b""
    while len(out) < n:
        block = hmac.digest(prk, block + info + bytes([len(out) // 32 + 1]), "sha256")
        out += block
    return out[:n]


def hpke_open(seed, enc, info, sealed):
    """RFC 9180 base mode: X-Wing, HKDF-SHA256, ChaCha20Poly1305. None if it does not open."""
    expanded = hashlib.shake_256(seed).digest(96)
    ss_m = mlkem.MLKEM768PrivateKey.from_seed_bytes(expanded[:64]).decapsulate(enc[:1088])
    secret, ct_x = x25519.X25519PrivateKey.from_private_bytes(expanded[64:]), enc[1088:]
    ss_x = secret.exchange(x25519.X25519PublicKey.from_public_bytes(ct_x))
    pk_x = secret.public_key().public_bytes_raw()
    shared = hashlib.sha3_256(ss_m + ss_x + ct_x + pk_x + bytes.fromhex("5c2e2f2f5e5c")).digest()

    suite = b"HPKE" + struct.pack(">HHH", 0x647A, 0x0001, 0x0003)

    def extract(salt, label, ikm):
        return hkdf_extract(salt, b"HPKE-v1" + suite + label + ikm)

    def expand(prk, label, info, n):
        return hkdf_expand(prk, struct.pack(">H", n) + b"HPKE-v1" + suite + label + info, n)

    schedule = b"\0" + extract(b"", b"psk_id_hash", b"") + extract(b"", b"info_hash", info)
    prk = extract(shared, b"secret", b"")
    key, nonce = expand(prk, b"key", schedule, 32), expand(prk, b"base_nonce", schedule, 12)
    try:
        return ChaCha20Poly1305(key).decrypt(nonce, sealed, b"")
    except InvalidTag:
        return None


class Grant:
    def __init__(self, data):
        check(len(data) <= 2048, "too_large")
        r = Reader(data)
        r.array(2)
        self.body = r.bin(limit=2048)
        self.proof = Proof.decode(r.bin(limit=332))
        r.end()
        r = Reader(self.body)
        r.array(10)
        check(r.uint() == 1, "unsupported_version")
        self.bus, self.session, self.rule, self.label = r.bin(32), r.bin(32), r.name(), r.label()
        self.epoch, self.key_id, self.reader = r.uint(32), r.bin(32), r.bin(32)
        self.enc, self.sealed = r.bin(1120), r.bin(48)
        r.end()

    def scope(self):
        return self.bus, self.session, self.rule, self.label, self.epoch


def take_grant(data, sender, reader_keys, context):
    check(sender.role == "agent", "wrong_role")
    with_skew(context, lambda at: sender.check(context.status, at))
    grant = Grant(data)
    check(grant.bus == sender.certificate.bus, "wrong_bus")
    check(grant.session == sender.session, "wrong_session")
    grant.proof.verify(sender.certificate.key, "grant", sender.session, H("grant", grant.body))
    rule = context.rules.get(grant.rule)
    check(rule, "unknown_rule")
    who, me = sender.credential, context.me.credential
    asks = rule.names(rule.publishers, who) and rule.names(rule.subscribers, me)
    answers = rule.deadline and rule.names(rule.subscribers, who) and rule.names(rule.publishers, me)
    faults = Faults(context.tables.observes(rule, who))
    if not asks and not answers:
        asks = faults.observing and rule.names(rule.subscribers, me)
        check(asks, "not_publisher")
    check(context.tables.declares(grant.label), "label_unknown")
    faults.check(in_range(rule, grant.label), "label_out_of_range")
    may_read(context.tables, rule, me, grant.label, not asks)
    check(grant.reader in reader_keys, "wrong_reader")
    check(not small_order_x25519(grant.enc[-32:]), "weak_key")
    info = write_array(write_bin(scope_bytes(*grant.scope())), write_bin(grant.key_id), write_bin(grant.reader))
    secret = hpke_open(reader_keys[grant.reader], grant.enc, info, grant.sealed)
    check(secret is not None, "bad_grant")
    check(key_id(grant.scope(), secret) == grant.key_id, "key_mismatch")
    return grant


# --- 9. Envelope ---


class Envelope:
    def __init__(self, data):
        check(len(data) <= 1_046_528, "too_large")
        r = Reader(data)
        r.array(4)
        check(r.uint() == 1, "unsupported_version")
        self.header, self.ciphertext = r.bin(limit=16384), r.bin(limit=1_046_528)
        self.proof = Proof.decode(r.bin(limit=332))
        r.end()
        check(len(self.ciphertext) >= 16, "truncated")
        self.digest = H("envelope", self.header, self.ciphertext)
        self.size = len(data)

        r = Reader(self.header)
        r.array(15)
        self.bus, self.id, self.sender, self.session = r.bin(32), r.bin(16), r.token(), r.bin(32)
        self.rule, self.subject, self.label = r.name(), r.subject(), r.label()
        self.flow_grant = r.option(Reader.name)
        self.key_id, self.sequence, self.issued_at, self.ttl = r.bin(32), r.uint(), r.uint(), r.uint()
        check(1 <= self.ttl <= 604_800_000, "bad_time")
        self.parents = []
        for _ in range(r.array(limit=256, over="too_many_parents")):
            r.array(2)
            parent = (r.bin(32), r.label())
            if self.parents:
                check(parent[0] != self.parents[-1][0], "duplicate_parent")
                check(parent[0] > self.parents[-1][0], "bad_encoding")
            self.parents.append(parent)
        self.request = r.option(lambda r: r.bin(32))
        self.flags = r.uint(8)
        check(self.flags & ~1 == 0, "bad_flags")
        r.end()

    def verify(self, member):
        self.proof.verify(member.certificate.key, "batch", self.session, self.digest)


def hchacha20(key, nonce):
    mask = 0xFFFFFFFF
    s = list(struct.unpack("<16I", b"expand 32-byte k" + key + nonce))

    def quarter(a, b, c, d):
        for x, y, z, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            s[x] = s[x] + s[y] & mask
            s[z] ^= s[x]
            s[z] = (s[z] << turn | s[z] >> 32 - turn) & mask

    for _ in range(10):
        for n in range(4):
            quarter(n, 4 + n, 8 + n, 12 + n)
        for n in range(4):
            quarter(n, 4 + (n + 1) % 4, 8 + (n + 2) % 4, 12 + (n + 3) % 4)
    return struct.pack("<8I", *s[:4], *s[12:])


def xchacha20poly1305_open(key, nonce, data, associated):
    try:
        subkey = hchacha20(key, nonce[:16])
        return ChaCha20Poly1305(subkey).decrypt(bytes(4) + nonce[16:], data, associated)
    except InvalidTag:
        raise Refused("decrypt_failed") from None


def padme(n):
    if n < 2:
        return n
    e = n.bit_length() - 1
    mask = (1 << max(0, e - e.bit_length())) - 1
    return n + mask & ~mask


def read_plaintext(text):
    check(len(text) >= 4, "bad_padding")
    n = int.from_bytes(text[:4], "big")
    check(n <= len(text) - 4, "bad_padding")
    check(len(text) == padme(4 + n) and not any(text[4 + n :]), "bad_padding")
    r = Reader(text[4 : 4 + n])
    r.array(3)
    content_type, trace, payload = r.str(128), r.option(lambda r: r.str(64)), r.bin(limit=1_000_000)
    r.end()
    for text in (content_type, trace or ""):
        check(all(0x20 <= ord(c) <= 0x7E for c in text), "bad_encoding")
    return content_type, trace, payload


# --- 10. Batch proofs ---


def leaf_hash(data):
    return hashlib.sha256(b"\0" + data).digest()


def node(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


def tree(leaves):
    if len(leaves) == 1:
        return leaf_hash(leaves[0])
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return node(tree(leaves[:k]), tree(leaves[k:]))


def root_from_path(leaf, index, size, path):
    """RFC 9162 section 2.1.3.2; None if the path has not the length that size and index need."""
    if index >= size:
        return None
    fn, sn, r = index, size - 1, leaf_hash(leaf)
    for p in path:
        if sn == 0:
            return None
        if fn & 1 or fn == sn:
            r = node(p, r)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = node(r, p)
        fn, sn = fn >> 1, sn >> 1
    return r if sn == 0 else None


class Proof:
    @classmethod
    def decode(cls, data):
        r = Reader(data)
        r.array(4)
        proof = cls(r)
        r.end()
        return proof

    def __init__(self, r):
        self.size, self.index = r.uint(16), r.uint(16)
        path, self.signature = r.bin(limit=256), r.bin(64)
        check(1 <= self.size <= 256 and self.index < self.size and len(path) % 32 == 0, "bad_proof")
        self.path = [path[n : n + 32] for n in range(0, len(path), 32)]

    def verify(self, key, purpose, scope, digest):
        root = root_from_path(digest, self.index, self.size, self.path)
        check(root is not None, "bad_proof")
        text = write_array(write_bin(scope), write_uint(self.size), write_bin(root))
        verify(key, purpose, text, self.signature)


# --- 11. Admission ---


class Admission:
    def __init__(self, text):
        check(len(text) <= 684, "bad_admission")
        data = base64url(text, "bad_admission")
        try:
            r = Reader(data)
            r.array(14)
            check(r.uint() == 1, "unsupported_version")
            self.guard, self.verdict = r.bin(32), r.uint()
            check(self.verdict in (1, 2), "bad_admission")
            self.policy_version, self.policy_digest, self.partition = r.uint(), r.bin(32), r.uint()
            check(self.partition < 64, "bad_admission")
            self.epoch, self.position, self.time, self.observed = r.uint(), r.uint(), r.uint(), r.bool()
            self.proof = Proof(r)
            r.end()
        except Refused as refused:
            raise Refused("unsupported_version" if str(refused) == "unsupported_version" else "bad_admission")

    def verify(self, bus, digest):
        leaf = write_array(
            write_bin(bus), write_bin(digest), write_uint(self.verdict), write_uint(self.policy_version),
            write_bin(self.policy_digest), write_uint(self.partition), write_uint(self.epoch),
            write_uint(self.position), write_uint(self.time), b"\xc3" if self.observed else b"\xc2",
        )  # fmt: skip
        try:
            self.proof.verify(self.guard, "admission", bus, H("admission", leaf))
        except Refused:
            raise Refused("bad_admission") from None


# --- 16. Orders ---

# number: (name, targets, does it need the quorum)
ORDERS = {
    1: ("clear_taint", ("agent",), True),
    2: ("quarantine", ("agent",), False),
    3: ("release", ("agent",), True),
    4: ("revoke", ("agent",), False),
    5: ("replay_evidence", ("agent",), True),
    6: ("discard_evidence", ("agent",), True),
    7: ("pause", ("team", "rule"), False),
    8: ("resume", ("team", "rule"), False),
}


class Order:
    def __init__(self, data, roots):
        bad = "order_invalid"
        check(len(data) <= 4096, "too_large")
        r = Reader(data)
        r.array(2)
        body, self.signers = r.bin(limit=1024), []
        for _ in range(r.array(limit=16)):
            r.array(2)
            key, signature = r.bin(32), r.bin(64)
            check(key in roots.policy_keys and key not in self.signers, bad)
            verify(key, "order", body, signature, bad)
            self.signers.append(key)
        r.end()

        r = Reader(body)
        r.array(8)
        version_and_bus(r, roots.bus)
        self.id = r.bin(16)
        elements = r.array(limit=16)
        check(elements > 0, "wrong_arity")
        kind = r.uint()
        check(kind in ORDERS, "order_unknown")
        check(elements == 1, "wrong_arity")
        self.kind, targets, quorum = ORDERS[kind]
        target, self.target = self.read_target(r)
        self.reason, self.issued, self.valid_until = r.str(512), r.uint(), r.uint()
        r.end()
        check(target in targets, bad)
        check(not self.reason.isspace() and self.reason, bad)
        check(not any(unicodedata.category(c) == "Cc" for c in self.reason), bad)
        check(0 < self.valid_until - self.issued <= 86_400_000, "bad_time")
        check(len(self.signers) >= (max(roots.quorum, 1) if quorum else 1), bad)
        self.digest = H("order", body)

    @staticmethod
    def read_target(r):
        """What the target is, and how it is written in a vector."""
        elements = r.array(limit=3)
        check(elements > 0, "wrong_arity")
        number = r.uint()
        check((number, elements) in ((0, 3), (1, 2), (2, 2)), "wrong_arity")
        if number:
            what = ("team", "rule")[number - 1]
            return what, f"{what}:{r.name()}"
        token, identity = r.token(), public_key(r.bin(32))
        check(token == agent_token(token.rpartition("-")[0], identity), "order_invalid")
        return "agent", token

    def check_time(self, now):
        check(self.issued <= now + 60_000, "not_yet_valid")
        check(now < self.valid_until, "order_expired")


# --- 17. Approvals ---


class Approval:
    def __init__(self, data, bus):
        check(len(data) <= 256, "too_large")
        r = Reader(data)
        r.array(3)
        body, self.key, signature = r.bin(limit=256), public_key(r.bin(32)), r.bin(64)
        r.end()
        verify(self.key, "approval", body, signature, "approval_invalid")
        r = Reader(body)
        r.array(5)
        version_and_bus(r, bus)
        self.envelope, self.approve, self.time = r.bin(32), r.bool(), r.uint()
        r.end()


def enough_approvals(hold, header, bus, digest):
    check(header is not None, "approval_missing")
    check(len(header) <= 5464, "too_large")
    data = base64url(header, "approval_invalid")
    check(len(data) <= 4096, "too_large")
    r, people = Reader(data), set()
    for _ in range(r.array(limit=16)):
        approval = Approval(r.bin(), bus)
        if approval.key in hold.names:
            check(approval.envelope == digest and approval.approve, "approval_invalid")
            # One key has one name here, so a key that comes again counts no more than its name does.
            people.add(hold.names[approval.key])
    r.end()
    check(len(people) >= hold.approvals, "approval_missing")


# --- 14. What a reader knows, from a vector's context ---


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
            enough_approvals(hold, given.get("approvals"), bus, envelope.digest)
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

"""Bus, credentials, sessions, members (section 5) and the status statement (section 6)."""

import json

from crypto import H, nkey, public_key, verify, verify_raw
from encoding import Reader, Refused, base32, base64url, check, name, valid


class Roots:
    def __init__(self, value):
        self.name = value["bus_name"]
        self.issuer = nkey(value["issuer"], 0x00)
        self.issuer_text = value["issuer"]
        self.policy_keys = [nkey(key, 0xA0) for key in value["policy_keys"]]
        self.quorum = value["quorum"]
        self.bus = H("bus", self.issuer, self.name.encode())


def agent_token(name, identity):
    return f"{name}-{base32(H('agent', identity), 10)}"


def partition(token):
    return H("partition", token.encode())[0] % 64


class JsonObject(dict):
    """A JSON object that still knows how often each member stood in it."""

    def __init__(self, pairs):
        super().__init__(pairs)
        self.names = [name for name, _ in pairs]

    def once(self, *names):
        return all(self.names.count(name) == 1 for name in names)


def json_object(data):
    def no_number(text):
        raise ValueError(f"{text} is not JSON")

    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=JsonObject, parse_constant=no_number)
    except (ValueError, RecursionError):
        raise Refused("credential_invalid") from None
    check(isinstance(value, JsonObject), "credential_invalid")
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
        head = json_object(base64url(header, bad))
        check(head.once("alg", "typ") and head["alg"] == "ed25519-nkey", bad)
        check(isinstance(head["typ"], str) and head["typ"].upper() == "JWT", bad)
        signature = base64url(signature, bad)
        check(len(signature) == 64, bad)
        verify_raw(roots.issuer, signed.encode(), signature)

        ours = ["bus", "team", "role", "level", "compartments", "integrity", "zones"]
        claims = json_object(base64url(body, bad))
        check(claims.once("iss", "sub", "name", "nbf", "exp", "sealbus"), bad)
        sealbus = claims["sealbus"]
        check(isinstance(sealbus, JsonObject) and sorted(sealbus.names) == sorted(ours), bad)
        for member in ("iss", "sub", "name"):
            check(isinstance(claims[member], str), bad)
        for member in ("bus", "team", "role"):
            check(isinstance(sealbus[member], str), bad)
        check(is_number(claims["nbf"]) and is_number(claims["exp"]), bad)
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

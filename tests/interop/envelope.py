"""Envelopes and their plaintext (section 9), and proofs of admission (section 11)."""

from crypto import H
from encoding import Reader, Refused, base64url, check, write_array, write_bin, write_uint
from merkle import Proof

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

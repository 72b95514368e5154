"""Orders (section 16) and approvals (section 17)."""

import unicodedata

from crypto import H, public_key, verify
from encoding import Reader, base64url, check
from who import agent_token, version_and_bus

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
        check(not any(misleads(c) for c in self.reason), bad)
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


def misleads(c):
    """Whether it shows as something else than it is."""
    ranges = ((0x61C, 0x61C), (0xFEFF, 0xFEFF), (0x200B, 0x200F), (0x2028, 0x202E), (0x2060, 0x2069))
    return unicodedata.category(c) == "Cc" or any(low <= ord(c) <= high for low, high in ranges)


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


def enough_approvals(hold, header, status, bus, digest):
    check(header is not None, "approval_missing")
    check(len(header) <= 5462, "too_large")
    data = base64url(header, "approval_invalid")
    check(len(data) <= 4096, "too_large")
    r, people = Reader(data), set()
    for _ in range(r.array(limit=16)):
        approval = Approval(r.bin(limit=256), bus)
        if approval.key in hold.names and approval.key not in status.revoked:
            check(approval.envelope == digest and approval.approve, "approval_invalid")
            # One key has one name here, so a key that comes again counts no more than its name does.
            people.add(hold.names[approval.key])
    r.end()
    check(len(people) >= hold.approvals, "approval_missing")

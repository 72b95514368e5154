"""The policy bundle and its records (section 7)."""

from crypto import public_key, verify
from encoding import Reader, check, subject
from merkle import root_from_path, tree
from orders import ORDERS


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
        check(1 <= self.approvals <= 16, "policy_invalid")
        check(1 <= self.deadline <= 86_400_000, "policy_invalid")
        self.names = {}
        for who, key in people:
            self.names.setdefault(key, who)
        check(len(set(self.names.values())) >= self.approvals, "policy_invalid")

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
            label[0] < len(self.levels) and label[1] >> len(self.compartments) == 0 and label[2] < len(self.integrity)
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
            kind = r.uint()
            check(kind in ORDERS, "order_unknown")
            keys = r.uint()
            check(keys <= 16, "policy_invalid")
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

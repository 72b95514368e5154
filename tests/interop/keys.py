"""Reader keys, box keys, sender keys and their grants (section 8)."""

from crypto import H, hpke_open, small_order_x25519, verify
from encoding import Reader, check, write_array, write_bin, write_label, write_str, write_uint
from merkle import Proof
from rights import Faults, in_range, may_read
from who import version_and_bus, with_skew


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

"""Who may publish and read, and what may flow where, under a policy (section 7)."""

from encoding import check, covers, dominates, matches


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

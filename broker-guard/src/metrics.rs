//! What the guard counts, one registry a guard: two guards in one process keep their numbers apart.
//!
//! Denials are outcomes, not errors: they have their own counter, by reason code.

use std::sync::{Arc, atomic::AtomicU64};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use sealbus_envelope::{name::AgentToken, reason::Reason, time::Millis};

use crate::events::Kind;

/// Labels of the denial counter.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    /// The stable reason code.
    reason: &'static str,
}

/// Labels of the connection counter.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabel {
    /// `accepted`, `lobby`, `refused` or `kicked`; of an order, `accepted` or why not.
    outcome: &'static str,
}

/// Labels of the event counter.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabel {
    /// What happened.
    kind: &'static str,
}

/// Labels of what is counted for each sink of events.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SinkLabel {
    /// Which sink.
    sink: String,
}

/// Labels of the counter of what the intake dropped.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CauseLabel {
    /// `rate`, `room` or `cut`.
    cause: &'static str,
}

/// Labels of the counter of anomaly signals.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SignalLabel {
    /// The signal's name.
    signal: &'static str,
}

/// Labels of what is said of one agent.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct AgentLabel {
    /// The agent, as subjects name it.
    agent: String,
}

/// The most agents whose scores are shown: a monitoring system must not break when a whole bus is watched.
const MAX_SCORES: usize = 100;

/// The guard's metrics. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    /// Envelopes admitted and forwarded.
    pub admitted: Counter,
    /// Bytes of envelopes admitted and forwarded.
    pub admitted_bytes: Counter,
    denied: Family<ReasonLabel, Counter>,
    observed: Family<ReasonLabel, Counter>,
    connections: Family<OutcomeLabel, Counter>,
    orders: Family<OutcomeLabel, Counter>,
    anomaly: Family<SignalLabel, Counter>,
    scores: Family<AgentLabel, Gauge<f64, AtomicU64>>,
    changes_refused: Family<ReasonLabel, Counter>,
    events: Family<KindLabel, Counter>,
    sink_delivered: Family<SinkLabel, Counter>,
    sink_failed: Family<SinkLabel, Counter>,
    sink_dropped: Family<SinkLabel, Counter>,
    sink_waiting: Family<SinkLabel, Gauge>,
    sink_up: Family<SinkLabel, Gauge>,
    /// Agents that are watched now.
    pub watched: Gauge,
    /// Until when the status statement may be relied on, unix seconds.
    pub status_valid_until: Gauge,
    intake_dropped: Family<CauseLabel, Counter>,
    /// Agents that the intake tells apart, and messages that wait there.
    pub intake_held: Gauge,
    /// Agents that flooded and are refused for a while.
    pub held_back: Gauge,
    /// Control messages handled, refused ones included.
    pub control: Counter,
    /// Key grants relayed to readers.
    pub grants: Counter,
    /// Sequence numbers that never came.
    pub gaps: Counter,
    /// Messages that the server sent and the guard never read.
    pub dropped: Counter,
    /// Agents quarantined since the start.
    pub quarantined: Counter,
    /// Workflows paused since the start, by the breaker or by order.
    pub workflow_pauses: Counter,
    /// Workflows paused now.
    pub workflows_paused: Gauge,
    /// Sealed evidence that could not even be written down for being too much at once.
    pub evidence_dropped: Counter,
    /// Live sessions.
    pub sessions: Gauge,
    /// Requests waiting for a reply.
    pub open_requests: Gauge,
    /// Envelopes that wait for approval.
    pub held: Gauge,
    /// For how many seconds the oldest of them has waited.
    pub held_oldest: Gauge,
    holds: Family<OutcomeLabel, Counter>,
    approvals: Family<OutcomeLabel, Counter>,
    /// Version of the policy in force.
    pub policy_version: Gauge<u64, AtomicU64>,
    /// Version of the status statement in force.
    pub status_version: Gauge<u64, AtomicU64>,
    /// Whether the audit log can be written: 1 or 0.
    pub audit_writable: Gauge,
    /// Envelopes a batch.
    pub batch: Histogram,
    /// Seconds from reading a batch to having forwarded it.
    pub batch_seconds: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("sealbus");
        let mut metrics = Self {
            registry: Arc::default(),
            admitted: Counter::default(),
            admitted_bytes: Counter::default(),
            denied: Family::default(),
            observed: Family::default(),
            connections: Family::default(),
            orders: Family::default(),
            anomaly: Family::default(),
            scores: Family::default(),
            changes_refused: Family::default(),
            events: Family::default(),
            sink_delivered: Family::default(),
            sink_failed: Family::default(),
            sink_dropped: Family::default(),
            sink_waiting: Family::default(),
            sink_up: Family::default(),
            watched: Gauge::default(),
            status_valid_until: Gauge::default(),
            intake_dropped: Family::default(),
            intake_held: Gauge::default(),
            held_back: Gauge::default(),
            control: Counter::default(),
            grants: Counter::default(),
            gaps: Counter::default(),
            dropped: Counter::default(),
            quarantined: Counter::default(),
            workflow_pauses: Counter::default(),
            workflows_paused: Gauge::default(),
            evidence_dropped: Counter::default(),
            sessions: Gauge::default(),
            open_requests: Gauge::default(),
            held: Gauge::default(),
            held_oldest: Gauge::default(),
            holds: Family::default(),
            approvals: Family::default(),
            policy_version: Gauge::default(),
            status_version: Gauge::default(),
            audit_writable: Gauge::default(),
            batch: Histogram::new(exponential_buckets(1.0, 2.0, 9)),
            batch_seconds: Histogram::new(exponential_buckets(0.000_05, 2.0, 14)),
        };
        registry.register("admitted", "Envelopes admitted and forwarded", metrics.admitted.clone());
        registry.register("admitted_bytes", "Bytes of envelopes admitted", metrics.admitted_bytes.clone());
        registry.register(
            "denied",
            "Envelopes and control messages denied, by reason",
            metrics.denied.clone(),
        );
        registry.register(
            "observed",
            "Envelopes that would be denied, were it not for observe mode, by reason",
            metrics.observed.clone(),
        );
        registry.register("connections", "Connections judged, by outcome", metrics.connections.clone());
        registry.register(
            "changes_refused",
            "Policies and status statements that were offered and refused, by reason",
            metrics.changes_refused.clone(),
        );
        registry.register("orders", "Signed orders received, by outcome", metrics.orders.clone());
        registry.register(
            "intake_dropped",
            "Messages dropped unread because their agent sends too much, by cause",
            metrics.intake_dropped.clone(),
        );
        registry.register(
            "intake_held",
            "Agents told apart and messages waiting at the intake",
            metrics.intake_held.clone(),
        );
        registry.register(
            "held_back",
            "Agents that flooded and are refused for a while",
            metrics.held_back.clone(),
        );
        registry.register("anomaly", "Signals of anomaly set off, by signal", metrics.anomaly.clone());
        registry.register(
            "anomaly_score",
            "Anomaly score of agents that are watched",
            metrics.scores.clone(),
        );
        registry.register("control", "Control messages handled", metrics.control.clone());
        registry.register("grants", "Key grants relayed to readers", metrics.grants.clone());
        registry.register("gaps", "Sequence numbers that never came", metrics.gaps.clone());
        registry.register("dropped", "Messages sent to the guard and never read", metrics.dropped.clone());
        registry.register("quarantined", "Agents quarantined", metrics.quarantined.clone());
        registry.register("workflow_pauses", "Workflows paused", metrics.workflow_pauses.clone());
        registry.register("workflows_paused", "Workflows paused now", metrics.workflows_paused.clone());
        registry.register(
            "evidence_dropped",
            "Sealed evidence not kept because too much came at once",
            metrics.evidence_dropped.clone(),
        );
        registry.register("sessions", "Live sessions", metrics.sessions.clone());
        registry.register("open_requests", "Requests waiting for a reply", metrics.open_requests.clone());
        registry.register("held", "Envelopes that wait for approval", metrics.held.clone());
        registry.register(
            "held_oldest_seconds",
            "For how long the oldest envelope that waits for approval has waited",
            metrics.held_oldest.clone(),
        );
        registry.register("holds", "Held envelopes decided, by outcome", metrics.holds.clone());
        registry.register("approvals", "Approvals received, by outcome", metrics.approvals.clone());
        registry.register("policy_version", "Policy version in force", metrics.policy_version.clone());
        registry.register(
            "status_version",
            "Status statement version in force",
            metrics.status_version.clone(),
        );
        registry.register(
            "audit_writable",
            "1 if the audit log can be written",
            metrics.audit_writable.clone(),
        );
        registry.register("events", "Events told, by kind", metrics.events.clone());
        registry.register(
            "sink_delivered",
            "Events that a sink has, by sink",
            metrics.sink_delivered.clone(),
        );
        registry.register(
            "sink_failures",
            "Attempts to deliver events that failed, by sink",
            metrics.sink_failed.clone(),
        );
        registry.register(
            "sink_dropped",
            "Events that a sink will never get, by sink",
            metrics.sink_dropped.clone(),
        );
        registry.register(
            "sink_waiting",
            "Events that wait for a sink, by sink",
            metrics.sink_waiting.clone(),
        );
        registry.register("sink_up", "1 if the last delivery to a sink succeeded", metrics.sink_up.clone());
        registry.register("watched", "Agents that are watched now", metrics.watched.clone());
        registry.register(
            "status_valid_until_seconds",
            "Until when the status statement may be relied on, unix time",
            metrics.status_valid_until.clone(),
        );
        registry.register("batch_envelopes", "Envelopes a batch", metrics.batch.clone());
        registry.register(
            "batch_seconds",
            "Seconds to check, log, sign and forward a batch",
            metrics.batch_seconds.clone(),
        );
        metrics.registry = Arc::new(registry);
        metrics
    }

    /// Counts denials.
    pub fn denied(&self, reason: Reason, count: u64) {
        self.denied.get_or_create(&ReasonLabel { reason: reason.code() }).inc_by(count);
    }

    /// Counts what observe mode let pass.
    pub fn observed(&self, reason: Reason) {
        self.observed.get_or_create(&ReasonLabel { reason: reason.code() }).inc();
    }

    /// Counts an offered policy or status that was refused.
    pub fn change_refused(&self, reason: Option<Reason>) {
        let reason = reason.map_or("unreadable", Reason::code);
        self.changes_refused.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Counts messages that the intake dropped.
    pub fn intake_dropped(&self, cause: &'static str, count: u64) {
        self.intake_dropped.get_or_create(&CauseLabel { cause }).inc_by(count);
    }

    /// Counts signals of anomaly.
    pub fn anomaly(&self, signal: &'static str, count: u64) {
        self.anomaly.get_or_create(&SignalLabel { signal }).inc_by(count);
    }

    /// Shows the scores of who is watched now, and of nobody else.
    pub fn watched<'a>(&self, watched: impl Iterator<Item = (&'a AgentToken, f32)>) {
        self.scores.clear();
        for (agent, score) in watched.take(MAX_SCORES) {
            self.scores.get_or_create(&AgentLabel { agent: agent.to_string() }).set(f64::from(score));
        }
    }

    /// Counts a connection.
    pub fn connection(&self, outcome: &'static str) {
        self.connections.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// Counts an order: carried out, or refused for a reason.
    pub fn order(&self, refused: Option<Reason>) {
        let outcome = refused.map_or("accepted", Reason::code);
        self.orders.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// Counts a held envelope that was decided: released, or denied for a reason.
    pub fn hold_ended(&self, refused: Option<Reason>) {
        let outcome = refused.map_or("released", Reason::code);
        self.holds.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// Counts an approval: taken, or refused for a reason.
    pub fn approval(&self, refused: Option<Reason>) {
        let outcome = refused.map_or("accepted", Reason::code);
        self.approvals.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// Counts an event.
    pub fn event(&self, kind: Kind) {
        self.events.get_or_create(&KindLabel { kind: kind.token() }).inc();
    }

    /// Counts events that a sink has.
    pub fn sink_delivered(&self, sink: &str, count: usize) {
        self.sink_delivered.get_or_create(&SinkLabel::of(sink)).inc_by(u64::try_from(count).unwrap_or(0));
    }

    /// Counts an attempt that failed.
    pub fn sink_failed(&self, sink: &str) {
        self.sink_failed.get_or_create(&SinkLabel::of(sink)).inc();
    }

    /// Counts an event that a sink will never get.
    pub fn sink_dropped(&self, sink: &str) {
        self.sink_dropped.get_or_create(&SinkLabel::of(sink)).inc();
    }

    /// How many events wait for a sink.
    pub fn sink_waiting(&self, sink: &str, waiting: usize) {
        self.sink_waiting.get_or_create(&SinkLabel::of(sink)).set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    /// Whether the last delivery to a sink succeeded.
    pub fn sink_up(&self, sink: &str, up: bool) {
        self.sink_up.get_or_create(&SinkLabel::of(sink)).set(i64::from(up));
    }

    /// Until when the status statement may be relied on.
    pub fn status_valid_until(&self, time: Millis) {
        self.status_valid_until.set(i64::try_from(time.seconds()).unwrap_or(i64::MAX));
    }

    /// Everything in Prometheus' text form.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

impl SinkLabel {
    fn of(sink: &str) -> Self {
        Self { sink: sink.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The words of a text that begin with `sealbus_`.
    fn named(text: &str) -> BTreeSet<&str> {
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        words.filter(|word| word.starts_with("sealbus_")).collect()
    }

    #[test]
    fn every_metric_that_an_alert_is_about_is_there() {
        let metrics = Metrics::new();
        // Those with labels are shown once they have counted something.
        metrics.denied(Reason::Denied, 1);
        metrics.connection("refused");
        metrics.change_refused(None);
        metrics.sink_dropped("nats");
        metrics.sink_waiting("nats", 1);
        metrics.sink_up("nats", true);
        let registered = metrics.render();
        let types = registered.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        let mut there = BTreeSet::new();
        for (name, kind) in types {
            match kind {
                "counter" => drop(there.insert(format!("{name}_total"))),
                "histogram" => there.extend(["bucket", "sum", "count"].map(|part| format!("{name}_{part}"))),
                _ => drop(there.insert(name.to_owned())),
            }
        }
        assert!(there.contains("sealbus_denied_total") && there.contains("sealbus_audit_writable"));
        let rules = include_str!("../../deploy/alerts.yml");
        let expressions: Vec<&str> =
            rules.lines().filter_map(|line| line.trim().strip_prefix("expr:")).collect();
        assert!(expressions.len() > 10);
        for expression in expressions {
            for name in named(expression) {
                assert!(there.contains(name), "{name} in `{expression}` is no metric of the guard");
            }
        }
    }
}

//! What only the guard goes by: how many sign an order, and from which anomaly score on it acts. The last leaf of a
//! bundle, if there is one, and in no agent's excerpt: who knew the thresholds could stay below them.

use crate::{
    name::{MAX_NAME, Name},
    order::OrderKind,
    policy::{
        MAX_SIGNATURES,
        record::{VERSION, reader, version},
    },
    reason::{Reason, Refused},
    wire::codec::{Reader, Writer},
};

/// The most anomaly signals with a weight of their own.
pub const MAX_WEIGHTS: usize = 64;
const WHAT: &str = "supervision";
const MAX_QUORUMS: usize = 64;

/// What the policy says to the guard alone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Supervision {
    /// How many policy keys sign an order of a kind. It only ever raises [`OrderKind::needed`].
    pub quorums: Vec<(OrderKind, u8)>,
    /// Thresholds and weights of the anomaly detector.
    pub anomaly: AnomalyRecord,
}

/// Thresholds and weights of the anomaly detector. Scores are in hundredths: 100 is what one default alarm costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnomalyRecord {
    /// From this score on an agent is watched.
    pub watch: u32,
    /// From this score on it is quarantined.
    pub quarantine: u32,
    /// How long until a score is half of what it was, in milliseconds.
    pub half_life_ms: u32,
    /// How long after its first message only hard evidence counts against an agent, in milliseconds.
    pub warm_up_ms: u32,
    /// And for how many messages at least.
    pub warm_up_messages: u32,
    /// Who is quarantined may connect again and is kept busy apart, instead of being refused.
    pub divert: bool,
    /// What a signal costs, in hundredths, where it is not the guard's default. 0 switches it off. By name ascending.
    pub weights: Vec<(Name, u32)>,
}

impl Default for AnomalyRecord {
    fn default() -> Self {
        Self {
            watch: 100,
            quarantine: 300,
            half_life_ms: 600_000,
            warm_up_ms: 3_600_000,
            warm_up_messages: 100,
            divert: false,
            weights: Vec::new(),
        }
    }
}

impl Supervision {
    /// How many policy keys the policy wants on an order of this kind; 0 if it says nothing.
    #[must_use]
    pub fn quorum(&self, kind: OrderKind) -> usize {
        let said = self.quorums.iter().find(|(of, _)| *of == kind);
        said.map_or(0, |(_, keys)| usize::from(*keys))
    }

    /// Writes the record.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(128);
        w.array(3).uint(VERSION).array(self.quorums.len());
        for (kind, keys) in &self.quorums {
            w.array(2).uint(kind.number()).uint(*keys);
        }
        let AnomalyRecord { watch, quarantine, half_life_ms, warm_up_ms, warm_up_messages, divert, weights } =
            &self.anomaly;
        w.array(7).uint(*watch).uint(*quarantine).uint(*half_life_ms).uint(*warm_up_ms);
        w.uint(*warm_up_messages).bool(*divert).array(weights.len());
        for (signal, weight) in weights {
            w.array(2).str(signal.as_str()).uint(*weight);
        }
        w.into_bytes()
    }

    /// Reads the record.
    ///
    /// # Errors
    /// The codec's reasons; `unsupported_version`, `bad_name`, `order_unknown`; `policy_invalid` if a kind or a
    /// signal stands twice or out of order, or a threshold is no threshold.
    pub fn decode(bytes: &[u8]) -> Result<Self, Refused> {
        let invalid = Refused::new(Reason::PolicyInvalid, WHAT);
        let mut r = reader(bytes, WHAT)?;
        r.array(3)?;
        version(&mut r, WHAT)?;
        let count = r.array_len(MAX_QUORUMS)?;
        let mut quorums: Vec<(OrderKind, u8)> = Vec::with_capacity(count);
        for _ in 0..count {
            r.array(2)?;
            let kind = OrderKind::from_number(r.uint()?)?;
            // More than an order has room for would make the kind impossible.
            let keys = u8::try_from(r.uint()?).ok().filter(|keys| usize::from(*keys) <= MAX_SIGNATURES);
            let keys = keys.ok_or(invalid)?;
            if quorums.last().is_some_and(|(last, _)| last.number() >= kind.number()) {
                return Err(invalid);
            }
            quorums.push((kind, keys));
        }
        let anomaly = AnomalyRecord::read(&mut r)?;
        r.finish()?;
        Ok(Self { quorums, anomaly })
    }
}

impl AnomalyRecord {
    fn read(r: &mut Reader<'_>) -> Result<Self, Refused> {
        let invalid = Refused::new(Reason::PolicyInvalid, WHAT);
        r.array(7)?;
        let (watch, quarantine, half_life_ms) = (r.small()?, r.small()?, r.small()?);
        let (warm_up_ms, warm_up_messages, divert) = (r.small()?, r.small()?, r.bool()?);
        let count = r.array_len(MAX_WEIGHTS)?;
        let mut weights: Vec<(Name, u32)> = Vec::with_capacity(count);
        for _ in 0..count {
            r.array(2)?;
            let (signal, weight) = (Name::parse(r.str(MAX_NAME)?)?, r.small()?);
            if weights.last().is_some_and(|(last, _)| *last >= signal) {
                return Err(invalid);
            }
            weights.push((signal, weight));
        }
        if watch == 0 || quarantine < watch || half_life_ms == 0 {
            return Err(invalid);
        }
        Ok(Self { watch, quarantine, half_life_ms, warm_up_ms, warm_up_messages, divert, weights })
    }
}

//! Durations as they were measured, and what is said of them.

use std::time::{Duration, Instant};

/// Durations in nanoseconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(Vec<u64>);

impl Samples {
    pub(crate) fn push(&mut self, duration: Duration) {
        self.0.push(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Times one call. Its result is dropped after the clock was read.
    pub(crate) fn time<T>(&mut self, call: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let result = std::hint::black_box(call());
        self.push(begun.elapsed());
        result
    }

    /// Times one call that does `count` things: the mean of one thing.
    pub(crate) fn time_many<T>(&mut self, count: usize, call: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let result = std::hint::black_box(call());
        self.push(begun.elapsed() / u32::try_from(count.max(1)).unwrap_or(u32::MAX));
        result
    }

    pub(crate) fn extend(&mut self, others: &Self) {
        self.0.extend_from_slice(&others.0);
    }

    pub(crate) const fn len(&self) -> usize {
        self.0.len()
    }

    /// The nearest-rank percentile, in microseconds; not a number if there is no sample.
    pub(crate) fn percentile_us(&self, percent: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "counts of samples are far below 2^52"
        )]
        let rank = (percent / 100.0 * sorted.len() as f64).ceil().max(1.0) as usize;
        #[expect(clippy::cast_precision_loss, reason = "durations are far below 2^52 ns")]
        sorted.get(rank - 1).map_or(f64::NAN, |&ns| ns as f64 / 1_000.0)
    }

    pub(crate) fn p50_us(&self) -> f64 {
        self.percentile_us(50.0)
    }

    /// The least: what a busy machine disturbs least.
    pub(crate) fn min_us(&self) -> f64 {
        self.percentile_us(0.0)
    }

    pub(crate) fn p99_us(&self) -> f64 {
        self.percentile_us(99.0)
    }
}

/// The median; not a number if there is none.
pub(crate) fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

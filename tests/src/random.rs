//! Random test cases that can be drawn again.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a fixture that cannot work fails its test"
)]

/// A generator (xorshift64*) that prints its seed, so that `SEALBUS_SEED=…` repeats a failure.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// Seeded from `SEALBUS_SEED`, or anew.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "each one is different, which no default should be")]
    pub fn new() -> Self {
        let given = std::env::var("SEALBUS_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| {
            let mut bytes = [0; 8];
            getrandom::fill(&mut bytes).unwrap();
            u64::from_le_bytes(bytes) | 1
        });
        println!("SEALBUS_SEED={seed}");
        Self(seed)
    }

    /// A number from 0 to `n` - 1.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33).unwrap() % n
    }

    /// One of `items`.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

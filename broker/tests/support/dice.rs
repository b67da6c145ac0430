//! Chance that a seed repeats (SplitMix64).

#![allow(dead_code)]

#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`, which is above zero.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Another one, so that threads do not share theirs.
    pub fn fork(&mut self) -> Dice {
        Dice(self.next())
    }
}

/// What the environment says, or the time; printed, so that a failure can be repeated.
pub fn seed() -> u64 {
    let given = std::env::var("EVERPULSE_SEED").ok().map(|text| text.parse().expect("EVERPULSE_SEED is a number"));
    let seed = given.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(1, |since| since.as_nanos() as u64 % 1_000_000_007)
    });
    eprintln!("EVERPULSE_SEED={seed}");
    seed
}

//! How much went through something, and how fast lately.

/// Rates are those of the last whole window of this length.
pub const WINDOW_MS: u64 = 10_000;

/// How fast a count grew in the last whole window, per second.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rate {
    per_second: f64,
    /// The count when the window began.
    before: u64,
}

impl Rate {
    pub fn per_second(&self) -> f64 {
        self.per_second
    }

    /// A window has ended in which the count grew to this.
    pub fn roll(&mut self, count: u64, elapsed_ms: u64) {
        self.per_second = count.saturating_sub(self.before) as f64 * 1000.0 / elapsed_ms.max(1) as f64;
        self.before = count;
    }
}

/// Messages and bytes since what is measured was loaded, and their rates.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Meter {
    pub messages: u64,
    pub bytes: u64,
    pub rate: Rate,
    pub throughput: Rate,
}

impl Meter {
    pub fn count(&mut self, messages: u64, bytes: u64) {
        self.messages += messages;
        self.bytes += bytes;
    }

    pub fn roll(&mut self, elapsed_ms: u64) {
        self.rate.roll(self.messages, elapsed_ms);
        self.throughput.roll(self.bytes, elapsed_ms);
    }

    /// Of a message in the last window; zero if there was none.
    pub fn average_bytes(&self) -> f64 {
        let rate = self.rate.per_second();
        if rate > 0.0 { self.throughput.per_second() / rate } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_last_window() {
        let mut meter = Meter::default();
        meter.count(50, 5_000);
        meter.roll(10_000);
        let rates = (meter.rate.per_second(), meter.throughput.per_second(), meter.average_bytes());
        assert_eq!(rates, (5.0, 500.0, 100.0));
        meter.roll(10_000);
        assert_eq!((meter.messages, meter.rate.per_second(), meter.average_bytes()), (50, 0.0, 0.0));
    }
}

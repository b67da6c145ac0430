//! What happened, as one number: two plays of a seed must come to the same. And as lines, where a person asks for them.

use std::fmt::{self, Write};

use xxhash_rust::xxh3::Xxh3;

#[derive(Default)]
pub struct Trace {
    hash: Xxh3,
    pub steps: u64,
    lines: bool,
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").field("steps", &self.steps).finish_non_exhaustive()
    }
}

struct Sink<'a>(&'a mut Xxh3);

impl Write for Sink<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}

impl Trace {
    /// `lines`: also print it.
    pub fn new(lines: bool) -> Self {
        Self { lines, ..Self::default() }
    }

    /// What happens seldom, in words.
    pub fn note(&mut self, now_ms: u64, what: fmt::Arguments<'_>) {
        self.count(now_ms);
        if self.lines {
            eprintln!("{now_ms} {what}");
        }
        // A hash takes everything.
        let _ = Sink(&mut self.hash).write_fmt(what);
    }

    /// What happens often: by numbers that say it, and in words only for a person.
    pub fn step(&mut self, now_ms: u64, numbers: &[u64], what: impl FnOnce() -> String) {
        self.count(now_ms);
        if self.lines {
            eprintln!("{now_ms} {}", what());
        }
        for number in numbers {
            self.hash.update(&number.to_le_bytes());
        }
    }

    fn count(&mut self, now_ms: u64) {
        self.steps += 1;
        self.hash.update(&now_ms.to_le_bytes());
    }

    pub fn hash(&self) -> u64 {
        self.hash.digest()
    }
}

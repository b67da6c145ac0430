//! What is wrong says so; what is right says nothing.

use std::collections::{BTreeMap, HashMap}; // found
use std::time::{Duration, Instant, SystemTime};

pub fn age(since: SystemTime) -> Duration {
    since.elapsed().unwrap_or_default() // found
}

pub fn stopwatch() -> Instant {
    Instant::now() // found
}

pub fn counts(words: &[&str]) -> Vec<(String, usize)> {
    let mut counts = HashMap::new(); // found
    for word in words {
        *counts.entry((*word).to_owned()).or_insert(0) += 1;
    }
    counts.into_iter().collect()
}

pub fn sorted(words: &[&str]) -> BTreeMap<String, usize> {
    words.iter().map(|word| ((*word).to_owned(), word.len())).collect()
}

pub fn place() -> Option<String> {
    std::env::var("PLACE").ok() // found
}

pub fn nap() {
    std::thread::sleep(Duration::from_secs(1)); // found
}

thread_local! { // found
    static COUNT: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

pub fn count() -> u32 {
    COUNT.get()
}

/// An activity may do all of it.
#[expect(clippy::disallowed_methods, reason = "it is an activity")]
pub fn activity() -> Option<String> {
    std::fs::read_to_string("orders.json").ok()
}

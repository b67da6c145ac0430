//! The broker against clients that send anything, for a while. `cargo xtask fuzz` runs it.
//!
//! ```text
//! cargo run -p everpulse-broker --features fuzzing --example fuzz -- SECONDS [SEED]
//! ```
//! What was found once is in `broker/fuzz/corpus` and is tried first. A new finding is written beside it.

#[path = "../tests/support/dice.rs"]
mod dice;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use dice::Dice;
use everpulse_broker::fuzzing;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| arguments.next().map_or(default, |text| text.parse().expect("a number"));
    let seconds = number(30);
    let mut seed = number(std::time::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_nanos() as u64 % 1_000_000_007));
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let (mut conversations, mut decoded, first) = (0u64, 0u64, seed);
    println!("seed {seed}");
    for (folder, target) in [("decode", fuzzing::decode as fn(&[u8])), ("conversation", fuzzing::conversation)] {
        for path in files(&corpus.join(folder)) {
            let bytes = std::fs::read(&path).expect("readable");
            if !passes(target, &bytes) {
                eprintln!("{} fails", path.display());
                return ExitCode::FAILURE;
            }
        }
    }
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        let mut dice = Dice::new(seed);
        let script = fuzzing::generate::script(&mut |below| dice.below(below.max(1)));
        if !passes(fuzzing::conversation, &script) {
            return found(&corpus, "conversation", seed, &script);
        }
        // The same bytes as a plain stream, cut anywhere.
        let cut = &script[dice.below(script.len() as u64 + 1) as usize..];
        if !passes(fuzzing::decode, cut) {
            return found(&corpus, "decode", seed, cut);
        }
        conversations += 1;
        decoded += cut.len() as u64;
        seed += 1;
    }
    println!("{conversations} conversations, {decoded} bytes decoded, seeds {first}..{seed}: nothing found");
    ExitCode::SUCCESS
}

/// Within a time that is far longer than any takes, too.
fn passes(target: fn(&[u8]), bytes: &[u8]) -> bool {
    let began = Instant::now();
    let outcome = std::panic::catch_unwind(|| target(bytes));
    if began.elapsed() > Duration::from_secs(60) {
        eprintln!("{} bytes took {:?}", bytes.len(), began.elapsed());
        return false;
    }
    outcome.is_ok()
}

fn found(corpus: &Path, folder: &str, seed: u64, bytes: &[u8]) -> ExitCode {
    let path = corpus.join(folder).join(format!("seed-{seed}"));
    std::fs::create_dir_all(corpus.join(folder)).expect("made");
    std::fs::write(&path, bytes).expect("written");
    eprintln!("seed {seed} fails; its input is {}", path.display());
    ExitCode::FAILURE
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.sort();
    files
}

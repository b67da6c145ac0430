//! Reads damaged bytes of every format that the project stores or sends, for a while. `cargo xtask fuzz` runs it.
//!
//! ```text
//! everpulse-fuzz SECONDS [SEED]        everpulse-fuzz TARGET SEED|FILE
//!
//! valid ──► damage ──► target: no panic, no deep stack, no more memory than the input explains
//! ```
//! An input follows from its target and its seed. One that takes the process down (out of stack, out of memory) is named
//! in `target/fuzz-running`. What was found once stands in `fuzz/corpus/TARGET` and is tried first, since damage
//! changes with the formats. What the broker reads is fuzzed beside it.

mod damage;
mod dice;
mod partition;
mod targets;
mod valid;

use std::alloc::System;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use cap::Cap;

use crate::dice::Dice;
use crate::targets::{ALL, Target};

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

/// So much memory an input may take whatever its size is: the containers' own caution (a mebibyte for each list that
/// claims to be long, in some levels) ...
const BYTES_FREE: usize = 32 * 1024 * 1024;
/// ... and so much for each of its bytes.
const BYTES_PER_BYTE: usize = 512;
/// As threads of the worker's and the client's runtime have it.
const STACK: usize = 2 * 1024 * 1024;
/// Far more than any takes.
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(move || match &arguments[..] {
        [target, what] if target.parse::<u64>().is_err() => again(target, what),
        _ => search(&arguments),
    });
    let ended = thread.map(std::thread::JoinHandle::join);
    if matches!(ended, Ok(Ok(true))) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn search(arguments: &[String]) -> bool {
    let number = |at: usize| arguments.get(at).and_then(|text| text.parse::<u64>().ok());
    let since_1970 = || std::time::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_secs());
    let first = number(1).unwrap_or_else(since_1970);
    println!("seed {first}");
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    for target in &ALL {
        for file in files(&here.join("corpus").join(target.name)) {
            if !fs::read(&file).is_ok_and(|bytes| passes(target, &bytes)) {
                eprintln!("{} fails", file.display());
                return false;
            }
        }
    }
    let end = Instant::now() + Duration::from_secs(number(0).unwrap_or(30));
    let running = here.join("../target/fuzz-running");
    let Ok(running) = File::create(&running) else {
        eprintln!("cannot write {}", running.display());
        return false;
    };
    let (mut seed, mut bytes) = (first, 0);
    while Instant::now() < end {
        for target in &ALL {
            // For the one that takes the process down.
            let _ = running.write_all_at(format!("{:16} {seed:20}\n", target.name).as_bytes(), 0);
            let input = (target.make)(&mut Dice::new(seed));
            if !passes(target, &input) {
                eprintln!("found: everpulse-fuzz {} {seed}", target.name);
                return false;
            }
            bytes += input.len();
        }
        seed += 1;
    }
    println!(
        "{} targets, {} inputs each, {bytes} bytes, seeds {first}..{seed}: nothing found",
        ALL.len(),
        seed - first
    );
    true
}

/// A file, or what a seed makes.
fn again(target: &str, what: &str) -> bool {
    let Some(target) = ALL.iter().find(|each| each.name == target) else {
        eprintln!("there is no target {target:?}");
        return false;
    };
    let input = match what.parse() {
        Ok(seed) => Ok((target.make)(&mut Dice::new(seed))),
        Err(_) => fs::read(what),
    };
    match input {
        Ok(input) => passes(target, &input),
        Err(error) => {
            eprintln!("cannot read {what}: {error}");
            false
        }
    }
}

/// Memory beyond the limit ends the process.
fn passes(target: &Target, input: &[u8]) -> bool {
    let limit = MEMORY.allocated() + BYTES_FREE + input.len() * BYTES_PER_BYTE;
    MEMORY.set_limit(limit).expect("it is more than there is in use");
    let began = Instant::now();
    let outcome = std::panic::catch_unwind(|| (target.read)(input));
    MEMORY.set_limit(usize::MAX).expect("it is more than there is in use");
    if began.elapsed() > PATIENCE {
        eprintln!("{} bytes took {:?}", input.len(), began.elapsed());
        return false;
    }
    outcome.is_ok()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
    files.sort();
    files
}

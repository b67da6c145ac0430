//! Real processes under real faults, judged from outside: what `cargo xtask chaos` runs.
//!
//! ```text
//!  conductor ── clients, players (mix, player) ──────────► broker (broker, disk) ◄──── workers (worker, workflows)
//!     │                          proxies (proxy) stand between some of them
//!     ├── faults: storms, drawn by seed                    kills, stops, cuts, unloads, fills
//!     ├── archive: history as it is written, before it is trimmed
//!     └── judge: in each calm, and at the end              found: violations · figures: numbers
//! ```
//! Storms and calms take turns. In a storm faults overlap; in a calm nothing new is started, everything must come to its
//! end, and what is left is judged. The seed says what is drawn, not when the machine comes to it: a run can be repeated,
//! its interleaving cannot.

pub mod broker;
pub mod caller;
pub mod conduct;
pub mod worker;
pub mod workflows;

mod clients;
mod dice;
mod disk;
mod faults;
mod figures;
mod found;
mod judge;
mod mix;
mod player;
mod plays;
mod proxy;
mod recorder;
mod releases;

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

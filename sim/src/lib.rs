//! Many workers, clients and a broker in one thread, in virtual time, with faults by seed.
//!
//! ```text
//! Plan (seed) ─► World ──────────────────────────────► check ─► violations ─► shrink ─► one line that plays it again
//!                  │ workers: engine::Shard             ▲
//!                  │ clients: protocol                  │ raw topics, ledger of effects, what clients know
//!                  └ broker: broker::semantics ─────────┘
//! ```
//! The broker's meaning is the embedded broker's own state machine, the shards are the engine's own, and the decisions of
//! a worker are `everpulse-worker`'s. What is I/O in these is played here: connections, disk, clocks, processes. Every
//! seed is played twice and has to come to the same trace.
//!
//! Deliberately not here: the code between the pure parts and tokio; it is tried by `integration-tests`.

mod broker;
mod check;
mod client;
mod counts;
mod dice;
mod faults;
mod lanes;
mod ledger;
mod link;
mod outbox;
mod party;
mod plan;
mod schedule;
mod shape;
mod shrink;
mod trace;
mod wire;
mod worker;
mod workflows;
mod world;

pub use counts::{Counts, RULES, Reached};
pub use faults::Fault;
pub use plan::{BUSY_MS, Plan};
pub use shrink::shrink;

use world::World;

/// What a play came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub trace: u64,
    pub violations: Vec<String>,
    pub counts: Counts,
}

/// Plays once. `lines`: print the trace.
#[must_use]
pub fn play(plan: &Plan, lines: bool) -> Outcome {
    let mut world = World::new(plan, lines);
    world.run();
    let mut violations = std::mem::take(&mut world.violations);
    if violations.is_empty() {
        violations = check::judge(&mut world);
    }
    Outcome { trace: world.trace.hash(), violations, counts: world.counts }
}

/// Plays twice: the second time has to be like the first.
#[must_use]
pub fn play_twice(plan: &Plan) -> Outcome {
    let mut first = play(plan, false);
    let second = play(plan, false);
    if first.trace != second.trace {
        first.violations.push(format!("not deterministic: traces {:016x} and {:016x}", first.trace, second.trace));
    }
    first
}

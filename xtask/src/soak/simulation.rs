//! `cargo xtask soak simulation`: as many seeds as some minutes allow, and every break of a rule.

use std::fmt::Write as _;
use std::time::Instant;

use clap::Args;

use super::stamp;
use crate::sim::{self, Build};

#[derive(Debug, Clone, Args)]
pub struct Options {
    /// How long seeds are played at most.
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// How many at most.
    #[arg(long, default_value_t = 1_000_000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

const HEAD: &str = "\
# Soak: the simulation

Written by `cargo xtask soak simulation`: what `cargo xtask sim` prints of as many seeds as the time allows, and then of
every break of a rule. Each seed draws its own world (workers, clients, shards, clocks, disks, which faults, how often), is
played twice, and must give the same trace both times; the checkers judge what the topics hold at its end, and a witness
judges each message when it is stored and each ack when it counts.
";

const MUTATIONS: &str = "
## Every break is noticed

`engine/src/mutation.rs` names the places at which a build for this breaks a rule on purpose; each is switched on alone,
and seeds are played until one fails. The line says which, and what was seen first.
";

/// Plays, and gives the report.
pub(super) fn run(options: &Options) -> anyhow::Result<String> {
    let began = Instant::now();
    let [count, seed, seconds] = [options.seeds, options.seed, 60 * options.minutes].map(|number| number.to_string());
    let seeds = ["--seeds", &count, "--seed", &seed, "--seconds", &seconds];
    let played = sim::output(&seeds, Build::Fast)?;
    let broken = sim::output(&["--mutations"], Build::Quick)?;
    let mut report = HEAD.to_owned();
    report.push_str(&stamp(began.elapsed().as_secs())?);
    writeln!(report, "## Seeds\n\n`cargo xtask sim {}`\n\n```text\n{}\n```", seeds.join(" "), played.trim_end())?;
    writeln!(report, "{MUTATIONS}\n`cargo xtask sim --mutations`\n\n```text\n{}\n```", broken.trim_end())?;
    Ok(report)
}

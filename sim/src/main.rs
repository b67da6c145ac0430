//! Plays many seeds: `cargo xtask sim`. What failed is made small and printed as one line that plays it again.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use everpulse_sim::{BUSY_MS, Counts, Fault, Outcome, Plan, RULES, Reached, play, play_twice, shrink};

#[derive(Debug, Parser)]
#[command(name = "everpulse-sim", about = "Many workers, clients and a broker in virtual time, with faults by seed")]
struct Cli {
    /// How many seeds; without it, only the one that `--seed` names.
    #[arg(long)]
    seeds: Option<u64>,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// No more seeds are begun after so many seconds; with `--mutations`, for each of them.
    #[arg(long)]
    seconds: Option<u64>,
    /// Kinds of fault that do not happen.
    #[arg(long, value_delimiter = ',')]
    without: Vec<Fault>,
    /// So many runs at most.
    #[arg(long)]
    runs: Option<usize>,
    /// How long things go wrong, in milliseconds of virtual time.
    #[arg(long, default_value_t = BUSY_MS)]
    busy_ms: u64,
    /// Print what happens.
    #[arg(long)]
    trace: bool,
    /// Leave a play that fails as it is.
    #[arg(long)]
    no_shrink: bool,
    /// Break a rule of the engine; the simulation has to notice.
    #[cfg(feature = "mutations")]
    #[arg(long)]
    mutate: Option<String>,
    /// Break each rule in turn.
    #[cfg(feature = "mutations")]
    #[arg(long)]
    mutations: bool,
}

/// With fewer seeds it is no fault that something was not reached.
const SEEDS_FOR_ALL: u64 = 300;
/// What a seed has to be worth, in the median.
const RUNS_MEDIAN: u64 = 20;
const EVENTS_MEDIAN: u64 = 500;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Workflows panic on purpose; what must not is reported with its seed.
    std::panic::set_hook(Box::new(|_| {}));
    #[cfg(feature = "mutations")]
    if cli.mutations || cli.mutate.is_some() {
        return mutations(&cli);
    }
    match cli.seeds {
        None => one(&cli),
        Some(seeds) => many(&cli, seeds),
    }
}

fn plan(cli: &Cli, seed: u64) -> Plan {
    let without: BTreeSet<Fault> = cli.without.iter().copied().collect();
    Plan { seed, without, runs_max: cli.runs, busy_ms: cli.busy_ms }
}

fn one(cli: &Cli) -> ExitCode {
    let plan = plan(cli, cli.seed);
    let outcome = if cli.trace { play(&plan, true) } else { play_twice(&plan) };
    let counts = &outcome.counts;
    println!(
        "seed {}: trace {:016x}, {} runs, {} events, {} effects, {} steps, settled after {} ms",
        plan.seed, outcome.trace, counts.runs, counts.events, counts.effects, counts.steps, counts.settled_after_ms
    );
    for (fault, count) in &counts.faults {
        println!("  {fault} {count}");
    }
    if outcome.violations.is_empty() {
        println!("the rules held");
        return ExitCode::SUCCESS;
    }
    failed(cli, &plan, &outcome);
    ExitCode::FAILURE
}

/// Says what failed, and how to see it again.
fn failed(cli: &Cli, plan: &Plan, outcome: &Outcome) {
    for violation in outcome.violations.iter().take(10) {
        println!("  {violation}");
    }
    println!("seed {} failed: cargo xtask sim {plan}", plan.seed);
    if !cli.no_shrink && !cli.trace {
        let least = shrink(plan);
        println!("smaller: cargo xtask sim {least}");
        for violation in play(&least, false).violations.iter().take(5) {
            println!("  {violation}");
        }
    }
}

/// What many seeds came to.
#[derive(Debug, Default)]
struct Sum {
    counts: Counts,
    runs: Vec<u64>,
    events: Vec<u64>,
    failed: Option<(Plan, Outcome)>,
}

/// Plays seeds on all cores until one fails.
fn play_all(cli: &Cli, seeds: u64, seconds: Option<u64>, play: impl Fn(&Plan) -> Outcome + Sync) -> Sum {
    let (next, sum) = (AtomicU64::new(cli.seed), Mutex::new(Sum::default()));
    let until = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let end = cli.seed.saturating_add(seeds);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while until.is_none_or(|until| Instant::now() < until) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let plan = plan(cli, seed);
                    let outcome = play(&plan);
                    let mut sum = sum.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    if !outcome.violations.is_empty() {
                        next.store(end, Ordering::Relaxed);
                        // The least one, whichever thread was faster.
                        if sum.failed.as_ref().is_none_or(|(failed, _)| seed < failed.seed) {
                            sum.failed = Some((plan, outcome));
                        }
                        return;
                    }
                    sum.counts.add(&outcome.counts);
                    sum.runs.push(outcome.counts.runs);
                    sum.events.push(outcome.counts.events);
                }
            });
        }
    });
    sum.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn many(cli: &Cli, seeds: u64) -> ExitCode {
    let began = Instant::now();
    let mut sum = play_all(cli, seeds, cli.seconds, play_twice);
    let played = sum.runs.len() as u64;
    let seconds = began.elapsed().as_secs_f64();
    println!("{played} seeds from {} in {seconds:.1} s, each played twice", cli.seed);
    if let Some((plan, outcome)) = &sum.failed {
        failed(cli, plan, outcome);
        return ExitCode::FAILURE;
    }
    let (runs, events) = (median(&mut sum.runs), median(&mut sum.events));
    let counts = &sum.counts;
    println!("median of a seed: {runs} runs, {events} events");
    println!(
        "in all: {} runs, {} events, {} effects ({} of local ones again), {} retries, {} dead letters, {} questions \
         asked anew for their age, {} steps; settled after {} ms at most",
        counts.runs,
        counts.events,
        counts.effects,
        counts.local_repeats,
        counts.retries,
        counts.letters,
        counts.refused,
        counts.steps,
        counts.settled_after_ms
    );
    let mut missing = Vec::new();
    for fault in Fault::ALL {
        let count = counts.faults.get(fault).copied().unwrap_or(0);
        println!("  fault {fault:<15} {count}");
        if count == 0 && !cli.without.contains(fault) {
            missing.push(format!("fault {fault}"));
        }
    }
    for Reached { rule, what, count } in RULES {
        let count = count(counts);
        println!("  rule {rule:<2} {count:>9}  {what}");
        if count == 0 {
            missing.push(format!("rule {rule} by {what}"));
        }
    }
    if played < SEEDS_FOR_ALL {
        return ExitCode::SUCCESS;
    }
    if runs < RUNS_MEDIAN || events < EVENTS_MEDIAN {
        println!("a seed is worth too little: at least {RUNS_MEDIAN} runs and {EVENTS_MEDIAN} events are wanted");
        return ExitCode::FAILURE;
    }
    if !missing.is_empty() {
        println!("never reached: {}", missing.join(", "));
        return ExitCode::FAILURE;
    }
    println!("the rules held");
    ExitCode::SUCCESS
}

fn median(values: &mut [u64]) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

/// So many seeds are tried for each break, if nobody says otherwise: a number of seeds, so that a machine under load comes
/// to the same answer, only later.
#[cfg(feature = "mutations")]
const SEEDS_PER_MUTATION: u64 = 1_000;
/// What takes longer than this for one break hangs.
#[cfg(feature = "mutations")]
const SECONDS_PER_MUTATION: u64 = 1_200;

/// Breaks rules one by one, and says how many seeds it took to notice.
#[cfg(feature = "mutations")]
fn mutations(cli: &Cli) -> ExitCode {
    use everpulse_engine::{Mutation, activate};

    let wanted = |mutation: &Mutation| cli.mutate.as_deref().is_none_or(|name| name == mutation.name().1);
    let chosen: Vec<Mutation> = Mutation::ALL.iter().copied().filter(wanted).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = Mutation::ALL.iter().map(|mutation| mutation.name().1).collect();
        println!("there is no such break; there are {}", names.join(", "));
        return ExitCode::FAILURE;
    }
    let began = Instant::now();
    let seeds = cli.seeds.unwrap_or(SEEDS_PER_MUTATION);
    let seconds = cli.seconds.unwrap_or(SECONDS_PER_MUTATION);
    let (mut missed, mut most) = (Vec::new(), 0);
    for mutation in &chosen {
        activate(Some(*mutation));
        let sum = play_all(cli, seeds, Some(seconds), |plan| play(plan, false));
        activate(None);
        let (rule, name) = mutation.name();
        match sum.failed {
            Some((plan, outcome)) => {
                let took = plan.seed - cli.seed + 1;
                most = most.max(took);
                let first = outcome.violations.first().map(String::as_str).unwrap_or_default();
                let first: String = first.chars().take(110).collect();
                println!("rule {rule} {name:<22} noticed at seed {took:>5}: {first}");
            }
            None => {
                println!("rule {rule} {name:<22} NOT NOTICED in {} of {seeds} seeds", sum.runs.len());
                missed.push(name);
            }
        }
    }
    println!(
        "{} of {} noticed, within {most} seeds each, in {:.0} s",
        chosen.len() - missed.len(),
        chosen.len(),
        began.elapsed().as_secs_f64()
    );
    if missed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("not noticed: {}", missed.join(", "));
    ExitCode::FAILURE
}

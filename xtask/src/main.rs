//! `cargo xtask`: what CI runs, and a real Apache Pulsar for tests. Reads arguments, nothing else.

use std::process::{Command, ExitCode};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use xtask::{
    bench, chaos, ci, clients, conformance, coverage, deny, fuzz, guarantees, links, pulsar, purity, sim, soak,
};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "The project's own commands")]
struct Cli {
    #[command(subcommand)]
    command: Top,
}

#[derive(Debug, Subcommand)]
enum Top {
    /// Everything CI checks, in CI's order.
    Ci(ci::Options),
    /// The workloads W1 to W5, measured: one JSON line per row on stdout.
    Bench(bench::Bench),
    /// Real processes under real faults, judged from outside; the report goes to docs/chaos.
    Chaos(chaos::Options),
    /// Only the check of the invariants that manifests and lints can prove.
    Purity,
    /// Do the links between documents lead to files, and is each decision named by the index?
    Links,
    /// Are the tests there that `docs/guarantees.md` names?
    Guarantees,
    /// Other people's clients on our broker and on Apache Pulsar.
    Clients(clients::Options),
    /// The public suite of durable executions, on both arms; what came of it stands in docs/conformance-aws.md.
    Conformance(conformance::Options),
    /// The table of what the broker covers: is it as the tests say?
    Coverage(coverage::Options),
    /// Licences, sources and bans of everything that is depended on.
    Deny,
    /// Every format against damaged bytes, and the broker against clients that send anything, for a while.
    Fuzz(fuzz::Options),
    /// Many workers, clients and a broker in virtual time, with faults by seed.
    Sim(sim::Options),
    /// What tests check in short, at length; the report goes to docs/soak.
    Soak {
        #[command(subcommand)]
        soak: soak::Soak,
    },
    /// A real Apache Pulsar on this machine, on free ports of 127.0.0.1.
    Pulsar {
        #[command(subcommand)]
        command: Pulsar,
    },
}

#[derive(Debug, Subcommand)]
enum Pulsar {
    /// Start it (or find the running one) and print {"service_url","admin_url","pid"}.
    Start(Start),
    /// End it. Its data stay for the next start.
    Stop(Name),
    /// End it as a power cut would (SIGKILL); `start` brings it back on the same ports and data.
    Kill(Name),
    /// Kill it and start it again on the same ports and data.
    Restart(Start),
    /// Run a command against it: EVERPULSE_TEST_PULSAR_URL and EVERPULSE_TEST_PULSAR_ADMIN_URL are set.
    Run(Run),
}

#[derive(Debug, Args)]
struct Name {
    /// Several can run at once, each under its name.
    #[arg(long, default_value = "default")]
    name: String,
}

#[derive(Debug, Args)]
struct Start {
    #[command(flatten)]
    name: Name,
    /// Sets managedLedgerNewEntriesCheckDelayInMillis (Pulsar's own default is 10).
    #[arg(long)]
    check_delay_ms: Option<u64>,
    /// Throw away the data of an earlier start.
    #[arg(long)]
    fresh: bool,
    /// Make a receipt mean fsynced, as on a cluster (the standalone's default does not).
    #[arg(long)]
    journal_sync: bool,
    /// A further setting of its configuration; can be given several times.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    settings: Vec<String>,
    /// Serve TLS too, and ask everybody for a certificate or a token; the files are in instances/NAME/tls.
    #[arg(long, value_name = "CLIENT_CERTIFICATES", num_args = 0..=1, default_missing_value = "optional")]
    tls: Option<pulsar::ClientCertificates>,
}

#[derive(Debug, Args)]
struct Run {
    #[command(flatten)]
    start: Start,
    /// The command and its arguments, after `--`.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

impl From<Start> for pulsar::Options {
    fn from(start: Start) -> Self {
        pulsar::Options {
            name: start.name.name,
            check_delay_ms: start.check_delay_ms,
            fresh: start.fresh,
            journal_sync: start.journal_sync,
            settings: start.settings,
            tls: start.tls,
        }
    }
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Top::Ci(options) => ci::run(&options)?,
        Top::Chaos(options) => chaos::run(&options)?,
        Top::Purity => purity::check()?,
        Top::Guarantees => guarantees::check()?,
        Top::Links => links::check()?,
        Top::Clients(options) => clients::run(&options)?,
        Top::Conformance(options) => conformance::run(&options)?,
        Top::Coverage(options) => coverage::run(options)?,
        Top::Deny => deny::run()?,
        Top::Bench(bench) => bench.run()?,
        Top::Fuzz(options) => fuzz::run(&options)?,
        Top::Sim(options) => sim::run(&options)?,
        Top::Soak { soak } => soak::run(&soak)?,
        Top::Pulsar { command } => match command {
            Pulsar::Start(start) => println!("{}", pulsar::start(&start.into())?.to_json()),
            Pulsar::Stop(Name { name }) => pulsar::stop(&name)?,
            Pulsar::Kill(Name { name }) => pulsar::kill(&name)?,
            Pulsar::Restart(start) => {
                pulsar::kill(&start.name.name)?;
                println!("{}", pulsar::start(&start.into())?.to_json());
            }
            Pulsar::Run(Run { start, command }) => {
                let (program, arguments) = command.split_first().context("there is no command after `--`")?;
                let code = pulsar::run(&start.into(), Command::new(program).args(arguments))?;
                return Ok(ExitCode::from(code));
            }
        },
    }
    Ok(ExitCode::SUCCESS)
}

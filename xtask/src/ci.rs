//! What CI runs, in its order. Each step has a heading; the first one that fails ends it and says how to run that
//! step alone.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, bail};

use crate::test_groups::{self, Which};
use crate::{clients, conformance, coverage, deny, fuzz, guarantees, links, pulsar, purity, root, sim};

/// What `cargo xtask ci` may leave out.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Options {
    /// Leave out Apache Pulsar and other people's clients: for machines that have nothing but Rust and a C compiler.
    #[arg(long)]
    pub skip_pulsar: bool,
}

/// The packages with tests that have an Apache Pulsar arm.
const ON_PULSAR: [&str; 4] =
    ["everpulse-transport", "everpulse-checker", "everpulse-cli", "everpulse-integration-tests"];

/// So many tests of one binary run at once: most of them wait most of the time, for processes that were killed to be
/// replaced and for time-outs to come.
const TEST_THREADS: (&str, &str) = ("RUST_TEST_THREADS", "5");

/// Runs every check.
///
/// # Errors
/// The first check that fails.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let start = Instant::now();
    step("format", || cargo(&["fmt", "--all", "--", "--check"], &[]))?;
    step("clippy", || cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"], &[]))?;
    step("docs", || cargo(&["doc", "--workspace", "--no-deps"], &[("RUSTDOCFLAGS", "-D warnings")]))?;
    step("purity", purity::check)?;
    if deny::is_possible() || !options.skip_pulsar {
        step("licences, sources and bans", deny::run)?;
    } else {
        eprintln!("\n==== licences, sources and bans: SKIPPED (there is no python3). What was not run is not known.");
    }
    step("guarantees", guarantees::check)?;
    step("links", links::check)?;
    step("coverage", || coverage::run(coverage::Options::default()))?;
    // All that fails is seen at once.
    step("tests and doctests, embedded arm", || {
        test_groups::run(Which::All, &[("EVERPULSE_ARM", "embedded"), TEST_THREADS], succeeds)
    })?;
    if conformance::is_possible() || !options.skip_pulsar {
        step("the public conformance suite, embedded arm", || suite_on(clients::Arm::Embedded))?;
    } else {
        eprintln!("\n==== the public conformance suite: SKIPPED (there is no pip). What was not run is not known.");
    }
    step("fuzz", || fuzz::run(&fuzz::Options { seconds: 30, seed: None }))?;
    step("simulation", || sim::run(&sim::Options::short(100_000, 45)))?;
    if options.skip_pulsar {
        eprintln!(
            "\n==== Apache Pulsar and other people's clients: SKIPPED (--skip-pulsar). What was not run is not known."
        );
    } else {
        step("other people's clients, embedded arm", || clients_on(clients::Arm::Embedded))?;
        step("the public conformance suite, Apache Pulsar arm", || suite_on(clients::Arm::Pulsar))?;
        step("tests, Apache Pulsar arm", pulsar_arm)?;
        step("tests, Apache Pulsar by TLS", secured_arm)?;
        step("other people's clients, Apache Pulsar arm", || clients_on(clients::Arm::Pulsar))?;
    }
    eprintln!("\n==== all good, {} s", start.elapsed().as_secs());
    Ok(())
}

fn step(name: &str, check: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    eprintln!("\n==== {name}");
    let start = Instant::now();
    check().with_context(|| format!("the step `{name}` failed"))?;
    eprintln!("==== {name}: good, {} s", start.elapsed().as_secs());
    Ok(())
}

fn cargo(arguments: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<()> {
    let mut command = cargo_command(arguments, environment);
    let status = command.status().with_context(|| format!("cannot run {:?}", command.get_program()))?;
    if !status.success() {
        bail!("{} failed ({status})", spelled(arguments, environment));
    }
    Ok(())
}

fn clients_on(arm: clients::Arm) -> anyhow::Result<()> {
    clients::run(&clients::Options { suites: Vec::new(), arms: vec![arm] })
}

fn suite_on(arm: clients::Arm) -> anyhow::Result<()> {
    conformance::run(&conformance::Options { arms: vec![arm], ..conformance::Options::default() })
}

/// They are built already, so that no compiler takes the cores and the disk away from the broker.
fn pulsar_arm() -> anyhow::Result<()> {
    let environment = [("EVERPULSE_ARM", "pulsar"), TEST_THREADS];
    on_pulsar(None, |running| {
        test_groups::run(Which::TestsOf(&ON_PULSAR), &environment, |command| Ok(pulsar::run(running, command)? == 0))
    })
}

/// One broker that takes a token or a certificate, then one that takes nobody by TLS without a certificate; there, some
/// workflows too, whose workers and clients show theirs.
fn secured_arm() -> anyhow::Result<()> {
    let environment = [("EVERPULSE_ARM", "secured")];
    let transport: &[&str] = &["test", "--workspace", "--test", "secured"];
    let workflows: &[&str] = &[
        "test",
        "--workspace",
        "--test",
        "conformance",
        "--",
        "hello_comes_back",
        "signals_early_and_late",
        "workers_join_and_leave",
    ];
    let play = |tls, name: &str, tests: &[&[&str]]| {
        on_pulsar(Some(tls), |running| {
            tests.iter().try_for_each(|arguments| {
                match pulsar::run(running, &mut cargo_command(arguments, &environment))? {
                    0 => Ok(()),
                    code => bail!(
                        "cargo xtask pulsar run --tls {name} -- env {} failed ({code})",
                        spelled(arguments, &environment)
                    ),
                }
            })
        })
    };
    play(pulsar::ClientCertificates::Optional, "optional", &[transport])?;
    play(pulsar::ClientCertificates::Required, "required", &[transport, workflows])
}

/// Starts a broker, does what is to be done with it, and ends it.
fn on_pulsar(
    tls: Option<pulsar::ClientCertificates>,
    play: impl FnOnce(&pulsar::Options) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let options = pulsar::Options { name: "ci".to_owned(), fresh: true, tls, ..pulsar::Options::default() };
    pulsar::start(&options)?;
    let running = pulsar::Options { fresh: false, ..options };
    let result = play(&running);
    pulsar::stop(&running.name)?;
    result
}

fn succeeds(command: &mut Command) -> anyhow::Result<bool> {
    let status = command.status().with_context(|| format!("cannot run {:?}", command.get_program()))?;
    Ok(status.success())
}

fn cargo_command(arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    // The cargo that runs us, so that the toolchain is the same.
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(arguments).envs(environment.iter().copied());
    command
}

/// As a person would type it.
fn spelled(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let mut words: Vec<String> = environment.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    words.push("cargo".to_owned());
    words.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    words.join(" ")
}

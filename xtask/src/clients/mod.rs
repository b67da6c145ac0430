//! `cargo xtask clients`: other people's clients on our broker and on Apache Pulsar. Starts the broker of an arm, installs
//! what a suite needs under `target/clients`, runs the suite, and says what passed. What the suites contain is theirs
//! (`client-suites/`); they learn two URLs and nothing else.

mod arm;
mod suite;

use std::time::Instant;

use anyhow::bail;

pub use arm::Arm;
pub use suite::Suite;

/// Which suites run where; all of them on both arms if nothing is named.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Options {
    /// A suite; can be given several times.
    #[arg(long = "suite", value_enum)]
    pub suites: Vec<Suite>,
    /// A broker; can be given several times.
    #[arg(long = "arm", value_enum)]
    pub arms: Vec<Arm>,
}

/// Runs the suites. One that fails does not keep the others from running.
///
/// # Errors
/// When a broker does not start or a suite fails; the message names each, and how to run it alone.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let suites = if options.suites.is_empty() { Suite::ALL.to_vec() } else { options.suites.clone() };
    let arms = if options.arms.is_empty() { vec![Arm::Embedded, Arm::Pulsar] } else { options.arms.clone() };
    for suite in &suites {
        suite.install()?;
    }
    let mut summary = Vec::new();
    let mut failed = Vec::new();
    for arm in arms {
        let broker = arm.start()?;
        for suite in &suites {
            eprintln!("\n==== {suite} on {arm}");
            let start = Instant::now();
            let outcome = suite.run(&broker);
            let seconds = start.elapsed().as_secs();
            match outcome {
                Ok(()) => summary.push(format!("{suite} on {arm}: good, {seconds} s")),
                Err(error) => {
                    summary.push(format!("{suite} on {arm}: FAILED, {seconds} s: {error:#}"));
                    failed.push(format!("cargo xtask clients --suite {suite} --arm {arm}"));
                }
            }
        }
        broker.stop()?;
    }
    eprintln!("\n==== clients\n{}", summary.join("\n"));
    if !failed.is_empty() {
        bail!("to run what failed alone:\n  {}", failed.join("\n  "));
    }
    Ok(())
}

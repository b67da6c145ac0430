//! What CI runs.

/// What `cargo xtask ci` may leave out.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Options {
    /// Leave out the Apache Pulsar arm (for machines without Java).
    #[arg(long)]
    pub skip_pulsar: bool,
}

/// Runs every check.
pub fn run(_options: &Options) -> anyhow::Result<()> {
    Ok(())
}

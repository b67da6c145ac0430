//! The configuration for clippy that helpers of workflows are checked with, on a small crate of them.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

#[test]
fn clippy_finds_in_helpers_what_a_replay_would_do_otherwise() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let helpers = package.join("tests/helpers");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["clippy", "--offline", "--quiet", "--message-format=short", "--target-dir", env!("CARGO_TARGET_TMPDIR")])
        .current_dir(&helpers)
        .env("CLIPPY_CONF_DIR", package.join("determinism"))
        .env_remove("RUSTFLAGS")
        .output()
        .expect("clippy is part of the toolchain that builds this");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "its configuration can be read: {said}");

    let source = std::fs::read_to_string(helpers.join("src/lib.rs")).expect("the helpers");
    let marked = source.lines().enumerate().filter(|(_, line)| line.contains("// found")).map(|(index, _)| index + 1);
    let line_of = |message: &str| message.strip_prefix("src/lib.rs:")?.split(':').next()?.parse::<usize>().ok();
    let found: BTreeSet<usize> = said.lines().filter_map(line_of).collect();
    assert_eq!(found, marked.collect(), "{said}");
}

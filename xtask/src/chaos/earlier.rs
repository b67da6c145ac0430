//! The programs of an earlier commit, built from its own sources in a folder of their own.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, bail};

use super::build_in;
use crate::root;

/// Builds them, or takes them as they were built before; the folder, and the commit.
///
/// # Errors
/// When git knows no such commit, or its programs cannot be built.
pub fn programs(revision: &str, debug: bool) -> anyhow::Result<(PathBuf, String)> {
    let commit = git(&["rev-parse", "--verify", "--short=12", &format!("{revision}^{{commit}}")])
        .with_context(|| format!("there is no commit {revision}; name one of this repository"))?;
    let folder = root().join("target/earlier");
    let source = folder.join(&commit);
    if !source.exists() {
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let path = source.to_string_lossy();
        git(&["worktree", "add", "--detach", "--force", &path, &commit])
            .context("cannot take out the earlier sources")?;
    }
    // One folder for all commits: what they have in common is built once.
    Ok((build_in(&source, Some(&folder.join("target")), debug)?, commit))
}

fn git(arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("git").args(arguments).current_dir(root()).output().context("cannot run git")?;
    if !output.status.success() {
        bail!("git {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

//! The invariants that manifests and lints can prove: the pure crates have no runtime, no clock and no randomness of
//! the operating system; only some crates name the `pulsar` crate; the broker and the judge know none of ours; no
//! package may have unsafe code.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::root;

/// Folders of the crates that are functions of their input only.
const PURE: [&str; 4] = ["protocol", "sdk", "schedule", "engine"];
/// Pure but for the salts of what is sealed, which the operating system's randomness gives: no runtime, no clock.
const SALTED: [&str; 1] = ["codecs"];
/// What would bring them a runtime or sockets.
const RUNTIMES: [&str; 4] = ["tokio", "async-std", "mio", "smol"];
/// What would bring them randomness.
const RANDOMNESS: [&str; 2] = ["getrandom", "rand_os"];
/// What their lints must refuse.
const CLOCKS: [&str; 2] = ["std::time::SystemTime::now", "std::time::Instant::now"];
/// Who may depend on the `pulsar` crate; as a dev-dependency also the broker, to be tried with a real client.
const PULSAR: [&str; 2] = ["everpulse-transport", "everpulse-checker"];
/// Who depends on no crate of ours: the broker knows nothing of workflows, and a judge uses nothing of the judged.
const ALONE: [&str; 2] = ["everpulse-broker", "everpulse-checker"];

/// Checks all of them.
///
/// # Errors
/// The first that does not hold.
pub fn check() -> anyhow::Result<()> {
    for folder in PURE {
        check_tree(folder, &[&RUNTIMES[..], &RANDOMNESS].concat())?;
        check_lints(folder)?;
    }
    for folder in SALTED {
        check_tree(folder, &RUNTIMES)?;
        check_lints(folder)?;
    }
    check_canary()?;
    check_dependencies()
}

/// Nothing impure among the dependencies of a pure crate, when it is built by itself.
fn check_tree(folder: &str, impure: &[&str]) -> anyhow::Result<()> {
    let package = format!("everpulse-{folder}");
    let tree = output(&["tree", "-p", &package, "-e", "normal", "--prefix", "none", "--format", "{p}"])?;
    for line in tree.lines() {
        let name = line.split_whitespace().next().unwrap_or_default();
        if impure.contains(&name) {
            bail!("{package} depends on {name}: cargo tree -p {package} -e normal -i {name}");
        }
    }
    Ok(())
}

/// Clippy reads the configuration nearest to a package's manifest; that one has to forbid the clocks.
fn check_lints(folder: &str) -> anyhow::Result<()> {
    let file = root().join(folder).join("clippy.toml");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    match CLOCKS.iter().find(|clock| !text.contains(*clock)) {
        Some(clock) => bail!("{folder}/clippy.toml does not disallow {clock}"),
        None => Ok(()),
    }
}

/// The lint itself is tried on a crate that asks for the time, once for each clock.
fn check_canary() -> anyhow::Result<()> {
    for clock in CLOCKS {
        let dir = root().join("target/purity-canary");
        fs::create_dir_all(dir.join("src"))?;
        fs::copy(root().join(PURE[0]).join("clippy.toml"), dir.join("clippy.toml"))?;
        // A workspace of its own, or cargo would look for one above.
        let manifest = "[package]\nname = \"purity-canary\"\nedition = \"2024\"\n\n[workspace]\n";
        fs::write(dir.join("Cargo.toml"), manifest)?;
        fs::write(dir.join("src/lib.rs"), format!("pub fn now() {{\n    let _ = {clock}();\n}}\n"))?;
        let tried = cargo(&["clippy", "--quiet", "--", "-D", "warnings"]).current_dir(&dir).output()?;
        let said = String::from_utf8_lossy(&tried.stderr);
        if tried.status.success() || !said.contains("disallowed") {
            bail!("clippy does not refuse {clock} in a pure crate; it said: {said}");
        }
    }
    Ok(())
}

fn check_dependencies() -> anyhow::Result<()> {
    let metadata: Value = serde_json::from_str(&output(&["metadata", "--no-deps", "--format-version", "1"])?)?;
    let list = |value: &Value, name: &str| value.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    for package in list(&metadata, "packages") {
        let name = text(&package, "name");
        check_unsafe(&name, Path::new(&text(&package, "manifest_path")))?;
        for dependency in list(&package, "dependencies") {
            let (on, dev) = (text(&dependency, "name"), text(&dependency, "kind") == "dev");
            let may_name_pulsar = PULSAR.contains(&name.as_str()) || (dev && name == "everpulse-broker");
            if on == "pulsar" && !may_name_pulsar {
                bail!("{name} depends on the pulsar crate; only {} may", PULSAR.join(" and "));
            }
            if on.starts_with("everpulse") && !dev && ALONE.contains(&name.as_str()) {
                bail!("{name} depends on {on}, and it must depend on none of ours");
            }
        }
    }
    Ok(())
}

/// A package has the workspace's lints only if it says so itself.
fn check_unsafe(name: &str, manifest: &Path) -> anyhow::Result<()> {
    let package = read_manifest(manifest)?;
    if package.get("lints").and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool) != Some(true) {
        bail!("{name} does not take the workspace's lints: write `[lints]` and `workspace = true` into its Cargo.toml");
    }
    let workspace = read_manifest(&root().join("Cargo.toml"))?;
    let lint = ["workspace", "lints", "rust", "unsafe_code"].iter().try_fold(&workspace, |table, name| table.get(name));
    if lint.and_then(toml::Value::as_str) != Some("forbid") {
        bail!("Cargo.toml does not have unsafe_code = \"forbid\" among the workspace's lints");
    }
    Ok(())
}

fn read_manifest(file: &Path) -> anyhow::Result<toml::Value> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    toml::from_str(&text).with_context(|| format!("cannot read {}", file.display()))
}

fn output(arguments: &[&str]) -> anyhow::Result<String> {
    let output = cargo(arguments).output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!("cargo {} failed: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(arguments);
    command
}

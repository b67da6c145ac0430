//! The workspace's tests in two groups side by side. Most tests of `integration-tests` wait most of the time, for processes that were killed to be
//! replaced and for time-outs to come; the others compute. One after the other they would take the sum of both.
//!
//! Each `cargo test` here chooses among the targets of the whole workspace by their names: with packages chosen, cargo would build all of
//! them again, with the features that these alone ask for.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::root;

/// Whose tests wait.
const WAITING: &str = "everpulse-integration-tests";

/// One of those that run side by side.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    name: &'static str,
    /// What is chosen of the packages.
    targets: Vec<String>,
}

/// What is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which<'a> {
    /// Unit tests, tests and doctests of the workspace.
    All,
    /// The tests of these packages, and those of others that have the same names.
    TestsOf(&'a [&'a str]),
}

/// Builds tests and runs them; `run` is given each command, and says whether it succeeded. What fails stops nothing else.
///
/// # Errors
/// What was not built, or the groups with a test that failed.
pub fn run(
    which: Which<'_>,
    environment: &[(&str, &str)],
    run: impl Fn(&mut Command) -> anyhow::Result<bool> + Sync,
) -> anyhow::Result<()> {
    let command = |arguments: &[String]| {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(root()).args(["test", "--workspace", "--no-fail-fast"]);
        command.args(arguments).envs(environment.iter().copied());
        command
    };
    // Before, so that no compiler takes the cores away from tests, and no group waits for the other one's.
    let built = command(&["--no-run".to_owned()]).status().context("cannot run cargo")?;
    if !built.success() {
        bail!("the tests cannot be built ({built})");
    }
    let groups = shared_out(which, &tests(which)?);
    let mut results: Vec<(&str, anyhow::Result<bool>)> = std::thread::scope(|scope| {
        let (command, run) = (&command, &run);
        let begin = |group| (group, scope.spawn(move || in_group(group, command, run)));
        let running: Vec<_> = groups.iter().map(begin).collect();
        let ended = running.into_iter().map(|(group, thread)| {
            let result = thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("it panicked")));
            // Each in one piece.
            if let Ok(text) = fs::read(log(group)) {
                eprintln!("\n---- {}\n{}", group.name, String::from_utf8_lossy(&text));
            }
            (group.name, result)
        });
        ended.collect()
    });
    if which == Which::All {
        results.push(("doctests", run(&mut command(&["--doc".to_owned()]))));
    }
    let mut failed = Vec::new();
    for (name, result) in results {
        if !result.with_context(|| name.to_owned())? {
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("tests failed, which stand above, in: {}", failed.join(", "));
    }
    Ok(())
}

fn in_group(
    group: &Group,
    command: &impl Fn(&[String]) -> Command,
    run: &impl Fn(&mut Command) -> anyhow::Result<bool>,
) -> anyhow::Result<bool> {
    let path = log(group);
    fs::create_dir_all(root().join("target/test-groups")).context("cannot create target/test-groups")?;
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    let mut command = command(&group.targets);
    command.stdout(file.try_clone().context("cannot share a file")?).stderr(file);
    run(&mut command)
}

/// Where it prints, to be looked at meanwhile.
fn log(group: &Group) -> PathBuf {
    root().join(format!("target/test-groups/{}.log", group.name))
}

/// The tests of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tests {
    package: String,
    names: Vec<String>,
}

/// What cargo knows of the tests.
fn tests(which: Which<'_>) -> anyhow::Result<Vec<Tests>> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root()).args(["metadata", "--no-deps", "--format-version", "1"]);
    let output = cargo.output().context("cannot run cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).context("what cargo metadata prints")?;
    let words = |value: &Value| value.as_str().map(str::to_owned).context("a name in what cargo metadata prints");
    let list = |value: &Value| value.as_array().cloned().context("a list in what cargo metadata prints");
    let mut tests = Vec::new();
    for package in list(&metadata["packages"])? {
        let name = words(&package["name"])?;
        if matches!(which, Which::TestsOf(packages) if !packages.contains(&name.as_str())) {
            continue;
        }
        let targets = list(&package["targets"])?;
        let are_tests = targets.iter().filter(|target| target["kind"][0] == "test");
        tests.push(Tests {
            package: name,
            names: are_tests.map(|target| words(&target["name"])).collect::<Result<_, _>>()?,
        });
    }
    Ok(tests)
}

/// Each test is in one group. Those of different packages that have one name go together, since cargo chooses by name.
fn shared_out(which: Which<'_>, tests: &[Tests]) -> Vec<Group> {
    let names = |waiting: bool| -> BTreeSet<&String> {
        let of = tests.iter().filter(|tests| (tests.package == WAITING) == waiting);
        of.flat_map(|tests| &tests.names).collect()
    };
    let waiting = names(true);
    let computing: Vec<&String> = names(false).difference(&waiting).copied().collect();
    let chosen = |names: Vec<&String>| names.into_iter().flat_map(|name| ["--test".to_owned(), name.clone()]).collect();
    let mut rest: Vec<String> = chosen(computing);
    if which == Which::All {
        rest.extend(["--lib", "--bins", "--examples"].map(str::to_owned));
    }
    let waiting = Group { name: "tests-that-wait", targets: chosen(waiting.into_iter().collect()) };
    // Without a choice cargo would run everything.
    let groups = [waiting, Group { name: "other-tests", targets: rest }];
    groups.into_iter().filter(|group| !group.targets.is_empty()).collect()
}

#[cfg(test)]
mod tests_of_groups {
    use super::*;

    fn named(package: &str, names: &[&str]) -> Tests {
        Tests { package: package.to_owned(), names: names.iter().map(|name| (*name).to_owned()).collect() }
    }

    #[test]
    fn each_test_is_in_one_group_and_names_are_not_parted() {
        let tests = [
            named("everpulse-engine", &["faults", "spine"]),
            named(WAITING, &["faults", "kills"]),
            named("everpulse-cli", &[]),
        ];
        let [wait, others] = &shared_out(Which::All, &tests)[..] else { panic!("two groups") };
        assert_eq!(wait.targets, ["--test", "faults", "--test", "kills"]);
        assert_eq!(others.targets, ["--test", "spine", "--lib", "--bins", "--examples"]);
        let groups = shared_out(Which::TestsOf(&["everpulse-engine", WAITING]), &tests);
        assert_eq!(groups.iter().map(|group| group.targets.len()).collect::<Vec<_>>(), [4, 2]);
        assert_eq!(
            shared_out(Which::TestsOf(&[WAITING]), &tests[1..2]).len(),
            1,
            "one without a choice would run everything"
        );
    }

    #[test]
    fn what_cargo_knows_is_read() {
        let all = tests(Which::All).expect("cargo knows the workspace");
        let waiting = all.iter().find(|tests| tests.package == WAITING).expect("they are there");
        assert!(waiting.names.iter().any(|name| name == "kills"), "{waiting:?}");
        assert_eq!(tests(Which::TestsOf(&["everpulse-cli"])).expect("likewise").len(), 1);
    }
}

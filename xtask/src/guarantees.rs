//! `docs/guarantees.md` names the tests that show each guarantee: here is checked that they are there.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::root;

const DOCUMENT: &str = "docs/guarantees.md";

/// Looks every named test up.
///
/// # Errors
/// Those that are not where the document says, or no test at all is named.
pub fn check() -> anyhow::Result<()> {
    let path = root().join(DOCUMENT);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let named = tests_named_in(&text);
    if named.is_empty() {
        bail!("{DOCUMENT} names no test");
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut missing = String::new();
    for (test, file) in &named {
        let found = std::fs::read_to_string(folder.join(file)).is_ok_and(|source| has_test(&source, test));
        if !found {
            writeln!(missing, "  {test} in {file}")?;
        }
    }
    if !missing.is_empty() {
        bail!("{DOCUMENT} names tests that are not there:\n{missing}");
    }
    eprintln!("{} tests are named in {DOCUMENT}, all of them are there", named.len());
    Ok(())
}

/// Links of the form ``[`test`](file.rs)``.
fn tests_named_in(text: &str) -> Vec<(&str, &str)> {
    let links = text.split("[`").skip(1).filter_map(|rest| {
        let (test, rest) = rest.split_once("`](")?;
        let (file, _) = rest.split_once(')')?;
        file.ends_with(".rs").then_some((test, file))
    });
    links.collect()
}

/// A function of this name with a test's attribute before it, or one that a macro makes a test.
fn has_test(source: &str, test: &str) -> bool {
    let function = format!("fn {test}(");
    let made = [format!("{test},"), format!("{test} =>"), format!("{test}:"), format!("{test};")];
    source.lines().map(str::trim_start).any(|line| {
        line.contains(&function) && !line.starts_with("//") || made.iter().any(|form| line.starts_with(form.as_str()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_tests_are_found_and_others_missed() {
        let text = "| a | [`one_comes`](../a/tests/b.rs), [`two_go`](../c.rs) (both arms), [a report](soak/x.md) |";
        assert_eq!(tests_named_in(text), [("one_comes", "../a/tests/b.rs"), ("two_go", "../c.rs")]);
        assert!(has_test("#[test]\n    fn one_comes() {", "one_comes"));
        assert!(!has_test("fn one_comes_again() {}", "one_comes"));
        assert!(!has_test("// fn one_comes()", "one_comes"));
    }
}

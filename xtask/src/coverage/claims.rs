//! The tests and the rows that they claim, read from their sources line by line.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// One test.
#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Test {
    pub suite: Suite,
    /// What it shows: its name without the claim.
    pub words: String,
    /// The rows that it claims; empty if it should claim one and does not.
    pub rows: Vec<String>,
    file: String,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Suite {
    Python,
    Node,
    Java,
    Tools,
    Rust,
}

impl Suite {
    pub(super) const ALL: [Suite; 5] = [Suite::Python, Suite::Node, Suite::Java, Suite::Tools, Suite::Rust];

    fn folder(self) -> &'static str {
        match self {
            Suite::Python => "client-suites/python",
            Suite::Node => "client-suites/node/tests",
            Suite::Java => "client-suites/java/src",
            Suite::Tools => "client-suites/tools",
            Suite::Rust => "broker",
        }
    }

    fn endings(self) -> &'static [&'static str] {
        match self {
            Suite::Python => &["py"],
            Suite::Node => &["js"],
            Suite::Java => &["java"],
            Suite::Tools => &["rs", "sh", "toml", "txt", "py"],
            Suite::Rust => &["rs"],
        }
    }
}

/// Every test that claims a row, or should.
pub(super) fn find(root: &Path) -> anyhow::Result<Vec<Test>> {
    let mut tests = Vec::new();
    for suite in Suite::ALL {
        for path in files(&root.join(suite.folder()), suite.endings())? {
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let file = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            tests.extend(in_text(suite, &file, &text));
        }
    }
    Ok(tests)
}

fn in_text(suite: Suite, file: &str, text: &str) -> Vec<Test> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let mut tests = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let named = |name: &str| test(suite, file, name);
        match suite {
            Suite::Python => tests.extend(after(line, &["def test_", "async def test_"]).map(named)),
            Suite::Node => tests.extend(after(line, &["test('", "test(\"", "test(`"]).map(named)),
            Suite::Java => {
                if line.starts_with("@Test") || line.starts_with("@ParameterizedTest") {
                    let name = lines[at..].iter().find_map(|line| Some(word(line.split_once("void ")?.1)));
                    tests.extend(name.map(named));
                }
            }
            Suite::Tools => {
                let claims = claims_in(line).into_iter();
                tests.extend(claims.map(|name| named(name.strip_prefix("test_").unwrap_or(name))));
            }
            Suite::Rust => {
                if let Some(rows) = line.strip_prefix("// covers: ") {
                    let name = lines[at..].iter().find_map(|line| Some(word(line.split_once("fn ")?.1)));
                    let rows = rows.split(',').map(|row| row.trim().to_owned()).collect();
                    let words = name.unwrap_or_default().to_owned();
                    tests.push(Test { suite, words, rows, file: file.to_owned() });
                }
            }
        }
    }
    tests
}

fn test(suite: Suite, file: &str, name: &str) -> Test {
    let (rows, words) = match name.split_once("__") {
        Some((row, words)) => (vec![row.to_owned()], words),
        None => (Vec::new(), name),
    };
    Test { suite, words: words.to_owned(), rows, file: file.to_owned() }
}

/// The word that follows one of the beginnings.
fn after<'a>(line: &'a str, beginnings: &[&str]) -> Option<&'a str> {
    beginnings.iter().find_map(|beginning| line.strip_prefix(beginning)).map(word)
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// All words that look like a claim.
fn claims_in(line: &str) -> Vec<&str> {
    let words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.find("__").is_some_and(|at| at > 0 && at + 2 < word.len())).collect()
}

/// In the order of their names, so that the document does not depend on the file system.
fn files(folder: &Path, endings: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if !folder.exists() {
        return Ok(found);
    }
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            found.extend(files(&path, endings)?);
        } else if path.extension().is_some_and(|ending| endings.iter().any(|one| ending == *one)) {
            found.push(path);
        }
    }
    Ok(found)
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.words, self.file)
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Suite::Python => "python",
            Suite::Node => "node",
            Suite::Java => "java",
            Suite::Tools => "tools",
            Suite::Rust => "Rust",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(suite: Suite, text: &str, expect: &[(&[&str], &str)]) {
        let found = in_text(suite, "file", text);
        let found: Vec<(Vec<&str>, &str)> =
            found.iter().map(|test| (test.rows.iter().map(String::as_str).collect(), test.words.as_str())).collect();
        let expect: Vec<(Vec<&str>, &str)> = expect.iter().map(|(rows, words)| (rows.to_vec(), *words)).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn tests_of_each_suite_are_found_with_their_claims() {
        check(Suite::Python, "def test_ack__is_kept(client):\n    def helper():", &[(&["ack"], "is_kept")]);
        check(Suite::Python, "async def test_nothing():", &[(&[], "nothing")]);
        check(Suite::Node, "test('ack__is_kept', async () => {", &[(&["ack"], "is_kept")]);
        check(Suite::Java, "@Test\n@Timeout(9)\nvoid ack__is_kept() {\nvoid help() {", &[(&["ack"], "is_kept")]);
        check(Suite::Tools, "def test_ack__is_kept(self):", &[(&["ack"], "is_kept")]);
        check(Suite::Tools, "case \"ack__is_kept\" def __init__(self) a__", &[(&["ack"], "is_kept")]);
    }

    #[test]
    fn a_rust_test_claims_by_a_line_above_it() {
        let text = "// covers: ack, flow\n#[tokio::test]\nasync fn is_kept() {\n}\n#[test]\nfn other() {";
        check(Suite::Rust, text, &[(&["ack", "flow"], "is_kept")]);
    }
}

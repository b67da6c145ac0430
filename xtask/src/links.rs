//! Documents point to files: here is checked that these are there, and that each decision is named by the index.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::root;

const DECISIONS: &str = "docs/decisions";

/// Looks up what every document of the repository points to.
///
/// # Errors
/// The links that lead nowhere, and the decisions that no link of the index leads to.
pub fn check() -> anyhow::Result<()> {
    let listed = std::process::Command::new("git")
        .current_dir(root())
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "*.md"])
        .output()
        .context("cannot run git")?;
    let (mut links, mut astray) = (0, String::new());
    for document in String::from_utf8(listed.stdout)?.lines() {
        let path = root().join(document);
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {document}"))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        for target in targets_in(&text) {
            links += 1;
            if !folder.join(target).exists() {
                writeln!(astray, "  {target} in {document}")?;
            }
        }
    }
    if !astray.is_empty() {
        bail!("links lead nowhere:\n{astray}");
    }
    let index = std::fs::read_to_string(root().join(DECISIONS).join("README.md"))?;
    let named: Vec<&str> = targets_in(&index).collect();
    for decision in std::fs::read_dir(root().join(DECISIONS))? {
        let name = decision?.file_name().into_string().unwrap_or_default();
        if name != "README.md" && !named.contains(&name.as_str()) {
            bail!("{DECISIONS}/README.md does not name {name}");
        }
    }
    eprintln!("{links} links lead to files, and each decision is named by the index");
    Ok(())
}

/// The files that a document's links name, without what is elsewhere in the world or in the document itself. What stands in
/// blocks of code is no link.
fn targets_in(text: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    let prose = text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        !in_code && !fence
    });
    let targets = prose.flat_map(|line| line.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0)));
    targets.filter_map(|target| {
        let file = target.split('#').next().unwrap_or(target);
        let is_file = !file.is_empty() && !file.contains("://") && !file.contains(' ') && !file.starts_with("mailto:");
        is_file.then_some(file)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_files_are_found_and_others_left() {
        let text = "[a](b.md#c), [d](#e) [f](https://g.h/i)\n```\n[j](k.md)\n```\n[l](../m/n.rs) vec[0](x y)";
        assert_eq!(targets_in(text).collect::<Vec<_>>(), ["b.md", "../m/n.rs"]);
    }
}

//! The suite's cases, as its wheel has them.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// One case: what it is given and what is expected of it.
#[derive(Debug, Clone)]
pub struct Case {
    /// As the suite numbers it: `4-7`.
    pub id: String,
    /// The folder that it stands in.
    pub family: String,
    pub body: Value,
}

impl Case {
    /// A list of its body; empty if it has none.
    #[must_use]
    pub fn list(&self, name: &str) -> &[Value] {
        self.body.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
    }

    fn order(&self) -> (u32, u32) {
        let number = |text: Option<&str>| text.and_then(|text| text.parse().ok()).unwrap_or(u32::MAX);
        let mut parts = self.id.split('-');
        (number(parts.next()), number(parts.next()))
    }
}

/// Reads all cases below a folder, in the order of their numbers.
///
/// # Errors
/// When there is none, or one cannot be read.
pub fn read(folder: &Path) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for family in std::fs::read_dir(folder).with_context(|| format!("the cases in {}", folder.display()))? {
        let family = family?.path();
        if !family.is_dir() {
            continue;
        }
        for file in std::fs::read_dir(&family)? {
            let file = file?.path();
            if file.extension().is_none_or(|extension| extension != "yaml") {
                continue;
            }
            let name = |path: &Path| path.file_stem().and_then(|name| name.to_str()).map(str::to_owned);
            let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            // As the suite's own runner reads it: of the words of YAML 1.1 for yes and no, only `true` and `false` are meant.
            let options = serde_saphyr::options! { strict_booleans: true };
            let body =
                serde_saphyr::from_str_with_options(&text, options).with_context(|| file.display().to_string())?;
            let id = name(&file).context("a file without a name")?;
            cases.push(Case { id, family: name(&family).context("a folder without a name")?, body });
        }
    }
    if cases.is_empty() {
        bail!("there are no cases in {}", folder.display());
    }
    cases.sort_by_key(Case::order);
    Ok(cases)
}

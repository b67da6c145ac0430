//! The rows of the table, as `broker/coverage/*.toml` has them.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Everything that has a row.
#[derive(Debug)]
pub(super) struct Rows {
    pub commands: Vec<Command>,
    pub features: Vec<Row>,
    pub rest: Vec<Row>,
}

/// A command of the binary protocol.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Command {
    pub number: u32,
    pub name: String,
    pub status: Status,
    #[serde(default)]
    pub words: String,
    /// Ids of the rows whose tests use it.
    #[serde(default)]
    pub shown_by: Vec<String>,
}

/// A feature, or a group of REST paths.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    /// What tests claim it by.
    pub id: String,
    /// The heading that a feature stands under.
    #[serde(default)]
    pub group: String,
    /// Where a REST group answers.
    #[serde(default)]
    pub paths: String,
    pub status: Status,
    pub words: String,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Supported,
    Refused,
    Unsupported,
}

impl Rows {
    pub(super) fn read(folder: &Path) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Commands {
            command: Vec<Command>,
        }
        #[derive(Deserialize)]
        struct Features {
            feature: Vec<Row>,
        }
        #[derive(Deserialize)]
        struct Rest {
            rest: Vec<Row>,
        }
        let rows = Rows {
            commands: file::<Commands>(&folder.join("commands.toml"))?.command,
            features: file::<Features>(&folder.join("features.toml"))?.feature,
            rest: file::<Rest>(&folder.join("rest.toml"))?.rest,
        };
        let mut ids: Vec<&str> = rows.ids().collect();
        ids.sort_unstable();
        if let Some(twice) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
            bail!("two rows have the id `{}`", twice[0]);
        }
        Ok(rows)
    }

    fn ids(&self) -> impl Iterator<Item = &str> {
        self.features.iter().chain(&self.rest).map(|row| row.id.as_str())
    }

    pub(super) fn is_known(&self, id: &str) -> bool {
        self.ids().any(|known| known == id)
    }
}

fn file<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("cannot understand {}", path.display()))
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Status::Supported => "supported",
            Status::Refused => "refused",
            Status::Unsupported => "unsupported",
        })
    }
}

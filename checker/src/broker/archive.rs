//! History as it was written, kept in files, so that what a broker has trimmed can be judged too.
//!
//! Whoever keeps an archive reads on more often than history is trimmed. What was trimmed before it was read is missing,
//! and the judge says so: frames name their predecessors.
//!
//! ```text
//! FOLDER/history-3:  (ledger u64 | entry u64 | length u32 | bytes)*, all little-endian
//! ```

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use xxhash_rust::xxh3::xxh3_64;

use super::{Options, source};
use crate::{Position, Report, Rules, shard};

type Entries = Vec<(Position, Vec<u8>)>;

/// The entries of all partitions, as far as they were read.
#[derive(Debug)]
pub struct Archive {
    folder: PathBuf,
    /// The last position of each partition.
    last: Vec<Option<Position>>,
    /// Bytes in all files.
    bytes: u64,
}

impl Archive {
    /// A new one in an empty folder.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn create(folder: impl Into<PathBuf>) -> anyhow::Result<Self> {
        let folder = folder.into();
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self { folder, last: Vec::new(), bytes: 0 })
    }

    /// Partitions that were found.
    #[must_use]
    pub fn shards(&self) -> u32 {
        u32::try_from(self.last.len()).unwrap_or(u32::MAX)
    }

    /// Bytes that were kept.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The shard of a workflow id.
    #[must_use]
    pub fn shard_of(&self, workflow_id: &str) -> u32 {
        let shards = u64::from(self.shards().max(1));
        u32::try_from(xxh3_64(workflow_id.as_bytes()) % shards).unwrap_or(u32::MAX)
    }

    /// Reads what came since the last time, up to where history ends now.
    ///
    /// # Errors
    /// When the broker cannot be read or a file not be written; what was kept stays, and the next reading goes on.
    ///
    /// # Cancel safety
    /// What was read until then is read again.
    pub async fn read_on(&mut self, options: &Options) -> anyhow::Result<usize> {
        let partitions = source::read_history(options, &self.last).await?;
        let mut read = 0;
        for (shard, entries) in (0_u32..).zip(partitions) {
            let path = self.path(shard);
            if self.last.len() <= shard as usize {
                self.last.push(None);
            }
            if entries.is_empty() {
                continue;
            }
            let file = OpenOptions::new().create(true).append(true).open(&path);
            let mut file = BufWriter::new(file.with_context(|| format!("cannot write {}", path.display()))?);
            for (position, bytes) in &entries {
                let length = u32::try_from(bytes.len()).context("an entry of more than 4 GB")?;
                file.write_all(&position.ledger.to_le_bytes())?;
                file.write_all(&position.entry.to_le_bytes())?;
                file.write_all(&length.to_le_bytes())?;
                file.write_all(bytes)?;
                self.bytes += u64::from(length);
            }
            file.flush().with_context(|| format!("cannot write {}", path.display()))?;
            read += entries.len();
            self.last[shard as usize] = entries.last().map(|(position, _)| *position);
        }
        Ok(read)
    }

    /// The entries of a partition, in the order in which they lay there.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn entries(&self, shard: u32) -> anyhow::Result<Entries> {
        let path = self.path(shard);
        if !path.exists() {
            return Ok(Entries::new());
        }
        read_file(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Judges one partition; a partition at a time takes a part of the memory.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn check(&self, shard: u32, rules: &Rules) -> anyhow::Result<Report> {
        let mut report = Report::default();
        shard::check(shard, self.shards(), &self.entries(shard)?, rules, &mut report);
        Ok(report)
    }

    fn path(&self, shard: u32) -> PathBuf {
        self.folder.join(format!("history-{shard}"))
    }
}

fn read_file(path: &Path) -> anyhow::Result<Entries> {
    let mut bytes = Vec::new();
    File::open(path)?.read_to_end(&mut bytes)?;
    let mut rest = &bytes[..];
    let mut entries = Entries::new();
    while !rest.is_empty() {
        let position =
            Position { ledger: u64::from_le_bytes(take(&mut rest)?), entry: u64::from_le_bytes(take(&mut rest)?) };
        let length = u32::from_le_bytes(take(&mut rest)?) as usize;
        ensure!(rest.len() >= length, "the entry at {position} is cut off");
        let (entry, behind) = rest.split_at(length);
        entries.push((position, entry.to_vec()));
        rest = behind;
    }
    Ok(entries)
}

fn take<const N: usize>(rest: &mut &[u8]) -> anyhow::Result<[u8; N]> {
    let (bytes, behind) = rest.split_first_chunk::<N>().context("the file is cut off")?;
    *rest = behind;
    Ok(*bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_cut_off_is_refused() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("history-0");
        let whole: Vec<u8> = [&7_u64.to_le_bytes()[..], &1_u64.to_le_bytes(), &3_u32.to_le_bytes(), b"abc"].concat();
        std::fs::write(&path, &whole).expect("written");
        let entries = read_file(&path).expect("it reads");
        assert_eq!(entries, [(Position { ledger: 7, entry: 1 }, b"abc".to_vec())]);
        for length in 1..whole.len() {
            std::fs::write(&path, &whole[..length]).expect("written");
            assert!(read_file(&path).is_err(), "{length} bytes");
        }
    }
}

//! Blobs as files of a directory that all processes of the application share.
//!
//! ```text
//! DIR/3f/3f9a…c1          a blob, under its hash
//! DIR/3f/.3f9a…c1.UUID    one that is being written: renamed when it is on the disk
//! ```

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use everpulse_protocol::blob::Reference;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use uuid::Uuid;

use crate::store::{BlobStore, Collected, StoreError};

/// A directory, on a disk or a file system that the workers and clients share.
#[derive(Debug, Clone)]
pub struct Directory {
    root: PathBuf,
}

impl Directory {
    /// It is made when the first blob is put.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn path(&self, blob: &Reference) -> PathBuf {
        let name = blob.name();
        self.root.join(&name[..2]).join(name)
    }

    /// Runs what blocks where that is allowed.
    fn blocking<T: Send + 'static>(
        &self,
        blob: Option<&Reference>,
        work: impl FnOnce(&Path) -> std::io::Result<T> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let path = blob.map_or_else(|| self.root.clone(), |blob| self.path(blob));
        async move {
            let done = tokio::task::spawn_blocking(move || work(&path).map_err(|error| said(&path, &error))).await;
            done.unwrap_or_else(|error| Err(StoreError::unavailable(error)))
        }
        .boxed()
    }
}

impl BlobStore for Directory {
    fn put<'a>(&'a self, blob: &'a Reference, data: Bytes) -> BoxFuture<'a, Result<Option<String>, StoreError>> {
        self.blocking(Some(blob), move |path| put(path, &data).map(|()| None))
    }

    fn get<'a>(&'a self, blob: &'a Reference) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        let bytes = blob.bytes;
        self.blocking(Some(blob), move |path| {
            // Nobody reads more than was meant, whatever lies there.
            if fs::metadata(path)?.len() != bytes {
                return Err(std::io::Error::other(format!("the file does not have the {bytes} bytes that were put")));
            }
            fs::read(path).map(Bytes::from)
        })
    }

    fn delete<'a>(&'a self, blob: &'a Reference) -> BoxFuture<'a, Result<bool, StoreError>> {
        self.blocking(Some(blob), |path| match fs::remove_file(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            removed => removed.map(|()| true),
        })
    }

    fn collect(&self, before: SystemTime) -> BoxFuture<'_, Result<Collected, StoreError>> {
        self.blocking(None, move |root| collect(root, before))
    }
}

fn said(path: &Path, error: &std::io::Error) -> StoreError {
    match error.kind() {
        ErrorKind::NotFound => StoreError::Missing,
        _ => StoreError::unavailable(format!("{}: {error}", path.display())),
    }
}

fn put(path: &Path, data: &[u8]) -> std::io::Result<()> {
    // Compared, since what lies there may have been damaged since it was put.
    if fs::metadata(path).is_ok_and(|there| there.len() == data.len() as u64) && fs::read(path)? == data {
        return File::options().append(true).open(path)?.set_modified(SystemTime::now());
    }
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(std::io::Error::other("a blob lies in a directory"));
    };
    let made = !dir.is_dir();
    fs::create_dir_all(dir)?;
    let written = dir.join(format!(".{}.{}", name.to_string_lossy(), Uuid::new_v4().simple()));
    let kept = write(&written, data).and_then(|()| fs::rename(&written, path));
    if let Err(error) = kept {
        // What is left of it goes with the next collection.
        let _ = fs::remove_file(&written);
        return Err(error);
    }
    // The name is on the disk when its directory is.
    File::open(dir)?.sync_all()?;
    if made {
        for above in [dir.parent(), dir.parent().and_then(Path::parent)].into_iter().flatten() {
            let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
            File::open(above)?.sync_all()?;
        }
    }
    Ok(())
}

fn write(path: &Path, data: &[u8]) -> std::io::Result<()> {
    let mut file = File::options().write(true).create_new(true).open(path)?;
    file.write_all(data)?;
    file.sync_all()
}

fn collect(root: &Path, before: SystemTime) -> std::io::Result<Collected> {
    let mut collected = Collected::default();
    let dirs = match fs::read_dir(root) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(collected),
        dirs => dirs?,
    };
    for dir in dirs {
        let dir = dir?;
        if !is_ours(&dir.file_name().to_string_lossy(), 2) || !dir.file_type()?.is_dir() {
            continue;
        }
        for file in fs::read_dir(dir.path())? {
            let file = file?;
            let name = file.file_name().to_string_lossy().into_owned();
            let whole = is_ours(&name, 64);
            let part = name.strip_prefix('.').is_some_and(|name| name.get(..64).is_some_and(|name| is_ours(name, 64)));
            if !whole && !part {
                continue;
            }
            let there = match file.metadata() {
                // Somebody else was faster.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                there => there?,
            };
            if there.modified()? >= before {
                continue;
            }
            match fs::remove_file(file.path()) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                removed => {
                    removed?;
                    if whole {
                        collected.add(there.len());
                    }
                }
            }
        }
    }
    Ok(collected)
}

/// Whether a name is one that this store gives: what else lies there is not its own.
fn is_ours(name: &str, length: usize) -> bool {
    name.len() == length && name.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

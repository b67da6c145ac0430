//! Blobs as files of a directory that all processes of the application share.
//!
//! ```text
//! DIR/everpulse-blobs       says that this is the directory: one without it may be a share that is not mounted
//! DIR/3f/3f9a…c1            a blob, under its hash
//! DIR/3f/.3f9a…c1.UUID      one that is being written: renamed when it is on the disk
//! DIR/3f/.3f9a…c1.UUID.old  one that is being forgotten, if nobody has put it again meanwhile
//! ```
//! **Invariant: a put that was confirmed is found until a collection of what is older.** Whoever finds a file there makes it
//! young, and then looks whether it is still the one of that name; whoever forgets takes the name away first, and then looks
//! whether the file is still old. So one of the two sees the other.

use std::fs::{self, File, Metadata};
use std::io::{Error, ErrorKind, Result, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use everpulse_protocol::blob::Reference;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use uuid::Uuid;

use crate::store::{BlobStore, Collected, StoreError};

const MARKER: &str = "everpulse-blobs";
const OLD: &str = ".old";
/// A put that is overtaken by collections so often gives up; it is tried again later.
const TRIES: usize = 10;

/// A directory, on a disk or a file system that the workers and clients share.
#[derive(Debug, Clone)]
pub struct Directory {
    root: PathBuf,
}

impl Directory {
    /// One that was [created](Self::create).
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Makes it what it has to be, once; it is never made by a put. Where a share is not mounted, there is a directory as well,
    /// and what went there would be on the disk of one machine.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn create(&self) -> Result<()> {
        fs::create_dir_all(&self.root)?;
        let marker = self.root.join(MARKER);
        match File::options().write(true).create_new(true).open(&marker) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
            made => made?.sync_all()?,
        }
        sync(&self.root)?;
        self.root.parent().map_or(Ok(()), sync)
    }

    /// Runs what blocks where that is allowed.
    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> Result<T> + Send + 'static,
    ) -> BoxFuture<'static, std::result::Result<T, StoreError>> {
        let root = self.root.clone();
        async move {
            let done = tokio::task::spawn_blocking(move || {
                // Also where something is not found: it may be elsewhere.
                is_there(&root).and_then(|()| work(&root)).map_err(|error| said(&root, &error))
            });
            done.await.unwrap_or_else(|error| Err(StoreError::unavailable(error)))
        }
        .boxed()
    }
}

impl BlobStore for Directory {
    fn put<'a>(
        &'a self,
        blob: &'a Reference,
        data: Bytes,
    ) -> BoxFuture<'a, std::result::Result<Option<String>, StoreError>> {
        let name = blob.name();
        self.blocking(move |root| put(root, &name, &data).map(|()| None))
    }

    fn get<'a>(&'a self, blob: &'a Reference) -> BoxFuture<'a, std::result::Result<Bytes, StoreError>> {
        let (name, bytes, is_elsewhere) = (blob.name(), blob.bytes, blob.at.is_some());
        self.blocking(move |root| match get(&path(root, &name), bytes) {
            Err(error) if error.kind() == ErrorKind::NotFound && is_elsewhere => {
                Err(Error::other(format!("there is no blob {name}: it was put into a store of another kind")))
            }
            // Somebody may be about to see that it is young.
            Err(error) if error.kind() == ErrorKind::NotFound => get(&put_aside(root, &name)?.ok_or(error)?, bytes),
            got => got,
        })
    }

    fn delete<'a>(&'a self, blob: &'a Reference) -> BoxFuture<'a, std::result::Result<bool, StoreError>> {
        let name = blob.name();
        self.blocking(move |root| removed(&path(root, &name)))
    }

    fn collect(&self, before: SystemTime) -> BoxFuture<'_, std::result::Result<Collected, StoreError>> {
        self.blocking(move |root| collect(root, before))
    }
}

fn said(root: &Path, error: &Error) -> StoreError {
    match error.kind() {
        ErrorKind::NotFound => StoreError::Missing,
        _ => StoreError::unavailable(format!("{}: {error}", root.display())),
    }
}

fn is_there(root: &Path) -> Result<()> {
    match fs::metadata(root.join(MARKER)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Error::other(format!(
            "there is no `{MARKER}` in it: mount it, or create it if it is new (`everpulse blobs create`)"
        ))),
        found => found.map(drop),
    }
}

fn path(root: &Path, name: &str) -> PathBuf {
    root.join(&name[..2]).join(name)
}

fn get(path: &Path, bytes: u64) -> Result<Bytes> {
    // Nobody reads more than was meant, whatever lies there.
    if fs::metadata(path)?.len() != bytes {
        return Err(Error::other(format!("the file does not have the {bytes} bytes that were put")));
    }
    fs::read(path).map(Bytes::from)
}

fn put(root: &Path, name: &str, data: &[u8]) -> Result<()> {
    let path = path(root, name);
    let dir = root.join(&name[..2]);
    for _ in 0..TRIES {
        if !is_same(&path, data) {
            write(root, &dir, name, data)?;
        }
        // It may have been there, and on no disk yet; or be collected at this moment.
        let file = match File::options().append(true).open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            file => file?,
        };
        file.set_modified(SystemTime::now())?;
        file.sync_all()?;
        sync(&dir)?;
        sync(root)?;
        match fs::metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            named => {
                if is_one(&named?, &file.metadata()?) {
                    return Ok(());
                }
            }
        }
    }
    Err(Error::other("it is collected whenever it is put"))
}

/// Compared, since what lies there may have been damaged since it was put; what cannot be read is not the same.
fn is_same(path: &Path, data: &[u8]) -> bool {
    fs::metadata(path).is_ok_and(|there| there.len() == data.len() as u64) && fs::read(path).is_ok_and(|is| is == data)
}

fn write(root: &Path, dir: &Path, name: &str, data: &[u8]) -> Result<()> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        made => made?,
    }
    let written = dir.join(format!(".{name}.{}", Uuid::new_v4().simple()));
    let write = || {
        let mut file = File::options().write(true).create_new(true).open(&written)?;
        file.write_all(data)?;
        file.sync_all()?;
        fs::rename(&written, path(root, name))
    };
    write().inspect_err(|_| {
        // What is left of it goes with a later collection.
        let _ = fs::remove_file(&written);
    })
}

/// Names are on the disk when their directory is.
fn sync(dir: &Path) -> Result<()> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    File::open(dir)?.sync_all()
}

#[cfg(unix)]
fn is_one(one: &Metadata, other: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(not(unix))]
fn is_one(one: &Metadata, other: &Metadata) -> bool {
    one.modified().ok() == other.modified().ok() && one.len() == other.len()
}

/// True if it was there.
fn removed(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        removed => removed.map(|()| true),
    }
}

/// A blob whose name was taken away, by somebody who forgets it, or died before that.
fn put_aside(root: &Path, name: &str) -> Result<Option<PathBuf>> {
    for file in fs::read_dir(root.join(&name[..2]))? {
        let file = file?;
        if matches!(Kind::of(&file.file_name().to_string_lossy()), Some(Kind::Old(of)) if of == name) {
            return Ok(Some(file.path()));
        }
    }
    Ok(None)
}

/// What this store makes of names; what else lies there is not its own.
enum Kind {
    Blob,
    /// What somebody writes, or has not written to its end.
    Part,
    Old(String),
}

impl Kind {
    fn of(name: &str) -> Option<Self> {
        if is_hex(name, 64) {
            return Some(Self::Blob);
        }
        let (of, rest) = name.strip_prefix('.')?.split_once('.')?;
        match rest.strip_suffix(OLD) {
            _ if !is_hex(of, 64) => None,
            Some(uuid) => is_hex(uuid, 32).then(|| Self::Old(of.to_owned())),
            None => is_hex(rest, 32).then_some(Self::Part),
        }
    }
}

fn is_hex(name: &str, length: usize) -> bool {
    name.len() == length && name.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn collect(root: &Path, before: SystemTime) -> Result<Collected> {
    let mut collected = Collected::default();
    for dir in fs::read_dir(root)? {
        let dir = dir?;
        if !is_hex(&dir.file_name().to_string_lossy(), 2) || !dir.file_type()?.is_dir() {
            continue;
        }
        for file in fs::read_dir(dir.path())? {
            let file = file?;
            let name = file.file_name().to_string_lossy().into_owned();
            let forgotten = match Kind::of(&name) {
                None => None,
                Some(Kind::Part) => forget_part(&file.path(), before)?,
                Some(Kind::Old(of)) => forget_old(&file.path(), &dir.path().join(of), before)?,
                Some(Kind::Blob) => forget(&file.path(), &name, before)?,
            };
            if let Some(bytes) = forgotten {
                collected.add(bytes);
            }
        }
    }
    Ok(collected)
}

/// How long it is, if it was put for the last time before then.
fn older(path: &Path, before: SystemTime) -> Result<Option<u64>> {
    match fs::metadata(path) {
        // Somebody else was faster.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        there => there.and_then(|there| Ok((there.modified()? < before).then_some(there.len()))),
    }
}

fn forget_part(path: &Path, before: SystemTime) -> Result<Option<u64>> {
    if older(path, before)?.is_some() {
        removed(path)?;
    }
    Ok(None)
}

fn forget(path: &Path, name: &str, before: SystemTime) -> Result<Option<u64>> {
    if older(path, before)?.is_none() {
        return Ok(None);
    }
    let aside = path.with_file_name(format!(".{name}.{}{OLD}", Uuid::new_v4().simple()));
    match fs::rename(path, &aside) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        renamed => renamed?,
    }
    forget_old(&aside, path, before)
}

/// Forgets what has no name any more; what was put again meanwhile gets it back, if nobody else has it.
fn forget_old(aside: &Path, path: &Path, before: SystemTime) -> Result<Option<u64>> {
    let forgotten = older(aside, before)?;
    if forgotten.is_none() {
        match fs::hard_link(aside, path) {
            Err(error) if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound) => {}
            linked => linked?,
        }
        path.parent().map_or(Ok(()), sync)?;
    }
    Ok(if removed(aside)? { forgotten } else { None })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn directory() -> (tempfile::TempDir, Directory, String, PathBuf) {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Directory::new(dir.path().join("blobs"));
        store.create().expect("it can be created");
        let name = Reference::to(b"tea").name();
        let path = path(&store.root, &name);
        (dir, store, name, path)
    }

    fn age(path: &Path) {
        let file = File::options().append(true).open(path).expect("it is there");
        file.set_modified(SystemTime::now() - Duration::from_secs(1_000)).expect("it can be set");
    }

    #[test]
    fn what_is_put_while_it_is_forgotten_keeps_its_name_or_gets_it_back() {
        let (_dir, store, name, path) = directory();
        let before = SystemTime::now() - Duration::from_secs(500);
        put(&store.root, &name, b"tea").expect("put");
        age(&path);
        // The name is taken away, and then it is put: before, and after the one who forgets looks again.
        let aside = path.with_file_name(format!(".{name}.{}{OLD}", Uuid::new_v4().simple()));
        fs::rename(&path, &aside).expect("renamed");
        assert_eq!(get(&put_aside(&store.root, &name).expect("read").expect("there"), 3).expect("read"), "tea"[..]);
        put(&store.root, &name, b"tea").expect("put");
        assert_eq!(forget_old(&aside, &path, before).expect("forgotten"), Some(3));
        assert_eq!(get(&path, 3).expect("it is there"), "tea");
        // Whoever put it has made it young, and the name is taken away after that.
        fs::rename(&path, &aside).expect("renamed");
        assert_eq!(forget_old(&aside, &path, before).expect("kept"), None);
        assert!(!aside.exists());
        assert_eq!(get(&path, 3).expect("it is there"), "tea");
        // Whoever forgot it died, and it is old or young.
        fs::rename(&path, &aside).expect("renamed");
        assert_eq!(collect(&store.root, before).expect("collected").blobs, 0);
        age(&path);
        fs::rename(&path, &aside).expect("renamed");
        assert_eq!(collect(&store.root, before).expect("collected").bytes, 3);
        assert!(!aside.exists() && !path.exists());
    }

    #[test]
    fn puts_and_collections_at_once_lose_nothing_that_was_confirmed() {
        let (_dir, store, name, path) = directory();
        let root = store.root.clone();
        let collecting = std::thread::spawn(move || {
            for _ in 0..2_000 {
                collect(&root, SystemTime::now() - Duration::from_secs(500)).expect("collected");
            }
        });
        while !collecting.is_finished() {
            put(&store.root, &name, b"tea").expect("put");
            let aside = || put_aside(&store.root, &name).expect("read");
            assert!(path.exists() || aside().is_some() || path.exists(), "it was confirmed");
            if path.exists() {
                // Not where somebody has its name.
                let _ =
                    File::options().append(true).open(&path).and_then(|file| file.set_modified(SystemTime::UNIX_EPOCH));
            }
        }
        collecting.join().expect("no panic");
        put(&store.root, &name, b"tea").expect("put");
        assert_eq!(get(&path, 3).expect("it is there"), "tea");
    }

    #[test]
    fn what_cannot_be_read_is_written_anew_and_a_directory_that_is_none_takes_nothing() {
        let (_dir, store, name, path) = directory();
        put(&store.root, &name, b"tea").expect("put");
        fs::write(&path, b"sea").expect("damaged");
        put(&store.root, &name, b"tea").expect("put");
        assert_eq!(get(&path, 3).expect("it is there"), "tea");
        fs::remove_file(store.root.join(MARKER)).expect("removed");
        let error = is_there(&store.root).expect_err("it may not be mounted");
        assert!(error.to_string().contains("mount it, or create it"), "{error}");
        store.create().expect("created");
        is_there(&store.root).expect("it is there");
    }
}

//! A disk of the broker's own, that can be filled: a file system in a file where that may be mounted.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, bail};

/// Of the file system: more than the broker needs while history stays flat.
const BYTES: u64 = 3 << 30;
/// Steps in which it is filled.
const CHUNK: u64 = 64 << 20;

/// A folder, on a small disk of its own where that is possible. Clones are the same one; the last unmounts it.
#[derive(Debug, Clone)]
pub struct Disk {
    place: Arc<Place>,
}

#[derive(Debug)]
struct Place {
    dir: PathBuf,
    mounted: bool,
    full: AtomicBool,
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.mounted {
            // Lazily, since a broker that was killed may still be ending.
            let _ = Command::new("umount").arg("--lazy").arg(&self.dir).status();
        }
    }
}

impl Disk {
    /// Makes it below a folder. Where nothing may be mounted it is a folder, and cannot be filled.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn make(below: &Path) -> Result<Self> {
        let dir = below.join("broker");
        fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        let mounted = match mount(&below.join("broker.img"), &dir) {
            Ok(()) => true,
            Err(why) => {
                eprintln!("the disk will not be filled: no file system may be mounted here: {why:#}");
                false
            }
        };
        Ok(Self { place: Arc::new(Place { dir, mounted, full: AtomicBool::new(false) }) })
    }

    /// Where the broker's data go.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.place.dir.join("data")
    }

    /// Whether it can be filled.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.place.mounted
    }

    /// Whether it is filled just now.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.place.full.load(Ordering::SeqCst)
    }

    fn ballast(&self) -> PathBuf {
        self.place.dir.join("ballast")
    }

    /// Takes all the room that is left.
    ///
    /// # Errors
    /// When that fails otherwise than by the disk being full.
    pub fn fill(&self) -> Result<()> {
        self.place.full.store(true, Ordering::SeqCst);
        let ballast = File::create(self.ballast()).context("making the ballast")?;
        let (mut at, mut chunk) = (0, CHUNK);
        // Down to less than a page of the broker's.
        while chunk >= 4096 {
            match rustix::fs::fallocate(&ballast, rustix::fs::FallocateFlags::empty(), at, chunk) {
                Ok(()) => at += chunk,
                Err(rustix::io::Errno::NOSPC) => chunk /= 2,
                Err(error) => bail!("filling the disk: {error}"),
            }
        }
        Ok(())
    }

    /// Gives the room back.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn empty(&self) -> Result<()> {
        let removed = match fs::remove_file(self.ballast()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context("removing the ballast"),
            _ => Ok(()),
        };
        self.place.full.store(false, Ordering::SeqCst);
        removed
    }
}

fn mount(image: &Path, dir: &Path) -> Result<()> {
    File::create(image)?.set_len(BYTES)?;
    said(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(image))?;
    said(Command::new("mount").args(["-o", "loop"]).arg(image).arg(dir))
}

fn said(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("running {name}"))?;
    if !output.status.success() {
        bail!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// What a folder takes on the disk.
#[must_use]
pub fn used(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    // A file may go between the listing and the question.
    let Ok(meta) = path.symlink_metadata() else { return 0 };
    if !meta.is_dir() {
        return meta.blocks() * 512;
    }
    let Ok(files) = fs::read_dir(path) else { return 0 };
    files.flatten().map(|file| used(&file.path())).sum()
}

//! The Apache Pulsar distribution: fetched with Maven, unpacked once. Java and Maven are installed when
//! they are missing and this process may do so.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

const VERSION: &str = "4.0.8";
const PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1";

/// The directory of the unpacked distribution below `dir`; fetched when it is not there.
pub(super) fn prepare(dir: &Path) -> anyhow::Result<PathBuf> {
    ensure_java()?;
    let home = dir.join(format!("apache-pulsar-{VERSION}"));
    if home.join("bin/pulsar").exists() {
        return Ok(home);
    }
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    // Two starts at once (of different names) fetch it once.
    let lock = fs::File::create(dir.join("fetch.lock")).context("cannot create fetch.lock")?;
    lock.lock().context("cannot lock fetch.lock")?;
    if home.join("bin/pulsar").exists() {
        return Ok(home);
    }
    let (archive, copied) = fetch(dir)?;
    let partial = dir.join(format!("unpacking-{}", std::process::id()));
    fs::create_dir_all(&partial)?;
    eprintln!("unpacking {}", archive.display());
    checked(Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(&partial))?;
    // Renamed when complete: a start that was cut off leaves no half distribution behind.
    fs::rename(partial.join(format!("apache-pulsar-{VERSION}")), &home)
        .context("the archive does not hold what it should")?;
    fs::remove_dir_all(&partial).ok();
    if copied {
        fs::remove_file(&archive).ok();
    }
    Ok(home)
}

/// The archive, and whether it is a copy of our own.
fn fetch(dir: &Path) -> anyhow::Result<(PathBuf, bool)> {
    let file = format!("pulsar-server-distribution-{VERSION}-bin.tar.gz");
    let in_repository = std::env::home_dir()
        .map(|home| home.join(".m2/repository/org/apache/pulsar/pulsar-server-distribution").join(VERSION).join(&file));
    if let Some(archive) = in_repository.filter(|archive| archive.exists()) {
        return Ok((archive, false));
    }
    ensure_maven()?;
    let artifact = format!("-Dartifact=org.apache.pulsar:pulsar-server-distribution:{VERSION}:tar.gz:bin");
    eprintln!("fetching Apache Pulsar {VERSION} with Maven (240 MB, once)");
    checked(Command::new("mvn").args(["-q", "-B", &format!("{PLUGIN}:get"), &artifact, "-Dtransitive=false"]))?;
    // Where the local repository is depends on Maven's settings, so Maven says it by copying.
    let target = format!("-DoutputDirectory={}", dir.display());
    checked(Command::new("mvn").args(["-q", "-B", &format!("{PLUGIN}:copy"), &artifact, &target]))?;
    let archive = dir.join(&file);
    if !archive.exists() {
        bail!("Maven ended well, but {} is not there", archive.display());
    }
    Ok((archive, true))
}

/// Installs Java 17 when there is none that will do.
pub(crate) fn ensure_java() -> anyhow::Result<()> {
    if java_version().is_some_and(|version| version >= 17) {
        return Ok(());
    }
    install("Java 17 or later", "openjdk-17-jre-headless")?;
    match java_version() {
        Some(version) if version >= 17 => Ok(()),
        _ => bail!("java in the path (or JAVA_HOME) is older than 17; point JAVA_HOME at a newer one"),
    }
}

fn ensure_maven() -> anyhow::Result<()> {
    let mut version = Command::new("mvn");
    version.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    if version.status().is_ok_and(|status| status.success()) {
        return Ok(());
    }
    install("Maven", "maven")
}

fn java_version() -> Option<u32> {
    // As bin/pulsar chooses it.
    let java = match std::env::var_os("JAVA_HOME").filter(|home| !home.is_empty()) {
        Some(home) => PathBuf::from(home).join("bin/java"),
        None => PathBuf::from("java"),
    };
    let output = Command::new(java).arg("-version").output().ok()?;
    parse_java_version(&String::from_utf8_lossy(&output.stderr))
}

/// `openjdk version "17.0.15" 2025-04-15` is 17, `java version "1.8.0_392"` is 1 and too old as well.
fn parse_java_version(text: &str) -> Option<u32> {
    let quoted = text.split('"').nth(1)?;
    quoted.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn install(what: &str, package: &str) -> anyhow::Result<()> {
    let root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    let apt = Path::new("/usr/bin/apt-get").exists();
    if !(root && apt) {
        bail!(
            "Apache Pulsar needs {what}, which is not in the path; install it \
             (Debian: apt-get install {package}) and run this again"
        );
    }
    eprintln!("installing {package}");
    let apt_get = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    checked(apt_get().args(["-q", "update"]))?;
    checked(apt_get().args(["-q", "-y", "--no-install-recommends", "install", package]))
}

/// Runs a command whose output belongs on stderr: stdout carries only what `start` prints.
fn checked(command: &mut Command) -> anyhow::Result<()> {
    let output = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {:?}", command.get_program()))?;
    eprint!("{}", String::from_utf8_lossy(&output.stdout));
    if !output.status.success() {
        bail!("{command:?} failed ({})", output.status);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::parse_java_version;

    #[test]
    fn java_versions_are_read_in_old_and_new_spelling() {
        let check = |text, expect| assert_eq!(parse_java_version(text), expect, "{text}");
        check("openjdk version \"17.0.15\" 2025-04-15", Some(17));
        check("openjdk version \"21\" 2023-09-19", Some(21));
        check("openjdk version \"24-ea\" 2025-03-18", Some(24));
        check("java version \"1.8.0_392\"", Some(1));
        check("command not found", None);
    }
}

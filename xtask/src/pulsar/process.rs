//! The broker's process: started in a group of its own so that Ctrl-C ends a test and not the broker,
//! recognised by its command line, ended by its pid.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// How a broker is ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Way {
    /// SIGTERM; SIGKILL when it is still there after twenty seconds.
    Stop,
    /// SIGKILL at once.
    Kill,
}

/// Starts `bin/pulsar standalone` with the configuration in `dir`; its output goes to `logs/console.log`.
pub(super) fn spawn(home: &Path, dir: &Path, bookie_port: u16) -> anyhow::Result<u32> {
    let conf = dir.join("standalone.conf");
    let data = dir.join("data");
    fs::create_dir_all(&data).with_context(|| format!("cannot create {}", data.display()))?;
    let log = File::create(dir.join("logs/console.log")).context("cannot create console.log")?;
    let memory =
        std::env::var("PULSAR_MEM").unwrap_or_else(|_| "-Xms256m -Xmx1g -XX:MaxDirectMemorySize=512m".to_owned());
    let mut child = Command::new(home.join("bin/pulsar"))
        .args(["standalone", "-nfw", "-nss"])
        .arg("--metadata-dir")
        .arg(data.join("metadata"))
        .arg("--bookkeeper-dir")
        .arg(data.join("bookkeeper"))
        .arg("--bookkeeper-port")
        .arg(bookie_port.to_string())
        .env("PULSAR_STANDALONE_CONF", &conf)
        .env("PULSAR_LOG_DIR", dir.join("logs"))
        .env("PULSAR_MEM", memory)
        // The default (ZGC, all pages touched at the start) is made for a machine of its own.
        .env("PULSAR_GC", "-XX:+UseG1GC")
        .env("PULSAR_GC_LOG", "-Xlog:disable")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {}", home.join("bin/pulsar").display()))?;
    // `bin/pulsar` replaces itself by java, so this stays the broker's pid.
    let pid = child.id();
    // Reaped if it ends while we live; otherwise it would look alive as a zombie.
    std::thread::spawn(move || child.wait());
    Ok(pid)
}

/// Whether `pid` is alive and was started on the data in `dir`; pids are used again.
pub(super) fn is_broker(pid: u32, dir: &Path) -> bool {
    let data = dir.join("data/metadata").display().to_string();
    command_line(pid).is_some_and(|line| line.contains(&data))
}

fn command_line(pid: u32) -> Option<String> {
    if Path::new("/proc/self/cmdline").exists() {
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        // A zombie has an empty one.
        return (!line.is_empty()).then(|| String::from_utf8_lossy(&line).replace('\0', " "));
    }
    let output = Command::new("ps").args(["-ww", "-o", "command=", "-p", &pid.to_string()]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Ends `pid` and waits until it is gone.
pub(super) fn end(pid: u32, way: Way) -> anyhow::Result<()> {
    signal(pid, if way == Way::Stop { "TERM" } else { "KILL" })?;
    let start = Instant::now();
    let mut killed = way == Way::Kill;
    while command_line(pid).is_some() {
        if !killed && start.elapsed() > Duration::from_secs(20) {
            signal(pid, "KILL")?;
            killed = true;
        }
        if start.elapsed() > Duration::from_secs(60) {
            bail!("process {pid} is still there a minute after SIGKILL");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn signal(pid: u32, name: &str) -> anyhow::Result<()> {
    // Through the shell's builtin: a `kill` program is not everywhere, and libc's needs unsafe code.
    let status = Command::new("sh")
        .args(["-c", &format!("kill -{name} {pid}")])
        .stderr(Stdio::null())
        .status()
        .context("cannot run sh")?;
    // It may have ended by itself meanwhile.
    if !status.success() && command_line(pid).is_some() {
        bail!("cannot send SIG{name} to process {pid}");
    }
    Ok(())
}

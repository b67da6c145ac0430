//! A real Apache Pulsar standalone for tests and benches: fetched once, started on free ports of
//! 127.0.0.1 with bounded memory, found again by name, stopped by pid.
//!
//! ```text
//! target/pulsar/apache-pulsar-4.0.8/    the distribution, unpacked        (distribution.rs)
//! target/pulsar/instances/NAME/
//!     standalone.conf  data/  logs/     one broker's configuration and data (config.rs)
//!     tls/                              its certificates, if it is to have any        (secured.rs)
//!     instance.json                     its ports and pid
//! ```
//!
//! Nothing here knows Everpulse, and no client of Pulsar is needed: readiness is asked over plain HTTP.

mod config;
mod distribution;
mod process;
mod secured;

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

pub use secured::ClientCertificates;

/// How a broker is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Several can run at once, each under its name and with its own data.
    pub name: String,
    /// `managedLedgerNewEntriesCheckDelayInMillis`; `None` is Pulsar's default (10).
    pub check_delay_ms: Option<u64>,
    /// Throw away the data of an earlier start. A running one is ended first.
    pub fresh: bool,
    /// `journalSyncData`: a receipt means fsynced.
    pub journal_sync: bool,
    /// Further settings of its configuration, `name=value`; the last one of a name counts.
    pub settings: Vec<String>,
    /// TLS beside the plain ports, and nobody without a certificate or a token.
    pub tls: Option<ClientCertificates>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            name: "default".to_owned(),
            check_delay_ms: None,
            fresh: false,
            journal_sync: false,
            settings: Vec::new(),
            tls: None,
        }
    }
}

/// A running broker.
#[derive(Clone, Debug)]
pub struct Instance {
    pub service_url: String,
    pub admin_url: String,
    pub pid: u32,
    /// False when it ran already and was only found.
    pub started_here: bool,
    /// The same by TLS, and the certificates for it.
    pub secured: Option<Secured>,
    ports: Ports,
}

/// Where a broker serves by TLS.
#[derive(Clone, Debug)]
pub struct Secured {
    pub service_url: String,
    pub admin_url: String,
    /// See `secured.rs`.
    pub dir: PathBuf,
}

/// What the standalone listens on. The bookie's port is its identity in the stored data, so a later
/// start on the same data keeps all of them.
#[derive(Clone, Copy, Debug)]
struct Ports {
    broker: u16,
    web: u16,
    bookie: u16,
    /// The broker's and the web server's by TLS.
    tls: Option<(u16, u16)>,
}

impl Instance {
    fn new(ports: Ports, pid: u32, started_here: bool, dir: &Path) -> Self {
        Instance {
            service_url: format!("pulsar://127.0.0.1:{}", ports.broker),
            admin_url: format!("http://127.0.0.1:{}", ports.web),
            pid,
            started_here,
            secured: ports.tls.map(|(broker, web)| Secured {
                service_url: format!("pulsar+ssl://127.0.0.1:{broker}"),
                admin_url: format!("https://127.0.0.1:{web}"),
                dir: dir.join("tls"),
            }),
            ports,
        }
    }

    /// The one line that `start` prints.
    pub fn to_json(&self) -> Value {
        let mut line = json!({"service_url": self.service_url, "admin_url": self.admin_url, "pid": self.pid});
        if let Some(Secured { service_url, admin_url, dir }) = &self.secured {
            line["tls"] = json!({"service_url": service_url, "admin_url": admin_url, "dir": dir});
        }
        line
    }
}

/// Starts the broker called `options.name`, or finds the running one, and waits until it is healthy.
///
/// # Errors
///
/// When Maven or Java are missing and cannot be installed, when the distribution cannot be fetched, or
/// when the broker ends or is not healthy in two minutes; the message names its log.
pub fn start(options: &Options) -> anyhow::Result<Instance> {
    let place = Place::new(&options.name)?;
    let _lock = place.lock()?;
    if let Some(running) = place.running() {
        if !options.fresh {
            wait_until_healthy(&place, &running)?;
            return Ok(running);
        }
        process::end(running.pid, process::Way::Stop)?;
    }
    let home = distribution()?;
    if options.fresh && place.dir.exists() {
        fs::remove_dir_all(&place.dir).with_context(|| format!("cannot remove {}", place.dir.display()))?;
    }
    warn_of_a_full_disk(&place.dir);
    let earlier = place.ports();
    // Between choosing a free port and the broker's bind another process may take it: choose again,
    // unless the stored data fix the ports.
    let attempts = if earlier.is_some() { 1 } else { 3 };
    for attempt in 1..=attempts {
        let ports = match earlier {
            Some(ports) => ports,
            None => Ports::choose(options.tls.is_some())?,
        };
        if ports.tls.is_some() != options.tls.is_some() {
            bail!(
                "pulsar `{}` was started {} TLS before; add --fresh",
                options.name,
                if ports.tls.is_some() { "with" } else { "without" }
            );
        }
        config::write(&home, &place.dir, ports, options)?;
        let pid = process::spawn(&home, &place.dir, ports.bookie)?;
        place.remember(ports, pid)?;
        let instance = Instance::new(ports, pid, true, &place.dir);
        match wait_until_healthy(&place, &instance) {
            Ok(()) => return Ok(instance),
            Err(error) if attempt == attempts => {
                process::end(pid, process::Way::Kill)?;
                return Err(error);
            }
            Err(error) => {
                eprintln!("pulsar did not start ({error:#}); once more on other ports");
                process::end(pid, process::Way::Kill)?;
                fs::remove_dir_all(place.dir.join("data")).ok();
            }
        }
    }
    bail!("pulsar did not start")
}

/// Where the distribution is unpacked; fetched when it is not there.
///
/// # Errors
/// When it cannot be fetched, or Java is missing.
pub fn distribution() -> anyhow::Result<PathBuf> {
    distribution::prepare(&crate::root().join("target/pulsar"))
}

/// Ends the broker called `name`, if it runs; its data stay.
pub fn stop(name: &str) -> anyhow::Result<()> {
    end(name, process::Way::Stop)
}

/// Ends the broker called `name` by SIGKILL, if it runs; [`start`] brings it back on the same ports.
pub fn kill(name: &str) -> anyhow::Result<()> {
    end(name, process::Way::Kill)
}

fn end(name: &str, way: process::Way) -> anyhow::Result<()> {
    let place = Place::new(name)?;
    let _lock = place.lock()?;
    match place.running() {
        Some(running) => process::end(running.pid, way),
        None => {
            eprintln!("pulsar `{name}` is not running");
            Ok(())
        }
    }
}

/// Runs `command` with the broker's addresses in its environment and returns its exit code; a broker
/// that was started for it is ended afterwards.
pub fn run(options: &Options, command: &mut Command) -> anyhow::Result<u8> {
    let instance = start(options)?;
    command
        .env("EVERPULSE_TEST_PULSAR_URL", &instance.service_url)
        .env("EVERPULSE_TEST_PULSAR_ADMIN_URL", &instance.admin_url);
    if let Some(Secured { service_url, admin_url, dir }) = &instance.secured {
        let required = options.tls == Some(ClientCertificates::Required);
        command
            .env("EVERPULSE_TEST_PULSAR_TLS_URL", service_url)
            .env("EVERPULSE_TEST_PULSAR_TLS_ADMIN_URL", admin_url)
            .env("EVERPULSE_TEST_PULSAR_TLS_DIR", dir)
            .env("EVERPULSE_TEST_PULSAR_TLS_CLIENTS", if required { "required" } else { "optional" });
    }
    let status = command.status();
    if instance.started_here {
        stop(&options.name)?;
    }
    let status = status.with_context(|| format!("cannot run {:?}", command.get_program()))?;
    // No code: ended by a signal; what a shell reports for that starts at 128.
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(128))
}

/// Where one broker's files are.
struct Place {
    dir: PathBuf,
    lock: PathBuf,
}

impl Place {
    fn new(name: &str) -> anyhow::Result<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || !name.chars().all(plain) {
            bail!("a name consists of letters, digits, - and _: {name:?} does not");
        }
        let instances = crate::root().join("target/pulsar/instances");
        fs::create_dir_all(&instances).with_context(|| format!("cannot create {}", instances.display()))?;
        Ok(Place { dir: instances.join(name), lock: instances.join(format!("{name}.lock")) })
    }

    /// Held while starting or ending, so that two of either do not cross.
    fn lock(&self) -> anyhow::Result<File> {
        let file = File::create(&self.lock).with_context(|| format!("cannot create {}", self.lock.display()))?;
        file.lock().with_context(|| format!("cannot lock {}", self.lock.display()))?;
        Ok(file)
    }

    fn recorded(&self) -> Option<Value> {
        let text = fs::read_to_string(self.dir.join("instance.json")).ok()?;
        serde_json::from_str(&text).ok()
    }

    fn ports(&self) -> Option<Ports> {
        let recorded = self.recorded()?;
        let port = |name: &str| u16::try_from(recorded.get(name)?.as_u64()?).ok();
        let tls = port("broker_tls").zip(port("web_tls"));
        Some(Ports { broker: port("broker")?, web: port("web")?, bookie: port("bookie")?, tls })
    }

    fn running(&self) -> Option<Instance> {
        let pid = u32::try_from(self.recorded()?.get("pid")?.as_u64()?).ok()?;
        process::is_broker(pid, &self.dir).then_some(Instance::new(self.ports()?, pid, false, &self.dir))
    }

    fn remember(&self, ports: Ports, pid: u32) -> anyhow::Result<()> {
        let Ports { broker, web, bookie, tls } = ports;
        let mut text = json!({"broker": broker, "web": web, "bookie": bookie, "pid": pid});
        if let Some((broker, web)) = tls {
            text["broker_tls"] = broker.into();
            text["web_tls"] = web.into();
        }
        fs::write(self.dir.join("instance.json"), text.to_string()).context("cannot write instance.json")
    }
}

impl Ports {
    fn choose(tls: bool) -> anyhow::Result<Self> {
        // All are held until the last is chosen, so that no two are the same.
        let listen = || TcpListener::bind(("127.0.0.1", 0)).context("no free port on 127.0.0.1");
        let held = [listen()?, listen()?, listen()?, listen()?, listen()?];
        let port = |index: usize| -> anyhow::Result<u16> {
            let listener: &TcpListener = &held[index];
            Ok(listener.local_addr()?.port())
        };
        let secured = if tls { Some((port(3)?, port(4)?)) } else { None };
        Ok(Ports { broker: port(0)?, web: port(1)?, bookie: port(2)?, tls: secured })
    }
}

/// Below this a run of the tests may fill the disk.
const ROOM_GIB: u64 = 4;

/// A bookie that runs out of disk stops writing, and all that a client hears of it is that there are not enough bookies.
fn warn_of_a_full_disk(dir: &Path) {
    let parent = dir.ancestors().find(|dir| dir.exists()).unwrap_or(dir);
    let Some(free) = free_kib(parent).filter(|free| free >> 20 < ROOM_GIB) else { return };
    eprintln!(
        "warning: {} MiB are left on the disk of {}: Apache Pulsar stops writing (\"Not enough non-faulty bookies \
         available\") when it is full",
        free >> 10,
        parent.display()
    );
}

/// By POSIX's `df`; none where it cannot say.
fn free_kib(dir: &Path) -> Option<u64> {
    let answer = Command::new("df").arg("-Pk").arg(dir).output().ok()?;
    String::from_utf8_lossy(&answer.stdout).lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()
}

/// How long it may take to start, also on a machine that has much else to do.
const HEALTHY: Duration = Duration::from_secs(300);

fn wait_until_healthy(place: &Place, instance: &Instance) -> anyhow::Result<()> {
    let log = place.dir.join("logs/console.log");
    let until = Instant::now() + HEALTHY;
    let token = instance.secured.as_ref().and_then(|secured| fs::read_to_string(secured.dir.join("admin.jwt")).ok());
    let get = |path| get(instance.ports.web, path, token.as_deref());
    let mut missing = 0;
    loop {
        let ready = get("/admin/v2/brokers/health")
            .is_some_and(|body| body.trim() == "ok")
            // The standalone creates its default namespace last.
            && get("/admin/v2/namespaces/public")
                .is_some_and(|body| body.contains("public/default"));
        if ready {
            return Ok(());
        }
        // While the script replaces itself by java its command line is empty for a moment.
        missing = if process::is_broker(instance.pid, &place.dir) { 0 } else { missing + 1 };
        if missing >= 5 {
            bail!("pulsar ended while it started; its log is {}", log.display());
        }
        if Instant::now() > until {
            bail!("pulsar was not healthy after {HEALTHY:?}; its log is {}", log.display());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The body of a 200 answer, by the plainest HTTP there is.
fn get(port: u16, path: &str, token: Option<&str>) -> Option<String> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let request = format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n{authorization}\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.lines().next()?.contains(" 200 ").then(|| body.to_owned())
}

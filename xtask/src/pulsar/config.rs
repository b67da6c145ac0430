//! The configuration of one standalone broker: the distribution's own `standalone.conf` with our ports,
//! loopback only, what a single bookie on a busy machine needs, and what the options ask for. Everything else stays at
//! Pulsar's defaults, so that what is measured is what users have.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context as _;

use super::{Options, Ports, secured};

/// Writes `DIR/standalone.conf`.
pub(super) fn write(home: &Path, dir: &Path, ports: Ports, options: &Options) -> anyhow::Result<()> {
    let original = home.join("conf/standalone.conf");
    let original = fs::read_to_string(&original).with_context(|| format!("cannot read {}", original.display()))?;
    fs::create_dir_all(dir.join("logs")).with_context(|| format!("cannot create {}", dir.display()))?;
    fs::write(dir.join("standalone.conf"), apply(&original, &settings(dir, ports, options)?))
        .context("cannot write standalone.conf")
}

fn settings<'a>(dir: &Path, ports: Ports, options: &'a Options) -> anyhow::Result<BTreeMap<&'a str, String>> {
    let mut settings = BTreeMap::from([
        ("brokerServicePort", ports.broker.to_string()),
        ("webServicePort", ports.web.to_string()),
        ("bindAddress", "127.0.0.1".to_owned()),
        ("advertisedAddress", "127.0.0.1".to_owned()),
        // The bookie inside binds this interface's address instead of all.
        ("listeningInterface", LOOPBACK.to_owned()),
        // Its own statistics server would be one more port on all interfaces.
        ("enableStatistics", "false".to_owned()),
        // The fault tests delete what they made.
        ("forceDeleteNamespaceAllowed", "true".to_owned()),
        ("forceDeleteTenantAllowed", "true".to_owned()),
        // The one bookie there is must not be put aside for half an hour because a busy machine made it late..
        ("bookkeeperClientHealthCheckEnabled", "false".to_owned()),
        // ..nor stop writing because other things fill a disk of which it needs little.
        ("diskUsageThreshold", "0.999".to_owned()),
        ("diskUsageLwmThreshold", "0.998".to_owned()),
        ("diskUsageWarnThreshold", "0.998".to_owned()),
    ]);
    if let Some(delay) = options.check_delay_ms {
        settings.insert("managedLedgerNewEntriesCheckDelayInMillis", delay.to_string());
    }
    if options.journal_sync {
        settings.insert("journalSyncData", "true".to_owned());
    }
    if let (Some(clients), Some(ports)) = (options.tls, ports.tls) {
        let dir = dir.join("tls");
        secured::prepare(&dir)?;
        settings.extend(secured::settings(&dir, ports, clients)?);
    }
    for setting in &options.settings {
        let (name, value) =
            setting.split_once('=').with_context(|| format!("a setting is spelled name=value: {setting:?} is not"))?;
        settings.insert(name, value.to_owned());
    }
    Ok(settings)
}

const LOOPBACK: &str = if cfg!(target_os = "macos") { "lo0" } else { "lo" };

/// `text` with each setting replaced where it stands, or added at the end.
fn apply(text: &str, settings: &BTreeMap<&str, String>) -> String {
    let mut missing = settings.clone();
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let name = line.split('=').next().unwrap_or_default().trim();
        match settings.get_key_value(name) {
            Some((name, value)) => {
                // A setting that stands twice would be decided by the last one.
                if missing.remove(name).is_some() {
                    lines.push(format!("{name}={value}"));
                }
            }
            None => lines.push(line.to_owned()),
        }
    }
    lines.extend(missing.iter().map(|(name, value)| format!("{name}={value}")));
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_replace_lines_and_missing_ones_are_added() {
        let settings = BTreeMap::from([("a", "1".to_owned()), ("z", "2".to_owned())]);
        let text = "# a=0\na=0\nab=5\na=7\n";
        assert_eq!(apply(text, &settings), "# a=0\na=1\nab=5\nz=2\n");
    }
}

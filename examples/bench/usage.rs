//! What a process has used, as Linux tells it. Elsewhere, and where a process is gone, everything is zero.

use std::fs;

/// CPU time and greatest memory of a process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    cpu_s: f64,
    pub peak_mb: f64,
}

/// Linux shows times in hundredths of a second to programs, whatever the kernel counts in.
const TICKS_PER_S: f64 = 100.0;

impl Usage {
    /// Of this process.
    pub fn of_self() -> Self {
        Self::read("self")
    }

    /// Of another one.
    pub fn of_process(pid: u32) -> Self {
        Self::read(&pid.to_string())
    }

    /// CPU seconds, of user and kernel, since an earlier reading.
    pub fn cpu_since(&self, earlier: &Self) -> f64 {
        self.cpu_s - earlier.cpu_s
    }

    fn read(process: &str) -> Self {
        let file = |name: &str| fs::read_to_string(format!("/proc/{process}/{name}")).unwrap_or_default();
        // The name of the program, in brackets, may hold spaces: count from behind it. Fields 14 and 15.
        let stat = file("stat");
        let behind = stat.rsplit_once(')').map_or("", |(_, behind)| behind);
        let ticks: u64 = behind.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        let status = file("status");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak_kb: f64 =
            peak.and_then(|peak| peak.trim().strip_suffix("kB")?.trim().parse().ok()).unwrap_or_default();
        Self { cpu_s: ticks as f64 / TICKS_PER_S, peak_mb: peak_kb / 1024.0 }
    }
}

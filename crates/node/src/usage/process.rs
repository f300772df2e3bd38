//! What this process uses, under the names that all of Prometheus' clients have.

use std::{fs, io};

use jiff::{SignedDuration, Timestamp};
use rustix::time::{ClockId, clock_gettime};

/// One look at it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct ProcessUse {
    pub(crate) cpu_seconds: f64,
    pub(crate) resident_bytes: u64,
    pub(crate) virtual_bytes: u64,
    pub(crate) open_files: u64,
    pub(crate) started_at: Timestamp,
}

impl ProcessUse {
    /// `booted` is when the machine was started.
    pub(crate) fn read(booted: Timestamp) -> io::Result<Self> {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let status = fs::read_to_string("/proc/self/status")?;
        let stat = fs::read_to_string("/proc/self/stat")?;
        Ok(Self {
            cpu_seconds: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
            resident_bytes: amount(&status, "VmRSS:"),
            virtual_bytes: amount(&status, "VmSize:"),
            open_files: fs::read_dir("/proc/self/fd")?.count() as u64,
            started_at: booted + SignedDuration::from_secs_f64(started(&stat).unwrap_or(0.0)),
        })
    }
}

/// Bytes of a line of `/proc/self/status`.
fn amount(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Seconds from the machine's start to the process's: the 22nd field, of which the second
/// may hold anything.
fn started(stat: &str) -> Option<f64> {
    /// What the kernel tells times in, on every architecture that skiff runs on.
    const TICKS_PER_SECOND: f64 = 100.0;
    let (_, rest) = stat.rsplit_once(") ")?;
    Some(rest.split(' ').nth(19)?.parse::<f64>().ok()? / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_understood() {
        let status = "Name:\tskiff\nVmSize:\t  2048 kB\nVmRSS:\t     512 kB\nThreads:\t3\n";
        assert_eq!((amount(status, "VmRSS:"), amount(status, "VmSize:")), (512 << 10, 2 << 20));
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 1 0 0 0 2 3 0 0 20 0 3 0 12345 2048 128";
        assert_eq!(started(stat), Some(123.45));
        let own = ProcessUse::read(Timestamp::UNIX_EPOCH).expect("readable");
        assert!(own.resident_bytes > 0 && own.open_files > 2 && own.cpu_seconds > 0.0, "{own:?}");
    }
}

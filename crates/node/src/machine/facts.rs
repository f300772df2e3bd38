//! What the machine has and how it is.

use std::{fs, io, path::Path};

use crate::{
    config::{NodeConfig, Reserved},
    pod::granted::Amount,
};

/// Upstream's default eviction thresholds decide what counts as pressure, but for
/// storage k3s': a tenth of a disk of 256 GB is no reason to stop taking pods.
const MEMORY_AVAILABLE_MIN: u64 = 100 << 20;
const STORAGE_AVAILABLE_MIN_PERCENT: u64 = 5;
const PIDS_AVAILABLE_MIN_PERCENT: u64 = 10;

/// What does not change while the machine runs.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pub(crate) cpus: u32,
    pub(crate) memory_bytes: u64,
    pub(crate) storage_bytes: u64,
    pub(crate) reserved: Reserved,
    pub(crate) pods_max: u32,
    pub(crate) machine_id: String,
    pub(crate) system_uuid: String,
    pub(crate) boot_id: String,
    pub(crate) kernel: String,
    pub(crate) os_image: String,
}

/// What does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pressure {
    pub(crate) memory: bool,
    pub(crate) disk: bool,
    pub(crate) pids: bool,
}

impl Machine {
    /// Looks at `/proc`, `/sys` and the kubelet directory's file system.
    pub(crate) fn read(config: &NodeConfig) -> io::Result<Self> {
        let text = |path: &str| fs::read_to_string(path).map(|s| s.trim().to_owned());
        let cpus = fs::read_to_string("/proc/cpuinfo")?;
        let cpus = cpus.lines().filter(|line| line.starts_with("processor")).count().max(1);
        let memory_bytes = meminfo(&fs::read_to_string("/proc/meminfo")?, "MemTotal")
            .ok_or_else(|| io::Error::other("/proc/meminfo has no MemTotal"))?;
        let (storage_bytes, _) = storage(&config.kubelet_dir)?;
        let os = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let os = os.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
        let machine_id = text("/etc/machine-id").unwrap_or_default();
        let cpu_millis = 1000 * i64::try_from(cpus).unwrap_or(1);
        Ok(Self {
            cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
            memory_bytes,
            storage_bytes,
            reserved: config
                .reserved
                .unwrap_or_else(|| default_reserved(cpu_millis, memory_bytes, storage_bytes)),
            pods_max: config.pods_max,
            system_uuid: text("/sys/class/dmi/id/product_uuid")
                .unwrap_or_else(|_| machine_id.clone()),
            machine_id,
            boot_id: text("/proc/sys/kernel/random/boot_id").unwrap_or_default(),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            os_image: os.map_or_else(|| "Linux".into(), |os| os.trim_matches('"').to_owned()),
        })
    }

    pub(crate) fn allocatable_cpu_millis(&self) -> i64 {
        (i64::from(self.cpus) * 1000 - self.reserved.cpu_millis).max(0)
    }

    pub(crate) fn allocatable_memory(&self) -> u64 {
        self.memory_bytes.saturating_sub(self.reserved.memory_bytes)
    }

    /// What pods may ask for.
    pub(crate) fn allocatable(&self) -> Amount {
        let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        Amount {
            cpu_millis: self.allocatable_cpu_millis(),
            memory: bytes(self.allocatable_memory()),
            storage: bytes(self.allocatable_storage()),
        }
    }

    pub(crate) fn allocatable_storage(&self) -> u64 {
        self.storage_bytes.saturating_sub(self.reserved.storage_bytes)
    }
}

/// A twentieth of the machine, within bounds that suit one with 512 MiB as
/// well as one with 64 GiB.
fn default_reserved(cpu_millis: i64, memory: u64, storage: u64) -> Reserved {
    Reserved {
        cpu_millis: (cpu_millis / 20).clamp(50, 200),
        memory_bytes: (memory / 20).clamp(64 << 20, 512 << 20),
        storage_bytes: (storage / 20).min(10 << 30),
    }
}

/// Whether the kernel enforces AppArmor profiles.
pub(crate) fn has_app_armor() -> bool {
    // Without the module there is no file.
    fs::read_to_string("/sys/module/apparmor/parameters/enabled")
        .is_ok_and(|text| text.starts_with('Y'))
}

/// Total and available bytes of a path's file system; of its nearest parent
/// where it does not exist yet.
fn storage(path: &Path) -> io::Result<(u64, u64)> {
    let mut at = path;
    while !at.exists() {
        at = at.parent().unwrap_or(Path::new("/"));
    }
    let stat = rustix::fs::statvfs(at)?;
    Ok((stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize))
}

/// A line of `/proc/meminfo`, bytes.
fn meminfo(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Reads how tight things are. These three reads are one of the few things
/// that are looked at by the clock: the kernel tells of none of them.
pub(crate) fn pressure(kubelet_dir: &Path) -> io::Result<Pressure> {
    let available = meminfo(&fs::read_to_string("/proc/meminfo")?, "MemAvailable");
    let (total, free) = storage(kubelet_dir)?;
    let number = |path: &str| -> io::Result<u64> {
        fs::read_to_string(path)?.trim().parse().map_err(io::Error::other)
    };
    let pids_max = number("/proc/sys/kernel/pid_max")?.min(number("/proc/sys/kernel/threads-max")?);
    let loadavg = fs::read_to_string("/proc/loadavg")?;
    let running = loadavg.split(' ').nth(3).and_then(|field| field.split('/').nth(1)?.parse().ok());
    let pids_free = pids_max.saturating_sub(running.unwrap_or(0));
    Ok(Pressure {
        memory: available.is_some_and(|bytes| bytes < MEMORY_AVAILABLE_MIN),
        disk: free < total / 100 * STORAGE_AVAILABLE_MIN_PERCENT,
        pids: pids_free < pids_max * PIDS_AVAILABLE_MIN_PERCENT / 100,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_can_be_read() {
        let config = NodeConfig::new("n", "/nonexistent/data", Vec::new());
        let machine = Machine::read(&config).expect("readable");
        assert!(machine.cpus > 0 && machine.memory_bytes > 1 << 20 && machine.storage_bytes > 0);
        assert!(machine.allocatable_memory() < machine.memory_bytes);
        pressure(Path::new("/")).expect("readable");
    }

    #[test]
    fn meminfo_lines() {
        let text = "MemTotal:       24689 kB\nMemAvailable:  1 kB\n";
        assert_eq!(meminfo(text, "MemTotal"), Some(24_689 * 1024));
        assert_eq!(meminfo(text, "MemFree"), None);
    }
}

//! What the machine has and how it is.

use std::{fs, io, path::Path};

use api_object::Quantity;

use crate::{
    config::{NodeConfig, Reserved},
    container::qos::HUGE_PAGES,
    eviction::Signal,
    pod::granted::Amount,
    usage::{self, look::file_system},
};

/// What does not change while the machine runs.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pub(crate) cpus: u32,
    pub(crate) memory_bytes: u64,
    pub(crate) storage_bytes: u64,
    pub(crate) reserved: Reserved,
    /// What pods may use together, bytes: also what thresholds keep free, which are to be
    /// noticed before the kernel ends somebody.
    pub(crate) pods_memory_max: u64,
    /// Huge pages that the kernel has set aside: the size of one, and bytes of all.
    pub(crate) huge_pages: Vec<(u64, u64)>,
    pub(crate) pods_max: u32,
    pub(crate) machine_id: String,
    pub(crate) system_uuid: String,
    pub(crate) boot_id: String,
    pub(crate) kernel: String,
    pub(crate) os_image: String,
    /// The kernel lets pods have users of their own (`hostUsers: false`).
    pub(crate) has_user_namespaces: bool,
}

impl Machine {
    /// Looks at `/proc`, `/sys` and the kubelet directory's file system.
    pub(crate) fn read(config: &NodeConfig) -> io::Result<Self> {
        let text = |path: &str| fs::read_to_string(path).map(|s| s.trim().to_owned());
        let cpus = fs::read_to_string("/proc/cpuinfo")?;
        let cpus = cpus.lines().filter(|line| line.starts_with("processor")).count().max(1);
        let memory_bytes = usage::machine::memory(&fs::read_to_string("/proc/meminfo")?)
            .ok_or_else(|| io::Error::other("/proc/meminfo is not understood"))?
            .total;
        let storage_bytes = file_system(&config.kubelet_dir)?.capacity;
        let os = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let os = os.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
        let machine_id = text("/etc/machine-id").unwrap_or_default();
        let cpu_millis = 1000 * i64::try_from(cpus).unwrap_or(1);
        Ok(Self {
            cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
            memory_bytes,
            storage_bytes,
            reserved: reserved(config, cpu_millis, memory_bytes, storage_bytes),
            pods_memory_max: memory_bytes.saturating_sub(
                said_or_default(config, cpu_millis, memory_bytes, storage_bytes).memory_bytes,
            ),
            huge_pages: huge_pages(Path::new("/sys/kernel/mm/hugepages")),
            pods_max: config.pods_max,
            system_uuid: text("/sys/class/dmi/id/product_uuid")
                .unwrap_or_else(|_| machine_id.clone()),
            machine_id,
            boot_id: text("/proc/sys/kernel/random/boot_id").unwrap_or_default(),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            os_image: os.map_or_else(|| "Linux".into(), |os| os.trim_matches('"').to_owned()),
            has_user_namespaces: text("/proc/sys/user/max_user_namespaces")
                .is_ok_and(|most| most != "0"),
        })
    }

    pub(crate) fn allocatable_cpu_millis(&self) -> i64 {
        (i64::from(self.cpus) * 1000 - self.reserved.cpu_millis).max(0)
    }

    pub(crate) fn allocatable_memory(&self) -> u64 {
        let set_aside: u64 = self.huge_pages.iter().map(|(_, bytes)| bytes).sum();
        self.memory_bytes.saturating_sub(self.reserved.memory_bytes).saturating_sub(set_aside)
    }

    /// What pods may ask for.
    pub(crate) fn allocatable(&self) -> Amount {
        let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        Amount {
            cpu_millis: self.allocatable_cpu_millis(),
            memory: bytes(self.allocatable_memory()),
            storage: bytes(self.allocatable_storage()),
            huge_pages: self.huge_pages_by_name().map(|(name, all)| (name, bytes(all))).collect(),
            ..Amount::default()
        }
    }

    /// Bytes of huge pages, by the API's name (`hugepages-2Mi`).
    pub(crate) fn huge_pages_by_name(&self) -> impl Iterator<Item = (String, u64)> {
        let name = |size| format!("{HUGE_PAGES}{}", Quantity::from_bytes(size));
        self.huge_pages.iter().map(move |(size, bytes)| (name(*size), *bytes))
    }

    pub(crate) fn allocatable_storage(&self) -> u64 {
        self.storage_bytes.saturating_sub(self.reserved.storage_bytes)
    }
}

/// What pods may not request: what was said and what thresholds keep free beside it
/// (<https://kubernetes.io/docs/tasks/administer-cluster/reserve-compute-resources/>);
/// the default has the latter in it.
fn reserved(config: &NodeConfig, cpu_millis: i64, memory: u64, storage: u64) -> Reserved {
    let kept_memory = config.eviction.kept_free(Signal::MemoryAvailable, memory);
    let kept_storage = config.eviction.kept_free(Signal::NodeFsAvailable, storage);
    match config.reserved {
        Some(said) => Reserved {
            memory_bytes: said.memory_bytes.saturating_add(kept_memory),
            storage_bytes: said.storage_bytes.saturating_add(kept_storage),
            ..said
        },
        None => {
            let default = default_reserved(cpu_millis, memory, storage);
            Reserved {
                memory_bytes: default.memory_bytes.max(kept_memory),
                storage_bytes: default.storage_bytes.max(kept_storage),
                ..default
            }
        }
    }
}

fn said_or_default(config: &NodeConfig, cpu_millis: i64, memory: u64, storage: u64) -> Reserved {
    config.reserved.unwrap_or_else(|| default_reserved(cpu_millis, memory, storage))
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

/// A folder for each size that the processor has: `hugepages-2048kB`. None where the
/// kernel has no huge pages.
fn huge_pages(folder: &Path) -> Vec<(u64, u64)> {
    let sizes = fs::read_dir(folder).into_iter().flatten().flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let kilobytes: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        let count = fs::read_to_string(entry.path().join("nr_hugepages")).ok()?;
        let size = kilobytes.checked_mul(1024)?;
        Some((size, count.trim().parse::<u64>().ok()?.checked_mul(size)?))
    });
    let mut sizes: Vec<_> = sizes.collect();
    sizes.sort_unstable();
    sizes
}

/// Whether the kernel enforces AppArmor profiles.
pub(crate) fn has_app_armor() -> bool {
    // Without the module there is no file.
    fs::read_to_string("/sys/module/apparmor/parameters/enabled")
        .is_ok_and(|text| text.starts_with('Y'))
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
    }

    #[test]
    fn huge_pages_are_read_by_size() {
        let dir = tempfile::tempdir().expect("a folder");
        for (size, count) in [("hugepages-1048576kB", "0\n"), ("hugepages-2048kB", "16\n")] {
            fs::create_dir(dir.path().join(size)).expect("made");
            fs::write(dir.path().join(size).join("nr_hugepages"), count).expect("written");
        }
        assert_eq!(huge_pages(dir.path()), [(2 << 20, 32 << 20), (1 << 30, 0)]);
        assert_eq!(huge_pages(&dir.path().join("none")), []);
    }

    #[test]
    fn what_is_reserved() {
        let mut config = NodeConfig::new("n", "/nonexistent/data", Vec::new());
        let of = |config: &NodeConfig| reserved(config, 4000, 8 << 30, 100 << 30);
        let told = of(&config);
        assert_eq!((told.memory_bytes >> 20, told.storage_bytes >> 30), (409, 5));
        config.reserved = Some(Reserved { cpu_millis: 100, memory_bytes: 0, storage_bytes: 0 });
        assert_eq!((of(&config).cpu_millis, of(&config).memory_bytes >> 20), (100, 100));
    }
}

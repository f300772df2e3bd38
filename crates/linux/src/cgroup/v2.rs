//! Version 2: one tree.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    DeviceRule, Hierarchy, Limits, Stats, devices, keyed, kill_processes, limit_huge_pages, number,
    read, write,
};
use crate::{mount::MountInfo, pressure::Pressure};

/// The controllers that are enabled below where the root offers them.
const CONTROLLERS: &[&str] = &["cpu", "memory", "pids", "cpuset", "io", "hugetlb"];

/// Of those, the ones that may fail (a real-time process in the way, a parent
/// without CPUs).
const OPTIONAL: &[&str] = &["cpuset", "io", "hugetlb"];

/// The unified tree.
#[derive(Debug, Clone)]
pub struct V2 {
    root: PathBuf,
}

impl V2 {
    /// From what is mounted.
    pub fn from_mounts(mounts: &[MountInfo]) -> Option<Self> {
        let mount = mounts.iter().find(|m| m.fs_type == "cgroup2")?;
        Some(Self { root: mount.mount_point.clone() })
    }

    /// Whether the root offers a controller.
    pub fn has(&self, controller: &str) -> bool {
        offers(&self.root, controller)
    }

    fn set(&self, path: &str, file: &str, value: &str) -> io::Result<()> {
        write(&self.root.join(path).join(file), value)
    }
}

fn offers(directory: &Path, controller: &str) -> bool {
    fs::read_to_string(directory.join("cgroup.controllers"))
        .is_ok_and(|text| text.split_whitespace().any(|c| c == controller))
}

/// v1 shares (2..=262144) as a v2 weight (1..=10000), by runc's later formula:
/// 1024 becomes 100, and the ends meet the ends.
fn weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        shares => {
            let l = (shares as f64).log2();
            let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
            10f64.powf(exponent).ceil() as u64
        }
    }
}

impl Hierarchy for V2 {
    fn version(&self) -> u8 {
        2
    }

    fn create(&self, path: &str) -> io::Result<()> {
        let mut here = self.root.clone();
        for component in Path::new(path).components() {
            for controller in CONTROLLERS {
                let enabled = fs::read_to_string(here.join("cgroup.subtree_control"))
                    .is_ok_and(|text| text.split_whitespace().any(|c| c == *controller));
                if enabled || !offers(&here, controller) {
                    continue;
                }
                let file = here.join("cgroup.subtree_control");
                match write(&file, &format!("+{controller}")) {
                    // Without them the rest is limited all the same.
                    Err(_) if OPTIONAL.contains(controller) => {}
                    other => other?,
                }
            }
            here.push(component);
            match fs::create_dir(&here) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                    let text = format!("make {}: {e}", here.display());
                    return Err(io::Error::new(e.kind(), text));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn limit(&self, path: &str, limits: &Limits) -> io::Result<()> {
        if let Some(shares) = limits.cpu_shares {
            self.set(path, "cpu.weight", &weight(shares).to_string())?;
        }
        if limits.cpu_quota_us.is_some() || limits.cpu_period_us.is_some() {
            let quota = limits.cpu_quota_us.map_or("max".to_owned(), |q| q.to_string());
            let period = limits.cpu_period_us.unwrap_or(100_000);
            self.set(path, "cpu.max", &format!("{quota} {period}"))?;
        }
        if let Some(bytes) = limits.memory_limit {
            self.set(path, "memory.max", &bytes.to_string())?;
            let swap = self.root.join(path).join("memory.swap.max");
            if swap.exists() {
                write(&swap, "0")?;
            }
        }
        let group = self.root.join(path).join("memory.oom.group");
        if limits.oom_group && group.exists() {
            write(&group, "1")?;
        }
        if let Some(pids) = limits.pids_limit {
            self.set(path, "pids.max", &pids.to_string())?;
        }
        if let Some(granted) = &limits.huge_pages {
            limit_huge_pages(&self.root.join(path), "max", granted)?;
        }
        Ok(())
    }

    fn allow_devices(&self, path: &str, rules: &[DeviceRule]) -> io::Result<()> {
        if rules.iter().any(DeviceRule::is_everything) {
            return Ok(());
        }
        devices::attach(&self.root.join(path), rules)
    }

    fn directories(&self, path: &str) -> Vec<PathBuf> {
        vec![self.root.join(path)]
    }

    fn entrances(&self, path: &str) -> Vec<PathBuf> {
        vec![self.root.join(path).join("cgroup.procs")]
    }

    fn controllers(&self, path: &str) -> Vec<(String, PathBuf)> {
        vec![(String::new(), self.root.join(path))]
    }

    fn oom_file(&self, path: &str) -> Option<PathBuf> {
        let file = self.root.join(path).join("memory.events");
        file.exists().then_some(file)
    }

    fn stats(&self, path: &str) -> io::Result<Stats> {
        let directory = self.root.join(path);
        let cpu = read(&directory.join("cpu.stat"))?;
        let mut stats = Stats {
            cpu_ns: keyed(&cpu, "usage_usec").unwrap_or(0) * 1000,
            cpu_throttled_periods: keyed(&cpu, "nr_throttled").unwrap_or(0),
            pids: number(&directory.join("pids.current")).unwrap_or(0),
            cpu_pressure: Pressure::read(&directory.join("cpu.pressure")),
            memory_pressure: Pressure::read(&directory.join("memory.pressure")),
            io_pressure: Pressure::read(&directory.join("io.pressure")),
            ..Stats::default()
        };
        if let Ok(text) = fs::read_to_string(directory.join("memory.stat")) {
            stats.memory_usage = number(&directory.join("memory.current")).unwrap_or(0);
            let inactive = keyed(&text, "inactive_file").unwrap_or(0);
            stats.memory_working_set = stats.memory_usage.saturating_sub(inactive);
            stats.memory_rss = keyed(&text, "anon").unwrap_or(0);
            stats.memory_swap = number(&directory.join("memory.swap.current")).unwrap_or(0);
            stats.page_faults = keyed(&text, "pgfault").unwrap_or(0);
            stats.major_page_faults = keyed(&text, "pgmajfault").unwrap_or(0);
            stats.memory_limit = number(&directory.join("memory.max"));
            let events = read(&directory.join("memory.events"))?;
            stats.oom_kills = keyed(&events, "oom_kill").unwrap_or(0);
        }
        Ok(stats)
    }

    fn freeze(&self, path: &str, frozen: bool) -> io::Result<()> {
        self.set(path, "cgroup.freeze", if frozen { "1" } else { "0" })
    }

    fn kill(&self, path: &str) -> io::Result<()> {
        let directory = self.root.join(path);
        if !directory.exists() {
            return Ok(());
        }
        // cgroup.kill (Linux 5.14) also catches what forks meanwhile; waiting
        // for the ends is the same on every kernel.
        let all_at_once = directory.join("cgroup.kill");
        let kill = || if all_at_once.exists() { write(&all_at_once, "1") } else { Ok(()) };
        kill_processes(&directory, kill, || Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Hierarchy, Limits, Stats, V2, weight};

    #[test]
    fn weights() {
        assert_eq!([2, 1024, 262_144].map(weight), [1, 100, 10_000]);
        assert_eq!(weight(0), 1);
    }

    /// A directory stands in for the kernel's tree.
    #[test]
    fn statistics_are_read() {
        let root = tempfile::tempdir().expect("a directory");
        fs::create_dir(root.path().join("c")).expect("made");
        for (file, text) in [
            ("cpu.stat", "usage_usec 12345\nuser_usec 1\nnr_periods 9\nnr_throttled 3\n"),
            ("memory.current", "1000\n"),
            ("memory.max", "max\n"),
            ("memory.swap.current", "8\n"),
            ("memory.stat", "anon 600\nfile 1\ninactive_file 300\npgfault 5\npgmajfault 2\n"),
            ("memory.events", "low 0\noom 1\noom_kill 1\n"),
            ("pids.current", "4\n"),
            ("memory.pressure", "some avg10=2.00 avg60=1.00 avg300=0.00 total=9\n"),
        ] {
            fs::write(root.path().join("c").join(file), text).expect("written");
        }
        let tree = V2 { root: root.path().to_owned() };
        let stats = tree.stats("c").expect("statistics");
        let expected = Stats {
            cpu_ns: 12_345_000,
            cpu_throttled_periods: 3,
            memory_usage: 1000,
            memory_working_set: 700,
            memory_rss: 600,
            memory_swap: 8,
            page_faults: 5,
            major_page_faults: 2,
            oom_kills: 1,
            pids: 4,
            memory_pressure: stats.memory_pressure,
            ..Stats::default()
        };
        assert_eq!(stats, expected);
        assert_eq!(stats.memory_pressure.map(|p| p.some.total_us), Some(9));
        assert!(tree.stats("gone").is_err());
    }

    /// A directory stands in for the kernel's tree.
    #[test]
    fn limits_are_written() {
        let root = tempfile::tempdir().expect("a directory");
        for kernel in ["pod/memory.oom.group", "pod/c/memory.oom.group", "pod/c/memory.swap.max"] {
            let file = root.path().join(kernel);
            fs::create_dir_all(file.parent().expect("a directory")).expect("made");
            fs::write(file, "0").expect("written");
        }
        let tree = V2 { root: root.path().to_owned() };
        let pod = Limits {
            cpu_shares: Some(1024),
            cpu_quota_us: Some(10_000),
            cpu_period_us: Some(100_000),
            memory_limit: Some(32 << 20),
            pids_limit: Some(20),
            huge_pages: Some([Some((2 << 20, 8 << 20)), None, None, None]),
            oom_group: false,
        };
        let pages = ["2MB.max", "2MB.rsvd.max", "1GB.max", "2MB.events"];
        for file in pages {
            fs::write(root.path().join("pod").join(format!("hugetlb.{file}")), "max")
                .expect("written");
        }
        tree.limit("pod", &pod).expect("limited");
        tree.limit("pod/c", &Limits { cpu_quota_us: None, oom_group: true, ..pod })
            .expect("limited");
        let read = |file: &str| fs::read_to_string(root.path().join(file)).expect("a file");
        assert_eq!(["pod/cpu.max", "pod/c/cpu.max"].map(read), ["10000 100000", "max 100000"]);
        assert_eq!(["pod/memory.oom.group", "pod/c/memory.oom.group"].map(read), ["0", "1"]);
        let values = ["8388608", "8388608", "0", "max"];
        assert_eq!(pages.map(|file| read(&format!("pod/hugetlb.{file}"))), values);
        let files = ["cpu.weight", "memory.max", "memory.swap.max", "pids.max"];
        let values = ["100", "33554432", "0", "20"];
        assert_eq!(files.map(|file| read(&format!("pod/c/{file}"))), values);
    }
}

//! Version 1: a mount for each controller.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    DeviceRule, Hierarchy, Limits, Stats, keyed, kill_processes, limit_huge_pages, number, read,
    write,
};
use crate::mount::MountInfo;

/// The controllers that are used where mounted.
const CONTROLLERS: &[&str] = &["cpu", "cpuacct", "memory", "pids", "devices", "freezer", "hugetlb"];

/// More than any machine has: v1's way to say unlimited.
const UNLIMITED: u64 = 1 << 62;

/// Per-controller mounts.
#[derive(Debug, Clone)]
pub struct V1 {
    mounts: Vec<(String, PathBuf)>,
}

impl V1 {
    /// From what is mounted; `None` without any of the controllers.
    pub fn from_mounts(mounts: &[MountInfo]) -> Option<Self> {
        let mut found = Vec::new();
        for controller in CONTROLLERS {
            let mount = mounts.iter().find(|m| {
                m.fs_type == "cgroup" && m.super_options.split(',').any(|o| o == *controller)
            });
            if let Some(mount) = mount {
                found.push(((*controller).to_owned(), mount.mount_point.clone()));
            }
        }
        (!found.is_empty()).then_some(Self { mounts: found })
    }

    /// Whether a controller is mounted.
    pub fn has(&self, controller: &str) -> bool {
        self.mounts.iter().any(|(name, _)| name == controller)
    }

    fn directory(&self, controller: &str, path: &str) -> Option<PathBuf> {
        let (_, mount) = self.mounts.iter().find(|(name, _)| name == controller)?;
        Some(mount.join(path))
    }

    fn need(&self, controller: &str, path: &str) -> io::Result<PathBuf> {
        self.directory(controller, path).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("no {controller} cgroup is mounted"))
        })
    }

    fn limit_memory(directory: &Path, bytes: u64) -> io::Result<()> {
        let limit = directory.join("memory.limit_in_bytes");
        let with_swap = directory.join("memory.memsw.limit_in_bytes");
        let bytes_text = bytes.to_string();
        // The limit with swap may never lie below the limit without, so the
        // order depends on the direction.
        let grows = number(&limit).is_some_and(|now| bytes > now);
        if grows && with_swap.exists() {
            write(&with_swap, &bytes_text)?;
        }
        write(&limit, &bytes_text)?;
        if !grows && with_swap.exists() {
            write(&with_swap, &bytes_text)?;
        }
        Ok(())
    }
}

impl Hierarchy for V1 {
    fn version(&self) -> u8 {
        1
    }

    fn create(&self, path: &str) -> io::Result<()> {
        for directory in self.directories(path) {
            fs::create_dir_all(&directory).map_err(|e| {
                io::Error::new(e.kind(), format!("make {}: {e}", directory.display()))
            })?;
        }
        Ok(())
    }

    fn limit(&self, path: &str, limits: &Limits) -> io::Result<()> {
        if let Some(shares) = limits.cpu_shares {
            write(&self.need("cpu", path)?.join("cpu.shares"), &shares.to_string())?;
        }
        if let Some(period) = limits.cpu_period_us {
            write(&self.need("cpu", path)?.join("cpu.cfs_period_us"), &period.to_string())?;
        }
        if let Some(quota) = limits.cpu_quota_us {
            write(&self.need("cpu", path)?.join("cpu.cfs_quota_us"), &quota.to_string())?;
        }
        if let Some(bytes) = limits.memory_limit {
            Self::limit_memory(&self.need("memory", path)?, bytes)?;
        }
        if let Some(pids) = limits.pids_limit {
            write(&self.need("pids", path)?.join("pids.max"), &pids.to_string())?;
        }
        if let (Some(granted), Some(directory)) =
            (&limits.huge_pages, self.directory("hugetlb", path))
        {
            limit_huge_pages(&directory, "limit_in_bytes", granted)?;
        }
        Ok(())
    }

    fn allow_devices(&self, path: &str, rules: &[DeviceRule]) -> io::Result<()> {
        let directory = self.need("devices", path)?;
        if rules.iter().any(DeviceRule::is_everything) {
            return write(&directory.join("devices.allow"), "a");
        }
        write(&directory.join("devices.deny"), "a")?;
        for rule in rules {
            write(&directory.join("devices.allow"), &rule.v1_line())?;
        }
        Ok(())
    }

    fn directories(&self, path: &str) -> Vec<PathBuf> {
        let mut directories: Vec<_> = self.mounts.iter().map(|(_, m)| m.join(path)).collect();
        // `cpu,cpuacct` may be one mount.
        directories.dedup();
        directories
    }

    fn entrances(&self, path: &str) -> Vec<PathBuf> {
        self.directories(path).into_iter().map(|directory| directory.join("tasks")).collect()
    }

    fn controllers(&self, path: &str) -> Vec<(String, PathBuf)> {
        self.mounts.iter().map(|(name, mount)| (name.clone(), mount.join(path))).collect()
    }

    fn oom_file(&self, path: &str) -> Option<PathBuf> {
        Some(self.directory("memory", path)?.join("memory.oom_control"))
    }

    fn stats(&self, path: &str) -> io::Result<Stats> {
        let mut stats = Stats::default();
        if let Some(directory) = self.directory("cpuacct", path) {
            let text = read(&directory.join("cpuacct.usage"))?;
            stats.cpu_ns = text.trim().parse().map_err(io::Error::other)?;
        }
        if let Some(directory) = self.directory("cpu", path) {
            let text = read(&directory.join("cpu.stat"))?;
            stats.cpu_throttled_periods = keyed(&text, "nr_throttled").unwrap_or(0);
        }
        if let Some(directory) = self.directory("memory", path) {
            stats.memory_usage = number(&directory.join("memory.usage_in_bytes")).unwrap_or(0);
            let text = read(&directory.join("memory.stat"))?;
            let inactive = keyed(&text, "total_inactive_file").unwrap_or(0);
            stats.memory_working_set = stats.memory_usage.saturating_sub(inactive);
            stats.memory_rss = keyed(&text, "total_rss").unwrap_or(0);
            stats.memory_swap = keyed(&text, "total_swap").unwrap_or(0);
            stats.page_faults = keyed(&text, "total_pgfault").unwrap_or(0);
            stats.major_page_faults = keyed(&text, "total_pgmajfault").unwrap_or(0);
            stats.memory_limit =
                number(&directory.join("memory.limit_in_bytes")).filter(|limit| *limit < UNLIMITED);
            let text = read(&directory.join("memory.oom_control"))?;
            stats.oom_kills = keyed(&text, "oom_kill").unwrap_or(0);
        }
        if let Some(directory) = self.directory("pids", path) {
            stats.pids = number(&directory.join("pids.current")).unwrap_or(0);
        }
        Ok(stats)
    }

    fn freeze(&self, path: &str, frozen: bool) -> io::Result<()> {
        let file = self.need("freezer", path)?.join("freezer.state");
        write(&file, if frozen { "FROZEN" } else { "THAWED" })
    }

    fn kill(&self, path: &str) -> io::Result<()> {
        let mut failed = None;
        for directory in self.directories(path) {
            if !directory.exists() {
                continue;
            }
            let can_freeze = self.directory("freezer", path).is_some_and(|d| d.exists());
            let freeze = |frozen| if can_freeze { self.freeze(path, frozen) } else { Ok(()) };
            if let Err(error) = kill_processes(&directory, || freeze(true), || freeze(false)) {
                // Whatever happened, nothing stays frozen.
                let _ = freeze(false);
                failed = Some(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Directories stand in for the kernel's trees.
    #[test]
    fn statistics_are_read() {
        let root = tempfile::tempdir().expect("a directory");
        let mounts = ["cpu", "cpuacct", "memory", "pids"];
        for (file, text) in [
            ("cpu/c/cpu.stat", "nr_periods 9\nnr_throttled 3\nthrottled_time 5\n"),
            ("cpuacct/c/cpuacct.usage", "1234567890\n"),
            ("memory/c/memory.usage_in_bytes", "1000\n"),
            (
                "memory/c/memory.stat",
                "rss 1\ntotal_rss 600\ntotal_pgfault 5\ntotal_pgmajfault 2\ntotal_inactive_file 300\n",
            ),
            ("memory/c/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/c/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"),
            ("pids/c/pids.current", "4\n"),
        ] {
            let file = root.path().join(file);
            fs::create_dir_all(file.parent().expect("a directory")).expect("made");
            fs::write(file, text).expect("written");
        }
        let tree = V1 { mounts: mounts.map(|m| (m.to_owned(), root.path().join(m))).to_vec() };
        let expected = Stats {
            cpu_ns: 1_234_567_890,
            cpu_throttled_periods: 3,
            memory_usage: 1000,
            memory_working_set: 700,
            memory_rss: 600,
            page_faults: 5,
            major_page_faults: 2,
            oom_kills: 1,
            pids: 4,
            ..Stats::default()
        };
        assert_eq!(tree.stats("c").expect("statistics"), expected);
        assert!(tree.stats("gone").is_err());
    }

    /// A directory stands in for the kernel's mount; of what is not mounted nothing is asked.
    #[test]
    fn huge_pages_are_limited_by_size() {
        let root = tempfile::tempdir().expect("a directory");
        let files = ["2MB.limit_in_bytes", "2MB.rsvd.limit_in_bytes", "1GB.limit_in_bytes"];
        let others = ["2MB.usage_in_bytes", "2MB.max_usage_in_bytes", "2MB.failcnt"];
        fs::create_dir_all(root.path().join("c")).expect("made");
        for file in files.iter().chain(&others) {
            fs::write(root.path().join(format!("c/hugetlb.{file}")), "before").expect("written");
        }
        let pages = Some([Some((2 << 20, 8 << 20)), None, None, None]);
        let limits = Limits { huge_pages: pages, ..Limits::default() };
        let nowhere = V1 { mounts: Vec::new() };
        nowhere.limit("c", &limits).expect("nothing to limit");
        let tree = V1 { mounts: vec![("hugetlb".into(), root.path().to_owned())] };
        tree.limit("c", &limits).expect("limited");
        let read = |file: &str| {
            fs::read_to_string(root.path().join(format!("c/hugetlb.{file}"))).expect("a file")
        };
        assert_eq!(files.map(read), ["8388608", "8388608", "0"]);
        assert_eq!(others.map(read), ["before"; 3]);
    }

    /// How many cgroups of huge pages the machine has, those included that are going.
    fn groups() -> u64 {
        let text = read(Path::new("/proc/cgroups")).expect("a kernel with cgroups");
        let line = text.lines().find_map(|line| line.strip_prefix("hugetlb"));
        let count = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        count.unwrap_or(0)
    }

    /// The kernel's own files, in a mount that this test's thread alone sees. Where v2 has
    /// the controller in use, v1 cannot.
    #[test]
    fn the_kernel_takes_limits_of_huge_pages() {
        use rustix::mount::{MountFlags, MountPropagationFlags as Propagation};
        if !crate::detect::is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let inside = || {
            // SAFETY: takes a mask; the thread is this test's own.
            let own = unsafe { libc::unshare(libc::CLONE_NEWNS | libc::CLONE_FS) };
            crate::child::check(own).expect("mounts of its own");
            let private = Propagation::PRIVATE | Propagation::REC;
            rustix::mount::mount_change("/", private).expect("private");
            let root = tempfile::tempdir().expect("a directory");
            let before = groups();
            let flags = MountFlags::empty();
            if let Err(error) =
                rustix::mount::mount("none", root.path(), "cgroup", flags, c"hugetlb")
            {
                eprintln!("skipped: no hugetlb on v1: {error}");
                return;
            }
            let tree = V1 { mounts: vec![("hugetlb".into(), root.path().to_owned())] };
            let path = format!("skiff-linux-test-{}", std::process::id());
            tree.create(&path).expect("made");
            let pages = Some([Some((2 << 20, 8 << 20)), None, None, None]);
            let limited = tree.limit(&path, &Limits { huge_pages: pages, ..Limits::default() });
            let entries = fs::read_dir(root.path().join(&path)).expect("listed").flatten();
            let limits: Vec<(String, String)> = entries
                .filter_map(|entry| {
                    let name = entry.file_name().into_string().ok()?;
                    let is_limit = name.ends_with("limit_in_bytes");
                    is_limit.then(|| (name, read(&entry.path()).expect("a file")))
                })
                .collect();
            tree.remove(&path).expect("removed");
            // Nothing tells when it has gone, and the tree would stay with it.
            let begun = std::time::Instant::now();
            while groups() > before && begun.elapsed().as_secs() < 30 {
                std::thread::yield_now();
            }
            crate::mount::unmount(root.path()).expect("unmounted");
            limited.expect("limited");
            assert!(!limits.is_empty(), "the kernel has files for each size");
            for (name, bytes) in limits {
                let wanted = if name.starts_with("hugetlb.2MB.") { "8388608\n" } else { "0\n" };
                assert_eq!(bytes, wanted, "{name}");
            }
        };
        std::thread::spawn(inside).join().expect("no panic");
    }
}

//! Control groups: one trait, a backend for v1's mount for each controller and
//! one for v2's single tree.
//!
//! Paths are relative to the hierarchy's root (`skiff/pods/pod1/abc`). Nothing
//! is cached: a second process may act on the same tree.

use std::{
    fs, io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    time::Duration,
};

mod devices;
mod v1;
mod v2;

pub use devices::{DeviceKind, DeviceRule};
pub use v1::V1;
pub use v2::V2;

use crate::{pressure::Pressure, process};

/// Bytes of huge pages, by the size of a page; of sizes that are not named, none. No
/// machine has more than four sizes.
pub type HugePages = [Option<(u64, u64)>; 4];

/// Limits; `None` leaves what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// v1 scale, 2..=262144.
    pub cpu_shares: Option<u64>,
    /// Microseconds a period.
    pub cpu_quota_us: Option<u64>,
    /// Microseconds.
    pub cpu_period_us: Option<u64>,
    /// Bytes, swap included.
    pub memory_limit: Option<u64>,
    /// Processes and threads.
    pub pids_limit: Option<u64>,
    /// Huge pages, where the kernel counts them.
    pub huge_pages: Option<HugePages>,
    /// Whether running out of memory ends all of its processes, not one of
    /// them. Only v2 can; kubelets set it on containers since Kubernetes 1.28.
    pub oom_group: bool,
}

/// What a cgroup and those below it use.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Stats {
    /// Nanoseconds.
    pub cpu_ns: u64,
    /// Periods in which the quota ran out.
    pub cpu_throttled_periods: u64,
    /// Bytes charged, page cache included.
    pub memory_usage: u64,
    /// Bytes without inactive file pages, what eviction looks at.
    pub memory_working_set: u64,
    /// Bytes of anonymous memory.
    pub memory_rss: u64,
    /// Bytes in swap.
    pub memory_swap: u64,
    /// Pages that had to be mapped.
    pub page_faults: u64,
    /// Pages that had to be read.
    pub major_page_faults: u64,
    /// Bytes; `None` where unlimited.
    pub memory_limit: Option<u64>,
    /// Processes killed for memory.
    pub oom_kills: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Waiting for CPU; v1 does not know.
    pub cpu_pressure: Option<Pressure>,
    /// Waiting for memory.
    pub memory_pressure: Option<Pressure>,
    /// Waiting for I/O.
    pub io_pressure: Option<Pressure>,
}

/// The operations that v1 and v2 do in different ways.
pub trait Hierarchy: Send + Sync {
    /// 1 or 2.
    fn version(&self) -> u8;

    /// Makes a cgroup and its parents, with every controller in use enabled
    /// below them.
    ///
    /// # Errors
    /// What the kernel says, with the path.
    fn create(&self, path: &str) -> io::Result<()>;

    /// Sets limits.
    ///
    /// # Errors
    /// What the kernel says, with the file.
    fn limit(&self, path: &str, limits: &Limits) -> io::Result<()>;

    /// Allows these devices and no others.
    ///
    /// # Errors
    /// What the kernel says.
    fn allow_devices(&self, path: &str, rules: &[DeviceRule]) -> io::Result<()>;

    /// The cgroup's directories, one for each mount; v2 has one.
    fn directories(&self, path: &str) -> Vec<PathBuf>;

    /// The files by which a process that has one thread moves itself: it writes `0`. On v1
    /// those of threads, since the kernel makes whoever moves a whole process wait till
    /// every processor has come to rest, up to tens of milliseconds a mount.
    fn entrances(&self, path: &str) -> Vec<PathBuf>;

    /// Controller name (`memory`; empty on v2) and its directory, for the view
    /// that a container gets.
    fn controllers(&self, path: &str) -> Vec<(String, PathBuf)>;

    /// A file with a line `oom_kill <count>`.
    fn oom_file(&self, path: &str) -> Option<PathBuf>;

    /// Reads what it uses; parts without their controller stay zero.
    ///
    /// # Errors
    /// When the cgroup is gone.
    fn stats(&self, path: &str) -> io::Result<Stats>;

    /// Stops or continues everything in it.
    ///
    /// # Errors
    /// What the kernel says.
    fn freeze(&self, path: &str, frozen: bool) -> io::Result<()>;

    /// Kills everything in it and below and waits for the ends.
    ///
    /// # Errors
    /// When something does not end within ten seconds (uninterruptible I/O).
    fn kill(&self, path: &str) -> io::Result<()>;

    /// Removes it and those below; one that is gone is fine.
    ///
    /// # Errors
    /// `ResourceBusy` while processes are in it.
    fn remove(&self, path: &str) -> io::Result<()> {
        let mut failed = None;
        for directory in self.directories(path) {
            if let Err(error) = remove_tree(&directory) {
                failed = Some(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

/// The hierarchy that has the memory controller, or else v2 where it is mounted.
///
/// # Errors
/// When no cgroup is mounted.
pub fn detect() -> io::Result<Box<dyn Hierarchy>> {
    let mounts = crate::mount::mounts()?;
    let v1 = V1::from_mounts(&mounts);
    let v2 = V2::from_mounts(&mounts);
    match (v1, v2) {
        (Some(v1), Some(v2)) if v2.has("memory") && !v1.has("memory") => Ok(Box::new(v2)),
        (Some(v1), _) => Ok(Box::new(v1)),
        (None, Some(v2)) => Ok(Box::new(v2)),
        (None, None) => Err(io::Error::new(io::ErrorKind::NotFound, "no cgroup is mounted")),
    }
}

pub(crate) fn read(path: &Path) -> io::Result<String> {
    fs::read_to_string(path)
        .map_err(|e| io::Error::new(e.kind(), format!("read {}: {e}", path.display())))
}

pub(crate) fn write(path: &Path, value: &str) -> io::Result<()> {
    fs::write(path, value)
        .map_err(|e| io::Error::new(e.kind(), format!("write {value} to {}: {e}", path.display())))
}

/// Limits every size of huge pages that the directory has files for: v2's end in
/// `max`, v1's in `limit_in_bytes`. A reservation counts like its use (`rsvd`), so that
/// who has too little hears of it before it touches the pages.
fn limit_huge_pages(directory: &Path, ending: &str, granted: &HugePages) -> io::Result<()> {
    // Without the controller nothing is counted, and there are no such files.
    let entries = match fs::read_dir(directory) {
        // Made before v1's controller was looked at.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let size = name.to_str().and_then(|name| {
            let size = name.strip_prefix("hugetlb.")?.strip_suffix(ending)?.strip_suffix('.')?;
            page_size(size.strip_suffix(".rsvd").unwrap_or(size))
        });
        let Some(size) = size else { continue };
        let bytes = granted.iter().flatten().find(|(known, _)| *known == size);
        write(&entry.path(), &bytes.map_or(0, |(_, bytes)| *bytes).to_string())?;
    }
    Ok(())
}

/// `2MB` as the kernel writes it, in bytes.
fn page_size(text: &str) -> Option<u64> {
    let units = [("KB", 10), ("MB", 20), ("GB", 30)];
    let (unit, shift) = units.into_iter().find(|(unit, _)| text.ends_with(unit))?;
    text.strip_suffix(unit)?.parse::<u64>().ok()?.checked_shl(shift)
}

/// The number in a file, or after a key in a `key value` file.
pub(crate) fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

pub(crate) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// `cgroup.procs` of a directory and all below it.
pub(crate) fn processes(directory: &Path) -> Vec<u32> {
    let mut found = Vec::new();
    let mut todo = vec![directory.to_path_buf()];
    while let Some(directory) = todo.pop() {
        if let Ok(text) = fs::read_to_string(directory.join("cgroup.procs")) {
            found.extend(text.lines().filter_map(|l| l.parse::<u32>().ok()).filter(|p| *p != 0));
        }
        todo.extend(children(&directory));
    }
    found
}

fn children(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries
        .flatten()
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
        .map(|e| e.path())
        .collect()
}

/// Kills the processes of one directory tree until there are none.
pub(crate) fn kill_processes(
    directory: &Path,
    mut before: impl FnMut() -> io::Result<()>,
    mut after: impl FnMut() -> io::Result<()>,
) -> io::Result<()> {
    // A fork may slip in between the listing and the signal, so look again;
    // frozen groups cannot fork, which bounds the rounds.
    for _ in 0..100 {
        before()?;
        let pids = processes(directory);
        let mut ended = Vec::new();
        for pid in pids {
            if let Ok(pidfd) = process::pidfd_open(pid) {
                // The pid may have been reused between listing and opening:
                // only what is still in the cgroup dies.
                if processes(directory).contains(&pid) {
                    process::pidfd_signal(pidfd.as_fd(), libc::SIGKILL)?;
                    ended.push(pidfd);
                }
            }
        }
        after()?;
        if ended.is_empty() {
            return Ok(());
        }
        if !process::wait_ended(&ended, 10_000)? {
            let text = format!("processes in {} do not end", directory.display());
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
    }
    Err(io::Error::other(format!("{} fills faster than it is killed", directory.display())))
}

fn remove_tree(directory: &Path) -> io::Result<()> {
    for child in children(directory) {
        remove_tree(&child)?;
    }
    // A process leaves its cgroup a moment after its pidfd says that it ended,
    // and nothing on v1 tells when: a bounded retry.
    for attempt in 0..200 {
        match fs::remove_dir(directory) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy && attempt < 199 => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(e) => {
                let text = format!("remove {}: {e}", directory.display());
                return Err(io::Error::new(e.kind(), text));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;

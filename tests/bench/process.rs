//! What the kernel says of a process.

use std::{collections::BTreeMap, ffi::OsString, fs, path::Path, time::Duration};

/// A process by its number.
pub(crate) struct Process(u32);

/// What it has used since it began.
pub(crate) struct Usage {
    pub(crate) cpu: Duration,
    pub(crate) written_bytes: u64,
    /// How often each of its threads has waited and was woken, by its number.
    waits: BTreeMap<OsString, u64>,
}

impl Usage {
    /// How often threads were woken since. What a thread did that ended in between
    /// is not known.
    pub(crate) fn wakeups_since(&self, before: &Self) -> u64 {
        let since = |(thread, now): (&OsString, &u64)| {
            now.saturating_sub(before.waits.get(thread).copied().unwrap_or(0))
        };
        self.waits.iter().map(since).sum()
    }
}

impl Process {
    pub(crate) fn new(pid: u32) -> Self {
        Self(pid)
    }

    pub(crate) fn usage(&self) -> Usage {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).expect("the process runs");
        // The name in parentheses may hold spaces; utime and stime are fields
        // 14 and 15, in ticks of 10 ms (proc(5)).
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        let ticks: u64 =
            [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum();
        let io = fs::read_to_string(format!("/proc/{}/io", self.0)).expect("the process runs");
        let written = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok());
        let threads = fs::read_dir(format!("/proc/{}/task", self.0)).expect("the process runs");
        let waits = |status: &str| -> Option<u64> {
            let line = status.lines().find_map(|l| l.strip_prefix("voluntary_ctxt_switches:"))?;
            line.trim().parse().ok()
        };
        let waits = threads
            .flatten()
            // A thread may end while they are counted.
            .filter_map(|thread| {
                let status = fs::read_to_string(thread.path().join("status")).ok()?;
                Some((thread.file_name(), waits(&status)?))
            })
            .collect();
        Usage { cpu: Duration::from_millis(ticks * 10), written_bytes: written.unwrap_or(0), waits }
    }

    /// What is its own and no file's: heap and stacks.
    pub(crate) fn anonymous_mb(&self) -> f64 {
        kib(&format!("/proc/{}/status", self.0), "RssAnon:") / 1000.0 * 1.024
    }

    pub(crate) fn resident_mb(&self) -> f64 {
        kib(&format!("/proc/{}/status", self.0), "VmRSS:") / 1000.0 * 1.024
    }
}

fn kib(file: &str, key: &str) -> f64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse().ok())
        .unwrap_or(0.0)
}

/// The mean proportional set size of the shims of a server's pods: processes
/// named as shims are whose files are in the server's data directory.
pub(crate) fn children_pss_mb(data_dir: &Path) -> f64 {
    let data_dir = data_dir.to_string_lossy().into_owned();
    let mut sizes = Vec::new();
    for entry in fs::read_dir("/proc").expect("procfs").flatten() {
        let path = entry.path();
        let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
        let line = fs::read(path.join("cmdline")).unwrap_or_default();
        if name.contains("shim") && String::from_utf8_lossy(&line).contains(&data_dir) {
            sizes.push(kib(&path.join("smaps_rollup").to_string_lossy(), "Pss:") / 1000.0 * 1.024);
        }
    }
    sizes.iter().sum::<f64>() / sizes.len().max(1) as f64
}

/// Which machine this is.
pub(crate) fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let memory = kib("/proc/meminfo", "MemTotal:") / 1e6 * 1.024;
    format!(
        "{cores} × {}, {memory:.0} GB, Linux {}",
        model.trim_start_matches([' ', '\t', ':']),
        kernel.trim()
    )
}

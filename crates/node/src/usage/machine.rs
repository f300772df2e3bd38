//! What the whole machine uses, from `/proc`.

use std::{collections::BTreeMap, fs, io, path::Path};

use node_runtime::Pressure;

/// One look at the machine.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct MachineUse {
    /// CPU time of all CPUs but for idling, nanoseconds.
    pub(crate) cpu_ns: u64,
    pub(crate) memory: MemoryUse,
    pub(crate) page_faults: u64,
    pub(crate) major_page_faults: u64,
    /// Links by name, as this network namespace has them.
    pub(crate) links: BTreeMap<String, Traffic>,
    /// The link of the default route.
    pub(crate) default_link: Option<String>,
    pub(crate) pids: u64,
    pub(crate) pids_max: u64,
    pub(crate) cpu_pressure: Option<Pressure>,
    pub(crate) memory_pressure: Option<Pressure>,
    pub(crate) io_pressure: Option<Pressure>,
}

/// Bytes, as kubelet's eviction and summary define them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct MemoryUse {
    pub(crate) total: u64,
    pub(crate) usage: u64,
    /// Usage without inactive file pages.
    pub(crate) working_set: u64,
    /// Anonymous pages.
    pub(crate) rss: u64,
    pub(crate) swap_total: u64,
    pub(crate) swap_used: u64,
}

impl MemoryUse {
    /// The signal `memory.available`.
    pub(crate) fn available(&self) -> u64 {
        self.total.saturating_sub(self.working_set)
    }
}

/// What went through a link since it is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) rx_bytes: u64,
    pub(crate) rx_errors: u64,
    pub(crate) tx_bytes: u64,
    pub(crate) tx_errors: u64,
}

impl Traffic {
    /// As the other end of the cable counts it.
    pub(crate) fn seen_from_the_other_end(self) -> Self {
        Self {
            rx_bytes: self.tx_bytes,
            rx_errors: self.tx_errors,
            tx_bytes: self.rx_bytes,
            tx_errors: self.rx_errors,
        }
    }
}

impl MachineUse {
    /// Reads everything; what the kernel does not tell stays zero or empty.
    ///
    /// # Errors
    /// Where CPU or memory cannot be read.
    pub(crate) fn read() -> io::Result<Self> {
        let text = fs::read_to_string;
        let malformed = |file: &str| io::Error::other(format!("{file} is not understood"));
        let stat = text("/proc/stat")?;
        let vmstat = text("/proc/vmstat").unwrap_or_default();
        let (pids, pids_max) = pids()?;
        let pressure = |name: &str| Pressure::read(&Path::new("/proc/pressure").join(name));
        Ok(Self {
            cpu_ns: cpu_ns(&stat).ok_or_else(|| malformed("/proc/stat"))?,
            memory: memory(&text("/proc/meminfo")?).ok_or_else(|| malformed("/proc/meminfo"))?,
            page_faults: keyed(&vmstat, "pgfault"),
            major_page_faults: keyed(&vmstat, "pgmajfault"),
            // Of this thread's network namespace, which /sys need not show.
            links: links(&text("/proc/thread-self/net/dev").unwrap_or_default()),
            default_link: default_link(&text("/proc/thread-self/net/route").unwrap_or_default()),
            pids,
            pids_max,
            cpu_pressure: pressure("cpu"),
            memory_pressure: pressure("memory"),
            io_pressure: pressure("io"),
        })
    }
}

/// Processes and threads there are, and may be.
pub(crate) fn pids() -> io::Result<(u64, u64)> {
    let number = |path: &str| -> io::Result<u64> {
        fs::read_to_string(path)?.trim().parse().map_err(io::Error::other)
    };
    let max = number("/proc/sys/kernel/pid_max")?.min(number("/proc/sys/kernel/threads-max")?);
    let loadavg = fs::read_to_string("/proc/loadavg")?;
    let there = loadavg.split(' ').nth(3).and_then(|field| field.split('/').nth(1)?.parse().ok());
    Ok((there.unwrap_or(0), max))
}

/// USER_HZ, which is 100 on every architecture that Linux still has (proc(5)).
const TICK_NS: u64 = 10_000_000;

/// `/proc/stat`: user, nice, system, interrupts; guests are in user already, and
/// what the hypervisor stole nobody here used.
fn cpu_ns(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Vec<u64> =
        line.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    let busy: u64 = [0, 1, 2, 5, 6].iter().map(|at| fields.get(*at).copied().unwrap_or(0)).sum();
    (fields.len() >= 4).then_some(busy * TICK_NS)
}

/// `/proc/meminfo`, as runc and cAdvisor read a v2 root cgroup.
pub(crate) fn memory(meminfo: &str) -> Option<MemoryUse> {
    let line = |name: &str| {
        let rest = meminfo.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
        rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
    };
    let total = line("MemTotal")?;
    let usage = total.saturating_sub(line("MemFree")?);
    let swap_total = line("SwapTotal").unwrap_or(0);
    Some(MemoryUse {
        total,
        usage,
        working_set: usage.saturating_sub(line("Inactive(file)").unwrap_or(0)),
        rss: line("AnonPages").unwrap_or(0),
        swap_total,
        swap_used: swap_total.saturating_sub(line("SwapFree").unwrap_or(0)),
    })
}

fn keyed(text: &str, key: &str) -> u64 {
    let found = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    found.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}

/// `/proc/net/dev`.
fn links(text: &str) -> BTreeMap<String, Traffic> {
    let link = |line: &str| {
        let (name, counts) = line.split_once(':')?;
        let counts: Vec<u64> =
            counts.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
        let at = |index: usize| counts.get(index).copied();
        let traffic =
            Traffic { rx_bytes: at(0)?, rx_errors: at(2)?, tx_bytes: at(8)?, tx_errors: at(10)? };
        Some((name.trim().to_owned(), traffic))
    };
    text.lines().filter_map(link).collect()
}

/// `/proc/net/route`: the link of the route to everywhere.
fn default_link(text: &str) -> Option<String> {
    text.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace();
        let (link, to, mask) = (fields.next()?, fields.next()?, fields.nth(5)?);
        (to == "00000000" && mask == "00000000").then(|| link.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_what_was_not_idle() {
        let stat = "cpu  100 20 30 4000 500 6 7 800 90 0\ncpu0 1 1 1 1\nintr 1\n";
        assert_eq!(cpu_ns(stat), Some(1_630_000_000));
        assert_eq!(cpu_ns("cpu  1 2 3 4\n"), Some(60_000_000), "an old kernel");
        for text in ["", "cpu  a b c d\n", "cpu  1\n"] {
            assert_eq!(cpu_ns(text), None, "{text}");
        }
    }

    #[test]
    fn memory_is_without_inactive_files() {
        let text = "MemTotal: 1000 kB\nMemFree: 300 kB\nMemAvailable: 900 kB\nInactive(file): 200 kB\nAnonPages: 50 kB\nSwapTotal: 10 kB\nSwapFree: 4 kB\n";
        let memory = memory(text).expect("a meminfo");
        let kib = |bytes: u64| bytes / 1024;
        assert_eq!((kib(memory.usage), kib(memory.working_set)), (700, 500));
        assert_eq!((kib(memory.available()), kib(memory.rss)), (500, 50));
        assert_eq!(kib(memory.swap_used), 6);
        assert_eq!(super::memory("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn links_and_their_default() {
        let dev = "Inter-|   Receive  |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes\n    lo: 10 1 0 0 0 0 0 0 10 1 0 0 0 0 0 0\n  eth0:7 1 2 0 0 0 0 0 9 1 3 0 0 0 0 0\n";
        let links = links(dev);
        assert_eq!(links.keys().collect::<Vec<_>>(), ["eth0", "lo"]);
        let eth0 = Traffic { rx_bytes: 7, rx_errors: 2, tx_bytes: 9, tx_errors: 3 };
        assert_eq!(links["eth0"], eth0);
        assert_eq!(eth0.seen_from_the_other_end().rx_bytes, 9);
        let route = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\neth1\t000A000A\t0\t1\t0\t0\t0\t00FFFFFF\neth0\t00000000\t0101A8C0\t3\t0\t0\t0\t00000000\n";
        assert_eq!(default_link(route).as_deref(), Some("eth0"));
        assert_eq!(default_link(""), None);
    }

    #[test]
    fn this_machine_can_be_read() {
        let machine = MachineUse::read().expect("readable");
        assert!(machine.cpu_ns > 0 && machine.memory.working_set > 0 && machine.pids > 0);
        assert!(machine.memory.available() <= machine.memory.total);
        assert!(machine.links.contains_key("lo"));
    }
}

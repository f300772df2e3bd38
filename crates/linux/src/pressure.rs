//! Pressure stall information: how long tasks waited for CPU, memory or I/O
//! (<https://docs.kernel.org/accounting/psi.html>), of the machine
//! (`/proc/pressure`) or of a v2 cgroup (`memory.pressure`).

use std::{fs, path::Path};

/// One resource's pressure.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Pressure {
    /// At least one task waited.
    pub some: Stall,
    /// All tasks that were not idle waited; zero where the kernel does not say.
    pub full: Stall,
}

/// A line of a pressure file.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Stall {
    /// Percent of the last ten seconds.
    pub avg10: f64,
    /// Percent of the last minute.
    pub avg60: f64,
    /// Percent of the last five minutes.
    pub avg300: f64,
    /// Microseconds since the start.
    pub total_us: u64,
}

impl Pressure {
    /// Reads a pressure file's text; `None` for what is none.
    pub fn parse(text: &str) -> Option<Self> {
        let line = |name: &str| {
            let rest = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
            let field = |key: &str| {
                rest.split(' ').find_map(|field| field.strip_prefix(key)?.strip_prefix('='))
            };
            Some(Stall {
                avg10: field("avg10")?.parse().ok()?,
                avg60: field("avg60")?.parse().ok()?,
                avg300: field("avg300")?.parse().ok()?,
                total_us: field("total")?.parse().ok()?,
            })
        };
        // Kernels before 5.13 have no `full` line for CPU.
        Some(Self { some: line("some")?, full: line("full").unwrap_or_default() })
    }

    /// From a file; `None` where the kernel has none.
    pub fn read(path: &Path) -> Option<Self> {
        Self::parse(&fs::read_to_string(path).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read() {
        let text = "some avg10=1.50 avg60=0.30 avg300=0.06 total=123\nfull avg10=0.00 avg60=0.00 avg300=0.01 total=7\n";
        let pressure = Pressure::parse(text).expect("a pressure file");
        assert_eq!((pressure.some.avg10, pressure.some.total_us), (1.5, 123));
        assert_eq!((pressure.full.avg300, pressure.full.total_us), (0.01, 7));
        let before = Pressure::parse(text.lines().next().expect("a line")).expect("no full line");
        assert_eq!(before.full, Stall::default());
        for text in ["", "some", "some avg10=x avg60=0 avg300=0 total=0", "full avg10=0.00"] {
            assert_eq!(Pressure::parse(text), None, "{text}");
        }
    }
}

//! The program's own file in memory: pages of code and constants that are
//! mapped because they were needed once.
//!
//! Starting runs through far more of a large program than it needs later, and
//! the kernel maps what lies around each page along with it. Such pages count as
//! resident though nothing needs them.

use std::{fs, io, mem::MaybeUninit, time::Duration};

/// What this process has used since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// On all processors, its own time and the kernel's for it.
    pub cpu: Duration,
    /// How often memory was mapped that needed no reading of a disk: pages of files
    /// that the page cache had, and fresh memory.
    pub minor_faults: u64,
}

/// What getrusage(2) says of this process.
///
/// # Errors
/// What getrusage(2) says.
pub fn used() -> io::Result<Used> {
    let mut usage = MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: the kernel fills in the whole struct where it answers 0, and every
    // bit pattern of its numbers is a number.
    let usage = unsafe {
        if libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        usage.assume_init()
    };
    let time = |time: libc::timeval| {
        let whole = Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0));
        whole + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or(0))
    };
    Ok(Used {
        cpu: time(usage.ru_utime) + time(usage.ru_stime),
        minor_faults: u64::try_from(usage.ru_minflt).unwrap_or(0),
    })
}

/// Takes away the pages of files that this process has mapped and cannot have
/// changed. They stay in the page cache: what is needed again is mapped again,
/// without reading the disk. Gives the number of bytes that were resident there.
///
/// # Errors
/// Where `/proc/self/smaps` cannot be read, or what madvise(2) says.
pub fn unmap_clean() -> io::Result<u64> {
    let mut bytes = 0;
    for mapping in mappings(&fs::read_to_string("/proc/self/smaps")?) {
        if !mapping.is_clean() {
            continue;
        }
        let len = mapping.end - mapping.start;
        // SAFETY: the range is one mapping of a file, private, not writable, and
        // the kernel says that no page of it differs from the file (relocated
        // data does, and is left alone). After MADV_DONTNEED a page reads as the
        // file has it: as before. A range that was unmapped in between is an
        // error and nothing else.
        let done =
            unsafe { libc::madvise(mapping.start as *mut libc::c_void, len, libc::MADV_DONTNEED) };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
        bytes += mapping.resident_kb * 1024;
    }
    Ok(bytes)
}

/// One mapping of `/proc/PID/smaps` (proc_pid_smaps(5)).
#[derive(Debug, Default, PartialEq)]
struct Mapping {
    start: usize,
    end: usize,
    /// A file, mapped privately, that this process cannot write to.
    is_read_only_file: bool,
    resident_kb: u64,
    /// Pages that are this process's own.
    changed_kb: u64,
}

impl Mapping {
    fn is_clean(&self) -> bool {
        self.is_read_only_file && self.changed_kb == 0 && self.resident_kb > 0
    }
}

fn mappings(smaps: &str) -> Vec<Mapping> {
    let mut found: Vec<Mapping> = Vec::new();
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let Some(first) = words.next() else { continue };
        let kb = || line.split_whitespace().nth(1).and_then(|word| word.parse().ok());
        match (first, found.last_mut()) {
            ("Rss:", Some(mapping)) => mapping.resident_kb = kb().unwrap_or(0),
            // What does not parse counts as changed.
            ("Anonymous:" | "Private_Dirty:" | "Shared_Dirty:" | "Swap:", Some(mapping)) => {
                mapping.changed_kb += kb().unwrap_or(1);
            }
            _ => {
                let Some((start, end)) = first.split_once('-') else { continue };
                let address = |hex| usize::from_str_radix(hex, 16).ok();
                let (Some(start), Some(end)) = (address(start), address(end)) else { continue };
                let mode = words.next().unwrap_or_default();
                let path = words.nth(3).unwrap_or_default();
                let is_read_only_file =
                    mode.starts_with("r-") && mode.ends_with('p') && path.starts_with('/');
                found.push(Mapping { start, end, is_read_only_file, ..Mapping::default() });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clean_mappings_of_files_are_told_from_others() {
        let smaps = "\
55d0c0000000-55d0c0100000 r--p 00000000 fe:01 42 /usr/bin/skiff
Size:               1024 kB
Rss:                 900 kB
Private_Dirty:         0 kB
Anonymous:             0 kB
55d0c0100000-55d0c0200000 r-xp 00100000 fe:01 42 /usr/bin/skiff
Rss:                 800 kB
Private_Dirty:         0 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me sd
55d0c0200000-55d0c0300000 r--p 00200000 fe:01 42 /usr/bin/skiff
Rss:                 700 kB
Private_Dirty:       700 kB
Anonymous:           700 kB
55d0c0300000-55d0c0400000 rw-p 00300000 fe:01 42 /usr/bin/skiff
Rss:                   8 kB
Anonymous:             0 kB
7f0000000000-7f0000100000 r--s 00000000 fe:01 43 /var/lib/shared
Rss:                   8 kB
Anonymous:             0 kB
7ffc00000000-7ffc00021000 r-xp 00000000 00:00 0 [vdso]
Rss:                   8 kB
Anonymous:             0 kB
";
        let clean: Vec<_> = mappings(smaps).into_iter().filter(Mapping::is_clean).collect();
        let kb: Vec<_> = clean.iter().map(|mapping| mapping.resident_kb).collect();
        assert_eq!((mappings(smaps).len(), kb), (6, vec![900, 800]));
        assert_eq!((clean[0].start, clean[0].end), (0x55d0_c000_0000, 0x55d0_c010_0000));
    }

    #[test]
    fn the_program_goes_on_with_fewer_pages() {
        let resident = || {
            let smaps = fs::read_to_string("/proc/self/smaps").expect("readable");
            let clean = mappings(&smaps).into_iter().filter(Mapping::is_clean);
            clean.map(|mapping| mapping.resident_kb * 1024).sum::<u64>()
        };
        let before = resident();
        let taken = unmap_clean().expect("supported");
        assert!(taken > 0 && resident() < before, "{taken} of {before}");
    }

    #[test]
    fn mapping_memory_is_counted() {
        let before = used().expect("supported");
        let pages: Vec<u8> = (0..4 << 20).map(|at| (at >> 12) as u8).collect();
        let after = used().expect("supported");
        assert!(after.minor_faults > before.minor_faults, "{before:?} {after:?}");
        assert!(after.cpu >= before.cpu && pages.len() == 4 << 20);
    }
}

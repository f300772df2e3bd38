//! What this node has: read-only questions that a start and `skiff check` ask.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::mount;

/// Whether this process is root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The lowest kernel that has every system call used: mount_setattr.
pub const KERNEL_MIN: (u32, u32) = (5, 12);

/// The running kernel: major, minor and the whole text.
pub fn kernel_release() -> (u32, u32, String) {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let (major, minor) = parse_release(&release);
    (major, minor, release)
}

/// Major and minor of `uname -r`; zeros where it has none. Allocates nothing.
pub(crate) fn parse_release(release: &str) -> (u32, u32) {
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map_while(|digits| digits.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// A file system type that the kernel knows now (a module may still be loaded
/// on demand).
///
/// # Errors
/// When procfs cannot be read.
pub fn knows_file_system(name: &str) -> io::Result<bool> {
    let text = fs::read_to_string("/proc/filesystems")?;
    Ok(text.lines().any(|line| line.split_whitespace().next_back() == Some(name)))
}

/// Whether overlayfs can have its writable layer in a directory: the kernel
/// knows overlayfs, and the directory does not lie on a file system that cannot
/// hold one (overlayfs itself, NFS, FAT, 9p, FUSE, eCryptfs, ramfs).
///
/// # Errors
/// A sentence for the operator.
pub fn overlay_supported(directory: &Path) -> Result<(), String> {
    let known = knows_file_system("overlay")
        .map_err(|e| format!("the kernel's file systems cannot be read: {e}"))?;
    let module = Path::new("/lib/modules").join(kernel_release().2).join("kernel/fs/overlayfs");
    if !known && !module.exists() {
        return Err("the kernel has no overlayfs: enable CONFIG_OVERLAY_FS, or load its module \
                    with `modprobe overlay`"
            .into());
    }
    let stat =
        rustix::fs::statfs(directory).map_err(|e| format!("{}: {e}", directory.display()))?;
    match UNFIT.iter().find(|(magic, _)| *magic == stat.f_type as u32) {
        Some((_, name)) => Err(format!(
            "{} lies on {name}, which cannot hold the writable layer of containers; choose a \
             data directory on ext4, xfs, btrfs or f2fs",
            directory.display()
        )),
        None => Ok(()),
    }
}

/// statfs(2) magic numbers.
const UNFIT: &[(u32, &str)] = &[
    (0x794c_7630, "overlayfs"),
    (0x6969, "NFS"),
    (0x4d44, "FAT"),
    (0x2011_bab0, "exFAT"),
    (0x0102_1997, "9p"),
    (0x6573_5546, "FUSE"),
    (0xf15f, "eCryptfs"),
    (0x8584_58f6, "ramfs"),
];

/// Bytes of the file system that a path lies on: total and available.
///
/// # Errors
/// What statfs(2) says.
pub fn disk_space(path: &Path) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::statvfs(path)?;
    Ok((stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize))
}

/// Whether containers can be limited in memory.
///
/// # Errors
/// A sentence for the operator that says what to add to which file.
pub fn memory_cgroup() -> Result<(), String> {
    let mounts = mount::mounts().map_err(|e| format!("the mounts cannot be read: {e}"))?;
    let v1 = crate::cgroup::V1::from_mounts(&mounts).is_some_and(|v1| v1.has("memory"));
    let v2 = crate::cgroup::V2::from_mounts(&mounts).is_some_and(|v2| v2.has("memory"));
    if v1 || v2 {
        return Ok(());
    }
    let cgroups = fs::read_to_string("/proc/cgroups").unwrap_or_default();
    Err(memory_hint(&cgroups, &COMMAND_LINES.map(|p| (p, Path::new(p).exists()))))
}

/// Where the Raspberry Pi's firmware reads the kernel command line, later
/// systems first.
const COMMAND_LINES: [&str; 2] = ["/boot/firmware/cmdline.txt", "/boot/cmdline.txt"];

/// The file from which this machine's firmware reads the kernel command line;
/// `None` on machines whose boot loader keeps it elsewhere.
pub fn command_line_file() -> Option<PathBuf> {
    COMMAND_LINES.iter().map(PathBuf::from).find(|path| path.exists())
}

/// The version of the cgroups that pods get (0 where none is mounted), and
/// which of the controllers that limits need are there.
///
/// # Errors
/// When the mounts cannot be read.
pub fn cgroup_controllers() -> io::Result<(u8, Vec<&'static str>)> {
    const NEEDED: [&str; 4] = ["memory", "cpu", "cpuset", "pids"];
    let mounts = mount::mounts()?;
    let v1 = crate::cgroup::V1::from_mounts(&mounts);
    let v2 = crate::cgroup::V2::from_mounts(&mounts);
    // Where both are mounted, the controllers are with one of them.
    let of = |has: &dyn Fn(&str) -> bool| NEEDED.into_iter().filter(|name| has(name)).collect();
    Ok(match (v1, v2) {
        (_, Some(v2)) if v2.has("memory") => (2, of(&|name| v2.has(name))),
        (Some(v1), _) => (1, of(&|name| v1.has(name))),
        (None, Some(v2)) => (2, of(&|name| v2.has(name))),
        (None, None) => (0, Vec::new()),
    })
}

/// Whether something keeps the clock right (`adjtimex(2)`: NTP or PTP); a fresh
/// boot says no until the first answer.
///
/// # Errors
/// What adjtimex(2) says.
pub fn clock_synchronized() -> io::Result<bool> {
    // SAFETY: a structure of plain numbers, for which zeros are a value.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: with no mode set it only reads, into a structure that outlives the call.
    let answer = unsafe { libc::adjtimex(&raw mut state) };
    match answer {
        -1 => Err(io::Error::last_os_error()),
        answer => Ok(answer != libc::TIME_ERROR),
    }
}

fn memory_hint(cgroups: &str, command_lines: &[(&str, bool)]) -> String {
    let words = "cgroup_enable=memory cgroup_memory=1";
    let file = command_lines.iter().find(|(_, exists)| *exists).map(|(path, _)| path);
    let has_controller = cgroups.lines().any(|line| line.starts_with("memory"));
    match (file, has_controller) {
        (Some(file), _) => format!(
            "the memory cgroup is off: add `{words}` to the end of the one line in {file}, \
             then reboot"
        ),
        (None, true) => format!(
            "the memory cgroup is off: add `{words}` to the kernel command line, then reboot"
        ),
        (None, false) => "the kernel has no memory cgroup: it needs CONFIG_MEMCG".into(),
    }
}

/// Kernel features and whether this kernel has them, for `skiff check`.
pub fn features() -> Vec<(&'static str, bool)> {
    let exists = |path: &str| PathBuf::from(path).exists();
    let namespace = |kind: &str| exists(&format!("/proc/self/ns/{kind}"));
    let (major, minor, _) = kernel_release();
    vec![
        ("kernel 5.12 or later", (major, minor) >= KERNEL_MIN),
        ("cgroup namespaces", namespace("cgroup")),
        ("IPC namespaces", namespace("ipc")),
        ("mount namespaces", namespace("mnt")),
        ("network namespaces", namespace("net")),
        ("PID namespaces", namespace("pid")),
        ("UTS namespaces", namespace("uts")),
        ("seccomp filters", exists("/proc/sys/kernel/seccomp/actions_avail")),
        ("message queues", knows_file_system("mqueue").unwrap_or(false)),
        ("pressure stall information", exists("/proc/pressure/memory")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases() {
        assert_eq!(parse_release("6.18.44-fc-v669"), (6, 18));
        assert_eq!(parse_release("5.10.0-28-arm64"), (5, 10));
        assert_eq!(parse_release("odd"), (0, 0));
    }

    #[test]
    fn the_raspberry_pi_is_told_what_to_do() {
        let hint = memory_hint("memory\t0\t1\t0\n", &[("/boot/firmware/cmdline.txt", true)]);
        assert_eq!(
            hint,
            "the memory cgroup is off: add `cgroup_enable=memory cgroup_memory=1` to the end of \
             the one line in /boot/firmware/cmdline.txt, then reboot"
        );
        assert!(memory_hint("", &[]).contains("CONFIG_MEMCG"));
    }

    #[test]
    fn this_machine() {
        assert!(overlay_supported(Path::new("/does/not/exist")).is_err());
        assert!(features().iter().any(|(name, has)| *name == "PID namespaces" && *has));
        assert!(disk_space(Path::new("/")).is_ok_and(|(total, free)| total >= free));
    }
}

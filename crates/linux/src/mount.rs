//! Mounts of the host: attributes, what is mounted, taking it away.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use rustix::mount::UnmountFlags;

use crate::child::check;

/// What mount_setattr(2) changes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct MountAttr {
    pub(crate) set: u64,
    pub(crate) clear: u64,
    pub(crate) propagation: u64,
}

/// mount_setattr(2) on a descriptor (Linux 5.12).
pub(crate) fn mount_setattr(
    fd: BorrowedFd<'_>,
    recursive: bool,
    attr: MountAttr,
) -> rustix::io::Result<()> {
    let raw = libc::mount_attr {
        attr_set: attr.set,
        attr_clr: attr.clear,
        propagation: attr.propagation,
        userns_fd: 0,
    };
    set_attributes(fd, recursive, raw)
}

/// Makes a detached tree's owners those that a user namespace's IDs mean.
pub(crate) fn map_owners(
    tree: BorrowedFd<'_>,
    recursive: bool,
    userns: BorrowedFd<'_>,
) -> rustix::io::Result<()> {
    let raw = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: userns.as_raw_fd() as u64,
    };
    set_attributes(tree, recursive, raw)
}

fn set_attributes(
    fd: BorrowedFd<'_>,
    recursive: bool,
    raw: libc::mount_attr,
) -> rustix::io::Result<()> {
    let mut flags = libc::AT_EMPTY_PATH;
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: an empty string and one structure of the size given, both alive
    // across the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const raw,
            size_of::<libc::mount_attr>(),
        )
    })
}

/// One line of `/proc/self/mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountInfo {
    /// Part of the file system that is mounted.
    pub root: PathBuf,
    /// Where.
    pub mount_point: PathBuf,
    /// Such as `cgroup2`.
    pub fs_type: String,
    /// Options of the file system, comma-separated (a v1 cgroup's controllers).
    pub super_options: String,
}

/// Everything mounted in this process's mount namespace, in order of mounting.
///
/// # Errors
/// When procfs cannot be read.
pub fn mounts() -> io::Result<Vec<MountInfo>> {
    let text = std::fs::read("/proc/self/mountinfo")?;
    Ok(text.split(|b| *b == b'\n').filter_map(parse_mountinfo).collect())
}

/// What is mounted at a path and below it, in order of mounting: the kernel names mount points
/// without links, so those that the path leads through are followed. Its last name is not:
/// there may be a file system that does not answer. None where there is no such folder.
///
/// # Errors
/// When procfs or a folder above cannot be read.
pub fn mounts_below(path: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::other(format!("{} is no folder below another", path.display())));
    };
    let path = match parent.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        parent => parent?.join(name),
    };
    let points = mounts()?.into_iter().map(|mount| mount.mount_point);
    Ok(points.filter(|point| point.starts_with(&path)).collect())
}

/// proc_pid_mountinfo(5): `id parent dev root point options [tags] - type source super`.
fn parse_mountinfo(line: &[u8]) -> Option<MountInfo> {
    let mut fields = line.split(|b| *b == b' ');
    let root = unescape(fields.nth(3)?);
    let mount_point = unescape(fields.next()?);
    let mut rest = fields.skip_while(|f| *f != b"-").skip(1);
    let fs_type = String::from_utf8_lossy(rest.next()?).into_owned();
    let super_options = String::from_utf8_lossy(rest.nth(1)?).into_owned();
    Some(MountInfo { root, mount_point, fs_type, super_options })
}

/// Blank, tab, newline and backslash come as `\ooo`.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut at = 0;
    while at < field.len() {
        let digits =
            field.get(at + 1..at + 4).filter(|d| d.iter().all(|b| (b'0'..=b'7').contains(b)));
        match digits {
            Some(digits) if field[at] == b'\\' => {
                let value = digits.iter().fold(0u32, |v, d| v * 8 + u32::from(d - b'0'));
                bytes.push(value as u8);
                at += 4;
            }
            _ => {
                bytes.push(field[at]);
                at += 1;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

/// Unmounts a path at once and lazily; a path that is no mount is fine.
///
/// # Errors
/// What umount2(2) says besides `EINVAL` and `ENOENT`.
pub fn unmount(path: &Path) -> io::Result<()> {
    match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Mounts a tmpfs on a directory of the host.
///
/// # Errors
/// What mount(2) says.
pub fn mount_tmpfs(path: &Path, size_bytes: u64, mode: u32) -> io::Result<()> {
    use rustix::mount::MountFlags;
    let options = std::ffi::CString::new(format!("size={size_bytes},mode={mode:o}"))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    Ok(rustix::mount::mount("shm", path, "tmpfs", flags, options.as_c_str())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_lines() {
        let line =
            b"36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue";
        let info = parse_mountinfo(line).expect("a line of the manual page");
        assert_eq!(info.root, Path::new("/mnt1"));
        assert_eq!(info.mount_point, Path::new("/mnt 2"));
        assert_eq!(info.fs_type, "ext3");
        assert_eq!(info.super_options, "rw,errors=continue");
        assert_eq!(parse_mountinfo(b"36 35 98:0"), None);
    }

    #[test]
    fn mounts_are_found_through_links() {
        let proc = Path::new("/proc");
        let found = mounts_below(proc).expect("it is mounted");
        assert_eq!(found.first().map(PathBuf::as_path), Some(proc));
        let dir = tempfile::tempdir().expect("a temporary directory");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/", &link).expect("our own folder");
        assert_eq!(mounts_below(&link.join("proc")).expect("a link"), found);
        assert_eq!(mounts_below(&dir.path().join("none/x")).expect("nothing"), [] as [PathBuf; 0]);
    }
}

//! Memory-backed directories, and the end of whatever is mounted below a pod.

use std::{
    ffi::{CString, OsString},
    fs,
    os::unix::{ffi::OsStringExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::VolumeError;

/// Mounts a tmpfs at a directory unless something is mounted there.
pub(crate) fn ensure_tmpfs(path: &Path, bytes: u64, mode: u32) -> Result<(), VolumeError> {
    if is_mount_point(path)? {
        return Ok(());
    }
    let options = CString::new(format!("size={bytes},mode={mode:o}")).expect("no NUL in digits");
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", path, "tmpfs", flags, options.as_c_str())
        .map_err(|error| VolumeError(format!("mount tmpfs at {}: {error}", path.display())))
}

fn is_mount_point(path: &Path) -> Result<bool, VolumeError> {
    let device = |path: &Path| {
        fs::symlink_metadata(path).map(|meta| meta.dev()).map_err(VolumeError::io(path.display()))
    };
    let parent = path.parent().unwrap_or(Path::new("/"));
    Ok(device(path)? != device(parent)?)
}

/// Unmounts everything at and below a path, the deepest first.
pub(crate) fn unmount_below(path: &Path) -> Result<(), VolumeError> {
    let table =
        fs::read("/proc/self/mountinfo").map_err(VolumeError::io("/proc/self/mountinfo"))?;
    let mut points: Vec<PathBuf> =
        mount_points(&table).into_iter().filter(|point| point.starts_with(path)).collect();
    // Later mounts may cover earlier ones.
    points.reverse();
    for point in points {
        unmount(&point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
            .map_err(|error| VolumeError(format!("unmount {}: {error}", point.display())))?;
    }
    Ok(())
}

/// The fifth field of each line, with octal escapes undone.
fn mount_points(table: &[u8]) -> Vec<PathBuf> {
    let lines = table.split(|byte| *byte == b'\n');
    lines.filter_map(|line| line.split(|byte| *byte == b' ').nth(4)).map(unescape).collect()
}

fn unescape(field: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let digits =
            tail.get(..3).filter(|d| byte == b'\\' && d.iter().all(|b| (b'0'..b'8').contains(b)));
        match digits {
            Some(d) => {
                let value = d.iter().fold(0u32, |n, b| n * 8 + u32::from(b - b'0'));
                out.push((value & 0xff) as u8);
                rest = &tail[3..];
            }
            None => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    OsString::from_vec(out).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_with_their_escapes() {
        let table = b"36 35 98:0 /a /mnt/a\\040b rw - ext4 /dev/x rw\n\nshort line\n37 35 0:1 / /tmp rw - tmpfs t rw\n";
        assert_eq!(mount_points(table), [PathBuf::from("/mnt/a b"), PathBuf::from("/tmp")]);
        assert_eq!(unescape(b"a\\1"), PathBuf::from("a\\1"));
    }

    #[test]
    fn a_tmpfs_comes_and_goes() {
        if !rustix::process::geteuid().is_root() {
            return println!("skipped: mounting needs root");
        }
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("pod/v");
        fs::create_dir_all(&path).expect("made");
        ensure_tmpfs(&path, 1 << 20, 0o777).expect("mounted");
        ensure_tmpfs(&path, 1 << 20, 0o777).expect("mounted already");
        assert!(is_mount_point(&path).expect("looked"));
        unmount_below(&dir.path().join("pod")).expect("unmounted");
        assert!(!is_mount_point(&path).expect("looked"));
    }
}

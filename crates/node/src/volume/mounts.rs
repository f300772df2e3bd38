//! Memory-backed directories, and the end of whatever is mounted below a pod.

use std::{
    ffi::{CString, OsStr, OsString},
    fs, io,
    os::{
        fd::AsRawFd,
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, StatxAttributes, StatxFlags, statx},
    mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount},
};

use super::VolumeError;

/// Mounts a tmpfs at a directory unless something is mounted there.
pub(crate) fn ensure_tmpfs(path: &Path, bytes: u64, mode: u32) -> Result<(), VolumeError> {
    let options = format!("size={bytes},mode={mode:o}");
    ensure(path, OsStr::new("tmpfs"), "tmpfs", &options)
}

/// Mounts something at a directory unless something is mounted there.
pub(crate) fn ensure(
    path: &Path,
    source: &OsStr,
    fs_type: &str,
    options: &str,
) -> Result<(), VolumeError> {
    if is_mount_point(path)? {
        return Ok(());
    }
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV;
    let mut data = Vec::new();
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match FLAGS.iter().find(|(name, _)| *name == option) {
            Some((_, flag)) => flags |= *flag,
            None => data.push(option),
        }
    }
    let text = |text: &[u8]| {
        CString::new(text).map_err(|_| VolumeError("a mount option holds a NUL byte".into()))
    };
    let (source, data) = (text(source.as_bytes())?, text(data.join(",").as_bytes())?);
    mount(source.as_c_str(), path, fs_type, flags, data.as_c_str()).map_err(|error| {
        VolumeError(format!(
            "mount {fs_type} {} at {}: {error}",
            source.to_string_lossy(),
            path.display()
        ))
    })
}

/// Mount options that are flags of mount(2) and not the file system's own.
const FLAGS: &[(&str, MountFlags)] = &[
    ("defaults", MountFlags::empty()),
    ("rw", MountFlags::empty()),
    ("ro", MountFlags::RDONLY),
    ("nosuid", MountFlags::NOSUID),
    ("nodev", MountFlags::NODEV),
    ("noexec", MountFlags::NOEXEC),
    ("noatime", MountFlags::NOATIME),
    ("nodiratime", MountFlags::NODIRATIME),
    ("relatime", MountFlags::RELATIME),
    ("strictatime", MountFlags::STRICTATIME),
    ("sync", MountFlags::SYNCHRONOUS),
    ("dirsync", MountFlags::DIRSYNC),
];

const OF_IMAGE: MountFlags =
    MountFlags::RDONLY.union(MountFlags::NOSUID).union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// Shows an image's layers, the top-most first, at a directory: read-only, and nothing in
/// there is executed, as upstream documents it.
pub(crate) fn ensure_layers(path: &Path, layers: &[PathBuf]) -> Result<(), VolumeError> {
    if is_mount_point(path)? {
        return Ok(());
    }
    let failed = |error| VolumeError(format!("mount image at {}: {error}", path.display()));
    // An overlay takes two directories at least.
    if let [only] = layers {
        mount_bind(only, path).map_err(failed)?;
        return mount_remount(path, OF_IMAGE | MountFlags::BIND, "").map_err(failed);
    }
    // The option string is a page at most and splits at colons, so each
    // directory goes by descriptor.
    let open = |layer: &PathBuf| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(rustix::fs::CWD, layer, flags, Mode::empty()).map_err(failed)
    };
    let held = layers.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let lower: Vec<String> =
        held.iter().map(|fd| format!("/proc/self/fd/{}", fd.as_raw_fd())).collect();
    let data = CString::new(format!("lowerdir={}", lower.join(":"))).expect("no NUL in digits");
    mount("overlay", path, "overlay", OF_IMAGE, data.as_c_str()).map_err(failed)
}

/// Whether something is mounted right there, a bind mount included.
pub(crate) fn is_mount_point(path: &Path) -> Result<bool, VolumeError> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let stat = statx(rustix::fs::CWD, path, flags, StatxFlags::empty())
        .map_err(|error| VolumeError(format!("{}: {error}", path.display())))?;
    Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Unmounts everything at and below a path, the deepest first.
pub(crate) fn unmount_below(path: &Path) -> Result<(), VolumeError> {
    // The table names mount points without links. Of the last name, where a file system may
    // be that does not answer, nothing is asked.
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(VolumeError(format!("{} is no volume's folder", path.display())));
    };
    let path = match parent.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        parent => parent.map_err(VolumeError::io(path.display()))?.join(name),
    };
    let table =
        fs::read("/proc/self/mountinfo").map_err(VolumeError::io("/proc/self/mountinfo"))?;
    let mut points: Vec<PathBuf> =
        mount_points(&table).into_iter().filter(|point| point.starts_with(&path)).collect();
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
    fn layers_are_shown_as_one_and_cannot_be_written() {
        if !rustix::process::geteuid().is_root() {
            return println!("skipped: mounting needs root");
        }
        let dir = tempfile::tempdir().expect("a directory");
        let layer = |name: &str, file: &str| {
            let path = dir.path().join(name);
            fs::create_dir(&path).expect("made");
            fs::write(path.join(file), name).expect("written");
            path
        };
        let layers = [layer("top:1", "a"), layer("bottom", "b")];
        for (n, shown) in [&layers[..1], &layers[..]].into_iter().enumerate() {
            let at = dir.path().join(format!("at{n}"));
            fs::create_dir(&at).expect("made");
            ensure_layers(&at, shown).expect("mounted");
            ensure_layers(&at, shown).expect("mounted already");
            assert!(is_mount_point(&at).expect("looked"));
            assert_eq!(fs::read_to_string(at.join("a")).expect("there"), "top:1");
            assert_eq!(at.join("b").exists(), n == 1);
            let refused = fs::write(at.join("new"), "").expect_err("read-only");
            assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
            let flags = rustix::fs::statvfs(&at).expect("mounted").f_flag;
            assert!(flags.contains(rustix::fs::StatVfsMountFlags::NOEXEC), "{flags:?}");
            unmount_below(&at).expect("unmounted");
        }
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
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path(), &link).expect("made");
        unmount_below(&link.join("pod")).expect("unmounted, through a link");
        assert!(!is_mount_point(&path).expect("looked"));
        unmount_below(&dir.path().join("none/pod")).expect("nothing to do");
    }
}

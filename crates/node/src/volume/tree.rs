//! Directories that containers may write while the node works on them: every
//! step goes by descriptor, follows no link and crosses no mount.

use std::{
    ffi::CStr,
    fs,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::fs::PermissionsExt,
    },
    path::Path,
};

use linux::tree::Visit;
use rustix::{
    fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, chownat, fchmod, fstat, statat},
    io::Errno,
};

use super::VolumeError;

fn failed(what: &Path) -> impl Fn(Errno) -> VolumeError + '_ {
    move |error| VolumeError(format!("{}: {error}", what.display()))
}

fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Removes a directory and everything in it. What is mounted somewhere below
/// is never emptied: that is an error. A directory that is not there is fine.
pub(crate) fn remove(path: &Path) -> Result<(), VolumeError> {
    linux::tree::remove(path).map_err(VolumeError::io(path.display()))
}

/// How a volume's files are given to the pod's group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ownership {
    pub(crate) gid: u32,
    pub(crate) read_only: bool,
    /// `OnRootMismatch`: where the root is right the rest is taken to be.
    pub(crate) root_decides: bool,
}

impl Ownership {
    /// The bits that an entry has to have at least.
    fn bits(self, is_dir: bool) -> u32 {
        let files = if self.read_only { 0o440 } else { 0o660 };
        if is_dir { files | 0o2110 } else { files }
    }

    fn group(self) -> Gid {
        Gid::from_raw(self.gid)
    }

    fn is_right(self, stat: &Stat) -> bool {
        let bits = match kind(stat) {
            // A link's are never asked for.
            FileType::Symlink => 0,
            kind => self.bits(kind == FileType::Directory),
        };
        stat.st_gid == self.gid && stat.st_mode & bits == bits
    }
}

/// Gives a directory and what is in it to a group, as `fsGroup` asks for:
/// the group may read and write, and what is made later is the group's too.
pub(crate) fn own(path: &Path, ownership: Ownership) -> Result<(), VolumeError> {
    // Whatever links lead there.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(failed(path))?;
    let stat = fstat(&root).map_err(failed(path))?;
    if ownership.root_decides && ownership.is_right(&stat) {
        return Ok(());
    }
    // The root goes last: a walk that breaks off is begun anew.
    let kept = root.try_clone().map_err(VolumeError::io(path.display()))?;
    linux::tree::walk(root, &mut Owning(ownership)).map_err(failed(path))?;
    own_directory(kept.as_fd(), ownership).map_err(failed(path))
}

struct Owning(Ownership);

impl Visit for Owning {
    fn entry(&mut self, dir: BorrowedFd<'_>, name: &CStr, _: FileType) -> Result<bool, Errno> {
        let stat = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(false),
            stat => stat?,
        };
        if kind(&stat) == FileType::Directory {
            return Ok(true);
        }
        if !self.0.is_right(&stat) {
            own_file(dir, name, self.0)?;
        }
        Ok(false)
    }

    fn left(&mut self, _: BorrowedFd<'_>, _: &CStr, dir: BorrowedFd<'_>) -> Result<(), Errno> {
        own_directory(dir, self.0)
    }
}

fn own_directory(dir: BorrowedFd<'_>, ownership: Ownership) -> Result<(), Errno> {
    let stat = fstat(dir)?;
    if ownership.is_right(&stat) {
        return Ok(());
    }
    chownat(dir, c"", None, Some(ownership.group()), AtFlags::EMPTY_PATH)?;
    fchmod(dir, Mode::from_raw_mode(stat.st_mode | ownership.bits(true)))
}

/// A file, link, FIFO, socket or device, held by a descriptor that opens none of them.
fn own_file(dir: BorrowedFd<'_>, name: &CStr, ownership: Ownership) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        file => file?,
    };
    chownat(&file, c"", None, Some(ownership.group()), AtFlags::EMPTY_PATH)?;
    let stat = fstat(&file)?;
    if kind(&stat) == FileType::Symlink {
        return Ok(());
    }
    let mode = (stat.st_mode | ownership.bits(false)) & 0o7777;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use rustix::{
        fs::{mkdirat, openat},
        mount::{UnmountFlags, mount_bind, unmount},
    };

    use super::*;

    fn is_root() -> bool {
        let root = rustix::process::geteuid().is_root();
        if !root {
            println!("skipped: needs root");
        }
        root
    }

    #[test]
    fn a_group_gets_everything_but_what_links_lead_to() {
        if !is_root() {
            return;
        }
        let dir = tempfile::tempdir().expect("a directory");
        let (outside, tree) = (dir.path().join("outside"), dir.path().join("tree"));
        fs::write(&outside, "x").expect("written");
        fs::create_dir_all(tree.join("sub")).expect("made");
        let file = tree.join("sub/file");
        fs::write(&file, "x").expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("set");
        symlink(&outside, tree.join("link")).expect("linked");
        let (data, at) = (dir.path().join("data"), tree.join("mounted"));
        fs::create_dir_all(data.join("precious")).expect("made");
        fs::create_dir(&at).expect("made");
        // A bind mount of the same file system: the device does not tell.
        mount_bind(&data, &at).expect("mounted");
        let gid = |path: &Path| fs::symlink_metadata(path).expect("there").gid();
        let mode = |path: &Path| fs::metadata(path).expect("there").mode() & 0o7777;
        let asked = Ownership { gid: 1234, read_only: false, root_decides: true };
        let owned = own(&tree, asked);
        unmount(&at, UnmountFlags::DETACH).expect("unmounted");
        owned.expect("owned");
        assert_eq!((gid(&data), gid(&data.join("precious"))), (0, 0));
        assert_eq!((gid(&tree), gid(&file), gid(&tree.join("link"))), (1234, 1234, 1234));
        assert_eq!((mode(&tree.join("sub")) & 0o2770, mode(&file)), (0o2770, 0o660));
        assert_eq!(gid(&outside), 0);
        // The root is right, so the rest is taken to be.
        std::os::unix::fs::chown(&file, None, Some(7)).expect("changed");
        own(&tree, asked).expect("owned");
        assert_eq!(gid(&file), 7);
        own(&tree, Ownership { root_decides: false, ..asked }).expect("owned");
        assert_eq!(gid(&file), 1234);
    }
    #[test]
    fn a_tree_of_any_depth_is_owned_to_its_end() {
        const LEVELS: u32 = 20_000;
        if !is_root() {
            return;
        }
        // In memory where that is possible: a disk is busy for seconds with so many. The
        // standard library could not remove it.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let dir = dir.expect("a directory").keep();
        let tree = dir.clone();
        let story = move || {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let mut lowest = openat(CWD, &tree, flags, Mode::empty()).expect("our own");
            for _ in 0..LEVELS {
                mkdirat(&lowest, c"d", Mode::RWXU).expect("made");
                lowest = openat(&lowest, c"d", flags, Mode::empty()).expect("just made");
            }
            own(&tree, Ownership { gid: 1234, read_only: false, root_decides: true })
                .expect("owned");
            let stat = fstat(&lowest).expect("it is open");
            assert_eq!((stat.st_gid, stat.st_mode & 0o7777), (1234, 0o2770));
        };
        let thread = std::thread::Builder::new().stack_size(256 << 10).spawn(story);
        let end = thread.expect("a thread").join();
        remove(&dir).expect("removed");
        assert!(end.is_ok() && !dir.exists());
    }
}

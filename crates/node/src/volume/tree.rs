//! Directories that containers may write while the node works on them: every
//! step goes by descriptor, follows no link and crosses no mount.

use std::{
    collections::BTreeSet,
    ffi::{CStr, CString},
    fs,
    os::{
        fd::{AsFd as _, AsRawFd, BorrowedFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    path::Path,
};

use rustix::{
    fs::{
        AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, chownat, fchmod,
        openat2, renameat, statat, unlinkat,
    },
    io::Errno,
};

use super::VolumeError;

/// Deeper trees are left to their owner, but for their end.
const DEPTH_MAX: u32 = 4096;
/// So many levels are held open at once by who removes a tree.
const LEVELS_MAX: u32 = 64;

fn failed(what: &Path) -> impl Fn(Errno) -> VolumeError + '_ {
    move |error| VolumeError(format!("{}: {error}", what.display()))
}

/// Opens a directory right below another: itself, no link, no mount point.
fn open(base: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    openat2(base, name, flags, Mode::empty(), resolve)
}

/// Opens a directory by its path, whatever links lead there.
fn open_root(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty())
}

fn entries(dir: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let name = entry?.file_name().to_owned();
        if name.as_c_str() != c"." && name.as_c_str() != c".." {
            names.push(name);
        }
    }
    Ok(names)
}

fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Removes a directory and everything in it. What is mounted somewhere below
/// is never emptied: that is an error. A directory that is not there is fine.
pub(crate) fn remove(path: &Path) -> Result<(), VolumeError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(VolumeError(format!("{} cannot be removed", path.display())));
    };
    let name = CString::new(name.as_encoded_bytes())
        .map_err(|_| VolumeError(format!("{} holds a NUL byte", path.display())))?;
    let parent = match open_root(parent) {
        Err(Errno::NOENT) => return Ok(()),
        parent => parent.map_err(failed(path))?,
    };
    remove_tree(&parent, &name).map_err(failed(path))
}

/// What of a tree is too deep to go there, moved to right below its root: there a crash
/// leaves it to the next attempt.
struct Deep<'a> {
    root: &'a OwnedFd,
    left: Vec<CString>,
    number: u64,
}

impl Deep<'_> {
    fn take(&mut self, dir: &OwnedFd, name: &CStr) -> Result<(), Errno> {
        loop {
            let new = CString::new(format!(".deep-{}", self.number)).expect("no NUL byte");
            self.number += 1;
            // A link is moved itself, and what is mounted cannot be moved.
            match renameat(dir, name, self.root, &new) {
                Ok(()) => self.left.push(new),
                Err(Errno::NOENT) => {}
                // Somebody else's name.
                Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR | Errno::ISDIR) => continue,
                Err(error) => return Err(error),
            }
            return Ok(());
        }
    }
}

fn remove_tree(parent: &OwnedFd, name: &CStr) -> Result<(), Errno> {
    if !is_dir(parent, name)? {
        return Ok(());
    }
    let root = open(parent.as_fd(), name)?;
    let mut deep = Deep { root: &root, left: entries(&root)?, number: 0 };
    while let Some(entry) = deep.left.pop() {
        remove_in(&root, &entry, 1, &mut deep)?;
    }
    remove_empty(parent, name)
}

fn remove_in(parent: &OwnedFd, name: &CStr, depth: u32, deep: &mut Deep<'_>) -> Result<(), Errno> {
    if !is_dir(parent, name)? {
        return Ok(());
    }
    if depth > LEVELS_MAX {
        return deep.take(parent, name);
    }
    let dir = open(parent.as_fd(), name)?;
    for entry in entries(&dir)? {
        remove_in(&dir, &entry, depth + 1, deep)?;
    }
    remove_empty(parent, name)
}

/// Whether it is a directory; what is none is removed.
fn is_dir(parent: &OwnedFd, name: &CStr) -> Result<bool, Errno> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(false),
        Err(Errno::ISDIR | Errno::PERM) => Ok(true),
        Err(error) => Err(error),
    }
}

fn remove_empty(parent: &OwnedFd, name: &CStr) -> Result<(), Errno> {
    match unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOENT) => Ok(()),
        result => result,
    }
}

/// What a tree takes of its file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Used {
    pub(crate) bytes: u64,
    pub(crate) inodes: u64,
}

impl std::ops::AddAssign for Used {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.inodes += other.inodes;
    }
}

/// Adds up blocks and inodes of a directory and what is in it, each file once;
/// what is mounted below is not counted. Nothing for what is not there.
pub(crate) fn used(path: &Path) -> Result<Used, VolumeError> {
    let root = match open_root(path) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Used::default()),
        root => root.map_err(failed(path))?,
    };
    let stat = rustix::fs::fstat(&root).map_err(failed(path))?;
    let mut used = Used { bytes: blocks(&stat), inodes: 1 };
    let mut linked = BTreeSet::new();
    add_below(&root, &mut used, &mut linked, 0).map_err(failed(path))?;
    Ok(used)
}

fn blocks(stat: &Stat) -> u64 {
    // stat(2): always units of 512 bytes.
    u64::try_from(stat.st_blocks).unwrap_or(0) * 512
}

fn add_below(
    dir: &OwnedFd,
    used: &mut Used,
    linked: &mut BTreeSet<u64>,
    depth: u32,
) -> Result<(), Errno> {
    if depth > DEPTH_MAX {
        return Err(Errno::NAMETOOLONG);
    }
    for name in entries(dir)? {
        let stat = match statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            stat => stat?,
        };
        if kind(&stat) == FileType::Directory {
            match open(dir.as_fd(), &name) {
                Ok(below) => {
                    *used += Used { bytes: blocks(&stat), inodes: 1 };
                    add_below(&below, used, linked, depth + 1)?;
                }
                // A mount, or swapped under us.
                Err(Errno::XDEV | Errno::LOOP | Errno::NOTDIR | Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
        } else if stat.st_nlink <= 1 || linked.insert(stat.st_ino) {
            *used += Used { bytes: blocks(&stat), inodes: 1 };
        }
    }
    Ok(())
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
}

/// Gives a directory and what is in it to a group, as `fsGroup` asks for:
/// the group may read and write, and what is made later is the group's too.
pub(crate) fn own(path: &Path, ownership: Ownership) -> Result<(), VolumeError> {
    let root = open_root(path).map_err(failed(path))?;
    let stat = rustix::fs::fstat(&root).map_err(failed(path))?;
    let bits = ownership.bits(true);
    let is_right = stat.st_gid == ownership.gid && stat.st_mode & bits == bits;
    if is_right && ownership.root_decides {
        return Ok(());
    }
    // The root goes last: a walk that breaks off is begun anew.
    own_below(&root, ownership, 0).map_err(failed(path))?;
    chownat(&root, c"", None, Some(Gid::from_raw(ownership.gid)), AtFlags::EMPTY_PATH)
        .map_err(failed(path))?;
    let mode = Mode::from_raw_mode(stat.st_mode | bits);
    fchmod(&root, mode).map_err(failed(path))
}

fn own_below(dir: &OwnedFd, ownership: Ownership, depth: u32) -> Result<(), Errno> {
    if depth > DEPTH_MAX {
        return Err(Errno::NAMETOOLONG);
    }
    let group = Some(Gid::from_raw(ownership.gid));
    for name in entries(dir)? {
        let stat = match statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            stat => stat?,
        };
        let bits = ownership.bits(kind(&stat) == FileType::Directory);
        let is_link = kind(&stat) == FileType::Symlink;
        let is_right = stat.st_gid == ownership.gid && (is_link || stat.st_mode & bits == bits);
        match kind(&stat) {
            FileType::Directory => match open(dir.as_fd(), &name) {
                Ok(below) => {
                    own_below(&below, ownership, depth + 1)?;
                    if !is_right {
                        chownat(&below, c"", None, group, AtFlags::EMPTY_PATH)?;
                        fchmod(&below, Mode::from_raw_mode(stat.st_mode | bits))?;
                    }
                }
                // A mount of the volume's own user, or swapped under us.
                Err(Errno::XDEV | Errno::LOOP | Errno::NOTDIR | Errno::NOENT) => {}
                Err(error) => return Err(error),
            },
            FileType::Symlink if !is_right => {
                chownat(dir, &name, None, group, AtFlags::SYMLINK_NOFOLLOW)?;
            }
            _ if !is_right => own_file(dir, &name, bits, group)?,
            _ => {}
        }
    }
    Ok(())
}

/// A file, FIFO, socket or device, held by a descriptor that opens none of them.
fn own_file(dir: &OwnedFd, name: &CStr, bits: u32, group: Option<Gid>) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        file => file?,
    };
    chownat(&file, c"", None, group, AtFlags::EMPTY_PATH)?;
    let stat = rustix::fs::fstat(&file)?;
    if kind(&stat) == FileType::Symlink {
        return Ok(());
    }
    let permissions = fs::Permissions::from_mode((stat.st_mode | bits) & 0o7777);
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    fs::set_permissions(path, permissions)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    fn is_root() -> bool {
        let root = rustix::process::geteuid().is_root();
        if !root {
            println!("skipped: needs root");
        }
        root
    }

    #[test]
    fn a_tree_goes_and_what_links_lead_to_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let (outside, tree) = (dir.path().join("outside"), dir.path().join("tree"));
        fs::create_dir_all(outside.join("kept")).expect("made");
        fs::create_dir_all(tree.join("a/b")).expect("made");
        fs::write(tree.join("a/b/file"), "x").expect("written");
        symlink(&outside, tree.join("a/link")).expect("linked");
        remove(&tree).expect("removed");
        assert!(!tree.exists() && outside.join("kept").exists());
        remove(&tree).expect("removing what is gone");
    }

    #[test]
    fn a_tree_of_any_depth_goes_and_nothing_beside_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let (outside, tree) = (dir.path().join("outside"), dir.path().join("tree"));
        fs::create_dir_all(outside.join("kept")).expect("made");
        // Names that what is deep would get.
        fs::create_dir_all(tree.join(".deep-0/full")).expect("made");
        fs::write(tree.join(".deep-1"), "x").expect("written");
        symlink(&outside, tree.join(".deep-2")).expect("linked");
        let mut bottom = open_root(&tree).expect("opened");
        for level in 0..5000 {
            let mode = Mode::from_raw_mode(0o755);
            rustix::fs::mkdirat(&bottom, c"d", mode).expect("made");
            bottom = open(bottom.as_fd(), c"d").expect("opened");
            if level % 50 == 0 {
                rustix::fs::symlinkat(&outside, &bottom, c"link").expect("linked");
                rustix::fs::mkdirat(&bottom, c"empty", mode).expect("made");
            }
        }
        remove(&tree).expect("removed");
        let left = fs::read_dir(dir.path()).expect("readable");
        let left: Vec<_> = left.map(|entry| entry.expect("an entry").file_name()).collect();
        assert_eq!(left, ["outside"]);
        assert!(outside.join("kept").exists());
    }

    #[test]
    fn a_tree_is_measured_and_each_file_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("a")).expect("made");
        let empty = used(&tree).expect("measured");
        fs::write(tree.join("a/file"), vec![1; 100_000]).expect("written");
        fs::hard_link(tree.join("a/file"), tree.join("again")).expect("linked");
        symlink("/", tree.join("link")).expect("linked");
        let full = used(&tree).expect("measured");
        assert_eq!(full.inodes, empty.inodes + 2, "one file and one link");
        assert!((100_000..200_000).contains(&(full.bytes - empty.bytes)), "{full:?}");
        assert_eq!(used(&dir.path().join("gone")).expect("nothing"), Used::default());
    }

    #[test]
    fn what_is_mounted_below_is_not_emptied() {
        if !is_root() {
            return;
        }
        let dir = tempfile::tempdir().expect("a directory");
        let (data, tree) = (dir.path().join("data"), dir.path().join("tree"));
        fs::create_dir_all(&data).expect("made");
        fs::write(data.join("precious"), "x").expect("written");
        for at in ["mounted".to_owned(), format!("{}mounted", "d/".repeat(64)), "d/".repeat(100)] {
            let at = tree.join(at);
            fs::create_dir_all(&at).expect("made");
            // A bind mount of the same file system: the device does not tell.
            rustix::mount::mount_bind(&data, &at).expect("mounted");
            let result = remove(&tree);
            // Wherever it was moved to.
            crate::volume::mounts::unmount_below(&tree).expect("unmounted");
            result.expect_err("refused");
            assert!(data.join("precious").exists());
            remove(&tree).expect("removed");
        }
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
        let gid = |path: &Path| fs::symlink_metadata(path).expect("there").gid();
        let mode = |path: &Path| fs::metadata(path).expect("there").mode() & 0o7777;
        let asked = Ownership { gid: 1234, read_only: false, root_decides: true };
        own(&tree, asked).expect("owned");
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
}

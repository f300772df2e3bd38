//! Trees of directories whose content somebody else decides: a container, an
//! image, who has a volume. They may be deeper than a stack or a table of
//! descriptors, and change while they are walked: every step goes by
//! descriptor, follows no link and crosses no mount, and what is still to be
//! done lies on the heap.

use std::{
    collections::BTreeSet,
    ffi::{CStr, CString},
    io, mem,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    os::unix::ffi::OsStrExt,
    path::Path,
};

use rustix::{
    fs::{
        AtFlags, CWD, FileType, Mode, OFlags, RawDir, ResolveFlags, Stat, fstat, openat, openat2,
        statat, unlinkat,
    },
    io::{Errno, Result},
};

/// How many of the directories above are held open. Those further up are found
/// again by `..`, which few trees are deep enough for.
const HELD_MAX: usize = 64;

/// What getdents(2) fills at once.
const BUFFER_BYTES: usize = 32 << 10;

/// How often a tree is measured that is moved about meanwhile.
const MEASURE_TRIES: u32 = 3;

/// What is done on a walk through a tree.
pub trait Visit {
    /// Something in a directory, of the kind that its file system tells at once
    /// (possibly [`FileType::Unknown`]). Answers whether it is to be entered.
    ///
    /// # Errors
    /// What ends the walk.
    fn entry(&mut self, dir: BorrowedFd<'_>, name: &CStr, kind: FileType) -> Result<bool>;

    /// A directory that was entered, after everything in it.
    ///
    /// # Errors
    /// What ends the walk.
    fn left(&mut self, parent: BorrowedFd<'_>, name: &CStr, dir: BorrowedFd<'_>) -> Result<()>;

    /// What was to be entered and could not be. A mount, and what was swapped
    /// in the meantime, is passed by.
    ///
    /// # Errors
    /// What ends the walk.
    fn barred(&mut self, error: Errno) -> Result<()> {
        match error {
            Errno::XDEV | Errno::LOOP | Errno::NOTDIR | Errno::NOENT => Ok(()),
            error => Err(error),
        }
    }
}

/// A directory that the walk is in.
struct Here {
    /// What its parent calls it.
    name: CString,
    dir: OwnedFd,
    /// What is still to be entered.
    below: Vec<CString>,
}

/// A directory on the way back.
struct Above {
    name: CString,
    place: Place,
    below: Vec<CString>,
}

enum Place {
    Held(OwnedFd),
    Left(Identity),
}

/// Device and inode.
type Identity = (u64, u64);

fn identity(dir: &OwnedFd) -> Result<Identity> {
    let stat = fstat(dir)?;
    Ok((stat.st_dev, stat.st_ino))
}

impl Above {
    fn let_go(&mut self) -> Result<()> {
        if let Place::Held(dir) = &self.place {
            self.place = Place::Left(identity(dir)?);
        }
        Ok(())
    }

    /// Goes back to it from a directory in it. One that was moved has another
    /// parent now, with which this walk has nothing to do.
    fn back(self, from: &OwnedFd) -> Result<Here> {
        let dir = match self.place {
            Place::Held(dir) => dir,
            Place::Left(known) => {
                let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
                let dir = match openat2(from, c"..", DIRECTORY, Mode::empty(), resolve) {
                    Err(Errno::XDEV) => return Err(Errno::STALE),
                    dir => dir?,
                };
                if identity(&dir)? != known {
                    return Err(Errno::STALE);
                }
                dir
            }
        };
        Ok(Here { name: self.name, dir, below: self.below })
    }
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens a directory right below another: itself, no link, no mount point.
fn enter(dir: &OwnedFd, name: &CStr) -> Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    openat2(dir, name, DIRECTORY, Mode::empty(), resolve)
}

/// Shows what is in a directory; answers what is to be entered.
fn read(dir: &OwnedFd, visit: &mut impl Visit, buffer: &mut Vec<u8>) -> Result<Vec<CString>> {
    let mut below = Vec::new();
    let mut entries = RawDir::new(dir, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = match entry {
            // It was removed meanwhile.
            Err(Errno::NOENT) => break,
            entry => entry?,
        };
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        if visit.entry(dir.as_fd(), name, entry.file_type())? {
            below.push(name.to_owned());
        }
    }
    Ok(below)
}

/// Walks through everything below a directory, whatever its depth, with few
/// descriptors and a stack of a few frames. The directory itself is not shown.
///
/// # Errors
/// What the visitor says, what the kernel says of a directory, and `ESTALE`
/// where a directory far down was moved elsewhere while the walk was in it.
pub fn walk(root: OwnedFd, visit: &mut impl Visit) -> Result<()> {
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    let below = read(&root, visit, &mut buffer)?;
    let mut here = Here { name: CString::default(), dir: root, below };
    let mut above: Vec<Above> = Vec::new();
    loop {
        if let Some(name) = here.below.pop() {
            match enter(&here.dir, &name) {
                Ok(dir) => {
                    let below = read(&dir, visit, &mut buffer)?;
                    if let Some(far) = above.len().checked_sub(HELD_MAX) {
                        above[far].let_go()?;
                    }
                    let Here { name, dir, below } =
                        mem::replace(&mut here, Here { name, dir, below });
                    above.push(Above { name, place: Place::Held(dir), below });
                }
                Err(error) => visit.barred(error)?,
            }
        } else {
            let Some(parent) = above.pop() else { return Ok(()) };
            let parent = parent.back(&here.dir)?;
            visit.left(parent.dir.as_fd(), &here.name, here.dir.as_fd())?;
            here = parent;
        }
    }
}

/// Removes a directory and everything in it, or whatever else has the name.
/// What is mounted there or somewhere below is never emptied: that is an
/// error. What is not there is fine.
///
/// # Errors
/// What the kernel says; `EXDEV` of a mount.
pub fn remove(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let name = CString::new(name.as_bytes())?;
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = match openat(CWD, parent, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        parent => parent?,
    };
    Ok(remove_at(&parent, &name)?)
}

/// [`remove`] of a name in a directory.
///
/// # Errors
/// The same.
pub fn remove_at(parent: &OwnedFd, name: &CStr) -> Result<()> {
    if !Removal.entry(parent.as_fd(), name, FileType::Unknown)? {
        return Ok(());
    }
    match enter(parent, name) {
        Ok(dir) => walk(dir, &mut Removal)?,
        Err(error) => Removal.barred(error)?,
    }
    remove_empty(parent.as_fd(), name)
}

struct Removal;

impl Visit for Removal {
    fn entry(&mut self, dir: BorrowedFd<'_>, name: &CStr, kind: FileType) -> Result<bool> {
        if kind == FileType::Directory {
            return Ok(true);
        }
        match unlinkat(dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(false),
            Err(Errno::ISDIR) => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn left(&mut self, parent: BorrowedFd<'_>, name: &CStr, _: BorrowedFd<'_>) -> Result<()> {
        remove_empty(parent, name)
    }

    fn barred(&mut self, error: Errno) -> Result<()> {
        if error == Errno::NOENT { Ok(()) } else { Err(error) }
    }
}

fn remove_empty(parent: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    match unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOENT) => Ok(()),
        result => result,
    }
}

/// What a tree takes of its file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Used {
    /// Of blocks, not of what files say they hold.
    pub bytes: u64,
    /// Files, directories, links and all else.
    pub inodes: u64,
}

impl std::ops::AddAssign for Used {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.inodes += other.inodes;
    }
}

/// Adds up blocks and inodes of a directory and what is in it, each file once;
/// what is mounted below is not counted. Nothing for what is not there.
///
/// # Errors
/// What the kernel says; `ESTALE` of a tree that is moved about all the time.
pub fn used(path: &Path) -> io::Result<Used> {
    let mut tries = 1;
    loop {
        match measure(path) {
            Err(Errno::STALE) if tries < MEASURE_TRIES => tries += 1,
            used => return Ok(used?),
        }
    }
}

fn measure(path: &Path) -> Result<Used> {
    // Whatever links lead there.
    let flags = DIRECTORY.difference(OFlags::NOFOLLOW);
    let root = match openat(CWD, path, flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Used::default()),
        root => root?,
    };
    let mut measuring = Measuring { used: Used::default(), linked: BTreeSet::new() };
    measuring.add(&fstat(&root)?);
    walk(root, &mut measuring)?;
    Ok(measuring.used)
}

struct Measuring {
    used: Used,
    /// Files of several names that were counted.
    linked: BTreeSet<u64>,
}

impl Measuring {
    fn add(&mut self, stat: &Stat) {
        // stat(2): always units of 512 bytes.
        let bytes = u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        self.used += Used { bytes, inodes: 1 };
    }
}

impl Visit for Measuring {
    fn entry(&mut self, dir: BorrowedFd<'_>, name: &CStr, kind: FileType) -> Result<bool> {
        if kind == FileType::Directory {
            return Ok(true);
        }
        let stat = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(false),
            stat => stat?,
        };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Ok(true);
        }
        if stat.st_nlink <= 1 || self.linked.insert(stat.st_ino) {
            self.add(&stat);
        }
        Ok(false)
    }

    fn left(&mut self, _: BorrowedFd<'_>, _: &CStr, dir: BorrowedFd<'_>) -> Result<()> {
        self.add(&fstat(dir)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests;

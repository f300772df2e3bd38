//! The mount steps of a child: every path of the container is resolved inside
//! its root by descriptor, so that no link of an image or volume leads out.

use std::{
    ffi::{CStr, CString},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, StatxFlags},
    io::Errno,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
        OpenTreeFlags, UnmountFlags,
    },
};

use crate::{
    mount::{MountAttr, map_owners, mount_setattr},
    path_buffer::{PathBuffer, components},
    steps::{BindSource, HELD_MAX},
};

type Result<T> = rustix::io::Result<T>;

const PROC_SUPER_MAGIC: i64 = 0x9fa0;
const SYSFS_MAGIC: i64 = 0x6265_6572;

/// Dangling links followed while something is made.
const LINKS_MAX: u32 = 8;

/// What the mount steps of one child share.
pub(crate) struct Mounts {
    root: Option<OwnedFd>,
    held: [Option<OwnedFd>; HELD_MAX],
    userns: Option<OwnedFd>,
}

impl Mounts {
    pub(crate) fn new() -> Self {
        Self { root: None, held: [const { None }; HELD_MAX], userns: None }
    }

    /// Lets go of descriptors that were closed by number.
    pub(crate) fn forget_files(&mut self) {
        std::mem::forget(self.root.take());
        std::mem::forget(self.userns.take());
        for held in &mut self.held {
            std::mem::forget(held.take());
        }
    }

    fn root(&self) -> Result<BorrowedFd<'_>> {
        self.root.as_ref().map(AsFd::as_fd).ok_or(Errno::BADF)
    }

    pub(crate) fn userns(&self) -> Result<BorrowedFd<'_>> {
        self.userns.as_ref().map(AsFd::as_fd).ok_or(Errno::BADF)
    }

    pub(crate) fn use_ids(&mut self, path: &CStr) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        self.userns = Some(rustix::fs::open(path, flags, Mode::empty())?);
        Ok(())
    }

    pub(crate) fn map_tree(&self, path: &CStr) -> Result<()> {
        let tree = clone_tree(CWD, path, false)?;
        map_owners(tree.as_fd(), false, self.userns()?)?;
        let at = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        attach(tree.as_fd(), at.as_fd())
    }

    pub(crate) fn hold(&mut self, source: &CStr) -> Result<()> {
        let tree = clone_tree(CWD, source, true)?;
        let free = self.held.iter_mut().find(|held| held.is_none()).ok_or(Errno::MFILE)?;
        *free = Some(tree);
        Ok(())
    }

    pub(crate) fn slave(&self) -> Result<()> {
        let flags = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        rustix::mount::mount_change(c"/", flags)
    }

    pub(crate) fn open_root(&mut self, path: &CStr) -> Result<()> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.root = Some(rustix::fs::open(path, flags, Mode::empty())?);
        Ok(())
    }

    /// Opens a path inside the root.
    fn open(&self, path: &CStr, resolve: ResolveFlags) -> Result<OwnedFd> {
        open_in(self.root()?, path, resolve)
    }

    pub(crate) fn directory(&self, dest: &CStr, mode: u32) -> Result<()> {
        self.make_directory(dest.to_bytes(), mode, ResolveFlags::empty()).map(drop)
    }

    /// `mkdir -p` inside the root: each missing component is made in the
    /// directory that was resolved before it.
    fn make_directory(&self, dest: &[u8], mode: u32, resolve: ResolveFlags) -> Result<OwnedFd> {
        self.make_directory_through(dest, mode, resolve, LINKS_MAX)
    }

    fn make_directory_through(
        &self,
        dest: &[u8],
        mode: u32,
        resolve: ResolveFlags,
        links: u32,
    ) -> Result<OwnedFd> {
        let mut here = self.open(c".", ResolveFlags::empty())?;
        let mut path = PathBuffer::default();
        let mut components = components(dest);
        while let Some(component) = components.next() {
            let parent_len = path.len;
            path.push(component)?;
            here = match self.open(path.as_c_str()?, resolve) {
                Ok(fd) => fd,
                Err(Errno::NOENT) => {
                    let mut name = PathBuffer::default();
                    name.push(component)?;
                    let name = name.as_c_str()?;
                    match rustix::fs::mkdirat(&here, name, Mode::from_raw_mode(mode)) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(error) => return Err(error),
                    }
                    match self.open(path.as_c_str()?, resolve) {
                        // A link to what is not there: go where it leads.
                        Err(Errno::NOENT) => {
                            let mut next = path.follow(here.as_fd(), name, parent_len)?;
                            for component in components {
                                next.push(component)?;
                            }
                            let links = links.checked_sub(1).ok_or(Errno::LOOP)?;
                            let next = next.as_c_str()?.to_bytes();
                            return self.make_directory_through(next, mode, resolve, links);
                        }
                        other => other?,
                    }
                }
                Err(error) => return Err(error),
            };
        }
        Ok(here)
    }

    /// Makes an empty file and the directories it lies in, at the end of every
    /// link on the way (`/etc/resolv.conf` of many images is one to nowhere).
    fn make_file(&self, dest: &CStr, links: u32) -> Result<OwnedFd> {
        let (parent, name) = self.parent(dest)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let made = rustix::fs::openat(&parent, name.as_c_str()?, flags, Mode::from_raw_mode(0o644));
        match (made, self.open(dest, ResolveFlags::empty())) {
            (Ok(_), opened) => opened,
            (Err(Errno::EXIST), Err(Errno::NOENT)) => {
                let mut path = PathBuffer::default();
                path.append(dest.to_bytes())?;
                let parent_len = dest.to_bytes().iter().rposition(|b| *b == b'/').unwrap_or(0);
                let next = path.follow(parent.as_fd(), name.as_c_str()?, parent_len)?;
                self.make_file(next.as_c_str()?, links.checked_sub(1).ok_or(Errno::LOOP)?)
            }
            (Err(Errno::EXIST), opened) => opened,
            (Err(error), _) => Err(error),
        }
    }

    /// The directory that holds `dest`, made where missing, and the last name.
    fn parent(&self, dest: &CStr) -> Result<(OwnedFd, PathBuffer)> {
        let bytes = dest.to_bytes();
        let (parent, last) = match bytes.iter().rposition(|b| *b == b'/') {
            Some(at) => (&bytes[..at], &bytes[at + 1..]),
            None => (&bytes[..0], bytes),
        };
        let mut name = PathBuffer::default();
        name.push(last)?;
        Ok((self.make_directory(parent, 0o755, ResolveFlags::empty())?, name))
    }

    pub(crate) fn mount_fs(
        &self,
        fstype: &CStr,
        dest: &CStr,
        follow: bool,
        options: &[(CString, CString)],
        attributes: u64,
    ) -> Result<()> {
        // Masks rely on /proc being where it should: no link on the way.
        let links = if follow { ResolveFlags::empty() } else { ResolveFlags::NO_SYMLINKS };
        let at = self.make_directory(dest.to_bytes(), 0o755, links)?;
        let tree = new_mount(fstype, options, attributes)?;
        attach(tree.as_fd(), at.as_fd())
    }

    pub(crate) fn bind(
        &mut self,
        source: &BindSource,
        dest: &CStr,
        recursive: bool,
        attributes: u64,
        propagation: u64,
        of_top: u64,
    ) -> Result<()> {
        let tree = match source {
            BindSource::Path(path) => clone_tree(CWD, path, recursive)?,
            BindSource::Below(base, sub) => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let base = rustix::fs::open(base.as_c_str(), flags, Mode::empty())?;
                let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
                let flags = OFlags::PATH | OFlags::CLOEXEC;
                let fd = retry_again(|| {
                    rustix::fs::openat2(&base, sub.as_c_str(), flags, Mode::empty(), resolve)
                })?;
                clone_tree(fd.as_fd(), c"", recursive)?
            }
            BindSource::Held(number) => {
                self.held.get_mut(usize::from(*number)).and_then(Option::take).ok_or(Errno::BADF)?
            }
        };
        mount_setattr(
            tree.as_fd(),
            recursive,
            MountAttr { set: attributes, clear: 0, propagation },
        )?;
        if of_top != 0 {
            let attributes = MountAttr { set: of_top, clear: 0, propagation: 0 };
            mount_setattr(tree.as_fd(), false, attributes)?;
        }
        if let (true, Some(userns)) = (recursive, &self.userns) {
            map_owners(tree.as_fd(), recursive, userns.as_fd())?;
        }
        let is_directory = file_type(tree.as_fd())? == FileType::Directory;
        let at = match self.open(dest, ResolveFlags::empty()) {
            Ok(at) => at,
            Err(Errno::NOENT) if is_directory => {
                self.make_directory(dest.to_bytes(), 0o755, ResolveFlags::empty())?
            }
            Err(Errno::NOENT) => self.make_file(dest, LINKS_MAX)?,
            Err(error) => return Err(error),
        };
        attach(tree.as_fd(), at.as_fd())
    }

    pub(crate) fn symlink(&self, target: &CStr, dest: &CStr) -> Result<()> {
        let (parent, name) = self.parent(dest)?;
        match rustix::fs::symlinkat(target, &parent, name.as_c_str()?) {
            Err(Errno::EXIST) => Ok(()),
            other => other,
        }
    }

    pub(crate) fn device(&self, dest: &CStr, mode: u32, major: u32, minor: u32) -> Result<()> {
        let (parent, name) = self.parent(dest)?;
        let name = name.as_c_str()?;
        let kind = FileType::from_raw_mode(mode);
        let permissions = Mode::from_raw_mode(mode);
        let device = rustix::fs::makedev(major, minor);
        match rustix::fs::mknodat(&parent, name, kind, permissions, device) {
            // The process's umask took bits away; this node is ours and new.
            Ok(()) => rustix::fs::chmodat(&parent, name, permissions, AtFlags::empty()),
            Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Opens a path of procfs or sysfs to cover it, and makes sure that it is.
    fn open_kernel_path(&self, dest: &CStr) -> Result<Option<OwnedFd>> {
        let fd = match self.open(dest, ResolveFlags::NO_SYMLINKS) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(error),
        };
        match rustix::fs::fstatfs(&fd)?.f_type as i64 {
            PROC_SUPER_MAGIC | SYSFS_MAGIC => Ok(Some(fd)),
            _ => Err(Errno::XDEV),
        }
    }

    pub(crate) fn mask(&self, dest: &CStr) -> Result<()> {
        let Some(at) = self.open_kernel_path(dest)? else { return Ok(()) };
        let tree = if file_type(at.as_fd())? == FileType::Directory {
            let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
                | MountAttrFlags::MOUNT_ATTR_NOSUID
                | MountAttrFlags::MOUNT_ATTR_NODEV
                | MountAttrFlags::MOUNT_ATTR_NOEXEC;
            new_mount(c"tmpfs", &[], attributes.bits().into())?
        } else {
            clone_tree(CWD, c"/dev/null", false)?
        };
        attach(tree.as_fd(), at.as_fd())
    }

    pub(crate) fn read_only_path(&self, dest: &CStr) -> Result<()> {
        let Some(at) = self.open_kernel_path(dest)? else { return Ok(()) };
        let tree = clone_tree(at.as_fd(), c"", true)?;
        let set = MountAttrFlags::MOUNT_ATTR_RDONLY.bits().into();
        mount_setattr(tree.as_fd(), true, MountAttr { set, clear: 0, propagation: 0 })?;
        attach(tree.as_fd(), at.as_fd())
    }

    pub(crate) fn read_only_mount(&self, dest: &CStr) -> Result<()> {
        let mount = self.open(dest, ResolveFlags::NO_SYMLINKS)?;
        let set = MountAttrFlags::MOUNT_ATTR_RDONLY.bits().into();
        mount_setattr(mount.as_fd(), false, MountAttr { set, clear: 0, propagation: 0 })
    }

    /// Puts a terminal on `/dev/console` of a container that was entered.
    pub(crate) fn bind_console(&self, slave: BorrowedFd<'_>) -> Result<()> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let console = rustix::fs::open(c"/dev/console", flags, Mode::empty())?;
        attach(clone_tree(slave, c"", false)?.as_fd(), console.as_fd())
    }

    pub(crate) fn pivot(&self) -> Result<()> {
        // pivot_root(2): with both names ".", the old root comes to lie on top
        // of the new one and can be detached without a directory for it.
        rustix::process::fchdir(self.root()?)?;
        rustix::process::pivot_root(c".", c".")?;
        // Nothing of this reaches the host: `slave` cut the old tree off.
        rustix::mount::unmount(c".", UnmountFlags::DETACH)?;
        rustix::process::chdir(c"/")
    }
}

fn file_type(fd: BorrowedFd<'_>) -> Result<FileType> {
    // statx works on a detached tree's O_PATH descriptor on every kernel.
    let stat = rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::TYPE)?;
    Ok(FileType::from_raw_mode(stat.stx_mode.into()))
}

fn open_in(root: BorrowedFd<'_>, path: &CStr, resolve: ResolveFlags) -> Result<OwnedFd> {
    let resolve = resolve | ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    retry_again(|| rustix::fs::openat2(root, path, flags, Mode::empty(), resolve))
}

/// openat2(2): scoped lookups answer EAGAIN when something was renamed under
/// them, which passes.
fn retry_again<T>(mut call: impl FnMut() -> Result<T>) -> Result<T> {
    for _ in 0..128 {
        match call() {
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
    call()
}

fn clone_tree(base: BorrowedFd<'_>, path: &CStr, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if path.is_empty() {
        flags |= OpenTreeFlags::AT_EMPTY_PATH;
    }
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    rustix::mount::open_tree(base, path, flags)
}

fn new_mount(fstype: &CStr, options: &[(CString, CString)], attributes: u64) -> Result<OwnedFd> {
    let fs = rustix::mount::fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        if value.is_empty() {
            rustix::mount::fsconfig_set_flag(&fs, key.as_c_str())?;
        } else {
            rustix::mount::fsconfig_set_string(&fs, key.as_c_str(), value.as_c_str())?;
        }
    }
    rustix::mount::fsconfig_create(&fs)?;
    rustix::mount::fsmount(
        &fs,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::from_bits_retain(attributes as u32),
    )
}

pub(crate) fn attach(tree: BorrowedFd<'_>, at: BorrowedFd<'_>) -> Result<()> {
    rustix::mount::move_mount(
        tree,
        c"",
        at,
        c"",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
    )
}

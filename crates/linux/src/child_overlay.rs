//! The overlay of a container's root, by whichever interface the kernel has.

use std::{
    ffi::{CStr, CString},
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags},
};

use crate::{child_mounts::attach, path_buffer::PathBuffer};

type Result<T> = rustix::io::Result<T>;

/// Mounts an overlay on a directory of the host.
pub(crate) fn mount(lower: &[CString], upper: &CStr, work: &CStr, target: &CStr) -> Result<()> {
    match overlay_by_layer(lower, upper, work, target) {
        // Linux before 6.5 has no `lowerdir+`.
        Err(Errno::INVAL) => overlay_by_text(lower, upper, work, target),
        other => other,
    }
}

fn overlay_by_layer(lower: &[CString], upper: &CStr, work: &CStr, target: &CStr) -> Result<()> {
    let fs = rustix::mount::fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for layer in lower {
        set_directory(&fs, c"lowerdir+", layer)?;
    }
    set_directory(&fs, c"upperdir", upper)?;
    set_directory(&fs, c"workdir", work)?;
    rustix::mount::fsconfig_create(&fs)?;
    let tree = rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    let at = rustix::fs::open(target, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    attach(tree.as_fd(), at.as_fd())
}

/// Sets a directory option; fsconfig(2) takes at most 255 characters, so longer
/// paths go by descriptor number.
fn set_directory(fs: &OwnedFd, key: &CStr, path: &CStr) -> Result<()> {
    if path.to_bytes().len() <= 255 {
        return rustix::mount::fsconfig_set_string(fs, key, path);
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty())?;
    let mut text = PathBuffer::default();
    text.push_descriptor(fd.as_raw_fd())?;
    rustix::mount::fsconfig_set_string(fs, key, text.as_c_str()?)
}

/// One option string as before Linux 6.5. It may hold a page at most and splits
/// at colons, so every directory goes by descriptor number.
fn overlay_by_text(lower: &[CString], upper: &CStr, work: &CStr, target: &CStr) -> Result<()> {
    let mut text = PathBuffer::default();
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut add = |prefix: &[u8], path: &CStr| -> Result<()> {
        text.append(prefix)?;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        text.push_descriptor(fd.as_raw_fd())?;
        // Open until the mount call; the child's exec closes it.
        std::mem::forget(fd);
        Ok(())
    };
    for (index, layer) in lower.iter().enumerate() {
        add(if index == 0 { b"lowerdir=" } else { b":" }, layer)?;
    }
    add(b",upperdir=", upper)?;
    add(b",workdir=", work)?;
    rustix::mount::mount(
        c"overlay",
        target,
        c"overlay",
        rustix::mount::MountFlags::empty(),
        text.as_c_str()?,
    )
}

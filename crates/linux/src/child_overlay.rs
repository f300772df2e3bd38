//! The overlay of a container's root, by whichever interface the kernel has. It is
//! `volatile` (Linux 5.10): no container starts again on the writable layer of before, so
//! nothing of it is for after a power cut, and without the word the end of every container
//! waits until all that the disk's file system has to write is written.

use std::{
    ffi::{CStr, CString},
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags},
};

use crate::{child_mounts::attach, detect::parse_release, path_buffer::PathBuffer};

type Result<T> = rustix::io::Result<T>;

/// Mounts an overlay on a directory of the host.
pub(crate) fn mount(lower: &[CString], upper: &CStr, work: &CStr, target: &CStr) -> Result<()> {
    // Asking an older kernel would put a line into its log for every container.
    if !has_layer_option() {
        return overlay_by_text(lower, upper, work, target);
    }
    match overlay_by_layer(lower, upper, work, target) {
        Err(Errno::INVAL) => overlay_by_text(lower, upper, work, target),
        other => other,
    }
}

/// Whether the kernel is one with `lowerdir+`, new in Linux 6.5.
fn has_layer_option() -> bool {
    // No allocation: this runs between fork and exec.
    let name = rustix::system::uname();
    name.release().to_str().is_ok_and(|release| parse_release(release) >= (6, 5))
}

fn overlay_by_layer(lower: &[CString], upper: &CStr, work: &CStr, target: &CStr) -> Result<()> {
    let fs = rustix::mount::fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for layer in lower {
        set_directory(&fs, c"lowerdir+", layer)?;
    }
    set_directory(&fs, c"upperdir", upper)?;
    set_directory(&fs, c"workdir", work)?;
    rustix::mount::fsconfig_set_flag(&fs, c"volatile")?;
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
    text.append(b",volatile")?;
    rustix::mount::mount(
        c"overlay",
        target,
        c"overlay",
        rustix::mount::MountFlags::empty(),
        text.as_c_str()?,
    )
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::ffi::OsStrExt};

    use super::*;
    use crate::child_mounts::Mounts;

    type Way = fn(&[CString], &CStr, &CStr, &CStr) -> Result<()>;

    /// Both interfaces where the kernel has both, and the choice of one, each on a thread with a mount namespace of its own.
    #[test]
    fn both_ways_give_the_same() {
        if !crate::detect::is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let by_layer = has_layer_option().then_some(overlay_by_layer as Way);
        for way in by_layer.into_iter().chain([overlay_by_text as Way, mount]) {
            let directory = tempfile::tempdir().expect("a directory");
            let path = |name: &str| {
                let path = directory.path().join(name);
                fs::create_dir(&path).expect("made");
                path
            };
            let text = |path: &std::path::Path| {
                CString::new(path.as_os_str().as_bytes()).expect("no NUL byte")
            };
            let paths = ["a", "b:c,d", "upper", "work", "target"].map(path);
            fs::write(paths[0].join("both"), "a").expect("written");
            fs::write(paths[1].join("both"), "b").expect("written");
            fs::write(paths[1].join("b"), "b").expect("written");
            let [a, b, upper, work, target] = paths.each_ref().map(|p| text(p));
            // Colons are `overlay_by_text`'s reason to use descriptors; the
            // newer interface takes one directory at a time.
            let seen = std::thread::spawn(move || {
                let kinds = libc::CLONE_NEWNS;
                // SAFETY: takes a mask; only this thread's mounts change.
                crate::child::check(unsafe { libc::unshare(kinds) })?;
                Mounts::new().slave()?;
                way(&[a, b], &upper, &work, &target)?;
                let read = |name| fs::read_to_string(paths[4].join(name)).unwrap_or_default();
                let mounts = fs::read_to_string("/proc/thread-self/mountinfo").expect("mounted");
                let at = paths[4].to_str().expect("text");
                let own = mounts.lines().find(|line| line.contains(at)).expect("mounted");
                let options = own.rsplit(' ').next().expect("options");
                // Newer kernels say of what that is a kind.
                let words = ["volatile", "fsync=volatile"];
                let is_volatile = options.split(',').any(|option| words.contains(&option));
                Ok::<_, Errno>((read("both") + &read("b"), is_volatile))
            });
            assert_eq!(seen.join().expect("no panic"), Ok(("ab".to_owned(), true)));
        }
    }
}

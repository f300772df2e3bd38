//! Namespaces that outlive every process, pinned by a bind mount.

use std::{
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use rustix::mount::MountFlags;

use crate::child::check;

/// `CLONE_NEW*` masks under the names that nsfs uses.
pub const KINDS: &[(&str, u32)] = &[
    ("cgroup", libc::CLONE_NEWCGROUP as u32),
    ("ipc", libc::CLONE_NEWIPC as u32),
    ("mnt", libc::CLONE_NEWNS as u32),
    ("net", libc::CLONE_NEWNET as u32),
    ("pid", libc::CLONE_NEWPID as u32),
    ("user", libc::CLONE_NEWUSER as u32),
    ("uts", libc::CLONE_NEWUTS as u32),
];

/// The mask of a namespace type by its name in `/proc/<pid>/ns`; 0 if unknown.
pub fn kind(name: &str) -> u32 {
    KINDS.iter().find(|(n, _)| *n == name).map_or(0, |(_, mask)| *mask)
}

/// New namespaces and what is set up in them.
#[derive(Debug, Default)]
pub struct Pins {
    /// Type name (`net`, `ipc`, `uts`) and the file to pin it on.
    pub namespaces: Vec<(&'static str, PathBuf)>,
    /// Host name, where `uts` is among them.
    pub hostname: Option<String>,
    /// Path below `/proc/sys` and value.
    pub sysctls: Vec<(String, String)>,
    /// A user namespace that owns the others: the file to pin it on, the first of
    /// the host's IDs that are its, and how many.
    pub user: Option<(PathBuf, u32, u32)>,
}

/// A process that holds namespaces until they are pinned, and then ends.
struct Holder(libc::pid_t);

impl Holder {
    /// In new namespaces of these kinds.
    fn start(kinds: u32) -> io::Result<Self> {
        // One register wide: where that is 32 bits, a wider one would move all that follow.
        let flags = libc::c_ulong::from(kinds) | libc::SIGCHLD as libc::c_ulong;
        // SAFETY: a plain fork into namespaces (no shared memory, no new stack);
        // the child makes system calls only and never returns.
        let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
        match pid {
            ..0 => Err(io::Error::last_os_error()),
            0 => loop {
                // SAFETY: waits for the signal that ends it.
                unsafe { libc::pause() };
            },
            pid => Ok(Self(pid as libc::pid_t)),
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // SAFETY: our own child, not reaped by anybody else.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, std::ptr::null_mut(), 0);
        }
    }
}

/// Makes the namespaces of a pod with IDs of its own and moves this thread into
/// all but the user namespace, which only a single-threaded process may enter.
fn enter_owned(mask: u32, path: &Path, first: u32, count: u32) -> io::Result<()> {
    let holder = Holder::start(mask | libc::CLONE_NEWUSER as u32)
        .map_err(|e| said("make a user namespace", e))?;
    let process = PathBuf::from(format!("/proc/{}", holder.0));
    for map in ["uid_map", "gid_map"] {
        std::fs::write(process.join(map), format!("0 {first} {count}\n"))
            .map_err(|e| said(&format!("write the user namespace's {map}"), e))?;
    }
    for (name, kind) in KINDS.iter().filter(|(_, kind)| mask & kind != 0) {
        let namespace = std::fs::File::open(process.join("ns").join(name))?;
        crate::child::setns(namespace.as_fd(), *kind)
            .map_err(|e| said(&format!("enter the {name} namespace"), e.into()))?;
    }
    pin_at(&process.join("ns/user"), path).map_err(|e| said("pin the user namespace", e))
}

fn pin_at(source: &Path, path: &Path) -> io::Result<()> {
    std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    Ok(rustix::mount::mount(source, path, "", MountFlags::BIND, None)?)
}

/// Makes namespaces and pins each on a file (made where missing). Runs on a
/// thread of its own, since a thread changes its namespaces for good.
///
/// # Errors
/// What the kernel says, with what was tried. Pins made before stay.
pub fn pin(pins: Pins) -> io::Result<()> {
    std::thread::scope(|scope| {
        let worker = std::thread::Builder::new()
            .name("namespaces".into())
            .spawn_scoped(scope, || pin_here(&pins))?;
        worker.join().map_err(|_| io::Error::other("making namespaces panicked"))?
    })
}

fn pin_here(pins: &Pins) -> io::Result<()> {
    let mask = pins.namespaces.iter().fold(0, |mask, (name, _)| mask | kind(name));
    if let Some((path, first, count)) = &pins.user {
        enter_owned(mask, path, *first, *count)?;
    } else {
        // SAFETY: takes a mask without CLONE_FILES or CLONE_FS, so only
        // namespaces of this thread change; it ends right after.
        check(unsafe { libc::unshare(mask as i32) }).map_err(|e| said("unshare", e.into()))?;
    }
    if let Some(hostname) = &pins.hostname {
        rustix::system::sethostname(hostname.as_bytes())
            .map_err(|e| said("set the host name", e.into()))?;
    }
    for (name, value) in &pins.sysctls {
        let path = Path::new("/proc/sys").join(name);
        std::fs::write(&path, value).map_err(|e| said(&format!("write {}", path.display()), e))?;
    }
    for (name, path) in &pins.namespaces {
        pin_at(&Path::new("/proc/thread-self/ns").join(name), path)
            .map_err(|e| said(&format!("pin the {name} namespace"), e))?;
    }
    Ok(())
}

fn said(what: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

//! Namespaces that outlive every process, pinned by a bind mount.

use std::{
    io,
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
    // SAFETY: takes a mask without CLONE_FILES or CLONE_FS, so only namespaces
    // of this thread change; it ends right after.
    check(unsafe { libc::unshare(mask as i32) }).map_err(|e| said("unshare", e.into()))?;
    if let Some(hostname) = &pins.hostname {
        rustix::system::sethostname(hostname.as_bytes())
            .map_err(|e| said("set the host name", e.into()))?;
    }
    for (name, value) in &pins.sysctls {
        let path = Path::new("/proc/sys").join(name);
        std::fs::write(&path, value).map_err(|e| said(&format!("write {}", path.display()), e))?;
    }
    for (name, path) in &pins.namespaces {
        std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        let source = Path::new("/proc/thread-self/ns").join(name);
        rustix::mount::mount(&source, path, "", MountFlags::BIND, None)
            .map_err(|e| said(&format!("pin the {name} namespace"), e.into()))?;
    }
    Ok(())
}

fn said(what: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

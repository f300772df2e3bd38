//! Work inside another network namespace.
//!
//! A thread belongs to one network namespace and a socket stays in the one it
//! was opened in. So the work runs on a thread of its own, and sockets that it
//! returns can be used anywhere.

use crate::{Error, sys};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// Runs `work` inside the namespace that `path` names.
///
/// # Errors
/// The namespace cannot be opened or entered.
pub fn within<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
    sys::in_netns(path, work).map_err(|e| Error::io(format!("enter {}", path.display()), e))
}

/// A new network namespace without a name; it goes away with this value, unless
/// a socket or a mount keeps it.
#[derive(Debug)]
pub struct Netns(File);

impl Netns {
    /// Makes one, empty but for a `lo` that is down.
    ///
    /// # Errors
    /// Not root, or too many namespaces.
    pub fn new() -> Result<Self, Error> {
        sys::new_netns().map(Netns).map_err(|e| Error::io("make a network namespace", e))
    }

    /// A path that names it in this process.
    pub fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }

    /// Runs `work` inside it.
    ///
    /// # Errors
    /// It cannot be entered.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        within(&self.path(), work)
    }
}

//! The disk as the log and snapshots see it: one flat directory.
//!
//! A trait, so that a test can put a disk under the log that loses what was
//! not synced, and cuts a write at any byte.

mod real;
pub mod sim;

use std::{io, sync::Arc};

pub use real::RealDisk;
pub(crate) use real::open_to_read;

/// A directory of files without subdirectories. Names are ours and need no
/// escaping.
pub trait Disk: Send + Sync + 'static {
    /// The names of all files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Makes a file of `len` zero bytes that are allocated on the disk, and
    /// syncs it: later writes inside it change no file system metadata. The
    /// name lasts once [`Disk::sync_dir`] returned.
    fn create_zeroed(&self, name: &str, len: u64) -> io::Result<Arc<dyn DiskFile>>;
    /// Makes an empty file that grows as it is written.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens a file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Renames a file, replacing the target; lasts once the directory is synced.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file; lasts once the directory is synced.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes what was created, renamed and removed last.
    fn sync_dir(&self) -> io::Result<()>;
    /// Whether its operations take time, so that they belong on a thread of
    /// their own. One in memory has everything happen at once and in order.
    fn takes_time(&self) -> bool {
        true
    }
}

/// Does something with a disk without holding up the caller's thread.
///
/// # Errors
/// Where it panicked.
pub(crate) async fn work<T: Send + 'static>(
    disk: &dyn Disk,
    act: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    match disk.takes_time() {
        true => tokio::task::spawn_blocking(act).await.map_err(io::Error::other),
        false => Ok(act()),
    }
}

/// An open file.
pub trait DiskFile: Send + Sync {
    /// Its length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether it has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Fills the buffer from an offset; fails where the file ends before.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all bytes at an offset. They last once [`DiskFile::sync`] returned.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes what was written last (`fdatasync`).
    fn sync(&self) -> io::Result<()>;
}

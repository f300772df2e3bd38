//! Hears when the host's resolvers become others, by inotify(7).

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

use super::{RESOLVED, USUAL};

/// A watch on the folders in which the host's `resolv.conf` is.
#[derive(Debug)]
pub struct Changes {
    fd: AsyncFd<OwnedFd>,
    files: Vec<PathBuf>,
}

impl Changes {
    /// Of what [`super::host`] reads.
    ///
    /// # Errors
    /// The kernel gives no watch: inotify(7) has the limits.
    pub fn of_host() -> io::Result<Self> {
        Self::of(vec![USUAL.into(), RESOLVED.into()])
    }

    fn of(files: Vec<PathBuf>) -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe; an OwnedFd stays open and the same"
        )]
        let changes = Self { fd: AsyncFd::new(fd)?, files };
        changes.watch()?;
        Ok(changes)
    }

    /// Waits for a change since the last call; several count as one, and one may be of
    /// another file of these folders.
    ///
    /// # Errors
    /// The kernel does not tell any more.
    pub async fn next(&self) -> io::Result<()> {
        let mut buffer = [0u8; 4096];
        let mut seen = false;
        while !seen {
            let mut ready = self.fd.readable().await?;
            while let Ok(read) = ready.try_io(|fd| Ok(rustix::io::read(fd, &mut buffer)?)) {
                read?;
                seen = true;
            }
        }
        // A link may lead elsewhere now, and a folder may be new.
        self.watch()
    }

    /// Watches the folders, since a file that is replaced by another of its name takes its
    /// watch along. Those that are watched stay so.
    fn watch(&self) -> io::Result<()> {
        let events = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO | WatchFlags::CREATE;
        for folder in self.files.iter().flat_map(|file| folders(file)).collect::<BTreeSet<_>>() {
            match inotify::add_watch(self.fd.get_ref(), &folder, events) {
                // Between the look and now.
                Ok(_) | Err(rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Where a file is, and where it is in truth; for one whose folder is still to come, the
/// folder that this will be in.
fn folders(file: &Path) -> Vec<PathBuf> {
    let real = fs::canonicalize(file).ok();
    let real = real.as_deref().and_then(Path::parent).map(Path::to_owned);
    let there = file.ancestors().skip(1).find(|folder| folder.is_dir());
    real.into_iter().chain(there.map(Path::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[tokio::test]
    async fn a_file_that_is_written_replaced_or_linked_to_is_told() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("etc")).expect("our own folder");
        fs::create_dir(at("run")).expect("our own folder");
        let usual = at("etc/resolv.conf");
        let changes = Changes::of(vec![usual.clone(), at("run/resolve/resolv.conf")])
            .expect("a watch, also of what is not there yet");
        let read = || fs::read_to_string(&usual).unwrap_or_default();

        fs::write(&usual, "one").expect("our own folder");
        while read() != "one" {
            changes.next().await.expect("it is told");
        }
        fs::write(at("etc/new"), "two").expect("our own folder");
        fs::rename(at("etc/new"), &usual).expect("our own folder");
        changes.next().await.expect("it is told");
        assert_eq!(read(), "two");

        // A folder that comes later, and what is written there after it was seen.
        fs::create_dir(at("run/resolve")).expect("our own folder");
        changes.next().await.expect("it is told");
        symlink(at("run/resolve/resolv.conf"), at("etc/link")).expect("our own folder");
        fs::rename(at("etc/link"), &usual).expect("our own folder");
        changes.next().await.expect("it is told");
        fs::write(at("run/resolve/resolv.conf"), "three").expect("our own folder");
        while read() != "three" {
            changes.next().await.expect("it is told");
        }
    }
}

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
        let mut watched = BTreeSet::new();
        loop {
            let folders: BTreeSet<PathBuf> =
                self.files.iter().flat_map(|file| folders(file)).collect();
            // What came between the look and the watch was not told.
            if folders == watched {
                return Ok(());
            }
            for folder in &folders {
                match inotify::add_watch(self.fd.get_ref(), folder, events) {
                    Ok(_) | Err(rustix::io::Errno::NOENT) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            watched = folders;
        }
    }
}

/// As many links may lead from one to the next, path_resolution(7).
const LINKS_MAX: usize = 40;

/// The folders that decide what a path leads to: its own and that of whatever each link on
/// the way names. For one that is still to come, the folder that it will be in.
fn folders(file: &Path) -> Vec<PathBuf> {
    let (mut found, mut at) = (Vec::new(), file.to_owned());
    for _ in 0..LINKS_MAX {
        let there = at.ancestors().skip(1).find(|folder| folder.is_dir());
        found.extend(there.map(Path::to_owned));
        let Ok(to) = fs::read_link(&at) else { break };
        at = at.parent().unwrap_or(Path::new("/")).join(to);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    #[tokio::test]
    async fn a_file_that_is_written_replaced_or_linked_to_is_told() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let at = |name: &str| dir.path().join(name);
        for name in ["etc", "elsewhere", "unwatched"] {
            fs::create_dir(at(name)).expect("our own folder");
        }
        let usual = at("etc/resolv.conf");
        let changes = Changes::of(vec![usual.clone()]).expect("a watch, also of what is to come");
        let told = async |what: &str| {
            let told = tokio::time::timeout(Duration::from_secs(10), changes.next()).await;
            told.expect(what).expect("inotify");
        };
        let read = || fs::read_to_string(&usual).unwrap_or_default();
        // One event a step, of which a watch without its kind would hear nothing.
        let put = |text: &str, to: &Path| {
            fs::write(at("unwatched/new"), text).expect("our own folder");
            fs::rename(at("unwatched/new"), to).expect("our own folder");
        };
        put("moved here", &usual);
        told("moved here").await;
        assert_eq!(read(), "moved here");
        fs::write(&usual, "written").expect("our own folder");
        told("written").await;
        assert_eq!(read(), "written");

        // Links to links, the last to a folder that comes later.
        symlink("../far/away/resolv.conf", at("elsewhere/hop")).expect("our own folder");
        symlink("../elsewhere/hop", at("unwatched/new")).expect("our own folder");
        fs::rename(at("unwatched/new"), &usual).expect("our own folder");
        told("linked").await;
        fs::create_dir(at("far")).expect("our own folder");
        told("a folder on the way").await;
        fs::create_dir(at("far/away")).expect("our own folder");
        told("the folder").await;
        put("far", &at("far/away/resolv.conf"));
        told("the file").await;
        assert_eq!(read(), "far");
    }

    #[test]
    fn links_in_a_ring_have_an_end() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        symlink("b", dir.path().join("a")).expect("our own folder");
        symlink("a", dir.path().join("b")).expect("our own folder");
        assert!(folders(&dir.path().join("a")).iter().all(|folder| folder == dir.path()));
    }
}

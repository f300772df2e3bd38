//! Waits for a directory's files to change, by inotify.

use std::{io, os::fd::OwnedFd, path::Path};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

/// A watch on one directory.
pub(crate) struct Changes {
    fd: AsyncFd<OwnedFd>,
}

impl Changes {
    /// Of files written, made or moved in it.
    pub(super) fn of(dir: &Path) -> io::Result<Self> {
        Self::with(dir, WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO)
    }

    /// Of names only: files that come and go.
    pub(crate) fn of_names(dir: &Path) -> io::Result<Self> {
        let moved = WatchFlags::MOVED_TO | WatchFlags::MOVED_FROM;
        Self::with(dir, WatchFlags::CREATE | WatchFlags::DELETE | moved)
    }

    pub(crate) fn with(dir: &Path, events: WatchFlags) -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        inotify::add_watch(&fd, dir, events)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe; an OwnedFd stays open and the same"
        )]
        let fd = AsyncFd::new(fd)?;
        Ok(Self { fd })
    }

    /// Waits for a change since the last call; several count as one.
    pub(crate) async fn next(&self) -> io::Result<()> {
        let mut buffer = [0u8; 4096];
        let mut seen = false;
        loop {
            let mut ready = self.fd.readable().await?;
            loop {
                match ready.try_io(|fd| Ok(rustix::io::read(fd, &mut buffer)?)) {
                    Ok(Ok(_)) => seen = true,
                    Ok(Err(error)) => return Err(error),
                    Err(_would_block) => break,
                }
            }
            if seen {
                return Ok(());
            }
        }
    }
}

//! A link whose packets a program carries (tun(4)).

use crate::{Error, sys};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

/// Where the kernel gives them out.
const CLONE: &str = "/dev/net/tun";

/// A program's end of such a link: one packet a read, one a write.
#[derive(Debug)]
pub struct Tun(File);

impl Tun {
    /// Makes the link, or takes the one over that an earlier process left. It
    /// stays when this value goes: what is sent there is dropped then, instead
    /// of finding another way.
    ///
    /// # Errors
    /// The kernel has no such links, another program has this one, or a link of
    /// another kind has its name.
    pub fn open(name: &str) -> Result<Self, Error> {
        let fail = |e: io::Error| Error::io(format!("make the link {name} with {CLONE}"), e);
        let mut options = File::options();
        let flags = libc::O_NONBLOCK | libc::O_CLOEXEC;
        let file = options.read(true).write(true).custom_flags(flags).open(CLONE).map_err(fail)?;
        sys::attach_tun(&file, name).map_err(fail)?;
        Ok(Tun(file))
    }

    /// The next packet that the kernel sends there, whole, into `buffer`.
    ///
    /// # Errors
    /// `WouldBlock` where there is none now; anything else where the link is gone.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(buffer)
    }

    /// Hands a packet to the kernel as one that came in by the link.
    ///
    /// # Errors
    /// The link is down or gone, or this is no packet.
    pub fn send(&self, packet: &[u8]) -> io::Result<()> {
        (&self.0).write(packet).map(drop)
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

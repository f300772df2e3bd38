//! The terminal of a child, opened in the container's own devpts.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags},
};

use crate::{
    child::{TERMINAL, check},
    child_mounts::Mounts,
};

/// Opens a terminal, takes it as controlling terminal and standard streams and
/// sends its master away.
pub(crate) fn open(
    report: BorrowedFd<'_>,
    mounts: &Mounts,
    uid: u32,
    (rows, columns): (u16, u16),
    console: bool,
) -> rustix::io::Result<()> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = rustix::fs::open(c"/dev/pts/ptmx", flags, Mode::empty())?;
    // The path was the container's to arrange: make sure that it is a
    // terminal multiplexer of a devpts and not something else.
    let stat = rustix::fs::fstat(&master)?;
    const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;
    if rustix::fs::major(stat.st_rdev) != 5
        || rustix::fs::minor(stat.st_rdev) != 2
        || rustix::fs::fstatfs(&master)?.f_type as i64 != DEVPTS_SUPER_MAGIC
    {
        return Err(Errno::NOTTY);
    }
    rustix::pty::unlockpt(&master)?;
    let slave = rustix::pty::ioctl_tiocgptpeer(
        &master,
        rustix::pty::OpenptFlags::RDWR
            | rustix::pty::OpenptFlags::NOCTTY
            | rustix::pty::OpenptFlags::CLOEXEC,
    )?;
    if rows > 0 && columns > 0 {
        let size =
            rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&slave, size)?;
    }
    rustix::fs::fchown(&slave, Some(rustix::fs::Uid::from_raw(uid)), None)?;
    if console {
        mounts.bind_console(slave.as_fd())?;
    }
    let _ = rustix::process::setsid();
    rustix::process::ioctl_tiocsctty(&slave)?;
    for number in 0..3 {
        // SAFETY: as for the standard streams at the start.
        check(unsafe { libc::dup2(slave.as_raw_fd(), number) })?;
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = [master.as_fd()];
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    let bytes = [TERMINAL, 0, 0, 0, 0, 0, 0, 0];
    rustix::net::sendmsg(report, &[io::IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL)
        .map(drop)
}

//! The two system calls that have no safe wrapper elsewhere.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

/// `SOL_NETLINK` options, linux/netlink.h.
#[derive(Debug, Clone, Copy)]
pub(crate) enum NetlinkOption {
    /// Errors carry the kernel's words.
    ExtendedAck = 11,
    /// Errors do not repeat the request.
    CapAck = 10,
}

/// Turns a netlink socket option on.
pub(crate) fn enable(socket: impl AsFd, option: NetlinkOption) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open for the borrow, and the value is a C int
    // that lives through the call, with its own size given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_NETLINK,
            option as libc::c_int,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Runs `work` on a thread of its own inside the network namespace that `path`
/// names. What it returns may leave: sockets stay in the namespace that they
/// were opened in.
pub(crate) fn in_netns<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
    let namespace = File::open(path)?;
    on_own_thread(move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(work())
    })
}

/// Makes a network namespace and returns the file that holds it.
pub(crate) fn new_netns() -> io::Result<File> {
    on_own_thread(|| {
        // SAFETY: only the network namespace changes, of a thread that was
        // started for this and does nothing else; no memory is concerned.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET)? };
        File::open("/proc/thread-self/ns/net")
    })
}

fn on_own_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let started = std::thread::Builder::new().name("netns".into()).spawn_scoped(scope, work)?;
        match started.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

//! The system calls that have no safe wrapper elsewhere.

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

/// Makes a descriptor of /dev/net/tun the other end of a link, which is made
/// where there is none of that name and stays when the descriptor goes.
pub(crate) fn attach_tun(tun: impl AsFd, name: &str) -> io::Result<()> {
    /// No `ifreq` is longer.
    const REQUEST_BYTES: usize = 64;
    if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains('\0') {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a link has 1 to 15 bytes"));
    }
    // Packets without a header in front.
    let flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    let mut request = [0_u8; REQUEST_BYTES];
    request[..name.len()].copy_from_slice(name.as_bytes());
    request[libc::IFNAMSIZ..libc::IFNAMSIZ + 2].copy_from_slice(&flags.to_ne_bytes());
    let descriptor = tun.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open for the borrow; the kernel copies an `ifreq`
    // in and out, for which there is room and which lives through the call.
    if unsafe { libc::ioctl(descriptor, libc::TUNSETIFF, request.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open for the borrow, and the argument is a number.
    if unsafe { libc::ioctl(descriptor, libc::TUNSETPERSIST, 1 as libc::c_ulong) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Gives a socket a filter in classic BPF, which the kernel checks.
pub(crate) fn attach_filter(socket: impl AsFd, program: &[libc::sock_filter]) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    // The kernel only reads it.
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: the descriptor is open for the borrow; the value is a `sock_fprog` of the
    // size given, which names as many instructions as it says, and both live through
    // the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of_val(&program) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Binds to an address that is given in the kernel's own form.
pub(crate) fn bind_named(socket: impl AsFd, name: &[u8]) -> io::Result<()> {
    let length = name.len() as libc::socklen_t;
    // SAFETY: the descriptor is open for the borrow; the kernel copies as many bytes
    // of the name as it has, and judges them.
    let result = unsafe { libc::bind(socket.as_fd().as_raw_fd(), name.as_ptr().cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends to an address that is given in the kernel's own form.
pub(crate) fn send_named(socket: impl AsFd, bytes: &[u8], name: &[u8]) -> io::Result<()> {
    let length = name.len() as libc::socklen_t;
    // SAFETY: the descriptor is open for the borrow; the kernel reads both slices as
    // long as they are, and judges the name.
    let sent = unsafe {
        libc::sendto(
            socket.as_fd().as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            0,
            name.as_ptr().cast(),
            length,
        )
    };
    if sent >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Receives, and puts the sender's address into `name` in the kernel's own form.
pub(crate) fn receive_named(
    socket: impl AsFd,
    bytes: &mut [u8],
    name: &mut [u8],
) -> io::Result<usize> {
    let mut length = name.len() as libc::socklen_t;
    // SAFETY: the descriptor is open for the borrow; the kernel writes no more into
    // either slice than the lengths that are given with them.
    let received = unsafe {
        libc::recvfrom(
            socket.as_fd().as_raw_fd(),
            bytes.as_mut_ptr().cast(),
            bytes.len(),
            0,
            name.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    usize::try_from(received).map_err(|_| io::Error::last_os_error())
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

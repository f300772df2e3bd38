//! The steps of a child that make it who it will be: limits, directory, user,
//! capabilities, filter.

use std::{ffi::CStr, os::fd::BorrowedFd, ptr};

use rustix::io::Errno;

use crate::child::check;

pub(crate) fn set_limit(resource: u32, soft: u64, hard: u64) -> rustix::io::Result<()> {
    // `struct rlimit64`.
    let limit = [soft, hard];
    // SAFETY: the kernel reads two numbers that live across the call.
    check(unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource, &raw const limit, ptr::null_mut::<u64>())
    })
}

/// Changes the directory and refuses one outside of the root (CVE-2024-21626:
/// a path such as `/proc/self/fd/7` that leads to the host).
pub(crate) fn chdir_inside(path: &CStr) -> rustix::io::Result<()> {
    rustix::process::chdir(path)?;
    let mut buffer = [0u8; 4096];
    // SAFETY: the kernel writes at most the length given into the buffer.
    check(unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) })?;
    if buffer[0] == b'/' { Ok(()) } else { Err(Errno::XDEV) }
}

pub(crate) fn bounding_set(keep: u64) -> rustix::io::Result<()> {
    // prctl(2) takes longs: a wider number would not be where the C library looks for it.
    for capability in 0..64 as libc::c_ulong {
        // SAFETY: asks about a number, touches no memory of ours.
        let held = unsafe { libc::prctl(libc::PR_CAPBSET_READ, capability, 0, 0, 0) };
        if held < 0 {
            break;
        }
        if held == 1 && keep & (1_u64 << capability) == 0 {
            // SAFETY: drops a number, touches no memory of ours.
            check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) })?;
        }
    }
    Ok(())
}

/// Gives pipes among the standard streams to a user.
pub(crate) fn own_streams(uid: u32) -> rustix::io::Result<()> {
    for number in 0..3 {
        // SAFETY: standard streams are open: `standard_streams` put them there.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        // Own pipes only: a stream may also be a device of the host.
        if let Ok(stat) = rustix::fs::fstat(fd)
            && rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Fifo
            && stat.st_uid != uid
        {
            rustix::fs::fchown(fd, Some(rustix::fs::Uid::from_raw(uid)), None)?;
        }
    }
    Ok(())
}

pub(crate) fn identity(uid: u32, gid: u32, groups: &[u32]) -> rustix::io::Result<()> {
    own_streams(uid)?;
    // SAFETY: plain numbers and a slice that outlives the call; the raw calls
    // act on this thread, which is the only one.
    unsafe {
        check(libc::syscall(SYS_SETGROUPS, groups.len(), groups.as_ptr()))?;
        check(libc::syscall(SYS_SETRESGID, gid, gid, gid))?;
        check(libc::syscall(SYS_SETRESUID, uid, uid, uid))
    }
}

// 32-bit ARM and x86 keep 16-bit IDs under the plain names.
#[cfg(not(any(target_arch = "arm", target_arch = "x86")))]
use libc::{
    SYS_setgroups as SYS_SETGROUPS, SYS_setresgid as SYS_SETRESGID, SYS_setresuid as SYS_SETRESUID,
};
#[cfg(any(target_arch = "arm", target_arch = "x86"))]
use libc::{
    SYS_setgroups32 as SYS_SETGROUPS, SYS_setresgid32 as SYS_SETRESGID,
    SYS_setresuid32 as SYS_SETRESUID,
};

pub(crate) fn capabilities(set: u64) -> rustix::io::Result<()> {
    let set = rustix::thread::CapabilitySet::from_bits_retain(set);
    rustix::thread::set_capabilities(
        None,
        rustix::thread::CapabilitySets {
            effective: set,
            permitted: set,
            inheritable: rustix::thread::CapabilitySet::empty(),
        },
    )
}

pub(crate) fn seccomp(program: &[u8]) -> rustix::io::Result<()> {
    let filter = libc::sock_fprog {
        len: (program.len() / size_of::<libc::sock_filter>()) as u16,
        filter: program.as_ptr().cast_mut().cast(),
    };
    const SECCOMP_SET_MODE_FILTER: libc::c_ulong = 1;
    const NO_FLAGS: libc::c_ulong = 0;
    // SAFETY: the kernel copies `len` instructions from a slice that outlives
    // the call, byte by byte, so alignment does not matter, and verifies them.
    check(unsafe {
        libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, NO_FLAGS, &raw const filter)
    })
}

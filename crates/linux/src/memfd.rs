//! Programs that live in memory, where nobody can write them.

use std::{io, os::fd::OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags};

/// Puts a program into a sealed memfd, to be executed as `/proc/self/fd/<n>`
/// or by `execveat`. No process, root in a container included, can change it
/// (CVE-2019-5736 needs a writable `/proc/<pid>/exe`).
///
/// # Errors
/// What the kernel says, mostly about memory.
pub fn sealed(name: &str, program: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // MFD_EXEC (Linux 6.3) says that this one is meant to be executed, for
    // kernels with vm.memfd_noexec; older ones refuse the unknown flag.
    let fd = rustix::fs::memfd_create(name, flags | MemfdFlags::EXEC)
        .or_else(|_| rustix::fs::memfd_create(name, flags))?;
    let mut file = std::fs::File::from(fd);
    io::Write::write_all(&mut file, program)?;
    let fd = OwnedFd::from(file);
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&fd, seals)?;
    Ok(fd)
}

//! Processes: pidfds, signals, waiting, and what a shim does to itself.

use std::{
    fs::File,
    io::{self, Read},
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
};

use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};

use crate::child::check;

/// Opens a pidfd. The caller must know that the pid is still the process it
/// means, by being its parent or by asking it something afterwards.
///
/// # Errors
/// `NotFound` (ESRCH) when there is no such process.
pub fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    Ok(rustix::process::pidfd_open(raw(pid)?, PidfdFlags::NONBLOCK)?)
}

/// Sends a signal by pidfd; one to a process that has ended is fine.
///
/// # Errors
/// `InvalidInput` for a number that is no signal.
pub fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: takes a descriptor, a number and a null pointer.
    let answer = check(unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, ptr::null::<()>(), 0)
    });
    match answer {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Kills a process by number.
///
/// # Errors
/// What kill(2) says.
pub fn kill(pid: u32) -> io::Result<()> {
    Ok(rustix::process::kill_process(raw(pid)?, Signal::KILL)?)
}

/// Waits until the processes behind pidfds have ended, `timeout_ms` at most.
/// Answers whether all have.
///
/// # Errors
/// What poll(2) says.
pub fn wait_ended(pidfds: &[OwnedFd], timeout_ms: u64) -> io::Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let deadline = std::time::Instant::now() + std::time::Duration::from_millis(timeout_ms);
    let mut waiting: Vec<_> = pidfds.iter().map(AsFd::as_fd).collect();
    while !waiting.is_empty() {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        let mut polls: Vec<_> = waiting.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        let left =
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        if poll(&mut polls, Some(&left))? == 0 {
            return Ok(false);
        }
        let ended: Vec<bool> = polls.iter().map(|p| !p.revents().is_empty()).collect();
        let mut ended = ended.into_iter();
        waiting.retain(|_| !ended.next().unwrap_or(false));
    }
    Ok(true)
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Which child.
    pub pid: i32,
    /// Exit code; 128 + signal where a signal ended it.
    pub code: i32,
    /// The signal, 0 for none.
    pub signal: i32,
}

/// Reaps one child that has ended, if there is one.
///
/// # Errors
/// What wait(2) says, except that there are no children.
pub fn reap() -> io::Result<Option<Ended>> {
    match rustix::process::wait(WaitOptions::NOHANG) {
        Ok(Some((pid, status))) => {
            let signal = status.terminating_signal().unwrap_or(0);
            let code = status.exit_status().unwrap_or(128 + signal);
            Ok(Some(Ended { pid: pid.as_raw_nonzero().get(), code, signal }))
        }
        Ok(None) | Err(rustix::io::Errno::CHILD) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Orphans among this process's descendants become its children.
///
/// # Errors
/// What prctl(2) says.
pub fn become_subreaper() -> io::Result<()> {
    // SAFETY: sets a flag of this process.
    Ok(check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) })?)
}

/// Closes this process, and its children until they execute, to ptrace and to
/// `/proc/<pid>` of others: a child that has entered a container must not be
/// looked into from there.
///
/// # Errors
/// What prctl(2) says.
pub fn become_undumpable() -> io::Result<()> {
    // SAFETY: clears a flag of this process.
    Ok(check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) })?)
}

/// The name in `ps` and `/proc/<pid>/comm`, at most 15 bytes.
///
/// # Errors
/// What prctl(2) says.
pub fn set_name(name: &std::ffi::CStr) -> io::Result<()> {
    Ok(rustix::thread::set_name(name)?)
}

/// What [`detach`] made of the caller.
pub enum Detached {
    /// The first process: wait for a byte from the second, then exit.
    Starter(File),
    /// The second, in a session of its own, child of nobody in particular:
    /// write a byte when ready to serve.
    Served(File),
}

/// Forks once so that the process that stays has no parent that must reap it.
/// The caller must be single-threaded.
///
/// # Errors
/// What fork(2), pipe(2) or setsid(2) say.
pub fn detach() -> io::Result<Detached> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // SAFETY: single-threaded by contract, so the child's copy is consistent.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            drop(reader);
            rustix::process::setsid()?;
            Ok(Detached::Served(writer.into()))
        }
        _ => Ok(Detached::Starter(reader.into())),
    }
}

/// Signals as bytes to read: blocks them and opens a signalfd.
#[derive(Debug)]
pub struct SignalFile(File);

impl SignalFile {
    /// For the given signals.
    ///
    /// # Errors
    /// What sigprocmask(2) and signalfd(2) say.
    pub fn new(signals: &[i32]) -> io::Result<Self> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: the set is initialised by `sigemptyset` before any other use;
        // the descriptor is the kernel's fresh one.
        let fd = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for signal in signals {
                libc::sigaddset(set.as_mut_ptr(), *signal);
            }
            check(libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut()))?;
            let fd = libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
            check(fd)?;
            OwnedFd::from_raw_fd(fd)
        };
        Ok(Self(fd.into()))
    }

    /// Takes the next signal's number, if one is pending.
    ///
    /// # Errors
    /// What read(2) says.
    pub fn take(&mut self) -> io::Result<Option<i32>> {
        let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
        match self.0.read(&mut info) {
            Ok(n) if n == info.len() => {
                Ok(Some(i32::from_ne_bytes([info[0], info[1], info[2], info[3]])))
            }
            Ok(_) => Ok(None),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for SignalFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn raw(pid: u32) -> io::Result<Pid> {
    i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a process ID"))
}

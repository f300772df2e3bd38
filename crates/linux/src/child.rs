//! Clones a child that runs a prepared list of [`Step`]s.
//!
//! Between clone and exec the child makes system calls and nothing else: no
//! allocation, no lock, no panic. What it needs was made before, and how it
//! went comes back over a socket: warnings, the terminal's master, and the step
//! and errno that ended it. End of file without an error means that the program
//! was executed.

use std::{
    ffi::{CStr, CString, c_char},
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    mount::MountAttrFlags,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags,
        SocketFlags, SocketType,
    },
};

use crate::{
    child_identity,
    child_mounts::Mounts,
    child_overlay, child_terminal,
    steps::{HELD_MAX, Step},
};

/// How to clone.
pub struct Spawn<'a> {
    /// What the child does; the last one is [`Step::Exec`] or [`Step::Init`].
    pub steps: &'a [Step],
    /// Namespaces to make by the clone itself, `CLONE_NEW*` (mount and pid).
    pub new_namespaces: u32,
    /// Be born in this PID namespace (`/proc/<pid>/ns/pid`).
    pub pid_namespace: Option<BorrowedFd<'a>>,
    /// The process whose namespaces [`Step::EnterTarget`] joins.
    pub target: Option<BorrowedFd<'a>>,
    /// Standard streams; a [`Step::Terminal`] replaces them.
    pub stdio: [BorrowedFd<'a>; 3],
}

/// A child on its way to exec.
#[derive(Debug)]
pub struct Child {
    /// As this process sees it.
    pub pid: i32,
    /// Refers to the child for good.
    pub pidfd: OwnedFd,
    /// Where [`Report`]s come from.
    pub report: OwnedFd,
}

/// What a child tells on its way.
#[derive(Debug)]
pub enum Report {
    /// A step failed that may fail.
    Warning {
        /// Index of the step.
        step: usize,
        /// Why.
        error: io::Error,
    },
    /// A step failed; the child exits.
    Failed {
        /// Index of the step.
        step: usize,
        /// Why.
        error: io::Error,
    },
    /// The master of the terminal.
    Terminal(OwnedFd),
    /// The program was executed (or the child died; its exit tells).
    Executed,
}

const WARNING: u8 = 1;
const FAILED: u8 = 2;
pub(crate) const TERMINAL: u8 = 3;
const REPORT_LEN: usize = 8;

/// Clones a child. The caller must be single-threaded: the child lives on a
/// copy of this process until it executes.
///
/// # Errors
/// The clone's or a preparation's error. What the child meets comes by `report`.
pub fn spawn(spawn: &Spawn<'_>) -> io::Result<Child> {
    let (argv, envp) = match spawn.steps.last() {
        Some(Step::Exec { args, env, .. }) => (pointers(args), pointers(env)),
        Some(Step::Init) => (Vec::new(), Vec::new()),
        _ => {
            let text = "the last step is not an exec";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
    };
    let (report, to_spawner) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // A PID namespace is entered by being born in it, so this process asks for
    // its next child to be there, and takes that back afterwards.
    let home = match spawn.pid_namespace {
        Some(namespace) => {
            let home = rustix::fs::open("/proc/self/ns/pid", OFlags::CLOEXEC, Mode::empty())?;
            setns(namespace, libc::CLONE_NEWPID as u32)?;
            Some(home)
        }
        None => None,
    };
    let mut pidfd: i32 = -1;
    let mut args = CloneArgs {
        flags: u64::from(spawn.new_namespaces) | libc::CLONE_PIDFD as u64,
        pidfd: &raw mut pidfd as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    // SAFETY: the arguments describe a plain fork (no shared memory, no new
    // stack) with a valid place for the pidfd; the child only makes system calls.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    let clone_error = io::Error::last_os_error();
    if pid == 0 {
        let mut context = Context {
            report: to_spawner.as_fd(),
            target: spawn.target,
            mounts: Mounts::new(),
            argv: &argv,
            envp: &envp,
        };
        context.run(spawn);
    }
    if let Some(home) = home {
        setns(home.as_fd(), libc::CLONE_NEWPID as u32)?;
    }
    if pid < 0 {
        return Err(clone_error);
    }
    // SAFETY: the kernel just made this descriptor for us.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Child { pid: pid as i32, pidfd, report })
}

/// Reads one report.
///
/// # Errors
/// `WouldBlock` on a non-blocking socket, or what the socket says.
pub fn receive_report(report: BorrowedFd<'_>) -> io::Result<Report> {
    let mut bytes = [0u8; REPORT_LEN];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(
        report,
        &mut [io::IoSliceMut::new(&mut bytes)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    if received.bytes < REPORT_LEN {
        return Ok(Report::Executed);
    }
    let step = usize::from(u16::from_le_bytes([bytes[2], bytes[3]]));
    let error =
        io::Error::from_raw_os_error(i32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]));
    match bytes[0] {
        WARNING => Ok(Report::Warning { step, error }),
        FAILED => Ok(Report::Failed { step, error }),
        _ => {
            for message in ancillary.drain() {
                if let RecvAncillaryMessage::ScmRights(mut fds) = message
                    && let Some(fd) = fds.next()
                {
                    return Ok(Report::Terminal(fd));
                }
            }
            Err(io::Error::other("a terminal was announced and did not come"))
        }
    }
}

/// Joins a namespace of the calling thread (or of its next child).
pub(crate) fn setns(fd: BorrowedFd<'_>, kinds: u32) -> rustix::io::Result<()> {
    // SAFETY: takes a descriptor and a mask, touches no memory of ours.
    check(unsafe { libc::setns(fd.as_raw_fd(), kinds as i32) })
}

pub(crate) fn check(answer: impl Into<i64>) -> rustix::io::Result<()> {
    if answer.into() < 0 {
        // SAFETY: errno of this thread, just set by the failing call.
        Err(Errno::from_raw_os_error(unsafe { *libc::__errno_location() }))
    } else {
        Ok(())
    }
}

/// `struct clone_args` (clone3(2)), first version plus set_tid.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
}

struct Context<'a> {
    report: BorrowedFd<'a>,
    target: Option<BorrowedFd<'a>>,
    mounts: Mounts,
    argv: &'a [*const c_char],
    envp: &'a [*const c_char],
}

impl Context<'_> {
    fn run(&mut self, spawn: &Spawn<'_>) -> ! {
        reset_signals();
        if let Err(error) = self.standard_streams(spawn) {
            self.tell(FAILED, 0, error);
            exit();
        }
        for (index, step) in spawn.steps.iter().enumerate() {
            match self.step(step) {
                Ok(()) => {}
                Err(error) if may_fail(step) => self.tell(WARNING, index, error),
                Err(error) => {
                    self.tell(FAILED, index, error);
                    exit();
                }
            }
        }
        exit()
    }

    fn standard_streams(&self, spawn: &Spawn<'_>) -> rustix::io::Result<()> {
        for (number, fd) in (0i32..).zip(spawn.stdio) {
            // SAFETY: duplicates a descriptor of ours onto a standard stream,
            // which nobody owns in this process after the clone.
            check(unsafe { libc::dup2(fd.as_raw_fd(), number) })?;
        }
        Ok(())
    }

    fn tell(&self, kind: u8, step: usize, error: Errno) {
        let step = (step as u16).to_le_bytes();
        let number = error.raw_os_error().to_le_bytes();
        let bytes = [kind, 0, step[0], step[1], number[0], number[1], number[2], number[3]];
        // Nobody is left to hear that telling failed.
        let _ = rustix::net::send(self.report, &bytes, SendFlags::NOSIGNAL);
    }

    fn step(&mut self, step: &Step) -> rustix::io::Result<()> {
        match step {
            Step::JoinCgroup { entrance } => write_file(entrance, b"0"),
            Step::EnterNamespace { path, kind } => {
                let fd = rustix::fs::open(
                    path.as_c_str(),
                    OFlags::RDONLY | OFlags::CLOEXEC,
                    Mode::empty(),
                )?;
                setns(fd.as_fd(), *kind)
            }
            Step::EnterTarget { kinds } => setns(self.target.ok_or(Errno::BADF)?, *kinds),
            // SAFETY: takes a mask, touches no memory of ours.
            Step::Unshare { kinds } => check(unsafe { libc::unshare(*kinds as i32) }),
            Step::WriteFile { path, value, .. } => write_file(path, value),
            Step::HoldTree { source } => self.mounts.hold(source),
            Step::SlaveMounts => self.mounts.slave(),
            Step::Overlay { lower, upper, work, target } => {
                child_overlay::mount(lower, upper, work, target)
            }
            Step::OpenRoot { path } => self.mounts.open_root(path),
            Step::Directory { dest, mode } => self.mounts.directory(dest, *mode),
            Step::MountFs { fstype, dest, follow, options, attributes } => {
                self.mounts.mount_fs(fstype, dest, *follow, options, *attributes)
            }
            Step::Bind { source, dest, recursive, attributes, propagation } => {
                self.mounts.bind(source, dest, *recursive, *attributes, *propagation, 0)
            }
            Step::BindReadOnlyTop { source, dest, propagation } => {
                let read_only = MountAttrFlags::MOUNT_ATTR_RDONLY.bits().into();
                self.mounts.bind(source, dest, true, 0, *propagation, read_only)
            }
            Step::Symlink { target, dest } => self.mounts.symlink(target, dest),
            Step::Device { dest, mode, major, minor } => {
                self.mounts.device(dest, *mode, *major, *minor)
            }
            Step::Mask { dest } => self.mounts.mask(dest),
            Step::ReadOnlyPath { dest } => self.mounts.read_only_path(dest),
            Step::ReadOnlyMount { dest } => self.mounts.read_only_mount(dest),
            Step::Pivot => self.mounts.pivot(),
            Step::Rlimit { resource, soft, hard } => {
                child_identity::set_limit(*resource, *soft, *hard)
            }
            Step::Terminal { uid, rows, columns, console } => {
                child_terminal::open(self.report, &self.mounts, *uid, (*rows, *columns), *console)
            }
            Step::NewSession => rustix::process::setsid().map(drop),
            Step::CloseFiles => self.close_files(),
            Step::Chdir { path } => child_identity::chdir_inside(path),
            Step::BoundingSet { keep } => child_identity::bounding_set(*keep),
            Step::Identity { uid, gid, groups } => child_identity::identity(*uid, *gid, groups),
            Step::Capabilities { set } => child_identity::capabilities(*set),
            Step::NoNewPrivileges => rustix::thread::set_no_new_privs(true),
            Step::Seccomp { program } => child_identity::seccomp(program),
            Step::Exec { programs, .. } => Err(self.exec(programs)),
            Step::Init => self.init(),
            Step::UseIds { userns } => self.mounts.use_ids(userns),
            Step::MapTree { path } => self.mounts.map_tree(path),
            Step::OwnStreams { uid } => child_identity::own_streams(*uid),
            Step::EnterUser => setns(self.mounts.userns()?, libc::CLONE_NEWUSER as u32),
        }
    }

    fn close_files(&mut self) -> rustix::io::Result<()> {
        self.mounts.forget_files();
        let keep = self.report.as_raw_fd() as libc::c_uint;
        for (first, last) in [(3, keep.wrapping_sub(1)), (keep + 1, libc::c_uint::MAX)] {
            if first > last || last < 3 {
                continue;
            }
            // SAFETY: closes descriptors that this process uses no more; those
            // owned by values of the parent's copy are never touched again.
            check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
        }
        Ok(())
    }

    /// Never returns. The kernel reaps what it ignores, and a namespace's first
    /// process gets no signal that it has no handler for.
    fn init(&self) -> ! {
        // SAFETY: a name of at most 15 bytes, a disposition and a descriptor
        // that nobody uses after this; the parent reads its end as success.
        unsafe {
            libc::prctl(libc::PR_SET_NAME, c"pause".as_ptr());
            libc::signal(libc::SIGCHLD, libc::SIG_IGN);
            libc::close(self.report.as_raw_fd());
            loop {
                libc::pause();
            }
        }
    }

    /// Tries each path like `execvp`, and answers why none worked.
    fn exec(&self, programs: &[CString]) -> Errno {
        let mut answer = Errno::NOENT;
        for program in programs {
            // SAFETY: the arrays end in null and point to strings that outlive
            // the call; only failure returns.
            unsafe { libc::execve(program.as_ptr(), self.argv.as_ptr(), self.envp.as_ptr()) };
            // SAFETY: errno of this thread, just set by the failing call.
            match Errno::from_raw_os_error(unsafe { *libc::__errno_location() }) {
                Errno::NOENT | Errno::NOTDIR => {}
                Errno::ACCESS => answer = Errno::ACCESS,
                error => return error,
            }
        }
        answer
    }
}

fn may_fail(step: &Step) -> bool {
    matches!(step, Step::WriteFile { tolerate: true, .. })
}

fn exit() -> ! {
    // SAFETY: ends the process without running anything of the parent's copy.
    unsafe { libc::_exit(125) }
}

/// Gives the program the signal state that every program expects: nothing
/// blocked, nothing ignored (Rust programs ignore SIGPIPE).
fn reset_signals() {
    // SAFETY: sets default dispositions and an empty mask; the set is made by
    // `sigemptyset` before use. Failure for SIGKILL and SIGSTOP is expected.
    unsafe {
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, set.as_ptr(), ptr::null_mut());
    }
}

fn write_file(path: &CStr, value: &[u8]) -> rustix::io::Result<()> {
    let fd = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&fd, value).map(drop)
}

const _: () = assert!(HELD_MAX <= 256);

//! One container: its process, its streams, its end.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use linux::{
    child::{Child, Spawn},
    process::Ended,
};
use node_shim::protocol::{Exit, Info, Start};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::log_file::{LogFile, now_ns};

/// How many bytes of input may wait for a program that does not read.
pub(crate) const STDIN_QUEUE_MAX: usize = 64 * 1024;

/// What a container is doing.
pub(crate) enum Phase {
    /// Its steps run; who asked waits on this connection for this request.
    Starting { connection: u32, request: u32 },
    /// Its program runs.
    Running,
    /// Its start failed and was told; only the process is still to be reaped.
    Failed,
    /// It ended and that is on disk.
    Exited(Exit),
}

/// One container.
pub(crate) struct Container {
    pub(crate) start: Start,
    pub(crate) phase: Phase,
    pub(crate) child: Child,
    pub(crate) started_ns: u64,
    pub(crate) warnings: Vec<(u32, i32)>,
    /// Standard output (or the terminal) and standard error; `None` at the end.
    pub(crate) outputs: [Option<File>; 2],
    pub(crate) stdin: Option<File>,
    pub(crate) stdin_queue: VecDeque<u8>,
    /// Standard input is to be closed when the queue is empty.
    pub(crate) stdin_closing: bool,
    pub(crate) log: LogFile,
}

/// The parent's ends of three streams and the child's.
pub(crate) struct Streams {
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
    pub(crate) child: [OwnedFd; 3],
}

impl Streams {
    /// Pipes where asked for, `/dev/null` elsewhere.
    pub(crate) fn new(stdin: bool, stdout: bool, stderr: bool) -> io::Result<Self> {
        let (stdin, reader) = pair(stdin, true)?;
        let (stdout, out_writer) = pair(stdout, false)?;
        let (stderr, err_writer) = pair(stderr, false)?;
        Ok(Self { stdin, stdout, stderr, child: [reader, out_writer, err_writer] })
    }
}

/// Our end, if there is one, and the child's.
fn pair(wanted: bool, we_write: bool) -> io::Result<(Option<OwnedFd>, OwnedFd)> {
    if !wanted {
        return Ok((None, OpenOptions::new().read(true).write(true).open("/dev/null")?.into()));
    }
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok(if we_write { (Some(writer), reader) } else { (Some(reader), writer) })
}

impl Container {
    /// Clones the first process. Its report comes later.
    /// Born in a PID namespace that is there, where one is given.
    pub(crate) fn start(
        start: Start,
        connection: u32,
        request: u32,
        pid_namespace: Option<BorrowedFd<'_>>,
    ) -> io::Result<Self> {
        let log =
            LogFile::open(Path::new(&start.log_path), start.log_size_max, start.log_files_max)?;
        let piped = !start.tty;
        let streams = Streams::new(piped && start.stdin, piped, piped)?;
        let child = linux::child::spawn(&Spawn {
            steps: &start.steps,
            new_namespaces: start.new_namespaces,
            pid_namespace,
            target: None,
            stdio: [streams.child[0].as_fd(), streams.child[1].as_fd(), streams.child[2].as_fd()],
        })?;
        rustix::io::ioctl_fionbio(&child.report, true)?;
        let nonblocking = |fd: Option<OwnedFd>| -> io::Result<Option<File>> {
            fd.map(|fd| {
                rustix::io::ioctl_fionbio(&fd, true)?;
                Ok(File::from(fd))
            })
            .transpose()
        };
        Ok(Self {
            // The steps have served; they may be long.
            start: Start { steps: Vec::new(), ..start },
            phase: Phase::Starting { connection, request },
            child,
            started_ns: 0,
            warnings: Vec::new(),
            outputs: [nonblocking(streams.stdout)?, nonblocking(streams.stderr)?],
            stdin: nonblocking(streams.stdin)?,
            stdin_queue: VecDeque::new(),
            stdin_closing: false,
            log,
        })
    }

    /// Takes the terminal that the child opened.
    pub(crate) fn set_terminal(&mut self, master: OwnedFd) -> io::Result<()> {
        rustix::io::ioctl_fionbio(&master, true)?;
        let master = File::from(master);
        if self.start.stdin {
            self.stdin = Some(master.try_clone()?);
        }
        self.outputs[0] = Some(master);
        Ok(())
    }

    /// Reads once from a stream into `buffer`. `None` when nothing is there
    /// now; 0 at the end.
    pub(crate) fn read(&mut self, stream: usize, buffer: &mut [u8]) -> Option<usize> {
        let file = self.outputs[stream].as_mut()?;
        let len = match file.read(buffer) {
            Ok(len) => len,
            Err(e)
                if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) =>
            {
                return None;
            }
            // A terminal whose last user is gone answers EIO.
            Err(_) => 0,
        };
        if len == 0 {
            self.log.finish(stream);
        } else {
            self.log.write(stream, &buffer[..len]);
        }
        Some(len)
    }

    /// Writes queued input; answers whether some is still waiting.
    pub(crate) fn flush_stdin(&mut self) -> bool {
        let Some(stdin) = &mut self.stdin else {
            self.stdin_queue.clear();
            return false;
        };
        while !self.stdin_queue.is_empty() {
            match stdin.write(self.stdin_queue.as_slices().0) {
                Ok(len) => drop(self.stdin_queue.drain(..len)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return true,
                // Nobody reads any more.
                Err(_) => {
                    self.stdin_queue.clear();
                    self.stdin_closing = true;
                }
            }
        }
        false
    }

    pub(crate) fn info(&self) -> Info {
        let exit = match self.phase {
            Phase::Exited(exit) => Some(exit),
            _ => None,
        };
        Info {
            id: self.start.id.clone(),
            pid: self.child.pid as u32,
            started_ns: self.started_ns,
            exit,
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running)
    }

    /// Whether its end was seen: its process's number says nothing any more.
    pub(crate) fn is_reaped(&self) -> bool {
        matches!(self.phase, Phase::Exited(_))
    }

    /// Records the end on disk, then in memory.
    pub(crate) fn end(&mut self, ended: Ended) -> Exit {
        let oom = ended.code == 137 && oom_kills(&self.start.oom_path) > 0;
        let exit = Exit {
            code: ended.code,
            signal: ended.signal,
            oom,
            started_ns: self.started_ns,
            finished_ns: now_ns(),
        };
        if let Err(error) = record(Path::new(&self.start.exit_path), &exit) {
            eprintln!("node-shim: record exit {}: {error}", self.start.exit_path);
        }
        self.phase = Phase::Exited(exit);
        exit
    }
}

/// Writes a file that is there completely or, cut short by a power cut, as good as not at
/// all. The name comes before the disk is waited for, so that one wait is for both: file
/// systems with a journal write a file's last name with it.
fn record(path: &Path, exit: &Exit) -> io::Result<()> {
    let unfinished = PathBuf::from(format!("{}.new", path.display()));
    let mut file = File::create(&unfinished)?;
    file.write_all(exit.to_record().as_bytes())?;
    fs::rename(&unfinished, path)?;
    file.sync_all()
}

/// The count of `oom_kill` in `memory.oom_control` (v1) or `memory.events` (v2).
fn oom_kills(path: &str) -> u64 {
    let Ok(text) = fs::read_to_string(path) else { return 0 };
    text.lines().find_map(|l| l.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
}

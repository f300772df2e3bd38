//! Messages on a shim's socket.
//!
//! A frame is a `u32` length, a `u32` request number and a message. The first
//! frame each way is a [`Hello`]. On a control connection requests may overlap:
//! an answer carries its request's number, an event number 0. A connection that
//! asks for [`Request::Exec`] or [`Request::Attach`] belongs to that session
//! from then on.

use linux::steps::Step;

use crate::{
    wire::{Bytes, Malformed, Wire},
    wire_enum, wire_struct,
};

/// The version of everything in this crate. 2 brought [`Request::Init`],
/// [`Request::StartBeside`] and the steps of user namespaces; 3 brought
/// [`Step::BindReadOnlyTop`].
pub const VERSION: u8 = 3;

/// The longest frame; a filter of 4096 instructions is 32 KiB.
pub const FRAME_LEN_MAX: usize = 1 << 20;

/// Request number of events.
pub const EVENT: u32 = 0;

/// The first frame each way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// `SKSH`, so that a wrong peer is told apart.
    pub magic: u32,
    /// The highest version that the runtime speaks, and the shim's answer: the
    /// version of this connection.
    pub version: u8,
    /// The shim's process; 0 from the runtime.
    pub pid: u32,
}
wire_struct!(Hello { magic, version, pid });

impl Hello {
    /// `SKSH`.
    pub const MAGIC: u32 = u32::from_be_bytes(*b"SKSH");
}

/// What a shim is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Starts a container; answered by [`Reply::Started`] when its program runs.
    Start(Box<Start>),
    /// Sends a signal to a container's first process.
    Signal {
        /// Which.
        id: String,
        /// Signal number.
        signal: i32,
    },
    /// Forgets an ended container.
    Remove {
        /// Which.
        id: String,
    },
    /// Opens a container's log again at its path.
    ReopenLog {
        /// Which.
        id: String,
    },
    /// Lists containers: [`Reply::Containers`].
    List,
    /// Sends [`Reply::Exited`] for every end from now on, on this connection.
    Subscribe,
    /// Starts a process in a container: [`Reply::ExecStarted`] with descriptors,
    /// then [`Reply::ExecExited`].
    Exec(Box<Exec>),
    /// Joins a container's streams: [`Reply::Output`]s, then its exit.
    Attach(Attach),
    /// Input for an attached container; empty means end of file.
    Stdin {
        /// Data.
        data: Bytes,
    },
    /// New window size of an attached container's terminal.
    Resize {
        /// Height.
        rows: u16,
        /// Width.
        columns: u16,
    },
    /// Signals the process of this exec session.
    SignalExec {
        /// Signal number.
        signal: i32,
    },
    /// Ends the shim; refused while a container runs.
    Shutdown,
    /// Starts the first process of a PID namespace that all containers started
    /// later share. Done already where there is one.
    Init {
        /// What it does; the last is [`Step::Init`].
        steps: Vec<Step>,
    },
    /// [`Request::Start`], in the PID namespace of a container that runs.
    StartBeside {
        /// What to start.
        start: Box<Start>,
        /// Beside which.
        target: String,
    },
}
wire_enum!(Request {
    1 => Start(start),
    2 => Signal { id, signal },
    3 => Remove { id },
    4 => ReopenLog { id },
    5 => List,
    6 => Subscribe,
    7 => Exec(exec),
    8 => Attach(attach),
    9 => Stdin { data },
    10 => Resize { rows, columns },
    11 => SignalExec { signal },
    12 => Shutdown,
    13 => Init { steps },
    14 => StartBeside { start, target },
});

/// A container to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Its name from now on.
    pub id: String,
    /// Namespaces made by the clone.
    pub new_namespaces: u32,
    /// What its first process does.
    pub steps: Vec<Step>,
    /// Where its log goes.
    pub log_path: String,
    /// The log is rotated beyond this many bytes.
    pub log_size_max: u64,
    /// Rotated files that are kept besides the current one.
    pub log_files_max: u32,
    /// Where its exit is recorded.
    pub exit_path: String,
    /// File with the cgroup's `oom_kill` count; empty for none.
    pub oom_path: String,
    /// The steps open a terminal.
    pub tty: bool,
    /// Keep standard input open.
    pub stdin: bool,
    /// Close it when the first attached client leaves.
    pub stdin_once: bool,
}
wire_struct!(Start {
    id,
    new_namespaces,
    steps,
    log_path,
    log_size_max,
    log_files_max,
    exit_path,
    oom_path,
    tty,
    stdin,
    stdin_once,
});

/// A process to start in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// Which container.
    pub id: String,
    /// What the process does.
    pub steps: Vec<Step>,
    /// The steps open a terminal; its master is the only descriptor answered.
    pub tty: bool,
    /// Answer a pipe's write end.
    pub stdin: bool,
    /// Answer a pipe's read end.
    pub stdout: bool,
    /// Answer a pipe's read end.
    pub stderr: bool,
}
wire_struct!(Exec { id, steps, tty, stdin, stdout, stderr });

/// Streams to join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attach {
    /// Which container.
    pub id: String,
    /// Will send input.
    pub stdin: bool,
    /// Wants output.
    pub stdout: bool,
    /// Wants errors.
    pub stderr: bool,
}
wire_struct!(Attach { id, stdin, stdout, stderr });

/// What a shim answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Done.
    Done,
    /// Not done.
    Failed(Failure),
    /// The container's program runs.
    Started {
        /// Its first process.
        pid: u32,
        /// Nanoseconds since 1970.
        started_ns: u64,
        /// Steps that failed and may: index and error number.
        warnings: Vec<(u32, i32)>,
    },
    /// Everything the shim knows.
    Containers(Vec<Info>),
    /// A container ended and that is on disk.
    Exited {
        /// Which.
        id: String,
        /// How.
        exit: Exit,
    },
    /// The process runs; its descriptors come with this frame.
    ExecStarted,
    /// The process ended.
    ExecExited {
        /// How.
        exit: Exit,
    },
    /// A container's program runs; sent to every subscriber but who asked.
    Running {
        /// Which.
        id: String,
        /// Its first process.
        pid: u32,
        /// Nanoseconds since 1970.
        started_ns: u64,
    },
    /// Output of an attached container.
    Output {
        /// 1 standard output, 2 standard error.
        stream: u8,
        /// Data.
        data: Bytes,
    },
}
wire_enum!(Reply {
    1 => Done,
    2 => Failed(failure),
    3 => Started { pid, started_ns, warnings },
    4 => Containers(containers),
    5 => Exited { id, exit },
    6 => ExecStarted,
    7 => ExecExited { exit },
    8 => Output { stream, data },
    9 => Running { id, pid, started_ns },
});

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which.
    pub kind: FailureKind,
    /// The step or the request.
    pub what: String,
    /// Error number, 0 for none.
    pub errno: i32,
}
wire_struct!(Failure { kind, what, errno });

/// What the runtime distinguishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// No such container, or it has ended.
    NotFound,
    /// The state forbids it (name taken, still running).
    Conflict,
    /// A step; `what` is its index.
    Step,
    /// The shim's own system calls.
    Internal,
}
wire_enum!(FailureKind {
    1 => NotFound,
    2 => Conflict,
    3 => Step,
    4 => Internal,
});

/// One container as a shim knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Which.
    pub id: String,
    /// Its first process.
    pub pid: u32,
    /// When its program was executed, 0 before; nanoseconds since 1970.
    pub started_ns: u64,
    /// How it ended.
    pub exit: Option<Exit>,
}
wire_struct!(Info { id, pid, started_ns, exit });

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Exit code; 128 + signal where a signal ended it.
    pub code: i32,
    /// The signal, 0 for none.
    pub signal: i32,
    /// The kernel killed for memory in its cgroup.
    pub oom: bool,
    /// Nanoseconds since 1970.
    pub started_ns: u64,
    /// Nanoseconds since 1970.
    pub finished_ns: u64,
}
wire_struct!(Exit { code, signal, oom, started_ns, finished_ns });

impl Exit {
    /// The text of an exit file.
    pub fn to_record(&self) -> String {
        let Self { code, signal, oom, started_ns, finished_ns } = self;
        format!("skiff-exit 1 {code} {signal} {} {started_ns} {finished_ns} .\n", u8::from(*oom))
    }

    /// Reads an exit file; `None` for one that is cut short or not understood.
    pub fn from_record(text: &str) -> Option<Self> {
        let mut fields = text.strip_prefix("skiff-exit 1 ")?.strip_suffix(" .\n")?.split(' ');
        let exit = Self {
            code: fields.next()?.parse().ok()?,
            signal: fields.next()?.parse().ok()?,
            oom: fields.next()? == "1",
            started_ns: fields.next()?.parse().ok()?,
            finished_ns: fields.next()?.parse().ok()?,
        };
        fields.next().is_none().then_some(exit)
    }
}

impl<T: Wire> Wire for Box<T> {
    fn put(&self, out: &mut Vec<u8>) {
        T::put(self, out);
    }

    fn take(input: &mut &[u8]) -> Result<Self, Malformed> {
        T::take(input).map(Box::new)
    }
}

/// A frame's bytes.
pub fn frame(number: u32, message: &impl Wire) -> Vec<u8> {
    let mut out = vec![0; 4];
    number.put(&mut out);
    message.put(&mut out);
    let len = (out.len() - 4) as u32;
    out[..4].copy_from_slice(&len.to_le_bytes());
    out
}

/// Takes a whole frame off the front of what was received; `None` when more
/// bytes are needed.
///
/// # Errors
/// When it cannot be one.
pub fn take_frame<T: Wire>(received: &mut Vec<u8>) -> Result<Option<(u32, T)>, Malformed> {
    let Some(head) = received.first_chunk::<4>() else { return Ok(None) };
    let len = u32::from_le_bytes(*head) as usize;
    if len > FRAME_LEN_MAX {
        return Err(Malformed);
    }
    let Some(mut body) = received.get(4..4 + len) else { return Ok(None) };
    let number = u32::take(&mut body)?;
    let message = T::take(&mut body)?;
    if !body.is_empty() {
        return Err(Malformed);
    }
    received.drain(..4 + len);
    Ok(Some((number, message)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn samples() -> Vec<Request> {
        let steps = vec![
            Step::SlaveMounts,
            Step::Bind {
                source: linux::steps::BindSource::Below(c"/a".into(), c"b".into()),
                dest: c"etc/hosts".into(),
                recursive: true,
                attributes: 1,
                propagation: 0,
            },
            Step::Identity { uid: 1, gid: 2, groups: vec![3] },
        ];
        vec![
            Request::List,
            Request::Signal { id: "a".into(), signal: 15 },
            Request::Exec(Box::new(Exec {
                id: "a".into(),
                steps,
                tty: false,
                stdin: true,
                stdout: true,
                stderr: false,
            })),
            Request::Stdin { data: Bytes(vec![1, 2, 3]) },
        ]
    }

    #[test]
    fn frames_come_back() {
        for request in samples() {
            let mut bytes = frame(7, &request);
            let whole = bytes.clone();
            bytes.extend(frame(8, &Request::List));
            assert_eq!(take_frame(&mut bytes), Ok(Some((7, request))));
            assert_eq!(take_frame(&mut bytes), Ok(Some((8, Request::List))));
            for cut in 0..whole.len() {
                assert_eq!(take_frame::<Request>(&mut whole[..cut].to_vec()), Ok(None));
            }
        }
    }

    #[test]
    fn exit_records() {
        let exit = Exit { code: 137, signal: 9, oom: true, started_ns: 1, finished_ns: 2 };
        let text = exit.to_record();
        assert_eq!(Exit::from_record(&text), Some(exit));
        for cut in 0..text.len() {
            assert_eq!(Exit::from_record(&text[..cut]), None);
        }
    }

    proptest! {
        #[test]
        fn outside_bytes_do_not_panic(bytes: Vec<u8>, which in 0usize..4, at: usize, flip: u8) {
            let _ = take_frame::<Request>(&mut bytes.clone());
            let _ = take_frame::<Reply>(&mut bytes.clone());
            let mut bytes = frame(1, &samples()[which]);
            let at = at % bytes.len();
            bytes[at] ^= flip;
            let _ = take_frame::<Request>(&mut bytes);
        }
    }
}

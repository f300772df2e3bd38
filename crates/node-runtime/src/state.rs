//! What the runtime knows and tells.

use std::{fmt, path::PathBuf, time::SystemTime};

pub use linux::{
    cgroup::Stats,
    pressure::{Pressure, Stall},
};

use crate::spec::{ContainerSpec, SandboxSpec};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Takes a string that this runtime handed out earlier.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// 64 hexadecimal digits.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id! {
    /// Names a sandbox, never reused.
    SandboxId
}
id! {
    /// Names one run of a container, never reused (the part after `skiff://`).
    ContainerId
}

/// A pod's sandbox.
#[derive(Debug, Clone)]
pub struct Sandbox {
    /// Its name.
    pub id: SandboxId,
    /// As it was asked for.
    pub spec: SandboxSpec,
    /// Running or not.
    pub state: SandboxState,
    /// Pinned network namespace; `None` with the node's own network.
    pub netns_path: Option<PathBuf>,
    /// The shim; 0 when there is none any more.
    pub shim_pid: u32,
    /// When it was made.
    pub created_at: SystemTime,
    /// Its containers, oldest first.
    pub containers: Vec<Container>,
}

/// Whether containers can be started in a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxState {
    /// The shim serves.
    Ready,
    /// Stopped, or its shim died.
    NotReady,
}

/// One run of a container.
#[derive(Debug, Clone)]
pub struct Container {
    /// Its name.
    pub id: ContainerId,
    /// Where it runs.
    pub sandbox: SandboxId,
    /// As it was asked for.
    pub spec: ContainerSpec,
    /// When it was asked for.
    pub created_at: SystemTime,
    /// How it is.
    pub state: ContainerState,
    /// The log file.
    pub log_path: PathBuf,
    /// What could not be done but did not prevent the start.
    pub warnings: Vec<String>,
}

/// How a container is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerState {
    /// Known, never started (the caller was killed in between).
    Created,
    /// Its program runs.
    Running {
        /// Process ID as the node sees it.
        pid: u32,
        /// When the program was executed.
        started_at: SystemTime,
    },
    /// It ended.
    Exited(ExitStatus),
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitStatus {
    /// Exit code; 128 + signal where a signal ended it.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The kernel killed it for memory.
    pub oom_killed: bool,
    /// Nobody saw the end: its shim died (`ContainerStatusUnknown`, code 137).
    pub unknown: bool,
    /// When the program was executed.
    pub started_at: SystemTime,
    /// When it ended, or was found ended.
    pub finished_at: SystemTime,
}

/// Output of [`crate::Runtime::exec_sync`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutput {
    /// Exit code; 128 + signal where a signal ended it.
    pub code: i32,
    /// First 64 KiB.
    pub stdout: Vec<u8>,
    /// First 64 KiB.
    pub stderr: Vec<u8>,
}

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A container's program runs.
    ContainerStarted {
        /// Where.
        sandbox: SandboxId,
        /// Which.
        container: ContainerId,
    },
    /// A container ended.
    ContainerExited {
        /// Where.
        sandbox: SandboxId,
        /// Which.
        container: ContainerId,
        /// How.
        status: ExitStatus,
    },
    /// A sandbox lost its shim: its containers were killed (an event each) and
    /// a new sandbox is needed.
    ShimDied {
        /// Which.
        sandbox: SandboxId,
    },
}

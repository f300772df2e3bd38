//! Why something was not done. Variants where the caller does something else.

use std::{io, path::PathBuf};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The program is not in the container.
    #[error("{}", not_found(.program))]
    CommandNotFound {
        /// As the user wrote it.
        program: String,
    },
    /// The program or a directory on the way may not be executed.
    #[error("exec: {program:?}: permission denied")]
    PermissionDenied {
        /// As the user wrote it.
        program: String,
    },
    /// Another step of the container's start failed.
    #[error("{step}: {source}")]
    Start {
        /// Which step, with its path.
        step: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A layer of the image is gone from the disk: pull it again.
    #[error("image layer {0} does not exist")]
    LayerMissing(PathBuf),
    /// No memory cgroup: containers cannot be limited. Says what to do.
    #[error("{0}")]
    MemoryCgroupMissing(String),
    /// The specification cannot be run, whatever is tried.
    #[error("{0}")]
    InvalidSpec(String),
    /// This runtime cannot do it (yet).
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    /// No such sandbox.
    #[error("sandbox {0} not found")]
    SandboxNotFound(String),
    /// No such container.
    #[error("container {0} not found")]
    ContainerNotFound(String),
    /// The container has ended or was never started.
    #[error("container {0} is not running")]
    NotRunning(String),
    /// The sandbox's shim is gone.
    #[error("the shim of sandbox {0} is gone")]
    ShimGone(String),
    /// A time limit given by the caller passed.
    #[error("timed out after {0:?}")]
    Timeout(std::time::Duration),
    /// The kernel or the disk said no.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The answer.
        source: io::Error,
    },
    /// Several things failed; everything else was done.
    #[error("{}", .0.join("; "))]
    Several(Vec<String>),
}

/// In the words of runc, which people and scripts know.
fn not_found(program: &str) -> String {
    if program.contains('/') {
        format!("exec: {program:?}: stat {program}: no such file or directory")
    } else {
        format!("exec: {program:?}: executable file not found in $PATH")
    }
}

impl Error {
    /// Wraps an I/O error with what was tried.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// The exit code that a container gets whose start failed this way, containerd's for
    /// all that fails once there is a container; `None` where there was none yet.
    pub fn exit_code(&self) -> Option<i32> {
        let has_container = matches!(
            self,
            Self::CommandNotFound { .. } | Self::PermissionDenied { .. } | Self::Start { .. }
        );
        has_container.then_some(128)
    }
}

use std::io;

/// What went wrong, with the request that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel refused `what`; `message` is its own explanation, when it
    /// gave one (extended acknowledgement).
    #[error("{what}: {errno}{}", if message.is_empty() { String::new() } else { format!(" ({message})") })]
    Refused {
        /// The request, in words and names an operator knows.
        what: String,
        /// The kernel's error number.
        errno: rustix::io::Errno,
        /// The kernel's explanation, often empty.
        message: String,
    },
    /// A system call around the request failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The failure itself.
        source: io::Error,
    },
    /// The kernel's answer could not be understood.
    #[error("{0}: unexpected answer from the kernel")]
    Answer(String),
    /// The caller asked for something that cannot be asked for.
    #[error("{0}")]
    Invalid(String),
}

impl Error {
    /// Wraps a failed system call.
    pub fn io(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Error::Io { what: what.into(), source: source.into() }
    }

    /// Somebody else changed nf_tables since the generation that was given.
    pub fn is_outdated(&self) -> bool {
        self.errno() == Some(rustix::io::Errno::RESTART)
    }

    /// What was named is not there.
    pub fn is_missing(&self) -> bool {
        self.errno() == Some(rustix::io::Errno::NOENT)
    }

    /// The error number of a refusal, for callers that branch on one.
    pub fn errno(&self) -> Option<rustix::io::Errno> {
        match self {
            Error::Refused { errno, .. } => Some(*errno),
            _ => None,
        }
    }
}

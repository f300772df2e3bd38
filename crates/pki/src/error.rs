//! Why keys or certificates cannot be used, with the file and what to do.

use std::path::PathBuf;

/// Everything here is for the operator: it names the file and the way out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system said no.
    #[error("{action} {}: {source}{}", path.display(), hint(source))]
    File {
        /// `read`, `write`, `create directory`.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is there and cannot be used.
    #[error("{}: {fault}; {advice}", path.display())]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        fault: String,
        /// What the operator can do.
        advice: &'static str,
    },
    /// A name that no certificate can carry.
    #[error("{name:?} cannot be put into a certificate: {fault}; correct --tls-san or --node-name")]
    Name {
        /// The name as given.
        name: String,
        /// What is wrong with it.
        fault: String,
    },
    /// The cryptographic library refused; not caused by input.
    #[error("{0}")]
    Crypto(String),
}

fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            " (skiff server must own its data directory: run it as root, or choose another --data-dir)"
        }
        std::io::ErrorKind::StorageFull => " (free some space and start again; nothing was lost)",
        std::io::ErrorKind::ReadOnlyFilesystem => {
            " (remount it writable, or choose another --data-dir)"
        }
        _ => "",
    }
}

impl From<rcgen::Error> for Error {
    fn from(error: rcgen::Error) -> Self {
        Self::Crypto(error.to_string())
    }
}

impl From<rustls::Error> for Error {
    fn from(error: rustls::Error) -> Self {
        Self::Crypto(error.to_string())
    }
}

//! What can go wrong, in the words that a user of Kubernetes knows.

use std::{io, path::PathBuf};

use crate::{Digest, InvalidReference};

/// Why an image operation failed.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The name cannot be an image's. Kubernetes' `InvalidImageName`.
    #[error("couldn't parse image name {name:?}: {reason}")]
    InvalidName {
        /// What was asked for.
        name: String,
        /// What is wrong with it.
        reason: InvalidReference,
    },
    /// The registry has no such image.
    #[error("failed to resolve reference {name:?}: {name}: not found")]
    NotFound {
        /// The normalised name.
        name: String,
    },
    /// The registry wants other credentials.
    #[error(
        "failed to resolve reference {name:?}: pull access denied, repository does not exist or may require authorization: {text}"
    )]
    Denied {
        /// The normalised name.
        name: String,
        /// What the registry said.
        text: String,
    },
    /// The registry does not answer. Kubernetes' `RegistryUnavailable`.
    #[error("failed to do request: {method} {url:?}: {text}")]
    Unavailable {
        /// `GET` or `HEAD`.
        method: &'static str,
        /// What was asked.
        url: String,
        /// What happened.
        text: String,
    },
    /// The registry answered with something else than it should.
    #[error("unexpected answer to GET {url:?}: {text}")]
    Registry {
        /// What was asked.
        url: String,
        /// Status or what is wrong with the body.
        text: String,
    },
    /// Content is not what its digest says.
    #[error("{what} has digest {found}, and {expected} was promised")]
    DigestMismatch {
        /// What was read.
        what: String,
        /// The digest in the name or manifest.
        expected: Digest,
        /// The digest of the content.
        found: Digest,
    },
    /// There is none for this machine.
    #[error(
        "no match for platform in manifest: {name} has images for {offered}, and none for {wanted}"
    )]
    NoPlatform {
        /// The image or file.
        name: String,
        /// `linux/arm64`
        wanted: String,
        /// Comma-separated.
        offered: String,
    },
    /// A manifest, index or configuration that makes no sense.
    #[error("{what}: {text}")]
    Malformed {
        /// Which document.
        what: String,
        /// What is wrong with it.
        text: String,
    },
    /// A layer or tarball that cannot or must not be unpacked.
    #[error("{layer}: {text}")]
    Archive {
        /// Which archive.
        layer: String,
        /// What is wrong, naming the entry.
        text: String,
    },
    /// A container uses the image.
    #[error("image {name} is in use by a container; use force to remove it all the same")]
    InUse {
        /// What was asked for.
        name: String,
    },
    /// There is no such image on this node.
    #[error("no such image: {name}")]
    NoSuchImage {
        /// What was asked for.
        name: String,
    },
    /// The disk failed.
    #[error("{}: {error}", .path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
}

impl ImageError {
    /// The reason under which a kubelet reports it
    /// (`pkg/kubelet/images/types.go`).
    pub fn reason(&self) -> &'static str {
        match self {
            Self::InvalidName { .. } => "InvalidImageName",
            Self::Unavailable { .. } => "RegistryUnavailable",
            Self::Io { .. } | Self::NoSuchImage { .. } | Self::InUse { .. } => "ImageInspectError",
            _ => "ErrImagePull",
        }
    }

    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| Self::Io { path, error }
    }
}

//! The records of images on disk: `images/<ID>.json`.

use std::{fs, io, path::Path};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::{Digest, ImageConfig, ImageError, oci::parse_json};

/// An image on disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Stored {
    pub(crate) version: u32,
    pub(crate) id: Digest,
    pub(crate) repo_tags: Vec<String>,
    pub(crate) repo_digests: Vec<String>,
    pub(crate) size_bytes: u64,
    pub(crate) config: ImageConfig,
    /// Chain IDs, the lowest first.
    pub(crate) layers: Vec<Digest>,
    pub(crate) pinned: bool,
    pub(crate) added_at: u64,
}

/// The newest version of [`Stored`].
pub(crate) const STORED_VERSION: u32 = 1;
/// The extension of records that cannot be read.
pub(crate) const DAMAGED: &str = "damaged";

/// Reads a record. One that is damaged is told and set aside, as its image can be
/// had again: `None`.
///
/// # Errors
/// A newer skiff wrote it, or the disk's.
pub(crate) fn read(path: &Path) -> Result<Option<Stored>, ImageError> {
    let what = path.display().to_string();
    let parsed = match fs::read(path) {
        Ok(bytes) => {
            refuse_newer(&bytes, &what)?;
            parse(&bytes, &what)
        }
        // That this file cannot be read is damage; that none can be read is not.
        Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => {
            Err(ImageError::io(path)(error))
        }
        Err(error) => return Err(ImageError::io(path)(error)),
    };
    let error = match parsed {
        Ok(stored) => return Ok(Some(stored)),
        Err(error) => error,
    };
    let aside = path.with_extension(DAMAGED);
    fs::rename(path, &aside).map_err(ImageError::io(&aside))?;
    tracing::warn!(
        aside = %aside.display(),
        "{error}; the image has to be pulled or imported again, and its layers stay until then"
    );
    Ok(None)
}

/// Forgets that a record was damaged, now that there is a good one.
pub(crate) fn remove_damaged(path: &Path) -> Result<(), ImageError> {
    remove(&path.with_extension(DAMAGED))
}

/// Removes a file, if it is there.
pub(crate) fn remove(path: &Path) -> Result<(), ImageError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(ImageError::io(path)(error)),
        _ => Ok(()),
    }
}

/// What is newer may have any shape, and is no damage.
fn refuse_newer(bytes: &[u8], what: &str) -> Result<(), ImageError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    match serde_json::from_slice(bytes) {
        Ok(Versioned { version }) if version > STORED_VERSION => Err(ImageError::Malformed {
            what: what.into(),
            text: format!("its version {version} is not known: a newer skiff wrote it"),
        }),
        _ => Ok(()),
    }
}

fn parse(bytes: &[u8], what: &str) -> Result<Stored, ImageError> {
    let stored: Stored = parse_json(bytes, what)?;
    match stored.version {
        STORED_VERSION => Ok(stored),
        other => Err(ImageError::Malformed {
            what: what.into(),
            text: format!("its version {other} was never written"),
        }),
    }
}

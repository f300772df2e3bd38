//! The records of images on disk: `images/<ID>.json`.

use std::{fs, io, path::Path};

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

/// Reads a record.
pub(crate) fn read(path: &Path) -> Result<Stored, ImageError> {
    let bytes = fs::read(path).map_err(ImageError::io(path))?;
    let stored: Stored = parse_json(&bytes, &path.display().to_string())?;
    if stored.version != STORED_VERSION {
        return Err(ImageError::Malformed {
            what: path.display().to_string(),
            text: format!("its version {} is not known: a newer skiff wrote it", stored.version),
        });
    }
    Ok(stored)
}

/// Removes a file, if it is there.
pub(crate) fn remove(path: &Path) -> Result<(), ImageError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(ImageError::io(path)(error)),
        _ => Ok(()),
    }
}

//! Unpacked layers, one directory each: `layers/<chain ID>/fs`.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use serde::{Deserialize, Serialize};

use crate::{Digest, ImageError, compression::decompress, digest::HashingReader, unpack::unpack};

/// The folder of unpacked layers, and one beside it for unfinished work.
pub(crate) struct Layers {
    dir: PathBuf,
    tmp: PathBuf,
    counter: AtomicU64,
}

/// What is known of an unpacked layer; `layers/<chain ID>/layer.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LayerInfo {
    version: u32,
    pub(crate) diff_id: Digest,
    /// Bytes of its regular files.
    pub(crate) size_bytes: u64,
}

/// What a layer must turn out to be.
pub(crate) struct Expected<'a> {
    /// How errors call it.
    pub(crate) what: &'a str,
    pub(crate) chain: Digest,
    pub(crate) diff_id: Digest,
    /// Of the bytes as they come in, where that is known.
    pub(crate) compressed: Option<Digest>,
}

impl Layers {
    /// Opens the folder and removes what a crash left unfinished.
    pub(crate) fn open(root: &Path) -> Result<Self, ImageError> {
        let (dir, tmp) = (root.join("layers"), root.join("tmp"));
        linux::tree::remove(&tmp).map_err(ImageError::io(&tmp))?;
        for dir in [&dir, &tmp] {
            fs::create_dir_all(dir).map_err(ImageError::io(dir))?;
        }
        Ok(Self { dir, tmp, counter: AtomicU64::new(0) })
    }

    /// Where the files of a layer are, once it is there.
    pub(crate) fn path(&self, chain: &Digest) -> PathBuf {
        self.dir.join(chain.hex()).join("fs")
    }

    /// The layer's size and digest; `None` where it, or a part of it, is not there.
    pub(crate) fn info(&self, chain: &Digest) -> Option<LayerInfo> {
        let text = fs::read(self.dir.join(chain.hex()).join("layer.json")).ok()?;
        serde_json::from_slice(&text).ok().filter(|_| self.path(chain).is_dir())
    }

    /// A path for unfinished work, unique in this process.
    pub(crate) fn scratch(&self, what: &str) -> PathBuf {
        let count = self.counter.fetch_add(1, Ordering::Relaxed);
        self.tmp.join(format!("{what}-{count}"))
    }

    /// Unpacks a layer, checks it, and only then gives it its place.
    pub(crate) fn add(
        &self,
        source: impl Read,
        expected: &Expected<'_>,
    ) -> Result<LayerInfo, ImageError> {
        let scratch = self.scratch("layer");
        let fs_dir = scratch.join("fs");
        fs::create_dir_all(&fs_dir).map_err(ImageError::io(&fs_dir))?;
        let added = self.add_in(source, expected, &scratch, &fs_dir);
        if added.is_err()
            && let Err(error) = linux::tree::remove(&scratch)
        {
            tracing::warn!("{}: {error}", scratch.display());
        }
        added
    }

    fn add_in(
        &self,
        source: impl Read,
        expected: &Expected<'_>,
        scratch: &Path,
        fs_dir: &Path,
    ) -> Result<LayerInfo, ImageError> {
        let archive = |text: String| ImageError::Archive { layer: expected.what.into(), text };
        let broken = |error: io::Error| archive(format!("it is damaged or cut short: {error}"));
        let mut compressed = HashingReader::new(source);
        let (unpacked, diff_id) = {
            let plain = decompress(&mut compressed).map_err(broken)?;
            let mut plain = HashingReader::new(plain);
            let unpacked = unpack(&mut plain, fs_dir).map_err(archive)?;
            (unpacked, plain.finish().map_err(broken)?)
        };
        let digest = compressed.finish().map_err(broken)?;
        let check = |what: &str, expected: Digest, found: Digest| match expected == found {
            true => Ok(()),
            false => Err(ImageError::DigestMismatch { what: what.into(), expected, found }),
        };
        if let Some(promised) = expected.compressed {
            check(expected.what, promised, digest)?;
        }
        check(&format!("{} (unpacked)", expected.what), expected.diff_id, diff_id)?;
        let info = LayerInfo { version: 1, diff_id, size_bytes: unpacked.bytes };
        write_json(&scratch.join("layer.json"), &info)?;
        // Before the name says that the layer is there, all of it is.
        sync_fs(scratch)?;
        let place = self.dir.join(expected.chain.hex());
        match fs::rename(scratch, &place) {
            Ok(()) => sync_dir(&self.dir)?,
            // Another image brought the same layer in the meantime.
            Err(_) if self.info(&expected.chain).is_some() => {
                linux::tree::remove(scratch).map_err(ImageError::io(scratch))?;
            }
            Err(_) if place.is_dir() => mend(scratch, &place)?,
            Err(error) => return Err(ImageError::io(place)(error)),
        }
        Ok(info)
    }

    /// All layers on the disk.
    pub(crate) fn list(&self) -> Result<Vec<Digest>, ImageError> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(ImageError::io(&self.dir))? {
            let name = entry.map_err(ImageError::io(&self.dir))?.file_name();
            found.extend(name.to_str().and_then(Digest::from_hex));
        }
        Ok(found)
    }

    /// Takes a layer from its place, so that half of one is never seen under its
    /// name; answers what is to be removed, if it was there.
    pub(crate) fn take(&self, chain: &Digest) -> Result<Option<PathBuf>, ImageError> {
        let place = self.dir.join(chain.hex());
        let scratch = self.scratch("removed");
        match fs::rename(&place, &scratch) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            renamed => renamed.map(|()| Some(scratch)).map_err(ImageError::io(&place)),
        }
    }

    /// Writes a small document so that it is there whole or not at all.
    pub(crate) fn replace_json(
        &self,
        path: &Path,
        value: &impl Serialize,
    ) -> Result<(), ImageError> {
        let scratch = self.scratch("document");
        write_json(&scratch, value)?;
        fs::rename(&scratch, path).map_err(ImageError::io(path))?;
        sync_dir(path.parent().unwrap_or(path))
    }
}

/// Puts the parts of a layer into a place that lacks one. Files that are there
/// stay: containers may run on them.
fn mend(scratch: &Path, place: &Path) -> Result<(), ImageError> {
    let parts = ["fs", "layer.json"];
    for part in parts.into_iter().filter(|part| *part != "fs" || !place.join(part).is_dir()) {
        let place = place.join(part);
        fs::rename(scratch.join(part), &place).map_err(ImageError::io(place))?;
    }
    sync_dir(place)?;
    linux::tree::remove(scratch).map_err(ImageError::io(scratch))
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), ImageError> {
    let bytes = serde_json::to_vec(value).expect("plain data");
    write_synced(path, &bytes)
}

pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
    let write = || {
        let mut file = File::create(path)?;
        io::Write::write_all(&mut file, bytes)?;
        file.sync_all()
    };
    write().map_err(ImageError::io(path))
}

pub(crate) fn sync_dir(dir: &Path) -> Result<(), ImageError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(ImageError::io(dir))
}

/// One call for thousands of small files.
fn sync_fs(dir: &Path) -> Result<(), ImageError> {
    let sync = || {
        let dir = File::open(dir)?;
        rustix::fs::syncfs(dir).map_err(io::Error::from)
    };
    sync().map_err(ImageError::io(dir))
}

//! State files: a line with format version and checksum, then JSON. Written
//! beside and renamed, so a file is whole or absent for whoever reads it while the
//! machine runs; the checksum catches what a power cut or a dying disk does.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

const MAGIC: &str = "skiff-runtime-record 1";

/// Writes a record durably: after a power cut it is this one or the one before.
pub(crate) fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let (file, unfinished) = draft(path, value)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    sync_parent(path)
}

/// Writes a record that was not there. A power cut may take it away until it is synced.
pub(crate) fn put(path: &Path, value: &impl Serialize) -> io::Result<Unsynced> {
    let (file, unfinished) = draft(path, value)?;
    fs::rename(&unfinished, path)?;
    Ok(Unsynced { file, path: path.to_owned() })
}

/// A record that is on its way to the disk.
#[must_use]
pub(crate) struct Unsynced {
    file: File,
    path: PathBuf,
}

impl Unsynced {
    /// Waits for the disk, which may take long, on a thread of its own: nobody else waits.
    pub(crate) fn sync_aside(self) {
        tokio::task::spawn_blocking(move || {
            match self.file.sync_all().and_then(|()| sync_parent(&self.path)) {
                Ok(()) => {}
                // Removed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!(path = %self.path.display(), %error, "a record is not on the disk");
                }
            }
        });
    }
}

fn draft(path: &Path, value: &impl Serialize) -> io::Result<(File, PathBuf)> {
    let body = serde_json::to_vec(value)?;
    let unfinished = path.with_extension("new");
    let mut file = File::create(&unfinished)?;
    writeln!(file, "{MAGIC} {:08x}", crc32fast::hash(&body))?;
    file.write_all(&body)?;
    Ok((file, unfinished))
}

fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// Reads a record.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    parse(&fs::read(path)?)
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    let bad = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let end = bytes.iter().position(|b| *b == b'\n').ok_or_else(|| bad("not a record"))?;
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| bad("not a record"))?;
    let (magic, checksum) = head.rsplit_once(' ').ok_or_else(|| bad("not a record"))?;
    if magic != MAGIC {
        return Err(bad("a record of another version"));
    }
    let body = &bytes[end + 1..];
    if u32::from_str_radix(checksum, 16) != Ok(crc32fast::hash(body)) {
        return Err(bad("the checksum does not fit"));
    }
    Ok(serde_json::from_slice(body)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_noticed() -> io::Result<()> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("record");
        write(&path, &vec![1, 2, 3])?;
        assert_eq!(read::<Vec<u32>>(&path)?, [1, 2, 3]);
        let whole = fs::read(&path)?;
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            assert!(parse::<Vec<u32>>(&bytes).is_err(), "byte {at}");
            assert!(parse::<Vec<u32>>(&whole[..at]).is_err(), "cut at {at}");
        }
        Ok(())
    }

    proptest::proptest! {
        #[test]
        fn outside_bytes_do_not_panic(bytes: Vec<u8>) {
            let _ = parse::<Vec<u32>>(&bytes);
        }
    }
}

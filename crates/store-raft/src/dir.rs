//! The directory of a store: its lock, its key and whose it is.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use crate::{
    OpenError,
    disk::Disk,
    log::identity,
    seal::{KEY_BYTES, NodeKey, random},
};

/// An open and locked directory.
pub(crate) struct StoreDir {
    pub(crate) cluster: [u8; 16],
    pub(crate) node: u64,
    key: [u8; KEY_BYTES],
    key_id: u32,
    /// Locked until it is closed, which the kernel does for a dead process too.
    _lock: File,
}

/// The only key ID so far; rotation makes others.
const KEY_ID: u32 = 1;

impl StoreDir {
    /// Opens a directory, or makes one: of the cluster and with the ID that are
    /// given, else new ones.
    pub(crate) fn open(
        dir: &Path,
        disk: &dyn Disk,
        join: Option<[u8; 16]>,
        id: Option<u64>,
    ) -> Result<Self, OpenError> {
        let failed = |what| move |error| OpenError::Dir { dir: dir.into(), what, error };
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(failed("the store's directory cannot be made"))?;
        let lock = lock(dir)?;
        let names = disk.list().map_err(failed("the store's directory cannot be read"))?;
        let empty =
            !names.iter().any(|name| name.starts_with("log-") || name.starts_with("snapshot-"));
        let key = read_key(dir, empty)?;
        let node_key = NodeKey::new(KEY_ID, &key);
        let known = identity(disk, &node_key)
            .map_err(|error| OpenError::Damaged { dir: dir.into(), what: error.to_string() })?;
        let (cluster, node) = match known {
            Some((cluster, _)) if join.is_some_and(|join| join != cluster) => {
                return Err(OpenError::OtherCluster { dir: dir.into() });
            }
            Some(known) => known,
            None if empty => {
                let (new, node) = new_identity().map_err(failed("no random bytes"))?;
                (join.unwrap_or(new), id.unwrap_or(node))
            }
            None => {
                let what = "there is a snapshot but no log".to_owned();
                return Err(OpenError::Damaged { dir: dir.into(), what });
            }
        };
        Ok(Self { cluster, node, key, key_id: KEY_ID, _lock: lock })
    }

    /// The key of this node.
    pub(crate) fn key(&self) -> NodeKey {
        NodeKey::new(self.key_id, &self.key)
    }
}

/// Random, so that an ID is never used twice, in no cluster.
fn new_identity() -> io::Result<([u8; 16], u64)> {
    let (mut cluster, mut node) = ([0; 16], [0; 8]);
    random(&mut cluster)?;
    random(&mut node)?;
    // Small enough for every language's integers; 0 stands for nobody.
    Ok((cluster, (u64::from_le_bytes(node) >> 12).max(1)))
}

/// Takes the lock of a store's directory, as long as the file is open: for those who
/// must know that no server runs.
///
/// # Errors
/// [`OpenError::InUse`] where one does.
pub fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("lock");
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path);
    let mut file = opened.map_err(|error| OpenError::Dir {
        dir: dir.into(),
        what: "the store's directory is not writable",
        error,
    })?;
    let failed = |error| OpenError::Dir { dir: dir.into(), what: "it cannot be locked", error };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            // Only for the message; the lock is what counts.
            let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            return Err(OpenError::InUse { dir: dir.into(), pid });
        }
        Err(error) => return Err(failed(error.into())),
    }
    file.set_len(0).map_err(failed)?;
    file.write_all(format!("{}\n", std::process::id()).as_bytes()).map_err(failed)?;
    Ok(file)
}

/// The key file's first word, with its format.
const KEY_MAGIC: &str = "skiff-store-key-v1";

fn read_key(dir: &Path, may_create: bool) -> Result<[u8; KEY_BYTES], OpenError> {
    let path = dir.join("store.key");
    let failed = |what| move |error| OpenError::Dir { dir: dir.into(), what, error };
    match std::fs::read_to_string(&path) {
        Ok(text) => parse_key(&text).ok_or_else(|| OpenError::Damaged {
            dir: dir.into(),
            what: "store.key is not a key file of this version".into(),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound && may_create => {
            create_key(dir, &path).map_err(failed("store.key cannot be made"))
        }
        Err(error) => Err(failed(
            "store.key cannot be read, and the store cannot be opened without it",
        )(error)),
    }
}

fn parse_key(text: &str) -> Option<[u8; KEY_BYTES]> {
    let hex = text.trim_end().strip_prefix(KEY_MAGIC)?.trim_start();
    if hex.len() != 2 * KEY_BYTES || !hex.is_ascii() {
        return None;
    }
    let mut key = [0; KEY_BYTES];
    for (at, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(key)
}

fn create_key(dir: &Path, path: &PathBuf) -> io::Result<[u8; KEY_BYTES]> {
    let mut key = [0; KEY_BYTES];
    random(&mut key)?;
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let partial = dir.join("store.key.partial");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
    file.write_all(format!("{KEY_MAGIC} {hex}\n").as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&partial, path)?;
    File::open(dir)?.sync_all()?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_files_read_back_and_others_are_refused() {
        let dir = tempfile::tempdir().expect("a directory for the test");
        let key = create_key(dir.path(), &dir.path().join("store.key")).expect("writable");
        assert_eq!(read_key(dir.path(), false).expect("just written"), key);
        for text in
            ["", "x", "skiff-store-key-v1", "skiff-store-key-v1 12", "skiff-store-key-v2 00"]
        {
            assert_eq!(parse_key(text), None, "{text}");
        }
    }
}

//! Files that are there whole or not at all, and that only their owner reads.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use crate::Error;

/// Makes the directory and its parents with mode 0700, and corrects the mode
/// of one that was there.
pub(crate) fn private_dir(path: &Path) -> Result<(), Error> {
    let failed = |source| Error::File { action: "create directory", path: path.into(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(failed)
}

/// `None` where the file does not exist.
pub(crate) fn read(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::File { action: "read", path: path.into(), source }),
    }
}

/// Whether a file must survive a crash once it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durable {
    /// Its content does; its name does once [`sync_dir`] has returned.
    Yes,
    /// It can be made again, so nobody waits for the disk.
    No,
}

/// Writes with mode 0600 and under a temporary name first, so that after a
/// crash a durable file has the old or the new content. On an SD card each wait
/// for the disk takes tens of milliseconds, and a first start writes two dozen
/// files: that is why the directory is synced apart.
pub(crate) fn write(path: &Path, content: &str, durable: Durable) -> Result<(), Error> {
    let failed = |source| Error::File { action: "write", path: path.into(), source };
    let temporary = path.with_added_extension("tmp");
    // A file left by a crash is ours to replace; `create_new` after removing
    // it makes sure that the mode is that of a new file.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let mut file =
        options.write(true).create_new(true).mode(0o600).open(&temporary).map_err(failed)?;
    file.write_all(content.as_bytes()).map_err(failed)?;
    if durable == Durable::Yes {
        file.sync_all().map_err(failed)?;
    }
    fs::rename(&temporary, path).map_err(failed)
}

/// Makes the names of files that were written durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), Error> {
    let failed = |source| Error::File { action: "sync", path: dir.into(), source };
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)
}

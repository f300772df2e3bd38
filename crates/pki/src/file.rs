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

/// Writes with mode 0600 so that after a crash the file has the old or the new
/// content: temporary file, fsync, rename, fsync of the directory.
pub(crate) fn write(path: &Path, content: &str) -> Result<(), Error> {
    let failed = |source| Error::File { action: "write", path: path.into(), source };
    let temporary = path.with_added_extension("tmp");
    // A file left by a crash is ours to replace; `create_new` after removing
    // it makes sure that the mode is that of a new file.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(failed)?;
    file.write_all(content.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&temporary, path).map_err(failed)?;
    let dir = path.parent().unwrap_or(Path::new("."));
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)
}

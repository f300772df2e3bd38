//! A directory of files that changes all at once.
//!
//! Readers see `name → ..data/name` and `..data → ..<number>/`; a change makes
//! a new numbered directory and swaps the one link, as upstream's volumes do
//! (programs watch `..data`).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::{Component, Path},
};

use super::VolumeError;

/// One file to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) data: Vec<u8>,
    /// Permission bits.
    pub(crate) mode: u32,
    /// Who owns it, where that is not root.
    pub(crate) uid: Option<u32>,
}

/// Relative path to file.
pub(crate) type Files = BTreeMap<String, File>;

const DATA: &str = "..data";

/// Makes the directory hold exactly these files; writes nothing where it does
/// already. `gid` owns what is written.
pub(crate) fn write(dir: &Path, files: &Files, gid: Option<u32>) -> Result<(), VolumeError> {
    for path in files.keys() {
        let ok = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
        if !ok || path.is_empty() || path.starts_with("..") {
            return Err(VolumeError(format!("invalid path {path:?} in volume")));
        }
    }
    let failed = |what: &Path| VolumeError::io(what.display().to_string());
    let data = dir.join(DATA);
    let current = match fs::read_link(&data) {
        Ok(current) => Some(current),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(VolumeError(format!("{}: {error}", data.display()))),
    };
    let number = current.as_ref().and_then(|c| c.to_str()?.strip_prefix("..")?.parse::<u64>().ok());
    if current.is_none() || !holds(&data, files) {
        let name = format!("..{}", number.map_or(0, |n| n + 1));
        let fresh = dir.join(&name);
        // What an earlier attempt left halfway.
        if fresh.exists() {
            fs::remove_dir_all(&fresh).map_err(failed(&fresh))?;
        }
        fs::create_dir(&fresh).map_err(failed(&fresh))?;
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755)).map_err(failed(&fresh))?;
        for (path, file) in files {
            let path = fresh.join(path);
            let parent = path.parent().unwrap_or(&fresh);
            fs::create_dir_all(parent).map_err(failed(parent))?;
            fs::write(&path, &file.data).map_err(failed(&path))?;
            let mode = file.mode | if gid.is_some() { 0o040 } else { 0 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(failed(&path))?;
            if file.uid.is_some() || gid.is_some() {
                chown(&path, file.uid, gid).map_err(failed(&path))?;
            }
        }
        let swap = dir.join("..data_tmp");
        match fs::remove_file(&swap) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(VolumeError(format!("{}: {error}", swap.display())));
            }
            _ => {}
        }
        symlink(&name, &swap).map_err(failed(&swap))?;
        fs::rename(&swap, &data).map_err(failed(&data))?;
        if let Some(old) = current {
            let old = dir.join(old);
            // The link has moved on; what is left is only garbage.
            if let Err(error) = fs::remove_dir_all(&old) {
                tracing::warn!(path = %old.display(), %error, "old volume content stays");
            }
        }
    }
    links(dir, files)
}

/// The links that users see: one for each first path component.
fn links(dir: &Path, files: &Files) -> Result<(), VolumeError> {
    let failed = |what: &Path| VolumeError::io(what.display().to_string());
    let tops: BTreeSet<&str> = files.keys().filter_map(|path| path.split('/').next()).collect();
    for top in &tops {
        let link = dir.join(top);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(top), &link).map_err(failed(&link))?;
        }
    }
    for entry in fs::read_dir(dir).map_err(failed(dir))? {
        let entry = entry.map_err(failed(dir))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !tops.contains(name.as_ref()) {
            fs::remove_file(entry.path()).map_err(failed(&entry.path()))?;
        }
    }
    Ok(())
}

/// Whether a directory has exactly these files with these contents.
fn holds(dir: &Path, files: &Files) -> bool {
    fn count(dir: &Path) -> io::Result<usize> {
        let mut n = 0;
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            n += if entry.file_type()?.is_dir() { count(&entry.path())? } else { 1 };
        }
        Ok(n)
    }
    count(dir).is_ok_and(|n| n == files.len())
        && files.iter().all(|(path, file)| fs::read(dir.join(path)).is_ok_and(|d| d == file.data))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> Files {
        let file = |data: &str| File { data: data.into(), mode: 0o644, uid: None };
        list.iter().map(|(path, data)| ((*path).to_owned(), file(data))).collect()
    }

    #[test]
    fn content_changes_at_once_and_only_when_it_changes() {
        let dir = tempfile::tempdir().expect("a directory");
        let read = |path: &str| fs::read_to_string(dir.path().join(path)).ok();
        let version = || fs::read_link(dir.path().join(DATA)).expect("a link");
        write(dir.path(), &files(&[("a", "1"), ("d/e", "2")]), None).expect("written");
        assert_eq!((read("a"), read("d/e")), (Some("1".into()), Some("2".into())));
        let first = version();
        write(dir.path(), &files(&[("a", "1"), ("d/e", "2")]), None).expect("written");
        assert_eq!(version(), first, "nothing changed");
        write(dir.path(), &files(&[("a", "3")]), None).expect("written");
        assert_ne!(version(), first);
        assert_eq!((read("a"), read("d/e")), (Some("3".into()), None));
        write(dir.path(), &Files::new(), None).expect("emptied");
        assert_eq!(read("a"), None);
    }

    #[test]
    fn paths_that_leave_are_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        for path in ["../x", "/x", "a/../../x", "", "..data", "..x/y"] {
            assert!(write(dir.path(), &files(&[(path, "")]), None).is_err(), "{path}");
        }
    }
}

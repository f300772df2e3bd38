//! The folder `<data-dir>/agent/images`: tarballs of images that a machine
//! without a registry starts with.
//!
//! Each is imported at a start, before the first pod, and again only when the
//! file has changed or an image of it is gone: importing costs a Pi minutes.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use node_image::ImageStore;
use serde::{Deserialize, Serialize};
use tracing::{error, info};

/// What tarballs are called; the compression is told by the content.
const EXTENSIONS: [&str; 6] = [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst", ".oci"];
/// What is packed in a way that nothing here unpacks.
const OTHERS: [&str; 6] = [".tar.xz", ".txz", ".tar.bz2", ".tbz", ".tar.lz4", ".zip"];

/// A file as it was when it was imported, and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Imported {
    size: u64,
    modified: i64,
    images: Vec<String>,
}

fn dir(data_dir: &Path) -> PathBuf {
    data_dir.join("agent/images")
}

/// Imports what is new. What cannot be imported is told and passed over: other
/// images may be all that is needed.
pub(crate) fn import(data_dir: &Path, store: &ImageStore) {
    let record = data_dir.join("node/bundles.json");
    let before = read(&record);
    let files = match files(&dir(data_dir)) {
        Ok(files) => files,
        Err(error) => {
            error!(path = %dir(data_dir).display(), %error, "image bundles cannot be read");
            return;
        }
    };
    let mut now = BTreeMap::new();
    for (name, size, modified) in files {
        let is_there = |image: &String| matches!(store.resolve(image), Ok(Some(_)));
        let same = before.get(&name).filter(|known| {
            (known.size, known.modified) == (size, modified) && known.images.iter().all(is_there)
        });
        if let Some(known) = same {
            now.insert(name, known.clone());
            continue;
        }
        match store.import(&dir(data_dir).join(&name), None) {
            Ok(images) => {
                let images: Vec<String> =
                    images.iter().filter_map(|image| image.repo_tags.first().cloned()).collect();
                info!(bundle = name, images = images.join(", "), "imported an image bundle");
                now.insert(name, Imported { size, modified, images });
            }
            Err(error) => {
                error!(bundle = name, %error, "an image bundle is not imported: copy it again, or take it away");
            }
        }
    }
    if now != before
        && let Err(error) = write(&record, &now)
    {
        error!(path = %record.display(), %error, "bundles are imported again at the next start");
    }
}

/// Name, size and time of change of each tarball; none where there is no folder.
fn files(dir: &Path) -> io::Result<Vec<(String, u64, i64)>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        if OTHERS.iter().any(|extension| name.ends_with(extension)) {
            error!(
                bundle = name,
                "an image bundle is not imported: unpack it to .tar, or pack that with gzip or zstd"
            );
        }
        if EXTENSIONS.iter().any(|extension| name.ends_with(extension)) {
            let meta = fs::metadata(entry.path())?;
            found.push((name, meta.size(), meta.mtime()));
        }
    }
    found.sort();
    Ok(found)
}

fn read(record: &Path) -> BTreeMap<String, Imported> {
    // Without it everything is imported again, which costs time only.
    fs::read(record).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

fn write(record: &Path, now: &BTreeMap<String, Imported>) -> io::Result<()> {
    if let Some(dir) = record.parent() {
        fs::create_dir_all(dir)?;
    }
    let new = record.with_extension("json.new");
    fs::write(&new, serde_json::to_vec(now)?)?;
    fs::rename(&new, record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bundles_are_found_by_name_and_a_bad_one_keeps_no_other() {
        let data = tempfile::tempdir().expect("a temporary directory");
        let store = crate::node::images::open(&data.path().join("node/images")).expect("a store");
        import(data.path(), &store);
        assert!(!data.path().join("node/bundles.json").exists(), "there is no folder");
        fs::create_dir_all(dir(data.path())).expect("our own folder");
        for name in ["bad.tar", "notes.txt", ".half.tar", "other.tar.xz"] {
            fs::write(dir(data.path()).join(name), "no tarball").expect("our own folder");
        }
        assert_eq!(files(&dir(data.path())).expect("our own folder").len(), 1);
        import(data.path(), &store);
        assert!(!data.path().join("node/bundles.json").exists(), "nothing was imported");
    }
}

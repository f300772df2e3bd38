//! The folder's files, and the kernel's word when they change (inotify(7)).

use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

/// What manifests are called.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// The texts of all manifests by their names below the folder, without those
/// that a `.skip` file lies beside.
pub(super) fn read(dir: &Path) -> io::Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for folder in folders(dir)? {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.strip_prefix(dir).unwrap_or(&path).to_string_lossy().into_owned();
            let is_manifest =
                path.extension().is_some_and(|e| EXTENSIONS.iter().any(|ours| e == *ours));
            let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
            if !is_manifest || hidden || !path.is_file() || beside(&path, ".skip").exists() {
                continue;
            }
            match fs::read_to_string(&path) {
                Ok(text) => drop(found.insert(name, text)),
                // Between the listing and now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(io::Error::new(error.kind(), format!("{name}: {error}")));
                }
            }
        }
    }
    Ok(found)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The folder and those below it.
fn folders(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut found, mut at) = (vec![dir.to_owned()], 0);
    while let Some(folder) = found.get(at).cloned() {
        at += 1;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

/// Calls `told` when a file has been written, moved or removed, from a thread
/// that lives as long as the process.
///
/// # Errors
/// Where the kernel does not tell.
pub(super) fn follow(dir: PathBuf, told: impl Fn() + Send + 'static) -> io::Result<()> {
    let fd = inotify::init(CreateFlags::CLOEXEC)?;
    watch(&fd, &dir)?;
    let wait = move || {
        let mut buffer = [0; 4096];
        loop {
            match rustix::io::read(&fd, &mut buffer) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => {
                    tracing::error!(%error, "changes of manifests are not heard any more");
                    return;
                }
            }
            // Folders may be new; those that are watched already stay so.
            if let Err(error) = watch(&fd, &dir) {
                tracing::warn!(path = %dir.display(), %error, "not every folder of manifests is watched");
            }
            told();
        }
    };
    std::thread::Builder::new().name("manifests".into()).spawn(wait).map(drop)
}

fn watch(fd: &OwnedFd, dir: &Path) -> io::Result<()> {
    // A file that is still being written is not read yet; a new folder is.
    let events = WatchFlags::CLOSE_WRITE
        | WatchFlags::MOVED_TO
        | WatchFlags::MOVED_FROM
        | WatchFlags::DELETE
        | WatchFlags::CREATE;
    for folder in folders(dir)? {
        inotify::add_watch(fd, &folder, events)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_and_changes_are_told() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let put = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("our own folder");
            fs::write(path, "text").expect("our own folder");
        };
        let (tell, told) = std::sync::mpsc::channel();
        follow(dir.path().to_owned(), move || tell.send(()).expect("somebody listens"))
            .expect("inotify");
        for name in ["a.yaml", "b.yml", "c.json", "d.txt", "e.yaml", "e.yaml.skip", ".f.yaml"] {
            put(name);
        }
        told.recv().expect("told");
        put("deep/er/g.yaml");
        while read(dir.path()).expect("our own folder").len() < 4 {
            told.recv().expect("told of the folder's file");
        }
        let names: Vec<String> = read(dir.path()).expect("our own folder").into_keys().collect();
        assert_eq!(names, ["a.yaml", "b.yml", "c.json", "deep/er/g.yaml"]);
        fs::remove_file(dir.path().join("e.yaml.skip")).expect("our own folder");
        while read(dir.path()).expect("our own folder").len() < 5 {
            told.recv().expect("told of what is gone");
        }
    }
}

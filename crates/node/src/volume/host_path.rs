//! hostPath: a path of the node, checked to be what the pod says it is.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::Path,
};

use api_types::core::HostPathVolumeSource;

use super::VolumeError;

/// Checks the path's type; `DirectoryOrCreate` and `FileOrCreate` make it.
pub(crate) fn check(source: &HostPathVolumeSource) -> Result<(), VolumeError> {
    let path = Path::new(&source.path);
    if path.components().any(|part| part == std::path::Component::ParentDir) {
        return Err(VolumeError(format!("hostPath {} must not contain '..'", source.path)));
    }
    let found = match fs::metadata(path) {
        Ok(meta) => Some(meta.file_type()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(VolumeError(format!("{}: {error}", source.path))),
    };
    let made = |result: io::Result<()>| result.map_err(VolumeError::io(path.display()));
    let wrong = |what: &str| {
        Err(VolumeError(format!("hostPath type check failed: {} is not a {what}", source.path)))
    };
    match (source.r#type.as_str(), found) {
        // Upstream leaves the missing path to the runtime, which makes it.
        ("" | "DirectoryOrCreate", None) => made(
            fs::create_dir_all(path)
                .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755))),
        ),
        ("", Some(_)) => Ok(()),
        ("DirectoryOrCreate" | "Directory", Some(t)) if t.is_dir() => Ok(()),
        ("DirectoryOrCreate" | "Directory", _) => wrong("directory"),
        ("FileOrCreate", None) => made(
            fs::File::create(path)
                .and_then(|_| fs::set_permissions(path, fs::Permissions::from_mode(0o644))),
        ),
        ("FileOrCreate" | "File", Some(t)) if t.is_file() => Ok(()),
        ("FileOrCreate" | "File", _) => wrong("file"),
        ("Socket", Some(t)) if t.is_socket() => Ok(()),
        ("Socket", _) => wrong("socket file"),
        ("CharDevice", Some(t)) if t.is_char_device() => Ok(()),
        ("CharDevice", _) => wrong("character device"),
        ("BlockDevice", Some(t)) if t.is_block_device() => Ok(()),
        ("BlockDevice", _) => wrong("block device"),
        (other, _) => Err(VolumeError(format!("{other} is an invalid volume type"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("file");
        fs::write(&file, "").expect("written");
        let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
        for (kind, path, good) in [
            ("", path("made"), true),
            ("Directory", path("none"), false),
            ("Directory", path("made"), true),
            ("DirectoryOrCreate", path("a/b"), true),
            ("DirectoryOrCreate", path("file"), false),
            ("File", path("file"), true),
            ("File", path("made"), false),
            ("FileOrCreate", path("new"), true),
            ("File", path("new"), true),
            ("Socket", path("file"), false),
            ("CharDevice", "/dev/null".into(), true),
            ("BlockDevice", "/dev/null".into(), false),
            ("Nope", path("file"), false),
            ("Directory", path("made/../made"), false),
        ] {
            let source = HostPathVolumeSource { path: path.clone(), r#type: kind.into() };
            assert_eq!(check(&source).is_ok(), good, "{kind} {path}");
        }
    }
}

//! Images that come with the program.

use std::{io, sync::Arc};

use tar::{Builder, EntryType, Header};

use crate::{
    Digest, Image, ImageConfig, ImageError, ImageStore, Reference,
    layers::Expected,
    oci::{ConfigFile, RootFs, host_architecture},
    store::NewImage,
};

/// A file of a built-in image.
#[derive(Clone, Copy, Debug)]
pub struct BuiltinFile<'a> {
    /// From the root, without a leading slash: `bin/toolbox`.
    pub path: &'a str,
    /// Permission bits.
    pub mode: u32,
    /// The content; for a symbolic link, see `link_to`.
    pub bytes: &'a [u8],
    /// Makes it a symbolic link to this.
    pub link_to: Option<&'a str>,
}

impl ImageStore {
    /// Sees to it that an image of these files is there under a name, and
    /// stays. The same files always make the same image, so doing it at every
    /// start costs no more than hashing them.
    ///
    /// # Errors
    /// An invalid name, or the disk's.
    pub fn ensure_builtin(
        &self,
        name: &str,
        files: &[BuiltinFile<'_>],
        config: ImageConfig,
    ) -> Result<Arc<Image>, ImageError> {
        let reference = Reference::parse(name)?;
        let tar = archive(files)
            .map_err(|error| ImageError::Archive { layer: name.into(), text: error.to_string() })?;
        let diff_id = Digest::of(&tar);
        let config = ConfigFile {
            architecture: host_architecture().into(),
            os: "linux".into(),
            config: Some(config),
            rootfs: RootFs { kind: "layers".into(), diff_ids: vec![diff_id] },
        };
        let config_bytes = serde_json::to_vec(&config).expect("plain data");
        let _adding = self.adding(&[diff_id]);
        if self.layers.info(&diff_id).is_none() {
            let expected =
                Expected { what: name, chain: diff_id, diff_id, compressed: Some(diff_id) };
            self.layers.add(&tar[..], &expected)?;
        }
        self.add(NewImage {
            id: Digest::of(&config_bytes),
            config: &config,
            config_bytes: &config_bytes,
            tags: vec![reference.to_string()],
            digests: Vec::new(),
            pinned: true,
        })
    }
}

fn archive(files: &[BuiltinFile<'_>]) -> io::Result<Vec<u8>> {
    let mut builder = Builder::new(Vec::new());
    for file in files {
        // The oldest form has no field that could differ from run to run.
        let mut header = Header::new_ustar();
        header.set_mode(file.mode);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        match file.link_to {
            Some(to) => {
                header.set_entry_type(EntryType::Symlink);
                header.set_size(0);
                builder.append_link(&mut header, file.path, to)?;
            }
            None => {
                header.set_entry_type(EntryType::Regular);
                header.set_size(file.bytes.len() as u64);
                builder.append_data(&mut header, file.path, file.bytes)?;
            }
        }
    }
    builder.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_builtin_image_is_made_once_and_moves_its_name_when_it_changes() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root can give files away");
            return;
        }
        let dir = tempfile::tempdir().expect("a directory for the test");
        let store = ImageStore::open(dir.path()).expect("a new store");
        let files = |bytes| {
            [
                BuiltinFile { path: "bin/toolbox", mode: 0o755, bytes, link_to: None },
                BuiltinFile { path: "bin/sh", mode: 0o777, bytes: b"", link_to: Some("toolbox") },
            ]
        };
        let config = ImageConfig { entrypoint: vec!["/bin/toolbox".into()], ..Default::default() };
        let name = "skiff.local/toolbox";
        let first = store.ensure_builtin(name, &files(b"elf"), config.clone()).expect("made");
        assert_eq!(first.layer_dirs.len(), 1);
        assert_eq!(std::fs::read(first.layer_dirs[0].join("bin/sh")).expect("there"), b"elf");
        assert_eq!(first.repo_tags, ["skiff.local/toolbox:latest"]);
        let again = ImageStore::open(dir.path()).expect("the same store");
        assert_eq!(
            again.ensure_builtin(name, &files(b"elf"), config.clone()).expect("there"),
            first
        );
        let second = again.ensure_builtin(name, &files(b"new"), config).expect("made");
        assert_ne!(second.id, first.id);
        assert_eq!(again.resolve(name).expect("valid").map(|image| image.id), Some(second.id));
        assert_eq!(again.list().len(), 2);
    }
}

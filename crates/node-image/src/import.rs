//! Import of tarballs: `docker save` and OCI image layouts, compressed or not.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
    sync::Arc,
};

use serde::Deserialize;
use tar::{Archive, EntryType};

use crate::{
    Digest, Image, ImageError, ImageStore, Reference,
    archive::{Gate, fault, is_too_large, shown},
    compression::{decompress, is_compressed},
    layers::Expected,
    oci::{
        ConfigFile, DOCUMENT_BYTES_MAX, Descriptor, Document, ImageIndex, Manifest,
        host_architecture, parse_json,
    },
    store::{NewImage, chains},
};

/// Most bytes of all names in a tarball, which are kept in memory; a bundle of a
/// hundred images has a hundredth of it.
const NAMES_BYTES_MAX: usize = 16 << 20;
/// What each of them counts for at least.
const MEMBER_BYTES: usize = 128;
/// Linux' `PATH_MAX`.
const NAME_BYTES_MAX: usize = 4096;

/// Where members of a tarball are, so that they can be read in any order.
struct Tarball {
    file: File,
    name: String,
    members: BTreeMap<String, Member>,
}

enum Member {
    File {
        offset: u64,
        size: u64,
    },
    /// To another member; old versions of docker save each layer once.
    Link(String),
}

/// One image of `manifest.json` (docker's image-spec v1.2).
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl ImageStore {
    /// Imports all images of a tarball that are for this machine. `name` is
    /// for a tarball with one image that does not say its name.
    ///
    /// # Errors
    /// What is wrong with the tarball, naming the part. Images before it stay.
    pub fn import(&self, path: &Path, name: Option<&str>) -> Result<Vec<Arc<Image>>, ImageError> {
        let file = File::open(path).map_err(ImageError::io(path))?;
        self.import_file(file, &path.display().to_string(), name)
    }

    /// As [`Self::import`], from a stream: a request's body, a pipe. `what` is
    /// what errors call it.
    ///
    /// # Errors
    /// As [`Self::import`].
    pub fn import_reader(
        &self,
        reader: impl Read,
        what: &str,
        name: Option<&str>,
    ) -> Result<Vec<Arc<Image>>, ImageError> {
        // The manifest may be the last member, so all of it has to be kept.
        let file = self.spool(reader, what)?;
        self.import_file(file, what, name)
    }

    fn spool(&self, reader: impl Read, what: &str) -> Result<File, ImageError> {
        let path = self.layers.scratch("import");
        let mut file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(ImageError::io(&path))?;
        // The open file lives on without a name: nothing is left behind.
        std::fs::remove_file(&path).map_err(ImageError::io(&path))?;
        let copied = decompress(reader).and_then(|mut plain| io::copy(&mut plain, &mut file));
        copied.and_then(|_| file.rewind()).map_err(|error| ImageError::Archive {
            layer: what.into(),
            text: format!("it is damaged or cut short: {error}"),
        })?;
        Ok(file)
    }

    fn import_file(
        &self,
        mut file: File,
        what: &str,
        name: Option<&str>,
    ) -> Result<Vec<Arc<Image>>, ImageError> {
        let mut start = [0; 4];
        let read = file.read(&mut start).map_err(ImageError::io(what))?;
        file.rewind().map_err(ImageError::io(what))?;
        if is_compressed(&start[..read]) {
            file = self.spool(file, what)?;
        }
        let mut tarball = Tarball::open(file, what)?;
        let mut images = Vec::new();
        // New versions of docker write both; only this one has all names.
        if tarball.members.contains_key("manifest.json") {
            let bytes = tarball.document("manifest.json")?;
            let listed: Vec<DockerImage> = parse_json(&bytes, &format!("{what}: manifest.json"))?;
            let only = listed.len() == 1;
            for image in listed {
                let tags = image.repo_tags.unwrap_or_default();
                let tags = names(tags, name.filter(|_| only))?;
                let layers = image.layers.into_iter().map(|path| (path, None)).collect();
                images.push(self.import_image(&mut tarball, &image.config, layers, tags)?);
            }
        } else if tarball.members.contains_key("index.json") {
            let bytes = tarball.document("index.json")?;
            let index: ImageIndex = parse_json(&bytes, &format!("{what}: index.json"))?;
            let only = index.manifests.len() == 1;
            for descriptor in &index.manifests {
                let tags = names(layout_name(descriptor), name.filter(|_| only))?;
                let manifest = tarball.manifest(descriptor)?;
                let layers = manifest.layers.iter();
                let layers = layers.map(|layer| (blob(&layer.digest), Some(layer.digest)));
                let config = blob(&manifest.config.digest);
                images.push(self.import_image(&mut tarball, &config, layers.collect(), tags)?);
            }
        } else {
            return Err(ImageError::Archive {
                layer: what.into(),
                text: "it is no image: there is neither manifest.json nor index.json in it".into(),
            });
        }
        Ok(images)
    }

    fn import_image(
        &self,
        tarball: &mut Tarball,
        config_path: &str,
        layers: Vec<(String, Option<Digest>)>,
        tags: Vec<String>,
    ) -> Result<Arc<Image>, ImageError> {
        let what = format!("{}: {config_path}", tarball.name);
        let config_bytes = tarball.document(config_path)?;
        let id = Digest::of(&config_bytes);
        let named = config_path.strip_prefix("blobs/sha256/").and_then(Digest::from_hex);
        if let Some(expected) = named.filter(|named| *named != id) {
            return Err(ImageError::DigestMismatch { what, expected, found: id });
        }
        let config: ConfigFile = parse_json(&config_bytes, &what)?;
        check_platform(&config, &tarball.name)?;
        let diff_ids = &config.rootfs.diff_ids;
        if diff_ids.len() != layers.len() {
            let text =
                format!("it names {} layers, and the manifest {}", diff_ids.len(), layers.len());
            return Err(ImageError::Malformed { what, text });
        }
        let chains = chains(diff_ids);
        let _adding = self.adding(&chains);
        for ((chain, diff_id), (path, compressed)) in chains.iter().zip(diff_ids).zip(layers) {
            if self.layers.info(chain).is_some() {
                continue;
            }
            let what = format!("{}: {path}", tarball.name);
            let source = tarball.read(&path)?;
            let expected = Expected { what: &what, chain: *chain, diff_id: *diff_id, compressed };
            self.layers.add(source, &expected)?;
        }
        self.add(NewImage {
            id,
            config: &config,
            config_bytes: &config_bytes,
            tags,
            digests: Vec::new(),
            pinned: false,
        })
    }
}

/// Fails for an image of another kind of machine; one that does not say is
/// taken at its word.
pub(crate) fn check_platform(config: &ConfigFile, name: &str) -> Result<(), ImageError> {
    let (os, architecture) = (config.os.as_str(), config.architecture.as_str());
    let fits = matches!(os, "" | "linux")
        && (architecture.is_empty() || architecture == host_architecture());
    match fits {
        true => Ok(()),
        false => Err(ImageError::NoPlatform {
            name: name.into(),
            wanted: format!("linux/{}", host_architecture()),
            offered: format!("{os}/{architecture}"),
        }),
    }
}

fn names(found: Vec<String>, given: Option<&str>) -> Result<Vec<String>, ImageError> {
    let found = found.iter().map(String::as_str);
    let all: Vec<&str> = match given {
        Some(given) => vec![given],
        None => found.collect(),
    };
    all.into_iter().map(|name| Ok(Reference::parse(name)?.to_string())).collect()
}

/// The name in a layout's index: whole under containerd's key, and under OCI's
/// either whole or only a tag, which alone says nothing.
fn layout_name(descriptor: &Descriptor) -> Vec<String> {
    let annotation = |key: &str| descriptor.annotations.get(key).cloned();
    let whole = annotation("io.containerd.image.name");
    let partial =
        annotation("org.opencontainers.image.ref.name").filter(|name| name.contains(['/', ':']));
    whole.or(partial).into_iter().collect()
}

fn no_tarball(what: &str) -> ImageError {
    ImageError::Archive {
        layer: what.into(),
        text: "it is no tarball of images, as `docker save`, `podman save` and an OCI layout are"
            .into(),
    }
}

fn blob(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

impl Tarball {
    fn open(file: File, what: &str) -> Result<Self, ImageError> {
        let bad = |text: String| ImageError::Archive { layer: what.into(), text };
        let damaged = |error: io::Error| bad(fault(&error));
        let length = file.metadata().map_err(ImageError::io(what))?.len();
        let mut members = BTreeMap::new();
        let mut names_bytes = 0;
        let gate = Gate::default();
        let mut archive = Archive::new(gate.reader(&file));
        let mut entries = archive.entries_with_seek().map_err(damaged)?;
        while let Some(entry) = gate.next(&mut entries) {
            let entry = match entry {
                // Its header is what makes it one; the error would quote the file.
                Err(error) if members.is_empty() && !is_too_large(&error) => {
                    return Err(no_tarball(what));
                }
                entry => entry.map_err(damaged)?,
            };
            let path = entry.path_bytes();
            let link = entry.link_name_bytes().unwrap_or_default();
            if path.len().max(link.len()) > NAME_BYTES_MAX {
                let text = format!("entry {}: a name of over {NAME_BYTES_MAX} bytes", shown(&path));
                return Err(bad(text));
            }
            names_bytes += MEMBER_BYTES + path.len() + link.len();
            if names_bytes > NAMES_BYTES_MAX {
                return Err(bad("it holds more files than any bundle of images".into()));
            }
            let path = plain(&String::from_utf8_lossy(&path));
            let member = match entry.header().entry_type() {
                EntryType::Regular | EntryType::Continuous => {
                    let (offset, size) = (entry.raw_file_position(), entry.size());
                    // Seeking over the end is no error by itself.
                    if offset.checked_add(size).is_none_or(|end| end > length) {
                        let path = shown(path.as_bytes());
                        return Err(bad(format!("entry {path}: the archive is cut short")));
                    }
                    Member::File { offset, size }
                }
                EntryType::Symlink | EntryType::Link => {
                    let to = String::from_utf8_lossy(&link);
                    let from_root = entry.header().entry_type() == EntryType::Link;
                    let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
                    let base = if from_root { "" } else { parent };
                    Member::Link(plain(&format!("{base}/{to}")))
                }
                _ => continue,
            };
            members.insert(path, member);
        }
        Ok(Self { file, name: what.into(), members })
    }

    /// Reads a member as it is.
    fn read(&mut self, path: &str) -> Result<io::Take<&File>, ImageError> {
        let absent = |path: &str| ImageError::Archive {
            layer: self.name.clone(),
            text: format!("{} is missing", shown(path.as_bytes())),
        };
        let mut at = path;
        // A link to a link does not occur; a ring of them must not hang.
        for _ in 0..4 {
            match self.members.get(at) {
                Some(Member::Link(to)) => at = to,
                Some(Member::File { offset, size }) => {
                    let mut file = &self.file;
                    file.seek(SeekFrom::Start(*offset)).map_err(ImageError::io(&self.name))?;
                    return Ok(file.take(*size));
                }
                None => break,
            }
        }
        Err(absent(path))
    }

    /// Reads a small member whole.
    fn document(&mut self, path: &str) -> Result<Vec<u8>, ImageError> {
        let mut bytes = Vec::new();
        let mut source = self.read(path)?.take(DOCUMENT_BYTES_MAX + 1);
        source.read_to_end(&mut bytes).map_err(ImageError::io(&self.name))?;
        if bytes.len() as u64 > DOCUMENT_BYTES_MAX {
            return Err(ImageError::Malformed {
                what: format!("{}: {path}", self.name),
                text: format!("it has more than {DOCUMENT_BYTES_MAX} bytes"),
            });
        }
        Ok(bytes)
    }

    /// The manifest for this machine behind a descriptor.
    fn manifest(&mut self, descriptor: &Descriptor) -> Result<Manifest, ImageError> {
        let mut digest = descriptor.digest;
        for _ in 0..4 {
            let path = blob(&digest);
            let what = format!("{}: {path}", self.name);
            let bytes = self.document(&path)?;
            let found = Digest::of(&bytes);
            if found != digest {
                return Err(ImageError::DigestMismatch { what, expected: digest, found });
            }
            match Document::parse(&bytes, &what)? {
                Document::Manifest(manifest) => return Ok(manifest),
                Document::Index(index) => {
                    digest = index.for_platform(host_architecture(), &self.name)?.digest;
                }
            }
        }
        Err(ImageError::Malformed {
            what: self.name.clone(),
            text: "its indexes are nested too deeply".into(),
        })
    }
}

/// A path without `.`, and with `..` taken at its word, as far as that goes.
fn plain(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

//! The images of a node: their names, their configuration, their layers.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::sync::OwnedMutexGuard;

use crate::{
    Digest, ImageConfig, ImageError, Reference, gc,
    layers::Layers,
    oci::ConfigFile,
    record::{self, DAMAGED, STORED_VERSION, Stored},
};

/// An image that can be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The digest of its configuration.
    pub id: Digest,
    /// Complete names with a tag: `docker.io/library/nginx:latest`.
    pub repo_tags: Vec<String>,
    /// Names with the digest that they were pulled by.
    pub repo_digests: Vec<String>,
    /// Bytes of all files of all layers; layers shared with other images count.
    pub size_bytes: u64,
    /// What to run, and how.
    pub config: ImageConfig,
    /// The directories of its layers, the top-most first: overlayfs' `lowerdir`.
    pub layer_dirs: Vec<PathBuf>,
    /// Never collected: it came with the program.
    pub pinned: bool,
    /// Seconds since 1970 when it came to this node.
    pub added_at: u64,
    chains: Vec<Digest>,
}

impl Image {
    /// `sha256:…`, as a container's `imageID` has it where there is no digest.
    pub fn id_string(&self) -> String {
        self.id.to_string()
    }

    /// A layer of it that is gone from the disk.
    fn missing_layer(&self) -> Option<&PathBuf> {
        let is_gone = |dir: &&PathBuf| {
            fs::metadata(dir).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        };
        self.layer_dirs.iter().find(is_gone)
    }
}

/// All images under one directory, which belongs to one process.
pub struct ImageStore {
    root: PathBuf,
    pub(crate) layers: Layers,
    /// Who changes records reads, decides and writes in one turn; taken before `state`.
    turns: Mutex<()>,
    state: Mutex<State>,
}

/// What one must have to change records.
type Turn<'a> = MutexGuard<'a, ()>;

#[derive(Default)]
struct State {
    images: BTreeMap<Digest, Arc<Image>>,
    /// Layers of images that are being added, which no image names yet.
    adding: BTreeMap<Digest, usize>,
    /// Images whose record is damaged, with their layers: containers may run on them.
    damaged: BTreeMap<Digest, Vec<Digest>>,
    /// Names that are being pulled.
    pulling: BTreeMap<String, Weak<tokio::sync::Mutex<()>>>,
}

impl State {
    /// Layers that must stay.
    fn needed(&self) -> BTreeSet<Digest> {
        let images = self.images.values().flat_map(|image| &image.chains);
        images.chain(self.adding.keys()).chain(self.damaged.values().flatten()).copied().collect()
    }

    /// Whether the document of this ID must stay.
    fn knows(&self, id: &Digest) -> bool {
        self.images.contains_key(id) || self.damaged.contains_key(id)
    }
}

/// Keeps layers from being collected before their image is there.
pub(crate) struct Adding<'a> {
    store: &'a ImageStore,
    chains: Vec<Digest>,
}

impl Drop for Adding<'_> {
    fn drop(&mut self) {
        let mut state = self.store.lock();
        for chain in &self.chains {
            if let Some(count) = state.adding.get_mut(chain) {
                *count -= 1;
                if *count == 0 {
                    state.adding.remove(chain);
                }
            }
        }
    }
}

/// An image that was unpacked and now gets its names.
pub(crate) struct NewImage<'a> {
    pub(crate) id: Digest,
    pub(crate) config: &'a ConfigFile,
    pub(crate) config_bytes: &'a [u8],
    pub(crate) tags: Vec<String>,
    pub(crate) digests: Vec<String>,
    pub(crate) pinned: bool,
}

impl ImageStore {
    /// Opens the images under a directory, which is made if it is missing, and
    /// closed to all but its owner.
    /// What a crash left half done is removed, and an image whose record is damaged
    /// is as one that is not here.
    ///
    /// # Errors
    /// Where the directory cannot be used, or a newer version has used it.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, ImageError> {
        let root = root.into();
        for dir in [root.join("images"), root.join("content/blobs/sha256")] {
            fs::create_dir_all(&dir).map_err(ImageError::io(&dir))?;
        }
        // Setuid programs of strangers lie below, and what private images hold; at
        // every start, since older versions let everybody in.
        fs::set_permissions(&root, fs::Permissions::from_mode(0o700))
            .map_err(ImageError::io(&root))?;
        let layers = Layers::open(&root)?;
        let store = Self { root, layers, turns: Mutex::default(), state: Mutex::default() };
        let dir = store.root.join("images");
        let mut state = State::default();
        for entry in fs::read_dir(&dir).map_err(ImageError::io(&dir))? {
            let path = entry.map_err(ImageError::io(&dir))?.path();
            let stored = match path.extension().and_then(|extension| extension.to_str()) {
                Some("json") => record::read(&path)?,
                Some(DAMAGED) => None,
                // Written, but not yet renamed, when the process ended.
                _ => {
                    fs::remove_file(&path).map_err(ImageError::io(&path))?;
                    continue;
                }
            };
            let name = path.file_stem().and_then(|name| name.to_str());
            match (stored, name.and_then(Digest::from_hex)) {
                (Some(stored), _) => {
                    state.images.insert(stored.id, Arc::new(store.image(stored)));
                }
                (None, Some(id)) => {
                    state.damaged.insert(id, store.layers_by_config(&id));
                }
                (None, None) => {}
            }
        }
        *store.lock() = state;
        Ok(store)
    }

    /// All images, in the order of their IDs.
    pub fn list(&self) -> Vec<Arc<Image>> {
        self.lock().images.values().cloned().collect()
    }

    /// The image that a pod's `image` field names: a name, with or without
    /// registry, tag and digest, or an ID. `None` where it is not here. One of which
    /// a layer is gone cannot be run: it is forgotten, so that it is pulled again.
    ///
    /// # Errors
    /// [`ImageError::InvalidName`], or the disk's.
    pub fn resolve(&self, name: &str) -> Result<Option<Arc<Image>>, ImageError> {
        let is_whole = |image: &Arc<Image>| image.missing_layer().is_none();
        let found = self.find(name)?;
        if found.as_ref().is_none_or(is_whole) {
            return Ok(found);
        }
        let turn = self.turn();
        // A pull may have brought it in the meantime.
        let Some(image) = self.find(name)? else { return Ok(None) };
        let Some(layer) = image.missing_layer() else { return Ok(Some(image)) };
        tracing::warn!(layer = %layer.display(), "the layer is gone from the disk, and {name} with it");
        self.forget(&turn, &image.id)?;
        Ok(None)
    }

    fn find(&self, name: &str) -> Result<Option<Arc<Image>>, ImageError> {
        let state = self.lock();
        let id = name.parse().ok().or_else(|| Digest::from_hex(name));
        if let Some(id) = id {
            return Ok(state.images.get(&id).cloned());
        }
        let reference = Reference::parse(name)?;
        let found = match &reference.digest {
            Some(digest) => {
                let name = format!("{}@{digest}", reference.name());
                state.images.values().find(|image| image.repo_digests.contains(&name))
            }
            None => {
                let name = reference.to_string();
                state.images.values().find(|image| image.repo_tags.contains(&name))
            }
        };
        Ok(found.cloned())
    }

    /// Takes a name away; the image goes with its last name, or at once where
    /// it is named by ID. Images in `in_use` stay unless `force` is set: then
    /// their files go from under the containers.
    ///
    /// # Errors
    /// [`ImageError::NoSuchImage`], [`ImageError::InUse`], or the disk's.
    pub fn remove(
        &self,
        name: &str,
        in_use: &BTreeSet<Digest>,
        force: bool,
    ) -> Result<(), ImageError> {
        let turn = self.turn();
        let image = self.find(name)?;
        let image = image.ok_or_else(|| ImageError::NoSuchImage { name: name.into() })?;
        let by_id = name.parse::<Digest>().is_ok() || Digest::from_hex(name).is_some();
        let mut left = Image::clone(&image);
        if by_id {
            left.repo_tags.clear();
            left.repo_digests.clear();
        } else {
            let reference = Reference::parse(name)?;
            left.repo_tags.retain(|tag| *tag != reference.to_string());
            match &reference.digest {
                Some(digest) => {
                    let name = format!("{}@{digest}", reference.name());
                    left.repo_digests.retain(|other| *other != name);
                }
                // A digest is no name by itself: it goes with its last tag.
                None if left.repo_tags.is_empty() => left.repo_digests.clear(),
                None => {}
            }
        }
        if !left.repo_tags.is_empty() || !left.repo_digests.is_empty() {
            return self.put(&turn, left);
        }
        if in_use.contains(&image.id) && !force {
            return Err(ImageError::InUse { name: name.into() });
        }
        self.forget(&turn, &image.id)?;
        drop(turn);
        self.sweep()
    }

    fn forget(&self, _turn: &Turn<'_>, id: &Digest) -> Result<(), ImageError> {
        record::remove(&self.record_path(id))?;
        self.lock().images.remove(id);
        Ok(())
    }

    /// Removes images as [`gc::plan`] decides, and what no image needs.
    ///
    /// # Errors
    /// The disk's.
    pub fn collect(&self, request: &gc::Request) -> Result<Vec<Arc<Image>>, ImageError> {
        let images = self.list();
        let chosen = gc::plan(&gc::view(&images), request);
        let mut removed = Vec::new();
        for image in images.into_iter().filter(|image| chosen.contains(&image.id)) {
            let turn = self.turn();
            // One that has got another name since it was looked at is wanted.
            if self.known(&image.id).is_some_and(|known| Arc::ptr_eq(&known, &image)) {
                self.forget(&turn, &image.id)?;
                removed.push(image);
            }
        }
        self.sweep()?;
        Ok(removed)
    }

    /// Removes layers and documents that no image names.
    fn sweep(&self) -> Result<(), ImageError> {
        for chain in self.unused()? {
            self.discard(&chain)?;
        }
        let blobs = self.root.join("content/blobs/sha256");
        for entry in fs::read_dir(&blobs).map_err(ImageError::io(&blobs))? {
            let path = entry.map_err(ImageError::io(&blobs))?.path();
            let id = path.file_name().and_then(|name| name.to_str()).and_then(Digest::from_hex);
            // A document is there before its image, but not before the turn of that.
            let _turn = self.turn();
            if id.is_none_or(|id| !self.lock().knows(&id)) {
                record::remove(&path)?;
            }
        }
        Ok(())
    }

    /// The layers that nothing needs at the moment.
    pub(crate) fn unused(&self) -> Result<Vec<Digest>, ImageError> {
        let on_disk = self.layers.list()?;
        Ok(gc::unused(&on_disk, &self.lock().needed()))
    }

    /// Removes a layer, unless something has come to need it: to remove others takes
    /// long, and a pull counts on what it has seen once it says so by [`Self::adding`].
    pub(crate) fn discard(&self, chain: &Digest) -> Result<(), ImageError> {
        let taken = {
            let state = self.lock();
            match state.needed().contains(chain) {
                true => None,
                false => self.layers.take(chain)?,
            }
        };
        taken.map_or(Ok(()), |dir| linux::tree::remove(&dir).map_err(ImageError::io(dir)))
    }

    /// Waits until nobody else pulls this name: what the first has brought need not
    /// come again.
    pub(crate) async fn pulling(&self, name: &str) -> OwnedMutexGuard<()> {
        let one = {
            let mut state = self.lock();
            state.pulling.retain(|_, one| one.strong_count() > 0);
            let one = state.pulling.get(name).and_then(Weak::upgrade).unwrap_or_default();
            state.pulling.insert(name.to_owned(), Arc::downgrade(&one));
            one
        };
        one.lock_owned().await
    }

    /// Protects the layers of an image that is about to be added.
    pub(crate) fn adding(&self, chains: &[Digest]) -> Adding<'_> {
        let mut state = self.lock();
        for chain in chains {
            *state.adding.entry(*chain).or_insert(0) += 1;
        }
        Adding { store: self, chains: chains.to_vec() }
    }

    /// Records an image whose layers are all there. Its tags move here from
    /// other images, which stay without them.
    ///
    /// # Errors
    /// A layer is not there, or the disk's.
    pub(crate) fn add(&self, new: NewImage<'_>) -> Result<Arc<Image>, ImageError> {
        let chains = chains(&new.config.rootfs.diff_ids);
        // A pull that was given up no longer sees to it that they stay.
        let _adding = self.adding(&chains);
        let turn = self.turn();
        let mut size_bytes = 0;
        for chain in &chains {
            let gone = || ImageError::io(self.layers.path(chain))(io::ErrorKind::NotFound.into());
            size_bytes += self.layers.info(chain).ok_or_else(gone)?.size_bytes;
        }
        let blob = self.blob_path(&new.id);
        if !blob.exists() {
            let scratch = self.layers.scratch("blob");
            crate::layers::write_synced(&scratch, new.config_bytes)?;
            fs::rename(&scratch, &blob).map_err(ImageError::io(&blob))?;
        }
        for other in self.list() {
            if other.id != new.id && other.repo_tags.iter().any(|tag| new.tags.contains(tag)) {
                let mut left = Image::clone(&other);
                left.repo_tags.retain(|tag| !new.tags.contains(tag));
                // What came with an older program may go.
                left.pinned &= !left.repo_tags.is_empty();
                self.put(&turn, left)?;
            }
        }
        let known = self.known(&new.id);
        let merge = |old: Option<&Vec<String>>, new: Vec<String>| {
            let all: BTreeSet<String> = old.into_iter().flatten().cloned().chain(new).collect();
            all.into_iter().collect::<Vec<_>>()
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let stored = Stored {
            version: STORED_VERSION,
            id: new.id,
            repo_tags: merge(known.as_ref().map(|image| &image.repo_tags), new.tags),
            repo_digests: merge(known.as_ref().map(|image| &image.repo_digests), new.digests),
            size_bytes,
            config: new.config.config.clone().unwrap_or_default(),
            layers: chains,
            pinned: new.pinned || known.as_ref().is_some_and(|image| image.pinned),
            added_at: known.as_ref().map_or(now, |image| image.added_at),
        };
        let image = self.image(stored);
        self.put(&turn, image.clone())?;
        record::remove_damaged(&self.record_path(&image.id))?;
        self.lock().damaged.remove(&image.id);
        Ok(Arc::new(image))
    }

    /// Writes an image's record, unless it is as it should be already.
    fn put(&self, _turn: &Turn<'_>, image: Image) -> Result<(), ImageError> {
        if self.known(&image.id).is_some_and(|old| *old == image) {
            return Ok(());
        }
        let stored = Stored {
            version: STORED_VERSION,
            id: image.id,
            repo_tags: image.repo_tags.clone(),
            repo_digests: image.repo_digests.clone(),
            size_bytes: image.size_bytes,
            config: image.config.clone(),
            layers: image.chains.clone(),
            pinned: image.pinned,
            added_at: image.added_at,
        };
        self.layers.replace_json(&self.record_path(&image.id), &stored)?;
        self.lock().images.insert(image.id, Arc::new(image));
        Ok(())
    }

    fn image(&self, stored: Stored) -> Image {
        let layer_dirs = stored.layers.iter().rev().map(|chain| self.layers.path(chain)).collect();
        Image {
            id: stored.id,
            repo_tags: stored.repo_tags,
            repo_digests: stored.repo_digests,
            size_bytes: stored.size_bytes,
            config: stored.config,
            layer_dirs,
            pinned: stored.pinned,
            added_at: stored.added_at,
            chains: stored.layers,
        }
    }

    fn known(&self, id: &Digest) -> Option<Arc<Image>> {
        self.lock().images.get(id).cloned()
    }

    /// The layers of an image as its configuration has them; none where that is
    /// not there or damaged as well.
    fn layers_by_config(&self, id: &Digest) -> Vec<Digest> {
        let bytes = fs::read(self.blob_path(id)).ok().filter(|bytes| Digest::of(bytes) == *id);
        let config: Option<ConfigFile> =
            bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        config.map(|config| chains(&config.rootfs.diff_ids)).unwrap_or_default()
    }

    fn blob_path(&self, id: &Digest) -> PathBuf {
        self.root.join("content/blobs/sha256").join(id.hex())
    }

    fn record_path(&self, id: &Digest) -> PathBuf {
        self.root.join("images").join(format!("{}.json", id.hex()))
    }

    fn turn(&self) -> Turn<'_> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The chain IDs of a stack of layers, the lowest first.
pub(crate) fn chains(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut parent = None;
    let chain = |diff: &Digest| {
        parent = Some(Digest::chain(parent, *diff));
        parent
    };
    diff_ids.iter().filter_map(chain).collect()
}

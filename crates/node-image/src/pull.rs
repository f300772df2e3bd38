//! Pulls an image: names to digests, digests to layers.
//!
//! A layer is unpacked while it comes in, and takes its place only if both its
//! digests are right, so its compressed form never touches the disk.

use std::{
    io::{self, Read},
    sync::Arc,
};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use crate::{
    Digest, Image, ImageError, ImageStore, Reference,
    import::check_platform,
    layers::Expected,
    oci::{ConfigFile, Document, Manifest, host_architecture, parse_json},
    registry::{Endpoint, Proxies, Registry, Trust},
    store::{NewImage, chains},
};

/// Who asks a registry.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Auth {
    /// User name.
    pub username: String,
    /// Password, or what a registry calls a token.
    pub password: String,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Auth({}, …)", self.username)
    }
}

/// How to pull.
#[derive(Clone, Debug, Default)]
pub struct PullOptions {
    /// Credentials; `None` for anonymous.
    pub auth: Option<Auth>,
    /// Registries (`host` or `host:port`) that are spoken to without TLS.
    /// `localhost` and 127.0.0.0/8 always are, as with containerd.
    pub http_registries: Vec<String>,
    /// Mirrors, asked in this order before the registry itself.
    pub endpoints: Vec<Endpoint>,
    /// How to know the registry itself.
    pub trust: Trust,
    /// The way out.
    pub proxies: Proxies,
}

/// Chunks of a layer on their way to the unpacking thread. Few, since the
/// network is slower than the disk or the other way round.
const CHUNKS_MAX: usize = 16;
/// Layers that come in at once.
const LAYERS_AT_ONCE: usize = 3;

impl ImageStore {
    /// Pulls an image from its registry, or finds that what is here is what the
    /// registry has.
    ///
    /// # Errors
    /// See [`ImageError`]; [`ImageError::reason`] is what a pod's status shows.
    pub async fn pull(
        self: &Arc<Self>,
        name: &str,
        options: &PullOptions,
    ) -> Result<Arc<Image>, ImageError> {
        let reference = Reference::parse(name)?;
        let _alone = self.pulling(&reference.to_string()).await;
        let (registry, manifest, digest) = find(&reference, options).await?;
        let config_bytes = registry.document(&manifest.config.digest).await?;
        let what = format!("{reference}: configuration");
        let config: ConfigFile = parse_json(&config_bytes, &what)?;
        check_platform(&config, &reference.to_string())?;
        if config.rootfs.diff_ids.len() != manifest.layers.len() {
            let text = format!(
                "it names {} layers, and the manifest {}",
                config.rootfs.diff_ids.len(),
                manifest.layers.len()
            );
            return Err(ImageError::Malformed { what, text });
        }
        let chains = chains(&config.rootfs.diff_ids);
        let _adding = self.adding(&chains);
        self.pull_layers(&registry, &manifest, &config, &chains).await?;
        let tags = match (&reference.digest, &reference.tag) {
            (None, Some(_)) => vec![reference.to_string()],
            _ => Vec::new(),
        };
        let store = self.clone();
        let digests = vec![format!("{}@{digest}", reference.name())];
        let adding = tokio::task::spawn_blocking(move || {
            let id = Digest::of(&config_bytes);
            let (config, config_bytes) = (&config, &config_bytes);
            store.add(NewImage { id, config, config_bytes, tags, digests, pinned: false })
        });
        adding.await.expect("adding an image does not panic")
    }

    async fn pull_layers(
        self: &Arc<Self>,
        registry: &Arc<Registry>,
        manifest: &Manifest,
        config: &ConfigFile,
        chains: &[Digest],
    ) -> Result<(), ImageError> {
        let mut tasks = tokio::task::JoinSet::new();
        // Once one layer has failed the others stop, and are waited for: no
        // thread goes on unpacking what nobody will use.
        let (stop, stopped) = watch::channel(false);
        let mut failed = None;
        let mut finished = |task: Option<Result<Result<(), ImageError>, _>>| {
            let result = task.map_or(Ok(()), |task: Result<_, tokio::task::JoinError>| {
                task.expect("pulling a layer does not panic")
            });
            if let Err(error) = result {
                let _ = stop.send(true);
                failed.get_or_insert(error);
            }
        };
        let layers = manifest.layers.iter().zip(&config.rootfs.diff_ids).zip(chains);
        for ((descriptor, diff_id), chain) in layers {
            if self.layers.info(chain).is_some() || *stopped.borrow() {
                continue;
            }
            while tasks.len() >= LAYERS_AT_ONCE {
                finished(tasks.join_next().await);
            }
            let layer = Layer {
                digest: descriptor.digest,
                size: descriptor.size,
                diff_id: *diff_id,
                chain: *chain,
            };
            let (store, registry, stopped) = (self.clone(), registry.clone(), stopped.clone());
            tasks.spawn(async move { store.pull_layer(&registry, layer, stopped).await });
        }
        while let Some(task) = tasks.join_next().await {
            finished(Some(task));
        }
        failed.map_or(Ok(()), Err)
    }

    async fn pull_layer(
        self: Arc<Self>,
        registry: &Registry,
        layer: Layer,
        mut stopped: watch::Receiver<bool>,
    ) -> Result<(), ImageError> {
        let Layer { digest, size, diff_id, chain } = layer;
        let what = format!("layer {digest}");
        let stop = ImageError::Archive { layer: what.clone(), text: "another layer failed".into() };
        let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
        let unpacking = tokio::task::spawn_blocking(move || {
            let expected = Expected { what: &what, chain, diff_id, compressed: Some(digest) };
            let source = ChunkReader { receiver, chunk: Bytes::new(), done: false };
            self.layers.add(source, &expected).map(|_| ())
        });
        let downloaded = tokio::select! {
            biased;
            Ok(_) = stopped.wait_for(|stopped| *stopped) => Err(stop),
            downloaded = registry.blob(&digest, size, &sender) => downloaded,
        };
        if downloaded.is_ok() {
            // An unpacker that gave up says why itself.
            let _ = sender.send(None).await;
        }
        drop(sender);
        let unpacked = unpacking.await.expect("unpacking does not panic");
        // A download that failed is why the unpacker saw a cut archive.
        downloaded.and(unpacked)
    }
}

/// One layer to pull.
struct Layer {
    digest: Digest,
    size: u64,
    diff_id: Digest,
    chain: Digest,
}

/// The first of the mirrors that has the image, else its registry; and what it
/// has. What mirrors said is in the log, what the registry said is the answer.
async fn find(
    reference: &Reference,
    options: &PullOptions,
) -> Result<(Arc<Registry>, Manifest, Digest), ImageError> {
    for endpoint in &options.endpoints {
        let asked = async {
            let registry = Registry::mirror(reference, options, endpoint)?;
            let (manifest, digest) = find_manifest(&registry, reference).await?;
            Ok::<_, ImageError>((Arc::new(registry), manifest, digest))
        };
        match asked.await {
            Ok(found) => return Ok(found),
            Err(error) => tracing::info!(mirror = endpoint.url, "{error}; asking the next"),
        }
    }
    let registry = Registry::new(reference, options)?;
    let (manifest, digest) = find_manifest(&registry, reference).await?;
    Ok((Arc::new(registry), manifest, digest))
}

async fn find_manifest(
    registry: &Registry,
    reference: &Reference,
) -> Result<(Manifest, Digest), ImageError> {
    let (bytes, first) = registry.manifest(&reference.version()).await?;
    if let Some(expected) = reference.digest.filter(|expected| *expected != first) {
        let what = reference.to_string();
        return Err(ImageError::DigestMismatch { what, expected, found: first });
    }
    let what = reference.to_string();
    let mut document = Document::parse(&bytes, &what)?;
    // An index may hold another, and there it ends.
    for _ in 0..3 {
        let index = match document {
            Document::Manifest(manifest) => return Ok((manifest, first)),
            Document::Index(index) => index,
        };
        let wanted = index.for_platform(host_architecture(), &what)?.digest;
        let (bytes, found) = registry.manifest(&wanted.to_string()).await?;
        if found != wanted {
            return Err(ImageError::DigestMismatch { what, expected: wanted, found });
        }
        document = Document::parse(&bytes, &what)?;
    }
    Err(ImageError::Malformed { what, text: "its indexes are nested too deeply".into() })
}

/// What comes in, as a blocking reader. The sender ends it with `None`: one
/// that just goes away means that the download failed.
struct ChunkReader {
    receiver: mpsc::Receiver<Option<Bytes>>,
    chunk: Bytes,
    done: bool,
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() && !self.done {
            match self.receiver.blocking_recv() {
                Some(Some(chunk)) => self.chunk = chunk,
                Some(None) => self.done = true,
                None => return Err(io::Error::other("the download failed")),
            }
        }
        let count = self.chunk.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.chunk.split_to(count));
        Ok(count)
    }
}

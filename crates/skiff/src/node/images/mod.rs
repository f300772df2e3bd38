//! The image store as the node wants it.

pub(crate) mod bundles;
mod credentials;
mod providers;
mod registries;
pub(crate) mod socket;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use ::node::{BoxFuture, Collect, Fetched, Image, ImageConfig, ImageError, ImageListing, Images};
use node_image::{BuiltinFile, ImageStore, Proxies, PullOptions, Reference};
use node_runtime::spec::User;

use self::{providers::Providers, registries::Registries};
use crate::StartError;

/// Images under this registry name come with the binary and from nowhere else.
const LOCAL_REGISTRY: &str = "skiff.local";
/// The built-in image of demos and tests.
const TOOLBOX: &str = "skiff.local/toolbox";

/// Images of an [`ImageStore`], and where those come from that it has not.
pub(crate) struct StoreImages {
    store: Arc<ImageStore>,
    registries: Registries,
    providers: Providers,
    proxies: Proxies,
}

impl StoreImages {
    /// With what the registries file and the environment say, and with credential plugins
    /// where there are such: their file and the folder of their programs.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub(crate) fn new(
        store: Arc<ImageStore>,
        registries: &Path,
        plugins: Option<&(PathBuf, PathBuf)>,
    ) -> Result<Self, StartError> {
        let proxies = Proxies::from_variables(|name| std::env::var(name).ok())?;
        let registries = Registries::open(registries)?;
        let providers = match plugins {
            Some((file, programs)) => Providers::open(file, programs)?,
            None => Providers::default(),
        };
        Ok(Self { store, registries, providers, proxies })
    }
}

/// Opens the store and puts the built-in image into it.
pub(crate) fn open(dir: &Path) -> Result<Arc<ImageStore>, StartError> {
    let store = ImageStore::open(dir)?;
    let links: Vec<String> =
        toolbox_image::PROGRAMS.iter().map(|name| format!("bin/{name}")).collect();
    let toolbox = toolbox_image::toolbox();
    let mut files =
        vec![BuiltinFile { path: "bin/toolbox", mode: 0o755, bytes: &toolbox, link_to: None }];
    files.extend(links.iter().map(|path| BuiltinFile {
        path,
        mode: 0o777,
        bytes: &[],
        link_to: Some("toolbox"),
    }));
    // `kubectl cp` and scratch files want a place.
    files.push(BuiltinFile { path: "tmp/.keep", mode: 0o644, bytes: &[], link_to: None });
    let config = node_image::ImageConfig {
        entrypoint: vec!["/bin/toolbox".into()],
        env: vec!["PATH=/bin".into()],
        ..Default::default()
    };
    store.ensure_builtin(TOOLBOX, &files, config)?;
    Ok(Arc::new(store))
}

impl Images for StoreImages {
    fn find<'a>(&'a self, reference: &'a str) -> BoxFuture<'a, Result<Option<Image>, ImageError>> {
        Box::pin(async move {
            let found = self.store.resolve(reference).map_err(|error| told(reference, &error))?;
            Ok(found.map(|image| view(&image)))
        })
    }

    fn pull<'a>(
        &'a self,
        reference: &'a str,
        docker_configs: &'a [Vec<u8>],
    ) -> BoxFuture<'a, Result<Fetched, ImageError>> {
        Box::pin(async move {
            let parsed = Reference::parse(reference).map_err(|error| told(reference, &error))?;
            if parsed.registry == LOCAL_REGISTRY {
                let found =
                    self.store.resolve(reference).map_err(|error| told(reference, &error))?;
                let found = found.map(|image| Fetched { image: view(&image), by: None });
                return found.ok_or_else(|| {
                    ImageError::Failed(format!(
                        "failed to resolve reference {reference:?}: not built into this version of skiff"
                    ))
                });
            }
            let (own, trust) = self.registries.of(&parsed.registry);
            // The pod's credentials are about this image; the node's about any.
            let mut known = credentials::find(docker_configs, &parsed);
            let of_node = self.providers.find(&parsed).await.into_iter().chain(own);
            known.extend(of_node.map(|auth| (None, auth)));
            let mut known = known.into_iter();
            let (mut by, auth) = known.next().map_or((None, None), |(by, auth)| (by, Some(auth)));
            let mut options = PullOptions {
                auth,
                trust,
                endpoints: self.registries.endpoints(&parsed),
                proxies: self.proxies.clone(),
                ..PullOptions::default()
            };
            loop {
                match self.store.pull(reference, &options).await {
                    Ok(image) => return Ok(Fetched { image: view(&image), by }),
                    Err(error) => match (error, known.next()) {
                        // Others may be let in.
                        (node_image::ImageError::Denied { .. }, Some((of, auth))) => {
                            (by, options.auth) = (of, Some(auth));
                        }
                        (error, _) => return Err(told(reference, &error)),
                    },
                }
            }
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<ImageListing>, ImageError>> {
        let listing = |image: &Arc<node_image::Image>| ImageListing {
            names: image.repo_digests.iter().chain(&image.repo_tags).cloned().collect(),
            size_bytes: image.size_bytes,
        };
        let all = self.store.list().iter().map(listing).collect();
        Box::pin(async move { Ok(all) })
    }

    fn collect(&self, request: Collect) -> BoxFuture<'_, Result<u64, ImageError>> {
        let store = self.store.clone();
        Box::pin(async move {
            let collect = tokio::task::spawn_blocking(move || collect(&store, request)).await;
            collect.map_err(|error| ImageError::Failed(error.to_string()))?
        })
    }

    fn user<'a>(
        &'a self,
        image: &'a Image,
        user: &'a str,
    ) -> BoxFuture<'a, Result<User, ImageError>> {
        let (layers, user) = (image.layers.clone(), user.to_owned());
        Box::pin(async move {
            let look = move || node_runtime::passwd::resolve(&layers, &user);
            let found = tokio::task::spawn_blocking(look).await;
            found
                .map_err(|error| ImageError::Failed(error.to_string()))?
                .map_err(|error| ImageError::Failed(error.to_string()))
        })
    }
}

/// As containers' statuses say it.
fn id_of(image: &node_image::Image) -> String {
    image.repo_digests.first().cloned().unwrap_or_else(|| image.id_string())
}

fn collect(store: &ImageStore, request: Collect) -> Result<u64, ImageError> {
    let failed = |error: node_image::ImageError| ImageError::Failed(error.to_string());
    let images = store.list();
    // An image may have got another name since a container was made of it.
    let names = |image: &node_image::Image| {
        let mut names = image.repo_digests.clone();
        names.push(image.id_string());
        names
    };
    let used = |image: &&Arc<node_image::Image>| {
        names(image).iter().any(|name| request.in_use.contains(name))
    };
    let last_used = images.iter().filter_map(|image| {
        let times = names(image).into_iter().filter_map(|n| request.last_used.get(&n).copied());
        Some((image.id, times.max()?))
    });
    let removed = store
        .collect(&node_image::gc::Request {
            free_bytes: request.free_bytes,
            in_use: images.iter().filter(used).map(|image| image.id).collect(),
            last_used: last_used.collect(),
            now: request.now,
            age_min: request.age_min,
        })
        .map_err(failed)?;
    Ok(removed.iter().map(|image| image.size_bytes).sum())
}

fn view(image: &node_image::Image) -> Image {
    let config = &image.config;
    Image {
        id: id_of(image),
        layers: image.layer_dirs.clone(),
        config: ImageConfig {
            entrypoint: config.entrypoint.clone(),
            cmd: config.cmd.clone(),
            env: config.env.clone(),
            working_dir: config.working_dir.clone(),
            user: config.user.clone(),
            stop_signal: (!config.stop_signal.is_empty()).then(|| config.stop_signal.clone()),
        },
        size_bytes: image.size_bytes,
    }
}

fn told(reference: &str, error: &node_image::ImageError) -> ImageError {
    match error {
        node_image::ImageError::InvalidName { reason, .. } => {
            ImageError::InvalidName { reference: reference.to_owned(), why: reason.to_string() }
        }
        other => ImageError::Failed(other.to_string()),
    }
}

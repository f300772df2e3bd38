//! What a node wants of an image store.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    path::PathBuf,
    pin::Pin,
    time::Duration,
};

/// A boxed future, so that [`Images`] is usable as an object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where container images come from.
pub trait Images: Send + Sync + 'static {
    /// The image if it is on this machine.
    fn find<'a>(&'a self, reference: &'a str) -> BoxFuture<'a, Result<Option<Image>, ImageError>>;

    /// Fetches the image from its registry. Each of `docker_configs` is the
    /// JSON of a `kubernetes.io/dockerconfigjson` Secret.
    fn pull<'a>(
        &'a self,
        reference: &'a str,
        docker_configs: &'a [Vec<u8>],
    ) -> BoxFuture<'a, Result<Fetched, ImageError>>;

    /// What is on this machine, for the Node's status.
    fn list(&self) -> BoxFuture<'_, Result<Vec<ImageListing>, ImageError>>;

    /// Removes images that nothing uses, the longest unused first; answers how many
    /// bytes that frees.
    fn collect(&self, request: Collect) -> BoxFuture<'_, Result<u64, ImageError>>;

    /// Numeric user, group and supplementary groups of `USER` as the image or
    /// the pod writes it (`""`, `1000`, `app`, `app:staff`), read from the
    /// image's own `/etc/passwd` and `/etc/group`.
    fn user<'a>(
        &'a self,
        image: &'a Image,
        user: &'a str,
    ) -> BoxFuture<'a, Result<node_runtime::spec::User, ImageError>>;
}

/// Which images may go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collect {
    /// Enough once so many bytes are free; all that nothing uses where `None`.
    pub free_bytes: Option<u64>,
    /// Ids ([`Image::id`]) that containers have, running or not.
    pub in_use: BTreeSet<String>,
    /// When an id was last in use, seconds since 1970.
    pub last_used: BTreeMap<String, u64>,
    /// Now, seconds since 1970.
    pub now: u64,
    /// Younger ones stay.
    pub age_min: Duration,
}

/// An image that can be run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    /// What `status.containerStatuses[].imageID` says: repository and digest
    /// where known, else the configuration's digest.
    pub id: String,
    /// Read-only layers, top-most first.
    pub layers: Vec<PathBuf>,
    /// How it wants to be run.
    pub config: ImageConfig,
    /// Bytes, compressed.
    pub size_bytes: u64,
}

/// An image that was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// As it is on this machine now.
    pub image: Image,
    /// Which of the pod's configurations let it be fetched; `None` where that was
    /// nobody's, or the node's own credentials.
    pub by: Option<usize>,
}

/// The part of an OCI image configuration that a container start needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// Program and first arguments.
    pub entrypoint: Vec<String>,
    /// Further arguments, or the program where there is no entrypoint.
    pub cmd: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Empty for `/`.
    pub working_dir: String,
    /// `USER`, empty for root.
    pub user: String,
    /// Signal that asks it to end, such as `SIGQUIT`.
    pub stop_signal: Option<String>,
}

/// A row of the Node's image list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageListing {
    /// All its names, digests and tags.
    pub names: Vec<String>,
    /// Bytes.
    pub size_bytes: u64,
}

/// Why there is no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The reference cannot be read: nothing to retry.
    #[error("couldn't parse image name \"{reference}\": {why}")]
    InvalidName {
        /// As the pod writes it.
        reference: String,
        /// What is wrong.
        why: String,
    },
    /// Anything else; may pass.
    #[error("{0}")]
    Failed(String),
}

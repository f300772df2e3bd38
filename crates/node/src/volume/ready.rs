//! Makes all volumes of a pod ready, and remembers those that are.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use api_types::core::{ImageVolumeSource, PersistentVolume, Pod, Volume};
use client::WorkQueue;

use super::{
    Kind, ReadyVolumes, VolumeError,
    claim::{self, Bound},
    csi, kind, make, make_dir, mounts,
    persistent::{self, Place},
    pod_dir, volume_dir,
};
use crate::{
    container::spec::ReadyVolume,
    node::Deps,
    pod::{
        setup::{SetupError, blocking},
        start,
    },
};

/// What is known of all pods' volumes on this node.
pub(crate) struct Volumes {
    /// By the pod's uid.
    ready: Mutex<BTreeMap<String, ReadyVolumes>>,
    /// PersistentVolumes whose directory may have to be removed.
    pub(crate) reclaim: Arc<WorkQueue<String>>,
    pub(crate) drivers: csi::Drivers,
}

impl Volumes {
    pub(crate) fn new(kubelet_dir: &Path) -> Self {
        Self {
            ready: Mutex::default(),
            reclaim: Arc::new(WorkQueue::default()),
            drivers: csi::Drivers::new(kubelet_dir),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, ReadyVolumes>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pod's volumes were unmounted.
    pub(crate) fn forget(&self, uid: &str) {
        let Some(gone) = self.lock().remove(uid) else { return };
        for volume in gone.into_values().filter(|volume| !volume.volume.is_empty()) {
            self.reclaim.add(volume.volume);
        }
    }

    /// Where a pod's claimed file systems are, by the name of the pod's volume.
    pub(crate) fn claimed(&self, uid: &str) -> BTreeMap<String, PathBuf> {
        let all = self.lock();
        let volumes = all.get(uid).into_iter().flatten();
        let claimed = volumes.filter(|(_, ready)| !ready.volume.is_empty() && !ready.is_block);
        claimed.map(|(name, ready)| (name.clone(), ready.path.clone())).collect()
    }

    /// How many there are of each plugin.
    pub(crate) fn by_plugin(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for ready in self.lock().values().flat_map(BTreeMap::values) {
            *counts.entry(ready.plugin.clone()).or_default() += 1;
        }
        counts
    }

    /// Whether a pod has a PersistentVolume mounted.
    pub(crate) fn is_used(&self, name: &str) -> bool {
        self.lock().values().flat_map(BTreeMap::values).any(|volume| volume.volume == name)
    }
}

/// Why a volume is not ready, as the pod's event says it.
#[derive(Debug)]
pub(crate) struct NotReady {
    volume: String,
    error: VolumeError,
    /// There was nothing to mount yet.
    is_claim: bool,
}

impl NotReady {
    pub(crate) fn event(&self) -> SetupError {
        let Self { volume, error, is_claim } = self;
        let message = match is_claim {
            true => format!(
                "Unable to attach or mount volumes: unmounted volumes=[{volume}], unattached volumes=[{volume}], failed to process volumes=[{volume}]: {error}"
            ),
            false => format!("MountVolume.SetUp failed for volume \"{volume}\" : {error}"),
        };
        SetupError { reason: "FailedMount", message }
    }
}

impl std::fmt::Display for NotReady {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "volume {}: {}", self.volume, self.error)
    }
}

/// Every volume's place, made where it is missing. What was made ready before
/// is only looked up: claims need the API.
pub(crate) async fn all(deps: &Deps, pod: &Pod) -> Result<ReadyVolumes, NotReady> {
    let uid = &pod.metadata.uid;
    if let Some(known) = deps.volumes.lock().get(uid) {
        return Ok(known.clone());
    }
    let mut ready = BTreeMap::new();
    for volume in &pod.spec.volumes {
        ready.insert(volume.name.clone(), one(deps, pod, volume).await?);
    }
    deps.volumes.lock().insert(uid.clone(), ready.clone());
    Ok(ready)
}

async fn one(deps: &Deps, pod: &Pod, volume: &Volume) -> Result<ReadyVolume, NotReady> {
    let failed = |error| NotReady { volume: volume.name.clone(), error, is_claim: false };
    let dir = pod_dir(&deps.config.kubelet_dir, &pod.metadata.uid);
    if let Some((name, read_only)) = claim::name(pod, volume) {
        let of_claim = |error| NotReady { volume: volume.name.clone(), error, is_claim: true };
        let bound = claim::resolve(&deps.api, pod, volume, &name, read_only).await;
        let bound = bound.map_err(of_claim)?;
        claim::check_use(pod, volume, bound.is_block()).map_err(of_claim)?;
        let of_volume =
            |error| NotReady { volume: bound.volume.metadata.name.clone(), error, is_claim: false };
        let work = self::bound(deps, pod, &dir, &bound);
        return measured(deps, plugin_of(&bound.volume), work).await.map_err(of_volume);
    }
    measured(deps, plugin(volume), own(deps, pod, volume, &dir)).await.map_err(failed)
}

/// A volume that the pod itself describes.
async fn own(
    deps: &Deps,
    pod: &Pod,
    volume: &Volume,
    dir: &Path,
) -> Result<ReadyVolume, VolumeError> {
    let (pod, volume) = (pod.clone(), volume.clone());
    match kind(&volume) {
        Kind::Image(source) => image(deps, &pod, &volume, source, dir).await,
        Kind::Csi(source) => csi::mount::inline(deps, &pod, dir, &volume, source).await,
        Kind::Nfs(source) => {
            let (source, name) = (source.clone(), volume.name.clone());
            let work = in_place(deps, &pod, dir, move |place| {
                let path = persistent::nfs(place, &name, &source, &[])?;
                Ok(ReadyVolume { path, read_only: source.read_only, ..ReadyVolume::default() })
            });
            work.await
        }
        _ => {
            let (bytes_max, dir) = (deps.machine.memory_bytes / 2, dir.to_owned());
            blocking(move || make(&pod, &volume, &dir, bytes_max)).await.map_err(VolumeError)
        }
    }
}

/// Counts how long it takes until a volume is ready.
async fn measured(
    deps: &Deps,
    plugin: String,
    work: impl Future<Output = Result<ReadyVolume, VolumeError>>,
) -> Result<ReadyVolume, VolumeError> {
    let begun = Instant::now();
    let made = work.await;
    deps.counts.mounted(&plugin, made.is_ok(), begun.elapsed());
    made.map(|ready| ReadyVolume { plugin, ..ready })
}

/// The kubelet's name of what serves a volume.
fn plugin(volume: &Volume) -> String {
    let name = match kind(volume) {
        Kind::EmptyDir(_) => "empty-dir",
        Kind::HostPath(_) => "host-path",
        Kind::Payload { plugin, .. } => plugin,
        Kind::Nfs(_) => "nfs",
        Kind::Csi(source) => return format!("kubernetes.io/csi:{}", source.driver),
        Kind::Image(_) => "image",
        Kind::Claim | Kind::Unsupported(_) => "unsupported",
    };
    format!("kubernetes.io/{name}")
}

fn plugin_of(volume: &PersistentVolume) -> String {
    let spec = &volume.spec;
    let name = match (&spec.csi, &spec.nfs, &spec.host_path) {
        (Some(csi), ..) => return format!("kubernetes.io/csi:{}", csi.driver),
        (_, Some(_), _) => "nfs",
        (_, _, Some(_)) => "host-path",
        _ => "local-volume",
    };
    format!("kubernetes.io/{name}")
}

async fn bound(
    deps: &Deps,
    pod: &Pod,
    dir: &Path,
    bound: &Bound,
) -> Result<ReadyVolume, VolumeError> {
    if bound.volume.spec.csi.is_some() {
        return csi::mount::bound(deps, pod, dir, bound).await;
    }
    let bound = bound.clone();
    in_place(deps, pod, dir, move |place| persistent::make(place, &bound)).await
}

/// Runs what mounts on a thread that may wait for it.
async fn in_place<T: Send + 'static>(
    deps: &Deps,
    pod: &Pod,
    dir: &Path,
    work: impl FnOnce(&Place<'_>) -> Result<T, VolumeError> + Send + 'static,
) -> Result<T, VolumeError> {
    let (pod, dir, node) = (pod.clone(), dir.to_owned(), deps.config.name.clone());
    let root = deps.config.storage_dir.clone();
    let work =
        blocking(move || work(&Place { pod: &pod, pod_dir: &dir, node: &node, local_root: &root }));
    work.await.map_err(VolumeError)
}

/// An image's files, pulled like those of containers.
async fn image(
    deps: &Deps,
    pod: &Pod,
    volume: &Volume,
    source: &ImageVolumeSource,
    dir: &Path,
) -> Result<ReadyVolume, VolumeError> {
    let found = start::image_of(deps, pod, &source.reference, &source.pull_policy).await;
    let found =
        found.map_err(|error| VolumeError(format!("{}: {}", error.reason, error.message)))?;
    let path = volume_dir(dir, "image", &volume.name);
    make_dir(&path, 0o755)?;
    let at = path.clone();
    blocking(move || mounts::ensure_layers(&at, &found.layers)).await.map_err(VolumeError)?;
    Ok(ReadyVolume { path, read_only: true, ..ReadyVolume::default() })
}

/// Takes a pod's volumes away, with everything else of the pod where `all`.
/// The pod may be one that only its directory tells of.
pub(crate) async fn tear_down(deps: &Deps, uid: &str, all: bool) -> Result<(), String> {
    let dir = pod_dir(&deps.config.kubelet_dir, uid);
    csi::mount::tear_down(deps, uid, &dir).await.map_err(|error| error.0)?;
    blocking(move || super::remove(&dir, all)).await?;
    deps.volumes.forget(uid);
    Ok(())
}

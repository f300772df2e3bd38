//! Growth of a driver's volumes: once one has become larger (which is its controller's
//! part), the driver lets the file system on this node grow, and the claim says so. It
//! happens when a pod mounts the volume, and while it has it mounted: the claim is
//! followed, whose resizer writes into it that the node is next.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use api_types::core::{PersistentVolume, PersistentVolumeClaim, SecretReference};
use client::{Ambient, Api, Backoff, PatchKind, Recorder, Reference};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{
    driver::Socket,
    messages::{CapacityRange, NodeExpandVolume, capability},
    mount::secrets,
};
use crate::{
    node::Deps,
    resources::{CLAIMS, PERSISTENT_VOLUMES},
    volume::{
        VolumeError,
        claim::Bound,
        objects::{Followed, Known},
    },
};

/// Upstream's numbers for what a driver could not do.
const RETRY: Backoff = Backoff { base: Duration::from_millis(500), cap: Duration::from_secs(122) };

/// What has to be said to a driver, but for the size.
pub(super) struct Growth {
    api: Api,
    ambient: Ambient,
    recorder: Recorder,
    node: String,
    pod: Reference,
    socket: Socket,
    can_expand: bool,
    request: NodeExpandVolume,
    secret: Option<SecretReference>,
}

impl Growth {
    pub(super) fn new(
        deps: &Deps,
        pod: Reference,
        socket: Socket,
        capabilities: &[i32],
        request: NodeExpandVolume,
        secret: Option<SecretReference>,
    ) -> Self {
        Self {
            api: deps.api.clone(),
            ambient: deps.ambient.clone(),
            recorder: deps.recorder.clone(),
            node: deps.config.name.clone(),
            pod,
            socket,
            can_expand: capabilities.contains(&capability::EXPAND_VOLUME),
            request,
            secret,
        }
    }

    /// Lets the file system grow to what the volume has become, where it has.
    pub(super) async fn catch_up(
        &self,
        claim: &PersistentVolumeClaim,
        volume: &PersistentVolume,
    ) -> Result<(), VolumeError> {
        let has = claim.status.capacity.get("storage").copied().unwrap_or_default();
        let size = volume.spec.capacity.get("storage").copied().filter(|size| *size > has);
        let Some(size) = size else { return Ok(()) };
        if self.can_expand {
            let mut request = self.request.clone();
            request.capacity_range = Some(CapacityRange { required_bytes: size.units() });
            request.secrets = secrets(&self.api, self.secret.as_ref()).await?;
            self.socket.expand(&request).await.map_err(|error| {
                VolumeError(format!("NodeExpandVolume.NodeExpandVolume failed: {}", error.0))
            })?;
        }
        let meta = &claim.metadata;
        let patch = json!({
            "metadata": {"uid": meta.uid},
            "status": {
                "capacity": {"storage": size.to_string()},
                "conditions": Value::Null,
                "allocatedResourceStatuses": Value::Null,
            },
        });
        let (namespace, name) = (&meta.namespace, &meta.name);
        let patched =
            self.api.patch(CLAIMS, namespace, name, "status", PatchKind::Merge, &patch).await;
        patched.map_err(|error| VolumeError(format!("PVC {namespace}/{name}: {error}")))?;
        if self.can_expand {
            let text = format!(
                "MountVolume.NodeExpandVolume succeeded for volume \"{}\" {}",
                volume.metadata.name, self.node
            );
            self.recorder.normal(&self.pod, "FileSystemResizeSuccessful", text);
        }
        Ok(())
    }

    /// Whenever the claim changes. Never returns.
    async fn follow(self, bound: Bound, followed: Arc<Followed>) {
        let mut known = followed.changes();
        let mut failures = 0;
        loop {
            let now = known.borrow_and_update().clone();
            match self.look(&bound, &now).await {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures += 1;
                    self.recorder.warning(&self.pod, "VolumeResizeFailed", error.0);
                }
            }
            let again = async {
                match failures {
                    0 => std::future::pending().await,
                    n => tokio::time::sleep(self.ambient.jittered(RETRY.delay(n))).await,
                }
            };
            tokio::select! {
                // The sender lives as long as `followed`.
                Ok(()) = known.changed() => {}
                () = again => {}
            }
        }
    }

    async fn look(&self, bound: &Bound, known: &Known) -> Result<(), VolumeError> {
        let Known::Present(object) = known else { return Ok(()) };
        if object.meta.uid != bound.claim.metadata.uid {
            return Ok(());
        }
        let claim: PersistentVolumeClaim = serde_json::from_slice(&object.bytes)
            .map_err(|error| VolumeError(format!("PVC {}: {error}", object.meta.name)))?;
        let name = &bound.volume.metadata.name;
        let failed = |why: String| VolumeError(format!("PV {name}: {why}"));
        let volume = self.api.get(PERSISTENT_VOLUMES, "", name).await;
        let volume = volume.map_err(|error| failed(error.to_string()))?;
        let volume: PersistentVolume =
            serde_json::from_slice(&volume.bytes).map_err(|error| failed(error.to_string()))?;
        self.catch_up(&claim, &volume).await
    }
}

/// The mounted volumes whose claims are followed: by pod, and by volume.
#[derive(Default)]
pub(crate) struct Followers(Mutex<BTreeMap<(String, String), Follower>>);

struct Follower(JoinHandle<()>);

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Followers {
    /// A pod has the volume mounted from now on.
    pub(super) fn add(&self, deps: &Deps, growth: Growth, bound: &Bound) {
        // A driver that does nothing for it on a node has nothing to be told.
        if !growth.can_expand {
            return;
        }
        let key = (growth.pod.uid.clone(), bound.volume.metadata.name.clone());
        let claim = &bound.claim.metadata;
        let followed = deps.objects.follow(CLAIMS, &claim.namespace, &claim.name);
        let task = tokio::spawn(growth.follow(bound.clone(), followed));
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(key, Follower(task));
    }

    /// The pod's volumes are to be unmounted.
    pub(super) fn forget(&self, pod: &str) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(owner, _), _| owner != pod);
    }
}

//! From a pod's claim to the volume that is bound to it.

use api_types::core::{PersistentVolume, PersistentVolumeClaim, Pod, Volume};
use client::{Api, Resource};
use serde::de::DeserializeOwned;

use super::VolumeError;
use crate::resources::{CLAIMS, PERSISTENT_VOLUMES};

/// A claim and its volume.
#[derive(Debug, Clone)]
pub(crate) struct Bound {
    pub(crate) claim: PersistentVolumeClaim,
    pub(crate) volume: PersistentVolume,
    /// The pod asks for no writes.
    pub(crate) read_only: bool,
}

impl Bound {
    /// Whether containers get it as a device.
    pub(crate) fn is_block(&self) -> bool {
        self.volume.spec.volume_mode == "Block"
    }
}

/// The claim that a volume stands for, and whether the pod asks for no writes.
pub(crate) fn name(pod: &Pod, volume: &Volume) -> Option<(String, bool)> {
    if let Some(source) = &volume.persistent_volume_claim {
        return Some((source.claim_name.clone(), source.read_only));
    }
    let name = || format!("{}-{}", pod.metadata.name, volume.name);
    volume.ephemeral.as_ref().map(|_| (name(), false))
}

/// Asks the API for both: a node may get claims and volumes of its pods.
pub(crate) async fn resolve(
    api: &Api,
    pod: &Pod,
    volume: &Volume,
    name: &str,
    read_only: bool,
) -> Result<Bound, VolumeError> {
    let namespace = &pod.metadata.namespace;
    let failed =
        |why: String| VolumeError(format!("error processing PVC {namespace}/{name}: {why}"));
    let claim: PersistentVolumeClaim = get(api, CLAIMS, namespace, name)
        .await
        .map_err(|why| failed(format!("failed to fetch PVC from API server: {why}")))?;
    check_claim(pod, volume, &claim).map_err(failed)?;
    let of = claim.spec.volume_name.as_str();
    let found: PersistentVolume = get(api, PERSISTENT_VOLUMES, "", of)
        .await
        .map_err(|why| failed(format!("failed to fetch PV {of} from API server: {why}")))?;
    check_volume(&found, &claim).map_err(failed)?;
    Ok(Bound { claim, volume: found, read_only })
}

async fn get<T: DeserializeOwned>(
    api: &Api,
    resource: Resource,
    namespace: &str,
    name: &str,
) -> Result<T, String> {
    let object = api.get(resource, namespace, name).await.map_err(|error| error.to_string())?;
    serde_json::from_slice(&object.bytes).map_err(|error| error.to_string())
}

fn check_claim(pod: &Pod, volume: &Volume, claim: &PersistentVolumeClaim) -> Result<(), String> {
    let meta = &claim.metadata;
    if volume.ephemeral.is_some()
        && meta.controller().is_none_or(|owner| owner.uid != pod.metadata.uid)
    {
        return Err(format!(
            "PVC \"{}/{}\" was not created for pod \"{}/{}\" (pod is not owner)",
            meta.namespace, meta.name, pod.metadata.namespace, pod.metadata.name
        ));
    }
    if meta.deletion_timestamp.is_some() {
        return Err("PVC is being deleted".into());
    }
    if claim.status.phase != "Bound" || claim.spec.volume_name.is_empty() {
        return Err("PVC is not bound".into());
    }
    Ok(())
}

fn check_volume(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Result<(), String> {
    let name = &volume.metadata.name;
    match &volume.spec.claim_ref {
        None => Err(format!(
            "found PV object {name} but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim"
        )),
        Some(reference) if reference.uid != claim.metadata.uid => Err(format!(
            "found PV object {name} but its pv.Spec.ClaimRef.UID {} does not point to claim.UID {}",
            reference.uid, claim.metadata.uid
        )),
        Some(_) => Ok(()),
    }
}

/// Whether the containers use each volume in the way in which it is there.
pub(crate) fn check_use(pod: &Pod, volume: &Volume, is_block: bool) -> Result<(), VolumeError> {
    let name = &volume.name;
    let mut containers = pod.spec.init_containers.iter().chain(&pod.spec.containers);
    let is_wrong = containers.any(|container| match is_block {
        true => container.volume_mounts.iter().any(|mount| &mount.name == name),
        false => container.volume_devices.iter().any(|device| &device.name == name),
    });
    match (is_wrong, is_block) {
        (false, _) => Ok(()),
        (true, true) => Err(VolumeError(format!(
            "volume {name} has volumeMode Block, but is specified in volumeMounts"
        ))),
        (true, false) => Err(VolumeError(format!(
            "volume {name} has volumeMode Filesystem, but is specified in volumeDevices"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_claim_must_be_bound_and_belong() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"namespace": "ns", "name": "p", "uid": "pu"}}))
        .expect("a pod");
        let check = |volume: Value, claim: Value| {
            let volume = serde_json::from_value(volume).expect("a volume");
            check_claim(&pod, &volume, &serde_json::from_value(claim).expect("a claim"))
        };
        let named = || json!({"name": "v", "persistentVolumeClaim": {"claimName": "c"}});
        let bound = json!({"spec": {"volumeName": "pv"}, "status": {"phase": "Bound"}});
        assert_eq!(check(named(), bound.clone()), Ok(()));
        assert_eq!(
            check(named(), json!({"status": {"phase": "Pending"}})),
            Err("PVC is not bound".into())
        );
        let deleting = json!({"metadata": {"deletionTimestamp": "2023-11-14T22:13:20Z"}});
        assert_eq!(check(named(), deleting), Err("PVC is being deleted".into()));
        let own = || json!({"name": "v", "ephemeral": {"volumeClaimTemplate": {}}});
        let mut stolen = bound.clone();
        stolen["metadata"] = json!({"namespace": "ns", "name": "p-v"});
        assert!(check(own(), stolen).expect_err("refused").contains("pod is not owner"));
        let mut made = bound;
        made["metadata"] = json!({"ownerReferences": [
            {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "pu", "controller": true}]});
        assert_eq!(check(own(), made), Ok(()));
    }

    #[test]
    fn a_volume_must_point_back() {
        let claim = serde_json::from_value(json!({"metadata": {"uid": "u"}})).expect("a claim");
        for (reference, good) in
            [(Value::Null, false), (json!({"uid": "x"}), false), (json!({"uid": "u"}), true)]
        {
            let volume = json!({"metadata": {"name": "pv"}, "spec": {"claimRef": reference}});
            let volume = serde_json::from_value(volume).expect("a volume");
            assert_eq!(check_volume(&volume, &claim).is_ok(), good);
        }
    }
}

//! What the provisioner does about one claim or one volume.

use serde_json::{Value, json};

use super::view::{ClaimView, VolumeView};
use crate::storage::{
    Claim, LOCAL_PATH, PROVISIONED_BY, PROVISIONER, SELECTED_NODE, class_of_claim,
};

/// Where a node says that directories are to be.
pub(super) const DIRECTORY: &str = "skiff.sh/local-path-directory";
/// On each volume: the node that has the directory. A node may see volumes
/// only by this label.
pub(super) const NODE: &str = "skiff.sh/local-path-node";
/// Keeps a volume until its node has removed the directory.
pub(super) const FINALIZER: &str = LOCAL_PATH;
const HOSTNAME: &str = "kubernetes.io/hostname";
/// `api_object` allows more in a node's name than in a label.
const LABEL_MAX: usize = 63;

/// What is done about a claim.
#[derive(Debug, PartialEq)]
pub(super) enum OfClaim {
    Nothing,
    /// Make this PersistentVolume.
    Provision(Box<Value>),
    /// It cannot be: the reason.
    Refuse(String),
    /// It cannot be on the node that was chosen: the scheduler is to choose again.
    Reschedule(String),
}

/// Decides about a claim.
pub(super) fn claim(view: &ClaimView) -> OfClaim {
    let claim = &view.claim;
    let is_ours = claim.meta.annotations.get(PROVISIONER).is_some_and(|by| by == LOCAL_PATH)
        && view.class.as_ref().is_some_and(|class| class.view.provisioner == LOCAL_PATH);
    let is_done = view.is_made || !claim.view.spec.volume_name.is_empty();
    let Some(class) = view.class.as_ref().filter(|_| is_ours && !is_done) else {
        return OfClaim::Nothing;
    };
    if claim.meta.deletion_timestamp.is_some() {
        return OfClaim::Nothing;
    }
    if let Some(why) = refused(&claim.view) {
        return OfClaim::Refuse(why.into());
    }
    let Some(selected) = claim.meta.annotations.get(SELECTED_NODE) else {
        return OfClaim::Refuse(
            "a directory is on one node, and none was selected: the class needs volumeBindingMode WaitForFirstConsumer".into(),
        );
    };
    let elsewhere = |why: String| match view.is_placed {
        true => OfClaim::Refuse(why),
        false => OfClaim::Reschedule(why),
    };
    let Some(node) = &view.node else {
        return elsewhere(format!("node \"{selected}\" not found"));
    };
    let directory = match node.meta.annotations.get(DIRECTORY) {
        Some(directory) if directory.starts_with('/') => directory,
        _ => {
            return elsewhere(format!(
                "node \"{selected}\" offers no directory for volumes (its annotation {DIRECTORY} is missing)"
            ));
        }
    };
    if selected.len() > LABEL_MAX {
        return OfClaim::Refuse(format!("the name of node \"{selected}\" is longer than a label"));
    }
    let meta = &claim.meta;
    let name = volume_name(&meta.uid);
    let hostname = node.meta.labels.get(HOSTNAME).unwrap_or(selected);
    // Names of namespaces and claims hold no slash and are never `..`.
    let path =
        format!("{}/{name}_{}_{}", directory.trim_end_matches('/'), meta.namespace, meta.name);
    OfClaim::Provision(Box::new(json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": name,
            "labels": {NODE: selected},
            "annotations": {PROVISIONED_BY: LOCAL_PATH},
            "finalizers": [FINALIZER],
        },
        "spec": {
            "accessModes": claim.view.spec.access_modes,
            "capacity": {"storage": claim.view.spec.resources.requests.storage},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": meta.namespace,
                "name": meta.name,
                "uid": meta.uid,
            },
            "local": {"path": path},
            "mountOptions": class.view.mount_options,
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": HOSTNAME, "operator": "In", "values": [hostname]},
            ]}]}},
            "persistentVolumeReclaimPolicy": match class.view.reclaim_policy.as_str() {
                "" => "Delete",
                policy => policy,
            },
            "storageClassName": class_of_claim(claim),
            "volumeMode": "Filesystem",
        },
    })))
}

pub(super) fn volume_name(claim_uid: &str) -> String {
    format!("pvc-{claim_uid}")
}

fn refused(claim: &Claim) -> Option<&'static str> {
    let spec = &claim.spec;
    let one_node = |mode: &String| mode == "ReadWriteOnce" || mode == "ReadWriteOncePod";
    if !spec.access_modes.iter().all(one_node) {
        Some(
            "a directory of one node supports the access modes ReadWriteOnce and ReadWriteOncePod only",
        )
    } else if spec.volume_mode == "Block" {
        Some("a directory is no block device: volumeMode Block is not supported")
    } else if spec.selector.is_some() {
        Some("claim.Spec.Selector is not supported")
    } else if spec.data_source.is_some() {
        Some("claim.Spec.DataSource is not supported")
    } else {
        None
    }
}

/// What is done about a volume.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum OfVolume {
    Nothing,
    /// Nobody needs it any more.
    Delete,
    /// There is nothing to wait for. The text says what stays behind.
    LetGo(Option<String>),
}

/// Decides about a volume.
pub(super) fn volume(view: &VolumeView) -> OfVolume {
    let volume = &view.volume;
    if volume.meta.annotations.get(PROVISIONED_BY).is_none_or(|by| by != LOCAL_PATH) {
        return OfVolume::Nothing;
    }
    let deletes = volume.view.spec.persistent_volume_reclaim_policy == "Delete";
    let is_bound = volume.view.status.phase == "Bound";
    if volume.meta.deletion_timestamp.is_none() {
        let is_released = volume.view.status.phase == "Released";
        return if deletes && is_released { OfVolume::Delete } else { OfVolume::Nothing };
    }
    if is_bound || !volume.meta.finalizers.iter().any(|f| f == FINALIZER) {
        return OfVolume::Nothing;
    }
    match (deletes, view.has_node) {
        // The data stays where it is, as it was asked for.
        (false, _) => OfVolume::LetGo(None),
        (true, true) => OfVolume::Nothing,
        (true, false) => {
            let node = volume.meta.labels.get(NODE).map_or("", String::as_str);
            OfVolume::LetGo(Some(format!(
                "node \"{node}\" is no longer part of the cluster: what the volume held stays on its disk"
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use api_object::Object;
    use client::{Cached, View};

    use super::*;

    fn cached<V: View>(value: &Value) -> Arc<Cached<V>> {
        let bytes = serde_json::to_vec(value).expect("JSON").into();
        let object = Object::parse(bytes).expect("an object");
        Arc::new(Cached::read(object, false).expect("a view"))
    }

    fn view(claim: impl FnOnce(&mut Value)) -> ClaimView {
        let mut value = json!({
            "metadata": {"namespace": "ns", "name": "data", "uid": "u1", "annotations": {
                PROVISIONER: LOCAL_PATH, SELECTED_NODE: "n1"}},
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "local-path",
                "resources": {"requests": {"storage": "1Gi"}}},
        });
        claim(&mut value);
        ClaimView {
            claim: cached(&value),
            class: Some(cached(&json!({"metadata": {"name": "local-path"},
                "provisioner": LOCAL_PATH, "reclaimPolicy": "Retain"}))),
            node: Some(cached(&json!({"metadata": {"name": "n1",
                "labels": {HOSTNAME: "host-1"}, "annotations": {DIRECTORY: "/srv/storage"}}}))),
            is_made: false,
            is_placed: false,
        }
    }

    #[test]
    fn a_claim_with_a_node_gets_a_directory_there() {
        let OfClaim::Provision(volume) = claim(&view(|_| {})) else { panic!("not provisioned") };
        assert_eq!(volume["metadata"]["name"], "pvc-u1");
        assert_eq!(volume["spec"]["local"]["path"], "/srv/storage/pvc-u1_ns_data");
        assert_eq!(volume["spec"]["persistentVolumeReclaimPolicy"], "Retain");
        assert_eq!(volume["metadata"]["labels"][NODE], "n1");
        let terms = &volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"];
        assert_eq!(terms[0]["matchExpressions"][0]["values"], json!(["host-1"]));
    }

    #[test]
    fn what_cannot_be_is_said() {
        type Edit = fn(&mut Value);
        let cases: [(Edit, &str); 6] = [
            (|c| c["spec"]["accessModes"] = json!(["ReadWriteMany"]), "access modes"),
            (|c| c["spec"]["volumeMode"] = json!("Block"), "no block device"),
            (|c| c["spec"]["selector"] = json!({"matchLabels": {"a": "b"}}), "Selector"),
            (
                |c| c["spec"]["dataSource"] = json!({"kind": "PersistentVolumeClaim", "name": "x"}),
                "DataSource",
            ),
            (
                |c| c["metadata"]["annotations"] = json!({PROVISIONER: LOCAL_PATH}),
                "none was selected",
            ),
            (|c| c["metadata"]["annotations"][SELECTED_NODE] = json!("n".repeat(64)), "longer"),
        ];
        for (edit, text) in cases {
            match claim(&view(edit)) {
                OfClaim::Refuse(why) => assert!(why.contains(text), "{why}"),
                other => panic!("{other:?} for {text}"),
            }
        }
        for (node, text) in [
            (None, "node \"n1\" not found"),
            (Some(cached(&json!({"metadata": {"name": "n1"}}))), "offers no directory"),
        ] {
            let view = ClaimView { node, ..view(|_| {}) };
            match claim(&view) {
                OfClaim::Reschedule(why) => assert!(why.contains(text), "{why}"),
                other => panic!("{other:?} for {text}"),
            }
            // Where a pod is already, nobody is asked to choose again.
            let placed = ClaimView { is_placed: true, ..view };
            assert!(matches!(claim(&placed), OfClaim::Refuse(_)), "{text}");
        }
    }

    #[test]
    fn others_claims_are_left_alone() {
        let other = view(|c| c["metadata"]["annotations"][PROVISIONER] = json!("example.com/x"));
        assert_eq!(claim(&other), OfClaim::Nothing);
        assert_eq!(claim(&view(|c| c["spec"]["volumeName"] = json!("v"))), OfClaim::Nothing);
        assert_eq!(claim(&ClaimView { is_made: true, ..view(|_| {}) }), OfClaim::Nothing);
    }

    #[test]
    fn a_volume_goes_when_its_node_is_done_or_gone() {
        let left =
            "node \"n1\" is no longer part of the cluster: what the volume held stays on its disk";
        for (policy, phase, deleting, has_node, expected) in [
            ("Delete", "Bound", false, true, OfVolume::Nothing),
            ("Delete", "Released", false, true, OfVolume::Delete),
            ("Retain", "Released", false, true, OfVolume::Nothing),
            ("Delete", "Released", true, true, OfVolume::Nothing),
            ("Delete", "Released", true, false, OfVolume::LetGo(Some(left.into()))),
            ("Delete", "Bound", true, false, OfVolume::Nothing),
            ("Retain", "Released", true, true, OfVolume::LetGo(None)),
        ] {
            let mut value = json!({
                "metadata": {"name": "pvc-u1", "labels": {NODE: "n1"}, "finalizers": [FINALIZER],
                    "annotations": {PROVISIONED_BY: LOCAL_PATH}},
                "spec": {"persistentVolumeReclaimPolicy": policy},
                "status": {"phase": phase},
            });
            if deleting {
                value["metadata"]["deletionTimestamp"] = json!("2023-11-14T22:13:20Z");
            }
            let view = VolumeView { volume: cached(&value), has_node };
            assert_eq!(volume(&view), expected, "{policy} {phase} {deleting}");
        }
    }
}

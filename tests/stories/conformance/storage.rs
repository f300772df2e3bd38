//! `[sig-storage]`: what containers find in their volumes, and the objects behind.

use serde_json::json;

use super::{
    Place, Shown,
    objects::{every_way, told},
    pods::{self, pod},
    rows, story, test,
};
use crate::stories::volumes::{self, has_row};

/// All of the suite, by the suite's names without the tags at their ends.
pub(super) const SUITE: &str = include_str!("storage.txt");

pub(super) const STORAGE: &[Shown] = &[
    story(
        drivers,
        &[
            "CSIInlineVolumes should run through the lifecycle of a CSIDriver",
            "CSINodes CSI Conformance should run through the lifecycle of a csinode",
            "CSIStorageCapacity should support CSIStorageCapacities API operations",
        ],
    ),
    story(inline_volumes, &["CSIInlineVolumes should support CSIVolumeSource in Pod API"]),
    story(
        claims,
        &[
            "PersistentVolumes CSI Conformance should apply changes to a pv/pvc status",
            "PersistentVolumes CSI Conformance should run through the lifecycle of a PV and a PVC",
        ],
    ),
    story(
        classes,
        &[
            "StorageClasses CSI Conformance should run through the lifecycle of a StorageClass",
            "VolumeAttributesClass [FeatureGate:VolumeAttributesClass] should run through the lifecycle of a VolumeAttributesClass",
        ],
    ),
    story(
        attachments,
        &[
            "VolumeAttachment Conformance should apply changes to a volumeattachment status",
            "VolumeAttachment Conformance should run through the lifecycle of a VolumeAttachment",
        ],
    ),
    story(
        many_config_maps,
        &["EmptyDir wrapper volumes should not cause race condition when used for configmaps"],
    ),
    story(
        pods::allocatable,
        &[
            "Downward API volume should provide node allocatable (cpu) as default cpu limit if the limit is not set",
            "Downward API volume should provide node allocatable (memory) as default memory limit if the limit is not set",
            "Projected downwardAPI should provide node allocatable (cpu) as default cpu limit if the limit is not set",
            "Projected downwardAPI should provide node allocatable (memory) as default memory limit if the limit is not set",
        ],
    ),
];

pub(super) const STORAGE_ELSEWHERE: &[Shown] = &[
    rows(has_row, &["binary"], &["ConfigMap binary data should be reflected in volume"]),
    // Beside the rows: volumes that follow their objects, and what is fixed.
    test(
        volumes::what_containers_find_in_their_volumes,
        &[
            "ConfigMap optional updates should be reflected in volume",
            "ConfigMap should be immutable if `immutable` field is set",
            "ConfigMap updates should be reflected in volume",
            "Downward API volume should update annotations on modification",
            "Downward API volume should update labels on modification",
            "Projected configMap optional updates should be reflected in volume",
            "Projected configMap updates should be reflected in volume",
            "Projected downwardAPI should update annotations on modification",
            "Projected downwardAPI should update labels on modification",
            "Projected secret optional updates should be reflected in volume",
            "Secrets optional updates should be reflected in volume",
            "Secrets should be immutable if `immutable` field is set",
        ],
    ),
    rows(has_row, &["configmap"], &["ConfigMap should be consumable from pods in volume"]),
    rows(
        has_row,
        &["configmap-user"],
        &["ConfigMap should be consumable from pods in volume as non-root"],
    ),
    rows(
        has_row,
        &["configmap-mode"],
        &["ConfigMap should be consumable from pods in volume with defaultMode set"],
    ),
    // The rows of mappings run as a user that is not root.
    rows(
        has_row,
        &["configmap-items"],
        &[
            "ConfigMap should be consumable from pods in volume with mappings",
            "ConfigMap should be consumable from pods in volume with mappings as non-root",
        ],
    ),
    rows(
        has_row,
        &["configmap-item-mode"],
        &["ConfigMap should be consumable from pods in volume with mappings and Item mode set"],
    ),
    rows(
        has_row,
        &["configmap-twice"],
        &["ConfigMap should be consumable in multiple volumes in the same pod"],
    ),
    rows(
        has_row,
        &["projected-configmap"],
        &["Projected configMap should be consumable from pods in volume"],
    ),
    rows(
        has_row,
        &["projected-configmap-user"],
        &["Projected configMap should be consumable from pods in volume as non-root"],
    ),
    rows(
        has_row,
        &["projected-configmap-mode"],
        &["Projected configMap should be consumable from pods in volume with defaultMode set"],
    ),
    rows(
        has_row,
        &["projected-configmap-items"],
        &[
            "Projected configMap should be consumable from pods in volume with mappings",
            "Projected configMap should be consumable from pods in volume with mappings as non-root",
        ],
    ),
    rows(
        has_row,
        &["projected-configmap-item-mode"],
        &[
            "Projected configMap should be consumable from pods in volume with mappings and Item mode set",
        ],
    ),
    rows(
        has_row,
        &["projected-configmap-twice"],
        &["Projected configMap should be consumable in multiple volumes in the same pod"],
    ),
    rows(has_row, &["secret"], &["Secrets should be consumable from pods in volume"]),
    rows(
        has_row,
        &["secret-group"],
        &[
            "Secrets should be consumable from pods in volume as non-root with defaultMode and fsGroup set",
        ],
    ),
    rows(
        has_row,
        &["secret-mode"],
        &["Secrets should be consumable from pods in volume with defaultMode set"],
    ),
    rows(
        has_row,
        &["secret-items"],
        &["Secrets should be consumable from pods in volume with mappings"],
    ),
    rows(
        has_row,
        &["secret-item-mode"],
        &["Secrets should be consumable from pods in volume with mappings and Item Mode set"],
    ),
    rows(
        has_row,
        &["secret-twice"],
        &["Secrets should be consumable in multiple volumes in a pod"],
    ),
    rows(
        has_row,
        &["other-namespace"],
        &[
            "Secrets should be able to mount in a volume regardless of a different secret existing with same name in different namespace",
        ],
    ),
    rows(
        has_row,
        &["projected-secret"],
        &["Projected secret should be consumable from pods in volume"],
    ),
    rows(
        has_row,
        &["projected-secret-group"],
        &[
            "Projected secret should be consumable from pods in volume as non-root with defaultMode and fsGroup set",
        ],
    ),
    rows(
        has_row,
        &["projected-secret-mode"],
        &["Projected secret should be consumable from pods in volume with defaultMode set"],
    ),
    rows(
        has_row,
        &["projected-secret-items"],
        &["Projected secret should be consumable from pods in volume with mappings"],
    ),
    rows(
        has_row,
        &["projected-secret-item-mode"],
        &[
            "Projected secret should be consumable from pods in volume with mappings and Item Mode set",
        ],
    ),
    rows(
        has_row,
        &["projected-secret-twice"],
        &["Projected secret should be consumable in multiple volumes in a pod"],
    ),
    rows(
        has_row,
        &["downward"],
        &[
            "Downward API volume should provide container's cpu limit",
            "Downward API volume should provide container's cpu request",
            "Downward API volume should provide container's memory limit",
            "Downward API volume should provide container's memory request",
            "Downward API volume should provide podname only",
            "Downward API volume should set mode on item file",
        ],
    ),
    rows(has_row, &["downward-mode"], &["Downward API volume should set DefaultMode on files"]),
    rows(
        has_row,
        &["projected-downward"],
        &[
            "Projected downwardAPI should provide container's cpu limit",
            "Projected downwardAPI should provide container's cpu request",
            "Projected downwardAPI should provide container's memory limit",
            "Projected downwardAPI should provide container's memory request",
            "Projected downwardAPI should provide podname only",
            "Projected downwardAPI should set mode on item file",
        ],
    ),
    rows(
        has_row,
        &["projected-downward-mode"],
        &["Projected downwardAPI should set DefaultMode on files"],
    ),
    rows(
        has_row,
        &["everything-projected"],
        &["Projected combined should project all components that make up the projection API"],
    ),
    rows(
        has_row,
        &["shared"],
        &["EmptyDir volumes pod should support shared volumes between containers"],
    ),
    rows(
        has_row,
        &["empty-default-user"],
        &[
            "EmptyDir volumes should support (non-root,0644,default)",
            "EmptyDir volumes should support (non-root,0666,default)",
            "EmptyDir volumes should support (non-root,0777,default)",
        ],
    ),
    rows(
        has_row,
        &["empty-tmpfs-user"],
        &[
            "EmptyDir volumes should support (non-root,0644,tmpfs)",
            "EmptyDir volumes should support (non-root,0666,tmpfs)",
            "EmptyDir volumes should support (non-root,0777,tmpfs)",
        ],
    ),
    rows(
        has_row,
        &["empty-default-root"],
        &[
            "EmptyDir volumes should support (root,0644,default)",
            "EmptyDir volumes should support (root,0666,default)",
            "EmptyDir volumes should support (root,0777,default)",
        ],
    ),
    rows(
        has_row,
        &["empty-tmpfs-root"],
        &[
            "EmptyDir volumes should support (root,0644,tmpfs)",
            "EmptyDir volumes should support (root,0666,tmpfs)",
            "EmptyDir volumes should support (root,0777,tmpfs)",
        ],
    ),
    rows(
        has_row,
        &["empty-default"],
        &["EmptyDir volumes volume on default medium should have the correct mode"],
    ),
    rows(
        has_row,
        &["empty-tmpfs"],
        &["EmptyDir volumes volume on tmpfs should have the correct mode"],
    ),
    rows(has_row, &["wrappers"], &["EmptyDir wrapper volumes should not conflict"]),
    // The row mounts over a file that is there as well.
    rows(
        has_row,
        &["sub-configmap"],
        &[
            "Subpath Atomic writer volumes should support subpaths with configmap pod",
            "Subpath Atomic writer volumes should support subpaths with configmap pod with mountPath of existing file",
        ],
    ),
    rows(
        has_row,
        &["sub-downward"],
        &["Subpath Atomic writer volumes should support subpaths with downward pod"],
    ),
    rows(
        has_row,
        &["sub-projected"],
        &["Subpath Atomic writer volumes should support subpaths with projected pod"],
    ),
    rows(
        has_row,
        &["sub-secret"],
        &["Subpath Atomic writer volumes should support subpaths with secret pod"],
    ),
];

const API: &str = "apis/storage.k8s.io/v1";

fn drivers(place: &Place) {
    let driver = json!({"spec": {"attachRequired": false, "volumeLifecycleModes": ["Ephemeral"]}});
    every_way(place, API, "csidrivers", "CSIDriver", &driver);
    let of_node = json!({"spec": {"drivers": []}});
    every_way(place, API, "csinodes", "CSINode", &of_node);
    let capacity = json!({"storageClassName": "story", "nodeTopology": {"matchLabels": {"zone": "a"}}, "capacity": "1Gi"});
    every_way(place, API, "csistoragecapacities", "CSIStorageCapacity", &capacity);
}

/// Pods with a driver that nobody has wait, and are objects like any other.
fn inline_volumes(place: &Place) {
    let csi = json!({"driver": "story-none.example.com", "readOnly": false, "volumeAttributes": {"a": "b"}});
    let mount = json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]});
    let spec = json!({"volumes": [{"name": "v", "csi": csi}]});
    let one = pod("x", &mount, &spec);
    every_way(place, "api/v1", "pods", "Pod", &json!({"spec": one["spec"]}));
}

fn classes(place: &Place) {
    let class = json!({"provisioner": "story.example.com", "parameters": {"a": "b"}});
    every_way(place, API, "storageclasses", "StorageClass", &class);
    let class = json!({"driverName": "story.example.com", "parameters": {"a": "b"}});
    every_way(place, API, "volumeattributesclasses", "VolumeAttributesClass", &class);
}

fn claims(place: &Place) {
    let modes = json!(["ReadWriteOnce"]);
    let volume = json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": modes,
        "storageClassName": "story-none", "persistentVolumeReclaimPolicy": "Retain",
        "csi": {"driver": "story.example.com", "volumeHandle": "story"}}});
    every_way(place, "api/v1", "persistentvolumes", "PersistentVolume", &volume);
    let claim = json!({"spec": {"accessModes": modes, "storageClassName": "story-none",
        "resources": {"requests": {"storage": "1Gi"}}}});
    every_way(place, "api/v1", "persistentvolumeclaims", "PersistentVolumeClaim", &claim);

    // A volume and a claim that find each other.
    let kept = |kind: &str, mut object: serde_json::Value| {
        object["apiVersion"] = json!("v1");
        object["kind"] = json!(kind);
        object["metadata"] = json!({"name": "story-told"});
        place.apply(&object);
    };
    kept("PersistentVolume", volume);
    kept("PersistentVolumeClaim", claim);
    place.wait("jsonpath={.status.phase}=Bound", "pvc/story-told");
    place.wait("jsonpath={.status.phase}=Bound", "pv/story-told");
    for what in ["pvc/story-told", "pv/story-told"] {
        let patch = match what.starts_with("pvc") {
            true => json!({"conditions": [told("StatusPatched")]}),
            false => json!({"message": "StatusPatched", "reason": "E2E"}),
        };
        place.patch_status(what, &patch);
        let read = place.get(&format!("{what} --subresource=status"));
        assert!(read["status"].to_string().contains("StatusPatched"), "{read:#}");
        let mut whole = read;
        whole["status"] = serde_json::from_str(
            &whole["status"].to_string().replace("StatusPatched", "StatusUpdated"),
        )
        .expect("JSON");
        let line = format!("replace -n {} --subresource=status -f -", place.namespace);
        place.cluster.kubectl_with_input(&line, &whole.to_string()).ok();
        let read = place.get(&format!("{what} --subresource=status"));
        assert!(read["status"].to_string().contains("StatusUpdated"), "{read:#}");
    }
    place.kubectl("delete pvc story-told --timeout=180s").ok();
    place.wait("jsonpath={.status.phase}=Released", "pv/story-told");
    place.kubectl("delete pv story-told --timeout=180s").ok();
}

fn attachments(place: &Place) {
    let attachment = json!({"spec": {"attacher": "story.example.com", "nodeName": "story",
        "source": {"persistentVolumeName": "story"}}});
    every_way(place, API, "volumeattachments", "VolumeAttachment", &attachment);
    let mut told = attachment;
    told["apiVersion"] = json!("storage.k8s.io/v1");
    told["kind"] = json!("VolumeAttachment");
    told["metadata"] = json!({"name": "story-told"});
    place.apply(&told);
    place.patch_status(
        "volumeattachment/story-told",
        &json!({"attached": true, "attachmentMetadata": {"a": "b"}}),
    );
    let read = place.get("volumeattachment story-told --subresource=status");
    assert_eq!(
        (&read["status"]["attached"], &read["status"]["attachmentMetadata"]["a"]),
        (&json!(true), &json!("b"))
    );
    place.kubectl("delete volumeattachment story-told --timeout=180s").ok();
}

/// Five pods at once, each with fifty volumes.
fn many_config_maps(place: &Place) {
    let names: Vec<String> = (0..50).map(|n| format!("racey-{n}")).collect();
    let maps: Vec<_> = names
        .iter()
        .map(|name| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"data-1": "value-1"}}))
        .collect();
    place.apply(&json!({"apiVersion": "v1", "kind": "List", "items": maps}));
    let volumes: Vec<_> =
        names.iter().map(|name| json!({"name": name, "configMap": {"name": name}})).collect();
    let mounts: Vec<_> = names
        .iter()
        .map(|name| json!({"name": name, "mountPath": format!("/etc/{name}")}))
        .collect();
    let spec = json!({"volumes": volumes});
    let pods: Vec<_> = (0..5)
        .map(|n| pod(&format!("wrapped-{n}"), &json!({"volumeMounts": mounts}), &spec))
        .collect();
    place.apply(&json!({"apiVersion": "v1", "kind": "List", "items": pods}));
    for n in 0..5 {
        place.wait("condition=Ready", &format!("pod/wrapped-{n}"));
        for name in &names[48..] {
            let line = format!("exec wrapped-{n} -- toolbox cat /etc/{name}/data-1");
            place.kubectl(&line).prints("value-1");
        }
    }
    place.kubectl("delete pods --all --timeout=180s").ok();
}

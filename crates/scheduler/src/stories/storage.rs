//! Pods whose volumes are somewhere.

use serde_json::{Value, json};
use testkit::{Build, node, pod};

use super::world::{check, object, zone};

fn using(claims: &[&str]) -> Build {
    let volumes: Vec<Value> = claims
        .iter()
        .map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}}))
        .collect();
    pod("default/p").set("/spec/volumes", json!(volumes))
}

fn claim(name: &str, size: &str) -> Build {
    object("v1", "PersistentVolumeClaim", &format!("default/{name}")).set(
        "/spec",
        json!({
            "accessModes": ["ReadWriteOnce"], "storageClassName": "late",
            "resources": {"requests": {"storage": size}},
        }),
    )
}

fn bound(name: &str, volume: &str) -> Build {
    claim(name, "1Gi")
        .set("/spec/volumeName", json!(volume))
        .annotation("pv.kubernetes.io/bind-completed", "yes")
        .set("/status/phase", json!("Bound"))
}

/// A volume that one node reaches; all where it is empty.
fn volume(name: &str, size: &str, node: &str) -> Build {
    let volume = object("v1", "PersistentVolume", name)
        .set("/metadata/namespace", Value::Null)
        .set(
            "/spec",
            json!({"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": "late"}),
        )
        .set("/status/phase", json!("Available"));
    match node {
        "" => volume,
        node => volume.set(
            "/spec/nodeAffinity/required/nodeSelectorTerms",
            json!([{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}]),
        ),
    }
}

fn class(provisioner: &str, mode: &str) -> Build {
    object("storage.k8s.io/v1", "StorageClass", "late")
        .set("/provisioner", json!(provisioner))
        .set("/volumeBindingMode", json!(mode))
}

fn late() -> Build {
    class("driver.example.com", "WaitForFirstConsumer")
}

fn two(more: Vec<Build>) -> Vec<Build> {
    // The second is fuller, so that nobody goes there without a reason.
    let heavy = pod("default/heavy").on("n2").requests("2", "4Gi");
    [vec![node("n1"), node("n2"), heavy], more].concat()
}

#[test]
fn where_volumes_are() {
    let local = || class("kubernetes.io/no-provisioner", "WaitForFirstConsumer");
    let selected =
        |node: &str| claim("c", "1Gi").annotation("volume.kubernetes.io/selected-node", node);
    let meant = volume("mine", "5Gi", "n2")
        .set("/spec/claimRef", json!({"namespace": "default", "name": "c"}));
    let capacity = |topology: &str, size: &str| {
        object("storage.k8s.io/v1", "CSIStorageCapacity", &format!("default/{topology}"))
            .set("/nodeTopology", json!({"matchLabels": {"kubernetes.io/hostname": topology}}))
            .set("/storageClassName", json!("late"))
            .set("/capacity", json!(size))
    };
    let tracked = || {
        object("storage.k8s.io/v1", "CSIDriver", "driver.example.com")
            .set("/spec/storageCapacity", json!(true))
    };
    let allowed = late().set(
        "/allowedTopologies",
        json!([{"matchLabelExpressions": [{"key": "kubernetes.io/hostname", "values": ["n2"]}]}]),
    );
    check(vec![
        (
            "no such claim",
            using(&["c"]),
            two(vec![]),
            "0/2 nodes are available: persistentvolumeclaim \"c\" not found. not found",
        ),
        (
            "a claim that goes",
            using(&["c"]),
            two(vec![claim("c", "1Gi").deleting()]),
            "0/2 nodes are available: persistentvolumeclaim \"c\" is being deleted.",
        ),
        (
            "a claim whose volume is lost",
            using(&["c"]),
            two(vec![bound("c", "v").set("/status/phase", json!("Lost"))]),
            "0/2 nodes are available: persistentvolumeclaim \"c\" bound to non-existent persistentvolume \"v\".",
        ),
        (
            "a claim that others bind",
            using(&["c"]),
            two(vec![class("x", "Immediate"), claim("c", "1Gi")]),
            "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims.",
        ),
        (
            "where its volume is",
            using(&["c"]),
            two(vec![bound("c", "v"), volume("v", "1Gi", "n2")]),
            "n2",
        ),
        (
            "two volumes apart",
            using(&["c", "d"]),
            two(vec![
                bound("c", "v"),
                volume("v", "1Gi", "n2"),
                bound("d", "w"),
                volume("w", "1Gi", "n1"),
            ]),
            "0/2 nodes are available: 2 node(s) didn't match PersistentVolume's node affinity.",
        ),
        (
            "its volume is not there",
            using(&["c"]),
            two(vec![bound("c", "v")]),
            "0/2 nodes are available: 2 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s).",
        ),
        (
            "the smallest that will do",
            using(&["c"]),
            two(vec![
                late(),
                claim("c", "2Gi"),
                volume("s", "1Gi", "n1"),
                volume("m", "3Gi", "n1"),
                volume("l", "9Gi", "n1"),
            ]),
            "n1 [(\"default/c\", Volume(\"m\"))]",
        ),
        (
            "two claims, two volumes",
            using(&["c", "d"]),
            vec![
                node("n2"),
                local(),
                claim("c", "1Gi"),
                claim("d", "1Gi"),
                volume("v", "1Gi", "n2"),
                volume("w", "2Gi", "n2"),
            ],
            "n2 [(\"default/c\", Volume(\"v\")), (\"default/d\", Volume(\"w\"))]",
        ),
        (
            "two claims, one volume",
            using(&["c", "d"]),
            vec![
                node("n2"),
                local(),
                claim("c", "1Gi"),
                claim("d", "1Gi"),
                volume("v", "1Gi", "n2"),
            ],
            "0/1 nodes are available: 1 node(s) didn't find available persistent volumes to bind.",
        ),
        (
            "one that is kept for it",
            using(&["c"]),
            vec![node("n2"), local(), claim("c", "1Gi"), volume("a", "1Gi", "n2"), meant.clone()],
            "n2 [(\"default/c\", Volume(\"mine\"))]",
        ),
        (
            "one that is kept for it elsewhere",
            using(&["c"]),
            vec![node("n1"), local(), claim("c", "1Gi"), volume("a", "1Gi", "n1"), meant],
            "0/1 nodes are available: 1 node(s) didn't find available persistent volumes to bind.",
        ),
        (
            "one is made",
            using(&["c"]),
            two(vec![late(), claim("c", "1Gi")]),
            "n1 [(\"default/c\", New(\"n1\"))]",
        ),
        (
            "one is being made",
            using(&["c"]),
            two(vec![late(), selected("n2")]),
            "n2 [(\"default/c\", New(\"n2\"))]",
        ),
        (
            "being made on a node that is not there",
            using(&["c"]),
            two(vec![late(), selected("gone")]),
            "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind.",
        ),
        (
            "being made where there is no room",
            using(&["c"]),
            two(vec![late(), tracked(), selected("n2"), capacity("n1", "5Gi")]),
            "0/2 nodes are available: 1 node(s) did not have enough free storage, 1 node(s) didn't find available persistent volumes to bind.",
        ),
        (
            "none can be made",
            using(&["c"]),
            two(vec![local(), claim("c", "1Gi")]),
            "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind.",
        ),
        (
            "only in some places",
            using(&["c"]),
            two(vec![allowed, claim("c", "1Gi")]),
            "n2 [(\"default/c\", New(\"n2\"))]",
        ),
        (
            "where there is room",
            using(&["c"]),
            two(vec![
                late(),
                tracked(),
                claim("c", "2Gi"),
                capacity("n1", "1Gi"),
                capacity("n2", "5Gi"),
            ]),
            "n2 [(\"default/c\", New(\"n2\"))]",
        ),
        (
            "where there is no room",
            using(&["c"]),
            two(vec![late(), tracked(), claim("c", "2Gi"), capacity("n1", "1Gi")]),
            "0/2 nodes are available: 2 node(s) did not have enough free storage.",
        ),
        (
            "made for another pod",
            pod("default/p").set(
                "/spec/volumes",
                json!([{"name": "e", "ephemeral": {"volumeClaimTemplate": {}}}]),
            ),
            two(vec![claim("p-e", "1Gi")]),
            "0/2 nodes are available: PVC \"default/p-e\" was not created for pod \"default/p\" (pod is not owner).",
        ),
        (
            "not made yet",
            pod("default/p").set(
                "/spec/volumes",
                json!([{"name": "e", "ephemeral": {"volumeClaimTemplate": {}}}]),
            ),
            two(vec![]),
            "0/2 nodes are available: waiting for ephemeral volume controller to create the persistentvolumeclaim \"p-e\".",
        ),
    ]);
}

#[test]
fn what_nodes_and_claims_allow() {
    let csi = |name: &str| {
        volume(name, "1Gi", "").set("/spec/csi", json!({"driver": "d", "volumeHandle": name}))
    };
    let limited = |node: &str| {
        object("storage.k8s.io/v1", "CSINode", node).set(
            "/spec/drivers",
            json!([{"name": "d", "nodeID": "x", "allocatable": {"count": 1}}]),
        )
    };
    let other = |node: &str, claim: &str| {
        using(&[claim]).set("/metadata/name", json!("q")).set("/metadata/uid", json!("q")).on(node)
    };
    let single = |name: &str, volume: &str| {
        bound(name, volume).set("/spec/accessModes", json!(["ReadWriteOncePod"]))
    };
    let zoned = |value: &str| volume("v", "1Gi", "").label("topology.kubernetes.io/zone", value);
    let zones = || vec![zone(node("na"), "a"), zone(node("nb"), "b")];
    let disk = |pod: Build, read_only: bool| {
        pod.set(
            "/spec/volumes",
            json!([{"name": "d", "gcePersistentDisk": {"pdName": "x", "readOnly": read_only}}]),
        )
    };
    let with_disk = |read_only: bool| vec![node("n1"), disk(pod("default/q").on("n1"), read_only)];
    let attached = object("storage.k8s.io/v1", "VolumeAttachment", "default/at").set(
        "/spec",
        json!({"attacher": "d", "nodeName": "n1", "source": {"persistentVolumeName": "w"}}),
    );
    check(vec![
        (
            "too many volumes",
            using(&["c"]),
            vec![
                node("n1"),
                limited("n1"),
                csi("v"),
                csi("w"),
                bound("c", "v"),
                bound("d", "w"),
                other("n1", "d"),
            ],
            "0/1 nodes are available: 1 node(s) exceed max volume count.",
        ),
        (
            "the same volume counts once",
            using(&["c"]),
            vec![node("n1"), limited("n1"), csi("v"), bound("c", "v"), other("n1", "c")],
            "n1",
        ),
        (
            "attached without a pod",
            using(&["c"]),
            vec![node("n1"), limited("n1"), csi("v"), csi("w"), bound("c", "v"), attached],
            "0/1 nodes are available: 1 node(s) exceed max volume count.",
        ),
        (
            "a driver that must be there",
            using(&["c"]),
            vec![
                node("n1"),
                csi("v"),
                bound("c", "v"),
                object("storage.k8s.io/v1", "CSIDriver", "d")
                    .set("/spec/preventPodSchedulingIfMissing", json!(true)),
            ],
            "0/1 nodes are available: 1 d CSI driver is not installed on the node.",
        ),
        (
            "one pod at a time",
            using(&["c"]),
            two(vec![single("c", "v"), volume("v", "1Gi", ""), other("n2", "c")]),
            "0/2 nodes are available: 2 node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode.",
        ),
        ("in its zone", using(&["c"]), [zones(), vec![bound("c", "v"), zoned("b")]].concat(), "nb"),
        (
            "in one of its zones",
            using(&["c"]),
            [zones(), vec![bound("c", "v"), zoned("x__b")]].concat(),
            "nb",
        ),
        (
            "in no zone",
            using(&["c"]),
            [zones(), vec![bound("c", "v"), zoned("x")]].concat(),
            "0/2 nodes are available: 2 node(s) had no available volume zone.",
        ),
        (
            "zones mean nothing here",
            using(&["c"]),
            vec![node("n1"), bound("c", "v"), zoned("x")],
            "n1",
        ),
        (
            "a disk taken",
            disk(pod("default/p"), false),
            with_disk(true),
            "0/1 nodes are available: 1 node(s) had no available disk.",
        ),
        ("a disk only read", disk(pod("default/p"), true), with_disk(true), "n1"),
    ]);
}

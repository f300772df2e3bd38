//! More claims than volumes, claims that wait for their pods, and volumes that
//! come late.

use client::{DeleteOptions, Resource};
use serde_json::{Value, json};

use super::{PODS, Scenario, expect};
use crate::{Cluster, World, history::has_condition, world};

pub(super) const VOLUMES: Resource = Resource::cluster("", "v1", "persistentvolumes");
const CLAIMS: Resource = Resource::namespaced("", "v1", "persistentvolumeclaims");
const CLASSES: Resource = Resource::cluster("storage.k8s.io", "v1", "storageclasses");

pub(super) const SCENARIO: Scenario = Scenario {
    name: "volumes",
    holds: &["volumes", "orphans"],
    users: |world| Box::pin(users(world)),
    settled,
};

pub(super) fn volume(name: &str, class: &str, node: Option<&str>) -> Value {
    let mut volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
            "storageClassName": class, "local": {"path": format!("/srv/{name}")},
        },
    });
    let nodes: Vec<String> = match node {
        Some(node) => vec![node.to_owned()],
        None => (1..=world::NODES).map(|n| format!("node-{n}")).collect(),
    };
    let term = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": nodes});
    volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"] =
        json!([{"matchExpressions": [term]}]);
    volume
}

fn claim(name: &str, class: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "storageClassName": class, "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    })
}

fn pod(name: &str, claim: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "containers": [{"name": "main", "image": "db"}],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}],
        },
    })
}

async fn users(world: World) {
    let late = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "late"},
        "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer",
    });
    world.create(CLASSES, late).await;
    for n in 1..=world::NODES {
        world.create(CLAIMS, claim(&format!("late-{n}"), "late")).await;
        world.create(PODS, pod(&format!("late-{n}"), &format!("late-{n}"))).await;
        world.create(CLAIMS, claim(&format!("now-{n}"), "")).await;
        world.create(CLAIMS, claim(&format!("now-too-{n}"), "")).await;
    }
    for n in 1..=world::NODES {
        world.some_time(30).await;
        let node = format!("node-{n}");
        world.create(VOLUMES, volume(&format!("late-{n}"), "late", Some(&node))).await;
        world.create(VOLUMES, volume(&format!("now-{n}"), "", None)).await;
    }
    world.some_time(60).await;
    world.delete(CLAIMS, "default/now-1", DeleteOptions::default()).await;
    world.some_time(60).await;
}

fn settled(cluster: &Cluster) -> Result<(), String> {
    for (key, pod) in cluster.all("/pods") {
        expect(has_condition(pod, "Ready"), || format!("{key} does not run: {}", pod["status"]))?;
    }
    let bound = |prefix: &str| {
        let claims = cluster
            .all("/persistentvolumeclaims")
            .filter(|(key, claim)| key.starts_with(prefix) && claim["status"]["phase"] == "Bound");
        claims.count()
    };
    let (late, now) = (bound("default/late"), bound("default/now"));
    // One may have had its volume, and with it kept it from others.
    let right = late == world::NODES && (world::NODES - 1..=world::NODES).contains(&now);
    expect(right, || format!("{late} and {now} claims are bound"))
}

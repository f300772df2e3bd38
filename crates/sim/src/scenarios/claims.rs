//! StatefulSets with storage of every retention policy that are resized, lose pods,
//! and go.

use client::{DeleteOptions, Resource};
use serde_json::json;

use super::{PODS, Scenario, expect, statefulset::STATEFUL_SETS, volumes};
use crate::{Cluster, World, history::has_condition};

const CLASSES: Resource = Resource::cluster("storage.k8s.io", "v1", "storageclasses");
/// `whenScaled` and `whenDeleted`.
const POLICIES: [(&str, &str); 4] =
    [("Retain", "Retain"), ("Delete", "Retain"), ("Retain", "Delete"), ("Delete", "Delete")];
/// A claim that comes again needs another volume; there are more than that.
const VOLUMES: usize = 60;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "claims",
    holds: &["retention", "volumes", "identity", "orphans"],
    users: |world| Box::pin(users(world)),
    settled,
};

fn name((scaled, deleted): (&str, &str)) -> String {
    format!("{scaled}-{deleted}").to_lowercase()
}

async fn users(world: World) {
    let late = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "late"},
        "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer",
    });
    world.create(CLASSES, late).await;
    for n in 0..VOLUMES {
        let volume = volumes::volume(&format!("volume-{n}"), "late", None);
        world.create(volumes::VOLUMES, volume).await;
    }
    for policy in POLICIES {
        let name = name(policy);
        let set = json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "replicas": 2, "serviceName": "db", "podManagementPolicy": "Parallel",
                "selector": {"matchLabels": {"app": name}},
                "persistentVolumeClaimRetentionPolicy":
                    {"whenScaled": policy.0, "whenDeleted": policy.1},
                "volumeClaimTemplates": [{
                    "metadata": {"name": "data"},
                    "spec": {
                        "storageClassName": "late", "accessModes": ["ReadWriteOnce"],
                        "resources": {"requests": {"storage": "1Gi"}},
                    },
                }],
                "template": {
                    "metadata": {"labels": {"app": name}},
                    "spec": {"containers": [{"name": "main", "image": "db:0"}]},
                },
            },
        });
        world.create(STATEFUL_SETS, set).await;
    }
    for _ in 0..16 {
        world.some_time(45).await;
        let set = name(*world.random().pick(&POLICIES).expect("four"));
        // Never one that is about to go: nobody would tell its claim.
        world.delete(PODS, &format!("default/{set}-0"), DeleteOptions::default()).await;
        let size = json!({"spec": {"replicas": 1 + world.random().below(4)}});
        world.patch(STATEFUL_SETS, &format!("default/{set}"), size).await;
    }
    for policy in POLICIES {
        world.some_time(30).await;
        if world.random().chance(600) {
            let options = DeleteOptions {
                propagation_policy: world.random().pick(&["Background", "Foreground"]).copied(),
                ..Default::default()
            };
            let key = format!("default/{}", name(policy));
            world.delete(STATEFUL_SETS, &key, options).await;
        }
    }
    world.some_time(60).await;
}

fn settled(cluster: &Cluster) -> Result<(), String> {
    for (key, pod) in cluster.all("/pods") {
        expect(has_condition(pod, "Ready"), || format!("{key} does not run: {}", pod["status"]))?;
    }
    Ok(())
}

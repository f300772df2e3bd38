//! Owners deleted in every way, and a namespace with all that is in it.

use client::DeleteOptions;
use serde_json::json;

use super::{DEPLOYMENTS, NAMESPACES, Scenario, expect};
use crate::{Cluster, World};

const POLICIES: [&str; 3] = ["Background", "Foreground", "Orphan"];

pub(super) const SCENARIO: Scenario = Scenario {
    name: "ownership",
    holds: &["surge", "replicas", "orphans"],
    users: |world| Box::pin(users(world)),
    settled,
};

async fn users(world: World) {
    world
        .create(
            NAMESPACES,
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}}),
        )
        .await;
    let all = POLICIES.map(|policy| ("default", policy.to_lowercase()));
    for (namespace, name) in all.into_iter().chain([("team", "web".to_owned())]) {
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name}},
                    "spec": {"containers": [{"name": "main", "image": "web"}]},
                },
            },
        });
        world.create(DEPLOYMENTS, deployment).await;
    }
    for policy in POLICIES {
        world.some_time(20).await;
        let key = format!("default/{}", policy.to_lowercase());
        let options = DeleteOptions { propagation_policy: Some(policy), ..Default::default() };
        world.delete(DEPLOYMENTS, &key, options).await;
    }
    world.some_time(10).await;
    world.delete(NAMESPACES, "team", DeleteOptions::default()).await;
    world.some_time(10).await;
}

fn settled(cluster: &Cluster) -> Result<(), String> {
    let left = |resource: &str| -> Vec<String> {
        cluster.all(resource).map(|(key, _)| key.to_owned()).collect()
    };
    expect(left("apps/deployments").is_empty(), || "a deployment is left".into())?;
    expect(cluster.get("/namespaces", "team").is_none(), || "the namespace is left".into())?;
    let sets = left("apps/replicasets");
    // It may have been deleted before it had any.
    let orphaned = sets.iter().all(|key| key.starts_with("default/orphan-"));
    expect(orphaned && sets.len() <= 1, || format!("{sets:?} are left"))?;
    let pods = left("/pods").len();
    expect(pods == 2 * sets.len(), || format!("{pods} pods are left"))
}

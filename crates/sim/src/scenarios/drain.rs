//! Nodes that several people empty at once, by evictions that a budget bounds.

use client::Resource;
use serde_json::json;

use super::{DEPLOYMENTS, NODES, Scenario, expect};
use crate::{Cluster, World, history::has_condition};

const BUDGETS: Resource = Resource::namespaced("policy", "v1", "poddisruptionbudgets");
const SIZE: usize = 5;
const KEPT: usize = 3;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "drain",
    holds: &["budget", "surge", "replicas", "orphans"],
    users: |world| Box::pin(users(world)),
    settled,
};

async fn users(world: World) {
    let labels = json!({"app": "web"});
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": SIZE,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "main", "image": "web"}]},
            },
        },
    });
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"minAvailable": KEPT, "selector": {"matchLabels": labels}},
    });
    world.create(BUDGETS, budget).await;
    world.create(DEPLOYMENTS, deployment).await;
    world.some_time(30).await;
    tokio::join!(drain(&world), drain(&world), drain(&world));
    world.some_time(30).await;
}

/// Empties nodes one after the other, and opens them again.
async fn drain(world: &World) {
    for _ in 0..4 {
        world.some_time(20).await;
        let node = world.some_node();
        world.patch(NODES, &node, json!({"spec": {"unschedulable": true}})).await;
        for _ in 0..8 {
            let pods: Vec<String> = {
                let cluster = world.cluster();
                let on_it =
                    cluster.all("/pods").filter(|(_, pod)| pod["spec"]["nodeName"] == *node);
                on_it.map(|(key, _)| key.to_owned()).collect()
            };
            for pod in pods {
                world.evict(&pod).await;
            }
            world.some_time(8).await;
        }
        world.patch(NODES, &node, json!({"spec": {"unschedulable": null}})).await;
    }
}

fn settled(cluster: &Cluster) -> Result<(), String> {
    let ready = cluster.all("/pods").filter(|(_, pod)| has_condition(pod, "Ready")).count();
    expect(ready == SIZE, || format!("{ready} pods are ready, not {SIZE}"))?;
    let budget = cluster.get("policy/poddisruptionbudgets", "default/web").ok_or("no budget")?;
    let status = &budget["status"];
    let right = status["disruptionsAllowed"] == SIZE - KEPT && status["currentHealthy"] == SIZE;
    expect(right, || format!("the budget says {status}"))
}

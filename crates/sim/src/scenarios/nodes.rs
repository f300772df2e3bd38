//! Nodes that are closed, emptied and opened again under a Deployment.

use client::DeleteOptions;
use serde_json::json;

use super::{DEPLOYMENTS, NODES, PODS, Scenario, expect};
use crate::{Cluster, World, history::has_condition, world};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "nodes",
    holds: &["surge", "replicas", "orphans"],
    users: |world| Box::pin(users(world)),
    settled,
};

async fn users(world: World) {
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": 6,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "main", "image": "web"}]},
            },
        },
    });
    world.create(DEPLOYMENTS, deployment).await;
    for n in 1..=world::NODES {
        let node = format!("node-{n}");
        world.some_time(30).await;
        world.patch(NODES, &node, json!({"spec": {"unschedulable": true}})).await;
        let pods: Vec<String> = {
            let cluster = world.cluster();
            let on_it = cluster.all("/pods").filter(|(_, pod)| pod["spec"]["nodeName"] == *node);
            on_it.map(|(key, _)| key.to_owned()).collect()
        };
        for pod in pods {
            world.delete(PODS, &pod, DeleteOptions::default()).await;
        }
        world.some_time(30).await;
        world.patch(NODES, &node, json!({"spec": {"unschedulable": null}})).await;
    }
}

fn settled(cluster: &Cluster) -> Result<(), String> {
    let ready = cluster.all("/pods").filter(|(_, pod)| has_condition(pod, "Ready")).count();
    let all = cluster.all("/pods").count();
    expect(ready == 6 && all == 6, || format!("{ready} of {all} pods are ready, not 6 of 6"))?;
    for (name, node) in cluster.all("/nodes") {
        let taints = &node["spec"]["taints"];
        expect(taints.is_null(), || format!("{name} has the taints {taints}"))?;
    }
    Ok(())
}

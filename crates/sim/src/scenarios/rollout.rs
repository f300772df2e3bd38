//! New templates while old ones still roll out, and pods that are deleted.

use client::DeleteOptions;
use serde_json::json;

use super::{DEPLOYMENTS, PODS, Scenario, expect};
use crate::{Cluster, World, history::has_condition};

const SIZE: u64 = 5;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "rollout",
    holds: &["surge", "replicas", "orphans"],
    users: |world| Box::pin(users(world)),
    settled,
};

async fn users(world: World) {
    world
        .create(
            DEPLOYMENTS,
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"name": "web", "namespace": "default"},
                "spec": {
                    "replicas": SIZE,
                    "selector": {"matchLabels": {"app": "web"}},
                    "strategy": {"rollingUpdate": {"maxSurge": 2, "maxUnavailable": 1}},
                    "template": {
                        "metadata": {"labels": {"app": "web"}},
                        "spec": {"containers": [{"name": "main", "image": "web:0"}]},
                    },
                },
            }),
        )
        .await;
    for version in 1..=3 {
        world.some_time(40).await;
        let container = json!([{"name": "main", "image": format!("web:{version}")}]);
        let template = json!({"spec": {"template": {"spec": {"containers": container}}}});
        world.patch(DEPLOYMENTS, "default/web", template).await;
        world.some_time(20).await;
        let pods: Vec<String> = {
            let cluster = world.cluster();
            cluster.all("/pods").map(|(key, _)| key.to_owned()).collect()
        };
        if let Some(pod) = world.random().pick(&pods) {
            world.delete(PODS, pod, DeleteOptions::default()).await;
        }
    }
    world.some_time(20).await;
}

fn settled(cluster: &Cluster) -> Result<(), String> {
    let pods: Vec<_> = cluster.all("/pods").map(|(_, pod)| pod).collect();
    expect(pods.len() as u64 == SIZE, || format!("{} pods", pods.len()))?;
    for pod in pods {
        let image = &pod["spec"]["containers"][0]["image"];
        expect(image == "web:3" && has_condition(pod, "Ready"), || format!("{image} is left"))?;
    }
    let deployment = cluster.get("apps/deployments", "default/web").ok_or("no deployment")?;
    let status = &deployment["status"];
    let right = status["observedGeneration"] == deployment["metadata"]["generation"]
        && ["replicas", "updatedReplicas", "availableReplicas"]
            .iter()
            .all(|count| status[count] == SIZE);
    expect(right, || format!("its status is {status}"))
}

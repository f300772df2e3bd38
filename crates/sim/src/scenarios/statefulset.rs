//! Updates of a StatefulSet, as far as a partition lets them go.

use client::Resource;
use serde_json::json;

use super::{Scenario, expect};
use crate::{Cluster, World, history::has_condition};

pub(super) const STATEFUL_SETS: Resource = Resource::namespaced("apps", "v1", "statefulsets");

const SIZE: u64 = 4;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "statefulset",
    holds: &["identity", "one at a time", "orphans"],
    users: |world| Box::pin(users(world)),
    settled,
};

async fn users(world: World) {
    let set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": {"name": "db", "namespace": "default"},
        "spec": {
            "replicas": SIZE, "serviceName": "db",
            "selector": {"matchLabels": {"app": "db"}},
            "template": {
                "metadata": {"labels": {"app": "db"}},
                "spec": {"containers": [{"name": "main", "image": "db:0"}]},
            },
        },
    });
    world.create(STATEFUL_SETS, set).await;
    for version in 1..=2 {
        for partition in [3, 1, 0] {
            world.some_time(90).await;
            let container = json!([{"name": "main", "image": format!("db:{version}")}]);
            let strategy = json!({"rollingUpdate": {"partition": partition}});
            let change = json!({"spec": {
                "template": {"spec": {"containers": container}}, "updateStrategy": strategy,
            }});
            world.patch(STATEFUL_SETS, "default/db", change).await;
        }
    }
    world.some_time(60).await;
}

fn settled(cluster: &Cluster) -> Result<(), String> {
    for ordinal in 0..SIZE {
        let name = format!("default/db-{ordinal}");
        let pod = cluster.get("/pods", &name).ok_or_else(|| format!("{name} is not there"))?;
        let image = &pod["spec"]["containers"][0]["image"];
        let right = image == "db:2" && has_condition(pod, "Ready");
        expect(right, || format!("{name} is of {image}, {}", pod["status"]))?;
    }
    let status = &cluster.get("apps/statefulsets", "default/db").ok_or("no set")?["status"];
    let right = status["currentRevision"] == status["updateRevision"]
        && ["replicas", "readyReplicas", "updatedReplicas", "currentReplicas"]
            .iter()
            .all(|count| status[count] == SIZE);
    expect(right, || format!("its status is {status}"))
}

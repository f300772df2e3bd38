//! A StatefulSet whose nodes fall silent, whose pods are deleted, and which is
//! resized meanwhile.

use client::DeleteOptions;
use serde_json::json;

use super::{PODS, Scenario, cut_off_nodes, expect, statefulset::STATEFUL_SETS};
use crate::{Cluster, World, history::has_condition};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "identity",
    holds: &["identity", "orphans"],
    users: |world| Box::pin(users(world)),
    settled,
};

async fn users(world: World) {
    let policy = *world.random().pick(&["OrderedReady", "Parallel"]).expect("two");
    let set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": {"name": "db", "namespace": "default"},
        "spec": {
            "replicas": 3, "serviceName": "db", "podManagementPolicy": policy,
            "selector": {"matchLabels": {"app": "db"}},
            "template": {
                "metadata": {"labels": {"app": "db"}},
                "spec": {"containers": [{"name": "main", "image": "db:0"}]},
            },
        },
    });
    world.create(STATEFUL_SETS, set).await;
    let meddle = async {
        for _ in 0..10 {
            world.some_time(120).await;
            let pod = format!("default/db-{}", world.random().below(4));
            world.delete(PODS, &pod, DeleteOptions::default()).await;
            if world.random().chance(400) {
                let size = json!({"spec": {"replicas": 1 + world.random().below(4)}});
                world.patch(STATEFUL_SETS, "default/db", size).await;
            }
        }
    };
    tokio::join!(meddle, cut_off_nodes(&world));
}

fn settled(cluster: &Cluster) -> Result<(), String> {
    let set = cluster.get("apps/statefulsets", "default/db").ok_or("no set")?;
    let wanted = &set["spec"]["replicas"];
    let ready = cluster.all("/pods").filter(|(_, pod)| has_condition(pod, "Ready")).count();
    let all = cluster.all("/pods").count();
    let right = *wanted == ready && *wanted == all;
    expect(right, || format!("{ready} of {all} pods are ready where {wanted} are asked for"))
}

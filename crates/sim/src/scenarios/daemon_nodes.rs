//! A DaemonSet whose nodes come, go and fall silent.

use client::DeleteOptions;
use serde_json::json;

use super::{NODES, PODS, Scenario, cut_off_nodes, daemonset::DAEMON_SETS, expect};
use crate::{Cluster, World, history::has_condition, world};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "daemon_nodes",
    holds: &["daemons", "orphans"],
    users: |world| Box::pin(users(world)),
    settled,
};

async fn users(world: World) {
    for n in 1..=world::NODES {
        let edge = json!({"metadata": {"labels": {"sim/role": "edge"}}});
        world.patch(NODES, &format!("node-{n}"), edge).await;
    }
    let set = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": "agent", "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": {"app": "agent"}},
            "template": {
                "metadata": {"labels": {"app": "agent"}},
                "spec": {
                    "nodeSelector": {"sim/role": "edge"},
                    "containers": [{"name": "main", "image": "agent"}],
                },
            },
        },
    });
    world.create(DAEMON_SETS, set).await;
    let meddle = async {
        for _ in 0..8 {
            world.some_time(120).await;
            let role = world.random().chance(600).then_some("edge");
            let role = json!({"metadata": {"labels": {"sim/role": role}}});
            world.patch(NODES, &world.some_node(), role).await;
            let pods: Vec<String> = {
                let cluster = world.cluster();
                cluster.all("/pods").map(|(key, _)| key.to_owned()).collect()
            };
            if let Some(pod) = world.random().pick(&pods) {
                world.delete(PODS, pod, DeleteOptions::default()).await;
            }
        }
    };
    tokio::join!(meddle, cut_off_nodes(&world));
}

fn settled(cluster: &Cluster) -> Result<(), String> {
    for (key, pod) in cluster.all("/pods") {
        expect(has_condition(pod, "Ready"), || format!("{key} is not ready: {}", pod["status"]))?;
    }
    Ok(())
}

//! Updates of a DaemonSet while nodes are closed.

use client::Resource;
use serde_json::json;

use super::{NODES, Scenario, expect};
use crate::{Cluster, World, history::has_condition};

pub(super) const DAEMON_SETS: Resource = Resource::namespaced("apps", "v1", "daemonsets");

pub(super) const SCENARIO: Scenario = Scenario {
    name: "daemonset",
    holds: &["daemons", "one at a time", "orphans"],
    users: |world| Box::pin(users(world)),
    settled,
};

async fn users(world: World) {
    let set = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": "agent", "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": {"app": "agent"}},
            "template": {
                "metadata": {"labels": {"app": "agent"}},
                "spec": {"containers": [{"name": "main", "image": "agent:0"}]},
            },
        },
    });
    world.create(DAEMON_SETS, set).await;
    for version in 1..=4 {
        world.some_time(60).await;
        let container = json!([{"name": "main", "image": format!("agent:{version}")}]);
        let template = json!({"spec": {"template": {"spec": {"containers": container}}}});
        world.patch(DAEMON_SETS, "default/agent", template).await;
        world.some_time(20).await;
        let closed = world.random().chance(500).then_some(true);
        let closed = json!({"spec": {"unschedulable": closed}});
        world.patch(NODES, &world.some_node(), closed).await;
    }
    world.some_time(60).await;
}

fn settled(cluster: &Cluster) -> Result<(), String> {
    for (key, pod) in cluster.all("/pods") {
        let image = &pod["spec"]["containers"][0]["image"];
        let right = image == "agent:4" && has_condition(pod, "Ready");
        expect(right, || format!("{key} is of {image}, {}", pod["status"]))?;
    }
    Ok(())
}

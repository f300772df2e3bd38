//! Updates of a DaemonSet that brings new pods up before the old ones go.

use serde_json::json;

use super::{Scenario, daemonset::DAEMON_SETS, expect};
use crate::{Cluster, World, history::has_condition};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "daemonset_surge",
    holds: &["surging", "orphans"],
    users: |world| Box::pin(users(world)),
    settled,
};

async fn users(world: World) {
    let surge = 1 + world.random().below(2);
    let set = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": "agent", "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": {"app": "agent"}},
            "updateStrategy": {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": 0}},
            "template": {
                "metadata": {"labels": {"app": "agent"}},
                "spec": {"containers": [{"name": "main", "image": "agent:0"}]},
            },
        },
    });
    world.create(DAEMON_SETS, set).await;
    for version in 1..=5 {
        world.some_time(40).await;
        let container = json!([{"name": "main", "image": format!("agent:{version}")}]);
        let template = json!({"spec": {"template": {"spec": {"containers": container}}}});
        world.patch(DAEMON_SETS, "default/agent", template).await;
    }
    world.some_time(60).await;
}

fn settled(cluster: &Cluster) -> Result<(), String> {
    for (key, pod) in cluster.all("/pods") {
        let image = &pod["spec"]["containers"][0]["image"];
        let right = image == "agent:5" && has_condition(pod, "Ready");
        expect(right, || format!("{key} is of {image}, {}", pod["status"]))?;
    }
    Ok(())
}

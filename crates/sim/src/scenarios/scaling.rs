//! A Deployment that is scaled up and down faster than it can follow.

use serde_json::json;

use super::{DEPLOYMENTS, Scenario, expect};
use crate::{Cluster, World};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "scaling",
    holds: &["surge", "replicas", "orphans"],
    users: |world| Box::pin(users(world)),
    settled,
};

async fn users(world: World) {
    let template = json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "main", "image": "web"}]},
    });
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": template},
    });
    world.create(DEPLOYMENTS, deployment).await;
    for _ in 0..8 {
        world.some_time(15).await;
        let size = world.random().below(9);
        world.patch(DEPLOYMENTS, "default/web", json!({"spec": {"replicas": size}})).await;
    }
}

fn settled(cluster: &Cluster) -> Result<(), String> {
    let deployment = cluster.get("apps/deployments", "default/web").ok_or("no deployment")?;
    let (asked, pods) = (&deployment["spec"]["replicas"], cluster.all("/pods").count());
    expect(*asked == pods, || format!("{pods} pods where {asked} are asked for"))
}

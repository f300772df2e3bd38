//! A load that rises and falls while an autoscaler follows it, some nodes fall
//! silent, and its controller is killed.

use client::Resource;
use serde_json::json;

use super::{DEPLOYMENTS, Scenario, cut_off_nodes, expect};
use crate::{
    Cluster, World,
    usage::{LOAD, load},
};

const AUTOSCALERS: Resource = Resource::namespaced("autoscaling", "v2", "horizontalpodautoscalers");
const MIN: u64 = 2;
const MAX: u64 = 8;
/// Of what a pod requests, 100 thousandths of a core, so that a percent is one of them.
const PERCENT: u64 = 50;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "autoscaling",
    holds: &["autoscaling", "surge", "orphans"],
    users: |world| Box::pin(users(world)),
    settled,
};

async fn users(world: World) {
    let container =
        json!({"name": "main", "image": "web", "resources": {"requests": {"cpu": "100m"}}});
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default", "annotations": {LOAD: "90"}},
        "spec": {
            "replicas": MIN,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [container]},
            },
        },
    });
    let target = json!({"type": "Utilization", "averageUtilization": PERCENT});
    let autoscaler = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "minReplicas": MIN, "maxReplicas": MAX,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
        },
    });
    world.create(DEPLOYMENTS, deployment).await;
    world.create(AUTOSCALERS, autoscaler).await;
    tokio::join!(cut_off_nodes(&world), async {
        for _ in 0..5 {
            world.some_time(900).await;
            // Now and then more than all of them can bear, or nothing.
            let load = world.random().below(550).saturating_sub(50).to_string();
            let annotations = json!({"metadata": {"annotations": {LOAD: load}}});
            world.patch(DEPLOYMENTS, "default/web", annotations).await;
        }
    });
}

/// What the autoscaler would do next is nothing.
fn settled(cluster: &Cluster) -> Result<(), String> {
    let deployment = cluster.get("apps/deployments", "default/web").ok_or("no deployment")?;
    let replicas = deployment["spec"]["replicas"].as_u64().ok_or("no replicas")?;
    let load = load(deployment).ok_or("no load")?;
    // A share is rounded up to a thousandth of a core.
    let rests = [load / replicas, load / replicas + 1].into_iter().any(|percent| {
        let bearable = PERCENT * 9 <= percent * 10 && percent * 10 <= PERCENT * 11;
        bearable || (percent * replicas).div_ceil(PERCENT).clamp(MIN, MAX) == replicas
    });
    expect(rests, || format!("{replicas} replicas bear {load} thousandths of a core"))?;
    let status = &cluster
        .get("autoscaling/horizontalpodautoscalers", "default/web")
        .ok_or("no autoscaler")?["status"];
    let right = status["currentReplicas"] == replicas && status["desiredReplicas"] == replicas;
    expect(right, || format!("of {replicas} replicas the autoscaler says {status}"))
}

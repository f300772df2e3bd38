//! An autoscaler in a cluster in memory.

use std::time::Duration;

use client::Resource;
use serde_json::{Value, json};
use testkit::{Build, deployment, pod};

use crate::{
    cached::{AUTOSCALERS, DEPLOYMENTS, PODS},
    stories::{Story, one_node},
};

const POD_METRICS: Resource = Resource::namespaced("metrics.k8s.io", "v1beta1", "pods");

fn scaler() -> Build {
    pod("default/web")
        .set("/kind", json!("HorizontalPodAutoscaler"))
        .set("/status", Value::Null)
        .set(
            "/spec",
            json!({
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                "minReplicas": 1,
                "maxReplicas": 5,
                "metrics": [{"type": "Resource", "resource": {
                    "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50},
                }}],
            }),
        )
}

/// Every pod uses so much from now on.
fn measure(story: &Story, cpu: &str, at: &str) {
    for pod in story.names(POD_METRICS) {
        story.cluster.remove(POD_METRICS, &format!("default/{pod}"));
    }
    for name in story.names(PODS) {
        let metrics = pod(&format!("default/{name}"))
            .label("app", "web")
            .set("/timestamp", json!(at))
            .set("/window", json!("30s"))
            .set("/containers", json!([{"name": "main", "usage": {"cpu": cpu, "memory": "1Mi"}}]));
        story.cluster.create(POD_METRICS, &metrics);
    }
}

#[tokio::test(start_paused = true)]
async fn a_deployment_grows_with_its_load_and_shrinks_later() {
    let story = Story::start(one_node().with_running_clock());
    let requests = json!({"requests": {"cpu": "100m"}});
    let web =
        deployment("default/web", 2).set("/spec/template/spec/containers/0/resources", requests);
    story.cluster.create(DEPLOYMENTS, &web);
    story.settle().await;
    // Nobody serves metrics yet.
    story.cluster.create(AUTOSCALERS, &scaler());
    story.settle().await;
    let conditions = story.conditions(AUTOSCALERS, "default/web");
    assert_eq!(
        conditions,
        ["AbleToScale=True SucceededGetScale", "ScalingActive=False FailedGetResourceMetric"]
    );
    let revision = story.cluster.revision();
    for pod in story.names(PODS) {
        story.cluster.edit(PODS, &format!("default/{pod}"), |pod| {
            pod["status"]["startTime"] = json!("2023-11-14T20:00:00Z");
        });
    }
    assert!(story.cluster.revision() > revision);
    measure(&story, "75m", "2023-11-14T23:00:00Z");
    story.settle().await;
    let size = || {
        let web = story.cluster.get(DEPLOYMENTS, "default/web").expect("there");
        web["spec"]["replicas"].as_i64()
    };
    assert_eq!(size(), Some(3));
    let told = "SuccessfulRescale: New size: 3; reason: cpu resource utilization (percentage of request) above target";
    assert!(story.cluster.events().contains(&told.to_owned()), "{:?}", story.cluster.events());
    // What is asked for is not measured, each time for another reason.
    let target = json!({"type": "AverageValue", "averageValue": "1"});
    let container =
        json!({"name": "cpu", "container": "nope", "target": {"averageUtilization": 50}});
    let metric = json!({"metric": {"name": "queue"}, "target": target});
    for (metric, message) in [
        (
            json!({"type": "ContainerResource", "containerResource": container}),
            "failed to get cpu utilization: unable to get metrics for resource cpu: failed to get container metrics: container nope not present in metrics for pod default/",
        ),
        (
            json!({"type": "Pods", "pods": metric}),
            "unable to get metric queue: unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered",
        ),
    ] {
        story.cluster.edit(AUTOSCALERS, "default/web", |scaler| {
            scaler["spec"]["metrics"] = json!([metric]);
        });
        tokio::time::sleep(Duration::from_secs(20)).await;
        let scaler = story.cluster.get(AUTOSCALERS, "default/web").expect("there");
        let conditions = scaler["status"]["conditions"].as_array().expect("some").iter();
        let active = conditions.clone().find(|c| c["type"] == "ScalingActive").expect("told");
        let told = active["message"].as_str().unwrap_or_default();
        let head = "the HPA was unable to compute the replica count: ";
        assert!(told.starts_with(&format!("{head}{message}")), "{told}");
    }
    // Of what it scales, group and kind count.
    story.cluster.edit(AUTOSCALERS, "default/web", |scaler| {
        scaler["spec"]["scaleTargetRef"]["apiVersion"] = json!("apps/v1beta2");
    });
    tokio::time::sleep(Duration::from_secs(20)).await;
    let conditions = story.conditions(AUTOSCALERS, "default/web");
    assert!(conditions[0].starts_with("AbleToScale=True"), "{conditions:?}");
    story.cluster.edit(AUTOSCALERS, "default/web", |scaler| {
        scaler["spec"]["scaleTargetRef"] =
            json!({"apiVersion": "nobody.example.com/v1", "kind": "Web", "name": "web"});
    });
    tokio::time::sleep(Duration::from_secs(20)).await;
    let lost = story.cluster.get(AUTOSCALERS, "default/web").expect("there");
    let able = lost["status"]["conditions"][0]["message"].as_str().unwrap_or_default();
    let none = "no matches for kind \"Web\" in group \"nobody.example.com\"";
    assert!(able.ends_with(none), "{able}");
    story.cluster.edit(AUTOSCALERS, "default/web", |lost| {
        lost["spec"]["scaleTargetRef"] = scaler().json()["spec"]["scaleTargetRef"].clone();
    });
    // What it scales goes.
    story.cluster.delete(DEPLOYMENTS, "default/web");
    tokio::time::sleep(Duration::from_secs(20)).await;
    let conditions = story.conditions(AUTOSCALERS, "default/web");
    assert!(conditions.contains(&"AbleToScale=False FailedGetScale".to_owned()), "{conditions:?}");
}

//! Both controllers on a cluster in memory, which answers for every group.

use client::Resource;
use serde_json::{Value, json};
use testkit::{Build, FakeCluster};

use crate::{
    cached::{API_SERVICES, CUSTOM_RESOURCE_DEFINITIONS, ENDPOINT_SLICES, SERVICES},
    stories::Story,
};

const WARDLE: &str = "v1alpha1.wardle.example.com";

fn registered(name: &str, service: Value) -> Value {
    let (version, group) = name.split_once('.').expect("a version and a group");
    json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": name},
        "spec": {"group": group, "version": version, "groupPriorityMinimum": 2000,
            "versionPriority": 200, "service": service},
    })
}

fn place() -> Value {
    json!({"namespace": "wardle", "name": "api", "port": 443})
}

impl Story {
    fn available(&self, name: &str) -> String {
        self.conditions(API_SERVICES, name).join(", ")
    }

    fn put(&self, resource: Resource, object: Value) {
        let fields = object.as_object().expect("an object");
        let build = fields.iter().fold(Build::new("v1", "Any"), |build, (field, value)| {
            build.set(&format!("/{field}"), value.clone())
        });
        self.cluster.create(resource, &build);
    }
}

#[tokio::test(start_paused = true)]
async fn another_server_is_available_once_it_answers() {
    let story = Story::start(FakeCluster::new());
    story.put(API_SERVICES, registered(WARDLE, place()));
    story.moment().await;
    assert_eq!(story.available(WARDLE), "Available=False ServiceNotFound");
    assert_eq!(story.available("v1.apps"), "Available=True Local");
    story.put(
        SERVICES,
        json!({"metadata": {"namespace": "wardle", "name": "api"}, "spec": {"type": "ClusterIP",
            "clusterIP": "10.43.0.9", "ports": [{"name": "https", "port": 443}]}}),
    );
    story.moment().await;
    assert_eq!(story.available(WARDLE), "Available=False EndpointsNotFound");
    let slice = json!({
        "metadata": {"namespace": "wardle", "name": "api-1",
            "labels": {"kubernetes.io/service-name": "api"}},
        "addressType": "IPv4", "ports": [{"name": "https", "port": 8443}],
        "endpoints": [{"addresses": ["10.42.0.9"], "conditions": {"ready": true}}],
    });
    story.put(ENDPOINT_SLICES, slice);
    story.moment().await;
    assert_eq!(story.available(WARDLE), "Available=True Passed");
    let revision = story.cluster.revision();
    story.settle().await;
    assert_eq!(story.cluster.revision(), revision, "nothing changes, nothing is written");
    story.cluster.edit(ENDPOINT_SLICES, "wardle/api-1", |slice| {
        slice["endpoints"][0]["conditions"]["ready"] = json!(false);
    });
    story.moment().await;
    assert_eq!(story.available(WARDLE), "Available=False MissingEndpoints");
}

#[tokio::test(start_paused = true)]
async fn a_version_that_was_given_away_comes_back() {
    const METRICS: &str = "v1beta1.metrics.k8s.io";
    let story = Story::start(FakeCluster::new());
    story.moment().await;
    assert_eq!(story.available(METRICS), "Available=True Local");
    story.cluster.edit(API_SERVICES, METRICS, |object| object["spec"]["service"] = place());
    story.moment().await;
    assert_eq!(story.available(METRICS), "Available=False ServiceNotFound");
    story.cluster.delete(API_SERVICES, METRICS);
    story.moment().await;
    assert_eq!(story.available(METRICS), "Available=True Local");
}

#[tokio::test(start_paused = true)]
async fn versions_of_definitions_come_and_go_with_them() {
    let story = Story::start(FakeCluster::new());
    let definition = json!({
        "metadata": {"name": "as.example.com"},
        "spec": {"group": "example.com", "versions": [{"name": "v1", "served": true}]},
    });
    story.put(CUSTOM_RESOURCE_DEFINITIONS, definition);
    story.moment().await;
    assert_eq!(story.available("v1.example.com"), "Available=True Local");
    story.cluster.delete(CUSTOM_RESOURCE_DEFINITIONS, "as.example.com");
    story.moment().await;
    assert!(story.cluster.get(API_SERVICES, "v1.example.com").is_none());
}

//! Owners and what is theirs, in a cluster in memory.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use api_object::{Reason, Status};
use bytes::Bytes;
use client::{Api, Body, BoxFuture, Transport, TransportError};
use http::{Request, Response};
use serde_json::{Value, json};
use testkit::{Build, FakeCluster};

use crate::{
    Settings,
    cached::*,
    stories::{Story, one_node},
};

#[tokio::test(start_paused = true)]
async fn dependents_go_with_their_owner() {
    let policies = [("Background", 0, 0), ("Foreground", 0, 0), ("Orphan", 1, 2)];
    for (policy, sets, pods) in policies {
        let story = Story::start(one_node());
        story.cluster.create(DEPLOYMENTS, &testkit::deployment("default/web", 2));
        story.settle().await;
        let options = json!({"propagationPolicy": policy});
        story.cluster.delete_with(DEPLOYMENTS, "default/web", options);
        story.settle().await;
        assert_eq!(story.cluster.list(DEPLOYMENTS).len(), 0, "{policy}");
        assert_eq!(story.cluster.list(REPLICA_SETS).len(), sets, "{policy}");
        assert_eq!(story.cluster.list(PODS).len(), pods, "{policy}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_whose_owner_never_was_goes() {
    let story = Story::start(FakeCluster::new());
    let owner = testkit::deployment("default/gone", 1);
    let set = testkit::replica_set("default/left", 0).owned_by(&owner);
    story.cluster.create(REPLICA_SETS, &set);
    story.settle().await;
    assert_eq!(story.cluster.list(REPLICA_SETS).len(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_names_an_owner_of_another_namespace_is_told() {
    let story = Story::start(FakeCluster::new());
    let owner = testkit::deployment("other/owner", 0);
    let uid = story.cluster.create(DEPLOYMENTS, &owner)["metadata"]["uid"].clone();
    story.settle().await;
    let named = owner.set("/metadata/uid", uid.clone());
    let stray = testkit::replica_set("default/stray", 0).owned_by(&named);
    story.cluster.create(REPLICA_SETS, &stray);
    // What is of no namespace can be owned by nothing that is of one, and stays.
    story.cluster.create(NODES, &testkit::node("wide").owned_by(&named));
    story.settle().await;
    assert!(story.cluster.get(REPLICA_SETS, "default/stray").is_none(), "nobody owns it");
    assert!(story.cluster.get(NODES, "wide").is_some());
    let uid = uid.as_str().expect("a uid");
    let told = |namespace: &str| {
        format!(
            "OwnerRefInvalidNamespace: ownerRef [apps/v1/Deployment, namespace: {namespace}, name: owner, uid: {uid}] does not exist in namespace \"{namespace}\""
        )
    };
    assert_eq!(story.cluster.events_about("stray"), [told("default")]);
    let of_node = story.cluster.events_about("wide");
    assert_eq!(of_node.iter().filter(|event| **event == told("")).count(), 1, "{of_node:?}");
}

/// A cluster with definitions of kinds, that stops to serve Deployments when a test says so.
#[derive(Debug)]
struct Serving {
    cluster: FakeCluster,
    stopped: Arc<AtomicBool>,
    /// How often it was asked for the owner that nobody has seen.
    asked: Arc<AtomicU64>,
}

impl Transport for Serving {
    fn send(&self, request: Request<Bytes>) -> BoxFuture<Result<Response<Body>, TransportError>> {
        let path = request.uri().path().to_owned();
        let stopped = self.stopped.load(Ordering::Relaxed);
        if path.ends_with("/unseen") {
            self.asked.fetch_add(1, Ordering::Relaxed);
        }
        if stopped && path.contains("/deployments") {
            let status = Status::failure(
                Reason::NotFound,
                "the server could not find the requested resource",
            );
            let bytes = serde_json::to_vec(&status).expect("plain data");
            let response = Response::builder().status(404).body(Body::Full(bytes.into()));
            return Box::pin(async move { Ok(response.expect("a status and a body")) });
        }
        let answer = self.cluster.send(request);
        Box::pin(async move {
            let (head, body) = answer.await?.into_parts();
            let body = match (path.as_str(), body) {
                ("/apis", Body::Full(bytes)) => changed(&bytes, |answer| {
                    let version =
                        json!({"groupVersion": "apiextensions.k8s.io/v1", "version": "v1"});
                    let group = json!({"name": "apiextensions.k8s.io", "versions": [version]});
                    answer["groups"].as_array_mut().expect("groups").push(group);
                }),
                ("/apis/apiextensions.k8s.io/v1", Body::Full(bytes)) => changed(&bytes, |answer| {
                    answer["resources"] = json!([{
                        "name": CUSTOM_RESOURCE_DEFINITIONS.plural,
                        "kind": "CustomResourceDefinition",
                        "namespaced": false,
                        "verbs": ["delete", "list", "watch"],
                    }]);
                }),
                ("/apis/apps/v1", Body::Full(bytes)) if stopped => changed(&bytes, |answer| {
                    let resources = answer["resources"].as_array_mut().expect("resources");
                    resources.retain(|resource| resource["name"] != "deployments");
                }),
                (_, body) => body,
            };
            Ok(Response::from_parts(head, body))
        })
    }
}

fn changed(bytes: &[u8], change: impl FnOnce(&mut Value)) -> Body {
    let mut answer = serde_json::from_slice(bytes).expect("the fake answers with JSON");
    change(&mut answer);
    Body::Full(answer.to_string().into())
}

#[tokio::test(start_paused = true)]
async fn what_belongs_to_a_kind_that_is_served_no_more_stays() {
    let (cluster, stopped) = (FakeCluster::new(), Arc::new(AtomicBool::new(false)));
    let asked = Arc::new(AtomicU64::new(0));
    let serving =
        Serving { cluster: cluster.clone(), stopped: stopped.clone(), asked: asked.clone() };
    let api = Api::new(Arc::new(serving), "test");
    let story = Story::start_through(api, cluster, Settings::default());
    let owner = testkit::deployment("default/owner", 0);
    let uid = story.cluster.create(DEPLOYMENTS, &owner)["metadata"]["uid"].clone();
    let owner = owner.set("/metadata/uid", uid);
    let unseen = testkit::deployment("default/unseen", 0).set("/metadata/uid", json!("unseen"));
    let map = |name: &str, owner: &Build| {
        Build::new("v1", "ConfigMap")
            .set("/metadata/namespace", json!("default"))
            .set("/metadata/name", json!(name))
            .owned_by(owner)
    };
    story.cluster.create(CONFIG_MAPS, &map("before", &owner));
    story.settle().await;
    // Nobody has looked yet which kinds there are now.
    stopped.store(true, Ordering::Relaxed);
    story.cluster.create(CONFIG_MAPS, &map("between", &unseen));
    story.settle().await;
    let definition = Build::new("apiextensions.k8s.io/v1", "CustomResourceDefinition");
    let definition = definition.set("/metadata/name", json!("things.example.com"));
    story.cluster.create(CUSTOM_RESOURCE_DEFINITIONS, &definition);
    story.settle().await;
    let before = asked.load(Ordering::Relaxed);
    assert_ne!(before, 0, "the kind was still known");
    story.cluster.create(CONFIG_MAPS, &map("after", &unseen));
    story.settle().await;
    for name in ["before", "between", "after"] {
        assert!(story.cluster.get(CONFIG_MAPS, &format!("default/{name}")).is_some(), "{name}");
    }
    assert_eq!(asked.load(Ordering::Relaxed), before, "nobody answers for that kind");
}

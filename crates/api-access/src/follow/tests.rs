use api_registry::{Admission, Authorizer, Decision, Operation, RequestAttributes};
use bytes::Bytes;
use client::{Body, BoxFuture, Transport, TransportError};
use http::{Request, Response};
use serde_json::json;
use testkit::FakeCluster;
use tokio::task::JoinHandle;

use super::*;
use crate::{
    state::{CLUSTER_ROLE_BINDINGS, NAMESPACES},
    testing::{admin, settings, user, write},
};

/// Starts over a cluster and waits until policy and aggregation are in place.
async fn start(cluster: &FakeCluster) -> (Arc<Access>, JoinHandle<()>) {
    start_through(cluster.api()).await
}

async fn start_through(api: Api) -> (Arc<Access>, JoinHandle<()>) {
    let access = Access::new(settings(&["10.43.0.0/16"]));
    let running = tokio::spawn(access.clone().run(api));
    access.ready().await;
    let mut changed = access.policy_changed.subscribe();
    while !["admin", "edit", "view"].iter().all(|name| {
        access.state().policy.role("", true, name).is_some_and(|rules| !rules.is_empty())
    }) || !aggregation::plan(&access.state().policy).is_empty()
    {
        changed.changed().await.expect("the sender lives in access");
    }
    (access, running)
}

async fn may(access: &Access, who: &str, verb: &str, resource: &str) -> bool {
    let asked = RequestAttributes {
        user: user(who, &["system:authenticated"]),
        verb: verb.into(),
        resource_request: true,
        resource: resource.into(),
        namespace: "default".into(),
        ..RequestAttributes::default()
    };
    access.authorize(&asked).await == Decision::Allow
}

async fn create(cluster: &FakeCluster, resource: client::Resource, object: Value) {
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or("").to_owned();
    cluster.api().create(resource, &namespace, &object).await.expect("valid");
}

#[tokio::test(start_paused = true)]
async fn the_first_start_writes_the_policy_and_the_second_nothing() {
    let cluster = FakeCluster::new();
    let (access, running) = start(&cluster).await;
    let view = cluster.get(CLUSTER_ROLES, "view").expect("written");
    assert_eq!(view["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-edit"], "true");
    assert!(may(&access, "system:kube-scheduler", "watch", "pods").await);
    running.abort();
    let before = cluster.revision();
    let (_, running) = start(&cluster).await;
    assert_eq!(cluster.revision(), before);
    running.abort();
}

fn binding_of_ann() -> Value {
    json!({
        "metadata": { "name": "ann" },
        "roleRef": { "kind": "ClusterRole", "name": "view" },
        "subjects": [{ "kind": "User", "name": "ann" }],
    })
}

#[tokio::test(start_paused = true)]
async fn changes_are_followed_through_broken_watches() {
    let cluster = FakeCluster::new();
    let (access, running) = start(&cluster).await;
    let binding = binding_of_ann();
    let until = async |wanted: bool| {
        // The clock is paused: this only lets the others work.
        while may(&access, "ann", "list", "pods").await != wanted {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    assert!(!may(&access, "ann", "list", "pods").await);
    create(&cluster, CLUSTER_ROLE_BINDINGS, binding).await;
    until(true).await;
    cluster.cut_watches();
    cluster.delete(CLUSTER_ROLE_BINDINGS, "ann");
    cluster.forget_history();
    until(false).await;
    running.abort();
}

/// A cluster, and the end of whoever next asks it for bindings.
#[derive(Debug)]
struct Deadly {
    cluster: FakeCluster,
    armed: Arc<AtomicBool>,
}

impl Transport for Deadly {
    fn send(&self, request: Request<Bytes>) -> BoxFuture<Result<Response<Body>, TransportError>> {
        if request.uri().path().ends_with("/clusterrolebindings") {
            assert!(!self.armed.swap(false, Ordering::Relaxed), "as this test wants it");
        }
        self.cluster.send(request)
    }
}

#[tokio::test(start_paused = true)]
async fn who_follows_rights_and_panics_starts_anew() {
    let (cluster, armed) = (FakeCluster::new(), Arc::new(AtomicBool::new(false)));
    create(&cluster, CLUSTER_ROLE_BINDINGS, binding_of_ann()).await;
    let deadly = Deadly { cluster: cluster.clone(), armed: armed.clone() };
    let (access, running) = start_through(Api::new(Arc::new(deadly), "test")).await;
    assert!(may(&access, "ann", "list", "pods").await);
    armed.store(true, Ordering::Relaxed);
    cluster.cut_watches();
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert!(!armed.load(Ordering::Relaxed), "it was asked");
    cluster.delete(CLUSTER_ROLE_BINDINGS, "ann");
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert!(!may(&access, "ann", "list", "pods").await, "a right that was taken away");
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn a_restart_knows_the_addresses_that_are_taken() {
    let cluster = FakeCluster::new();
    create(&cluster, NAMESPACES, json!({ "metadata": { "name": "default" } })).await;
    let service = json!({
        "metadata": { "name": "a", "namespace": "default" },
        "spec": { "clusterIP": "10.43.0.9", "clusterIPs": ["10.43.0.9"] },
    });
    create(&cluster, SERVICES, service).await;
    let (access, running) = start(&cluster).await;
    let service = json!({ "metadata": { "name": "b" }, "spec": { "clusterIP": "10.43.0.9" } });
    let mut attributes =
        write(admin(), Operation::Create, "services", "default", Some(service), None);
    let status = access.mutate(&mut attributes).await.expect_err("taken");
    assert!(status.message.contains("provided IP is already allocated"), "{}", status.message);
    running.abort();
}

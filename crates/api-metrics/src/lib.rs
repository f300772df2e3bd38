//! `metrics.k8s.io`: what nodes and pods use, with no extra pod.
//!
//! Nobody stores these objects. When somebody asks, [`ResourceMetrics`] asks the
//! nodes concerned for the kubelet's Summary, through the tunnel that every node
//! holds to every server, and `objects` makes NodeMetrics and PodMetrics of it.
//! This crate knows no storage and no HTTP, and keeps nothing between requests:
//! a node compares its counters itself.

mod objects;
#[cfg(test)]
mod story;
mod summary;

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
    time::Duration,
};

use api_object::{Reason, Status};
use api_registry::{Computing, Registry, Wanted};
use client::{Api, ListOptions, Resource};
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tunnel::Nodes;

use objects::{NodeMeta, PodMeta};
use summary::Summary;

/// The API group.
const GROUP: &str = "metrics.k8s.io";
const NODES: Resource = Resource::cluster("", "v1", "nodes");
const PODS: Resource = Resource::namespaced("", "v1", "pods");

/// CPU and memory alone, which a node reads in a few milliseconds.
const PAGE: &str = "/stats/summary?only_cpu_and_memory=true";
/// A node that does not answer in time is left out, as metrics-server does it.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Nodes that are asked at once.
const ASKED_AT_ONCE: usize = 64;

/// Says what nodes and pods use.
pub struct ResourceMetrics {
    nodes: Arc<Nodes>,
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    api: OnceLock<Api>,
}

impl ResourceMetrics {
    /// Of the nodes that this server reaches. It answers once it has an API.
    pub fn new(nodes: Arc<Nodes>, now: Arc<dyn Fn() -> Timestamp + Send + Sync>) -> Self {
        Self { nodes, now, api: OnceLock::new() }
    }

    /// Has the registry answer for the group with what this says.
    pub fn register(self: &Arc<Self>, registry: &mut Registry) {
        let asked = self.clone();
        let nodes = move |wanted: Wanted| -> Computing {
            let usage = asked.clone();
            Box::pin(async move { usage.nodes(&wanted.name, &wanted.labels).await })
        };
        registry.compute(GROUP, "nodes", Arc::new(nodes));
        let asked = self.clone();
        let pods = move |wanted: Wanted| -> Computing {
            let usage = asked.clone();
            Box::pin(
                async move { usage.pods(&wanted.namespace, &wanted.name, &wanted.labels).await },
            )
        };
        registry.compute(GROUP, "pods", Arc::new(pods));
    }

    /// Finds nodes and pods with this; what is set first counts.
    pub fn ask_with(&self, api: Api) {
        self.api.get_or_init(|| api);
    }

    /// NodeMetrics: of the node of a name, or of those that a label selector takes.
    ///
    /// # Errors
    /// Where the API does not list nodes.
    pub async fn nodes(&self, name: &str, labels: &str) -> Result<Vec<Value>, Status> {
        let nodes: Vec<NodeMeta> = self.list(NODES, "", name, labels).await?;
        let names = nodes.iter().map(|node| node.metadata.name.clone()).collect();
        let told = self.ask(names).await;
        let now = (self.now)();
        Ok(nodes.iter().filter_map(|node| objects::node(node, &told, now)).collect())
    }

    /// PodMetrics: of the pod of a name, or of those of a namespace (all where it is
    /// empty) that a label selector takes.
    ///
    /// # Errors
    /// Where the API does not list pods.
    pub async fn pods(
        &self,
        namespace: &str,
        name: &str,
        labels: &str,
    ) -> Result<Vec<Value>, Status> {
        let pods: Vec<PodMeta> = self.list(PODS, namespace, name, labels).await?;
        let running = pods.iter().filter(|pod| pod.may_run());
        let names = running.clone().map(|pod| pod.spec.node_name.clone()).collect();
        let told = self.ask(names).await;
        let now = (self.now)();
        Ok(running.filter_map(|pod| objects::pod(pod, &told, now)).collect())
    }

    async fn list<T: DeserializeOwned>(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
        labels: &str,
    ) -> Result<Vec<T>, Status> {
        let starting = || Status::failure(Reason::ServiceUnavailable, "the server is starting");
        let api = self.api.get().ok_or_else(starting)?;
        let options = ListOptions {
            label_selector: labels.to_owned(),
            field_selector: match name {
                "" => String::new(),
                name => format!("metadata.name={name}"),
            },
            ..ListOptions::default()
        };
        let list = api.list(resource, namespace, &options).await.map_err(|error| match error {
            client::Error::Status(status) => *status,
            other => Status::internal(other),
        })?;
        let items = list.items.iter().map(|item| serde_json::from_slice(item));
        items.collect::<Result<_, _>>().map_err(Status::internal)
    }

    /// What the nodes say that answer.
    async fn ask(&self, names: BTreeSet<String>) -> Vec<Summary> {
        let ask = |name: String| async move {
            let page = tokio::time::timeout(ANSWER_MAX, self.nodes.page(&name, PAGE)).await;
            let failed = match page {
                Ok(Ok(bytes)) => match serde_json::from_slice::<Summary>(&bytes) {
                    Ok(summary) => return Some(summary),
                    Err(error) => error.to_string(),
                },
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {} s", ANSWER_MAX.as_secs()),
            };
            tracing::info!(node = name, failed, "a node is left out of metrics.k8s.io");
            None
        };
        let answers = stream::iter(names).map(ask).buffer_unordered(ASKED_AT_ONCE);
        answers.filter_map(std::future::ready).collect().await
    }
}

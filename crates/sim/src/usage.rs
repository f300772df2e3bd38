//! What pods use, as nodes tell it to `metrics.k8s.io`: the load on a Deployment,
//! in thousandths of a core by its annotation [`LOAD`], is shared by those of its
//! pods that are ready, as a Service would share it.

use std::sync::{Arc, Weak};

use api_registry::UserInfo;
use api_server::ApiServer;
use bytes::Bytes;
use client::{Api, Body, Transport, TransportError};
use http::{Request, Response};
use serde_json::{Value, json};
use tunnel::{BoxFuture, NodeStreams, Open, OpenError, Output, ServerEnd};

use crate::{Cluster, World, history::has_condition, world::Inner};

/// On a Deployment whose pods have its name as their label `app`.
pub(crate) const LOAD: &str = "sim/load";
/// Over which a node measures.
const WINDOW: &str = "15s";

/// A client that the server itself may keep without keeping itself alive.
pub(crate) fn api(server: &Arc<ApiServer>, user: UserInfo) -> Api {
    Api::new(Arc::new(Weakly(Arc::downgrade(server), user)), "resource-metrics")
}

struct Weakly(Weak<ApiServer>, UserInfo);

impl Transport for Weakly {
    fn send(
        &self,
        request: Request<Bytes>,
    ) -> client::BoxFuture<Result<Response<Body>, TransportError>> {
        match self.0.upgrade() {
            Some(server) => server.transport(self.1.clone()).send(request),
            None => Box::pin(async { Err(TransportError("the server has ended".into())) }),
        }
    }
}

/// A node's answers.
pub(crate) struct Told {
    world: Weak<Inner>,
    node: String,
}

impl Told {
    /// Those of a node of this world.
    pub(crate) fn new(world: &World, node: &str) -> Self {
        Self { world: world.downgrade(), node: node.to_owned() }
    }
}

impl NodeStreams for Told {
    fn open(&self, open: Open) -> BoxFuture<Result<ServerEnd, OpenError>> {
        let (world, node) = (World::upgrade(&self.world), self.node.clone());
        Box::pin(async move {
            let unreachable = || OpenError::NodeUnreachable(format!("{node} does not answer"));
            let world = world.ok_or_else(unreachable)?;
            let Open::Page(_) = open else { return Err(unreachable()) };
            // Who asks gives up before most nodes come back.
            world.connected(&node).await;
            let summary = summary(&world.cluster(), &node, &world.clock().now().to_string());
            let (server, node) = tunnel::pair();
            let page = Output::Stdout(summary.to_string().into());
            node.output.send(page).await.map_err(|_| unreachable())?;
            Ok(server)
        })
    }
}

fn summary(cluster: &Cluster, node: &str, now: &str) -> Value {
    let running = cluster
        .all("/pods")
        .map(|(_, pod)| pod)
        .filter(|pod| pod["spec"]["nodeName"] == *node && pod["status"]["phase"] == "Running");
    let pods: Vec<Value> = running
        .map(|pod| {
            let cpu =
                json!({"time": now, "window": WINDOW, "usageNanoCores": nanocores(cluster, pod)});
            let stats = json!({"name": "main", "cpu": cpu, "memory": {"workingSetBytes": 1 << 20}});
            let metadata = &pod["metadata"];
            let of = json!({"name": metadata["name"], "namespace": metadata["namespace"]});
            json!({"podRef": of, "containers": [stats]})
        })
        .collect();
    json!({"node": {"nodeName": node}, "pods": pods})
}

fn nanocores(cluster: &Cluster, pod: &Value) -> u64 {
    let takes_load =
        |pod: &Value| pod["metadata"]["deletionTimestamp"].is_null() && has_condition(pod, "Ready");
    if !takes_load(pod) {
        return 0;
    }
    let app = &pod["metadata"]["labels"]["app"];
    let all = cluster.all("/pods").map(|(_, pod)| pod);
    let sharing = all.filter(|other| other["metadata"]["labels"]["app"] == *app);
    let sharing = sharing.filter(|other| takes_load(other)).count() as u64;
    let name = format!("default/{}", app.as_str().unwrap_or_default());
    let load = cluster.get("apps/deployments", &name).and_then(load).unwrap_or(0);
    load * 1_000_000 / sharing.max(1)
}

/// The load on a Deployment, in thousandths of a core.
pub(crate) fn load(deployment: &Value) -> Option<u64> {
    deployment["metadata"]["annotations"][LOAD].as_str()?.parse().ok()
}

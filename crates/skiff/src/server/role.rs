//! The label by which `kubectl get nodes` shows that a node is a server. Nodes
//! may not give themselves roles (NodeRestriction), so the server does.

use std::sync::Arc;

use client::{Ambient, Api, Informer, MetaOnly, PatchKind, Resource, Selection};
use serde_json::json;
use tokio::sync::Notify;
use tracing::warn;

const NODES: Resource = Resource::cluster("", "v1", "nodes");
const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";

/// Keeps the label on the Node of that name until dropped.
pub(super) async fn run(api: Api, ambient: Ambient, node_name: String) {
    let informer = Informer::<MetaOnly>::new(
        Selection::all(NODES).fields(&format!("metadata.name={node_name}")),
    );
    let changed = Arc::new(Notify::new());
    let told = changed.clone();
    informer.on_change(move |_| told.notify_one());
    let label = async {
        loop {
            changed.notified().await;
            let Some(node) = informer.get(&node_name) else { continue };
            if node.meta.labels.contains_key(CONTROL_PLANE) {
                continue;
            }
            let patch = json!({"metadata": {"labels": {CONTROL_PLANE: "true"}}});
            if let Err(error) = api.patch(NODES, "", &node_name, "", PatchKind::Merge, &patch).await
            {
                // The next change of the Node, its status at the latest, tries again.
                warn!(%error, "the node's role cannot be shown");
            }
        }
    };
    tokio::select! {
        () = informer.run(&api, &ambient) => {}
        () = label => {}
    }
}

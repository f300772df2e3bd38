//! Pod garbage collector: pods on nodes that are gone, which no kubelet will
//! ever end, and pods that were deleted before they had a node.

use std::{sync::Arc, time::Duration};

use api_object::time;
use client::{
    Api, Cached, DeleteOptions, Error, Informer, MetaOnly, Outcome, PatchKind, Selection,
    WorkQueue, reconcile_loop,
};
use serde_json::json;

use crate::{
    Context,
    cached::{self, BY_NODE, NODES, PODS, Pod},
};

/// A node that was deleted by mistake has this long to come back; upstream's
/// `quarantineTime`.
const QUARANTINE: Duration = Duration::from_secs(40);

struct PodCollector {
    api: Api,
    pods: Informer<Pod>,
    nodes: Informer<MetaOnly>,
    context: Context,
}

/// The controller. Never returns. Its keys are names of nodes; the empty one
/// stands for pods that have none.
pub(crate) async fn run(context: Context) {
    let controller = Arc::new(PodCollector {
        api: context.api.clone(),
        pods: cached::pods(&context.informers),
        nodes: context.informers.get(Selection::all(NODES)),
        context,
    });
    controller.nodes.wait_synced().await;
    let queue = Arc::new(WorkQueue::default());
    let (keys, nodes) = (queue.clone(), controller.nodes.clone());
    controller.pods.on_change(move |change| {
        let Some(pod) = &change.new else { return };
        let node = &pod.view.spec.node_name;
        if node.is_empty() {
            if pod.meta.deletion_timestamp.is_some() {
                keys.add(String::new());
            }
        } else if nodes.get(node).is_none() {
            keys.add_after(node.clone(), QUARANTINE);
        }
    });
    let keys = queue.clone();
    controller.nodes.on_change(move |change| {
        if change.new.is_none() {
            keys.add_after(change.object().meta.name.clone(), QUARANTINE);
        }
    });
    controller.pods.wait_synced().await;
    reconcile_loop("podgc", queue, 1, move |node| {
        let controller = controller.clone();
        async move { controller.reconcile(&node).await }
    })
    .await;
}

impl PodCollector {
    async fn reconcile(&self, node: &str) -> Outcome {
        let pods = self.pods.by_index(BY_NODE, node);
        if node.is_empty() {
            for pod in pods.iter().filter(|pod| pod.meta.deletion_timestamp.is_some()) {
                self.delete(pod).await?;
            }
            return Ok(None);
        }
        if pods.is_empty() || self.nodes.get(node).is_some() {
            return Ok(None);
        }
        match self.api.get(NODES, "", node).await {
            Ok(_) => return Ok(None),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        for pod in pods {
            self.mark(&pod).await?;
            self.delete(&pod).await?;
        }
        Ok(None)
    }

    /// The pod has failed; its owner is told why.
    async fn mark(&self, pod: &Cached<Pod>) -> Result<(), Error> {
        if pod.view.is_terminal() {
            return Ok(());
        }
        let patch = json!({
            "metadata": {"uid": pod.meta.uid},
            "status": {
                "phase": "Failed",
                "conditions": [{
                    "type": "DisruptionTarget",
                    "status": "True",
                    "reason": "DeletionByPodGC",
                    "message": "PodGC: node no longer exists",
                    "lastTransitionTime": time::format_seconds(self.context.ambient.now()),
                }],
            },
        });
        let (namespace, name) = (&pod.meta.namespace, &pod.meta.name);
        let patched =
            self.api.patch(PODS, namespace, name, "status", PatchKind::Strategic, &patch).await;
        ignore_gone(patched.map(drop))
    }

    async fn delete(&self, pod: &Cached<Pod>) -> Result<(), Error> {
        let options =
            DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::uid(&pod.meta.uid) };
        let (namespace, name) = (&pod.meta.namespace, &pod.meta.name);
        ignore_gone(self.api.delete(PODS, namespace, name, &options).await)
    }
}

/// Gone, or another pod by now.
fn ignore_gone(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        result => result,
    }
}

//! Pod garbage collector: pods on nodes that are gone or were said to be out of
//! service, which no kubelet will ever end; pods that were deleted before they
//! had a node; and the oldest of very many that have ended.

use std::{sync::Arc, time::Duration};

use api_object::time;
use client::{
    Api, Cached, DeleteOptions, Error, Informer, Outcome, PatchKind, Selection, WorkQueue,
    reconcile_loop,
};
use serde_json::json;

use crate::{
    Context,
    cached::{self, BY_NODE, NODES, Node, PODS, Pod},
    status::{condition, ignore_gone},
};

/// A node that was deleted by mistake has this long to come back; upstream's
/// `quarantineTime`.
const QUARANTINE: Duration = Duration::from_secs(40);

/// Most pods that have ended; upstream's `--terminated-pod-gc-threshold`.
const ENDED_MAX: usize = 12_500;
/// How long pods that end are waited for before they are counted.
const COUNT_PAUSE: Duration = Duration::from_secs(20);
/// The key of that count: no name of a node.
const ENDED: &str = "/ended";
/// The reason of a pod that its node ended for want of room.
const EVICTED: &str = "Evicted";
/// By this taint an administrator says that a node is shut down for sure.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

struct PodCollector {
    api: Api,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
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
        if pod.view.is_terminal() {
            keys.add_after(ENDED.to_owned(), COUNT_PAUSE);
        }
        if node.is_empty() {
            if pod.meta.deletion_timestamp.is_some() {
                keys.add(String::new());
            }
        } else {
            match nodes.get(node) {
                None => keys.add_after(node.clone(), QUARANTINE),
                Some(known) if pod.meta.deletion_timestamp.is_some() && is_out(&known) => {
                    keys.add(node.clone());
                }
                Some(_) => {}
            }
        }
    });
    let keys = queue.clone();
    controller.nodes.on_change(move |change| match &change.new {
        None => keys.add_after(change.object().meta.name.clone(), QUARANTINE),
        Some(node) if is_out(node) => keys.add(node.meta.name.clone()),
        Some(_) => {}
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
        if node == ENDED {
            return self.collect_ended().await;
        }
        let pods = self.pods.by_index(BY_NODE, node);
        if node.is_empty() {
            for pod in pods.iter().filter(|pod| pod.meta.deletion_timestamp.is_some()) {
                // Nobody else says of it that it has ended, which its owner may wait for.
                self.mark(pod, None).await?;
                self.delete(pod).await?;
            }
            return Ok(None);
        }
        if let Some(node) = self.nodes.get(node) {
            let leaving = pods.iter().filter(|pod| pod.meta.deletion_timestamp.is_some());
            for pod in leaving.filter(|_| is_out(&node)) {
                self.mark(pod, None).await?;
                self.delete(pod).await?;
            }
            return Ok(None);
        }
        if pods.is_empty() {
            return Ok(None);
        }
        match self.api.get(NODES, "", node).await {
            Ok(_) => return Ok(None),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        for pod in pods {
            self.mark(&pod, Some("PodGC: node no longer exists")).await?;
            self.delete(&pod).await?;
        }
        Ok(None)
    }

    /// The oldest of those that have ended go, where there are too many.
    async fn collect_ended(&self) -> Outcome {
        for pod in surplus(self.pods.list(), ENDED_MAX) {
            self.delete(&pod).await?;
        }
        Ok(None)
    }

    /// The pod has failed; its owner is told why it is disrupted.
    async fn mark(&self, pod: &Cached<Pod>, why: Option<&str>) -> Result<(), Error> {
        if pod.view.is_terminal() {
            return Ok(());
        }
        let mut patch = json!({
            "metadata": {"uid": pod.meta.uid},
            "status": {"phase": "Failed"},
        });
        if let Some(why) = why {
            patch["status"]["conditions"] = json!([{
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "DeletionByPodGC",
                "message": why,
                "lastTransitionTime": time::format_seconds(self.context.ambient.now()),
            }]);
        }
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

/// The pods that have ended and are too many: those first that were evicted, then the oldest.
fn surplus(mut pods: Vec<Arc<Cached<Pod>>>, most: usize) -> Vec<Arc<Cached<Pod>>> {
    pods.retain(|pod| pod.view.is_terminal() && pod.meta.deletion_timestamp.is_none());
    let surplus = pods.len().saturating_sub(most);
    if surplus > 0 {
        let was_evicted = |pod: &Cached<Pod>| {
            pod.view.status.phase == "Failed" && pod.view.status.reason == EVICTED
        };
        // RFC 3339 in UTC sorts as text.
        pods.sort_by_key(|pod| (!was_evicted(pod), pod.meta.creation_timestamp.clone(), pod.key()));
    }
    pods.truncate(surplus);
    pods
}

/// Whether a node is neither ready nor, as somebody vouches for, running.
fn is_out(node: &Cached<Node>) -> bool {
    let ready = condition(&node.view.status.conditions, "Ready");
    ready.is_none_or(|ready| ready.status != "True")
        && node.view.spec.taints.iter().any(|taint| taint.key == OUT_OF_SERVICE)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_very_many_that_have_ended_the_evicted_and_the_oldest_go() {
        let pod = |name: &str, phase: &str, second: u32| {
            let time = format!("2026-11-26T00:00:{second:02}Z");
            testkit::pod(&format!("ns/{name}"))
                .set("/status/phase", json!(phase))
                .set("/metadata/creationTimestamp", json!(time))
        };
        let evicted = json!("Evicted");
        let all = [
            pod("young", "Succeeded", 9),
            pod("oldest", "Succeeded", 1),
            pod("old", "Failed", 2),
            pod("runs", "Running", 0),
            pod("goes", "Failed", 0).deleting(),
            pod("evicted", "Failed", 5).set("/status/reason", evicted.clone()),
            pod("runs-on", "Running", 0).set("/status/reason", evicted),
        ];
        let all = all.map(|pod| Arc::new(Cached::<Pod>::read(pod.object(), false).expect("a pod")));
        for (most, gone) in [
            (0, vec!["evicted", "oldest", "old", "young"]),
            (1, vec!["evicted", "oldest", "old"]),
            (3, vec!["evicted"]),
            (4, vec![]),
            (ENDED_MAX, vec![]),
        ] {
            let surplus = surplus(all.to_vec(), most);
            let names: Vec<&str> = surplus.iter().map(|pod| pod.meta.name.as_str()).collect();
            assert_eq!(names, gone, "{most}");
        }
    }
}

//! Follows nodes and writes their shares.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use client::{
    Cached, Informer, Outcome, PatchKind, Recorder, Reference, Selection, WorkQueue, reconcile_loop,
};
use serde::Deserialize;
use serde_json::json;

use super::plan::share;
use crate::{
    Context,
    cached::{NODES, null_is_default},
};

/// A full network is looked at again when a node goes, and at the latest then.
const LOOK_AGAIN: Duration = Duration::from_secs(300);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Node {
    spec: Spec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    #[serde(rename = "podCIDR", deserialize_with = "null_is_default")]
    pod_cidr: String,
    #[serde(rename = "podCIDRs", deserialize_with = "null_is_default")]
    pod_cidrs: Vec<String>,
}

impl Node {
    fn shares(&self) -> impl Iterator<Item = &String> {
        self.spec.pod_cidrs.iter().chain(Some(&self.spec.pod_cidr).filter(|cidr| !cidr.is_empty()))
    }
}

struct NodeIpam {
    nodes: Informer<Node>,
    /// Who has what: as nodes say, and what was given out and they do not say yet.
    given: Mutex<BTreeMap<String, Vec<String>>>,
    recorder: Recorder,
    context: Context,
}

/// The controller. Never returns. Its keys are names of nodes.
pub(crate) async fn run(context: Context) {
    let controller = Arc::new(NodeIpam {
        nodes: context.informers.get(Selection::all(NODES)),
        given: Mutex::default(),
        recorder: context.recorder("cidrAllocator"),
        context,
    });
    let queue = Arc::new(WorkQueue::default());
    let (keys, told) = (queue.clone(), controller.clone());
    controller.nodes.on_change(move |change| match &change.new {
        Some(node) if node.view.shares().next().is_none() => keys.add(node.meta.name.clone()),
        Some(node) => {
            let shares = node.view.shares().cloned().collect();
            told.given().insert(node.meta.name.clone(), shares);
        }
        None => {
            told.given().remove(&change.object().meta.name);
            // Its share may be what another one waits for.
            let waits = |node: &Arc<Cached<Node>>| node.view.shares().next().is_none();
            for node in told.nodes.list().into_iter().filter(waits) {
                keys.add(node.meta.name.clone());
            }
        }
    });
    controller.nodes.wait_synced().await;
    // One worker: two would give the same share twice.
    reconcile_loop("node-ipam", queue, 1, move |name| {
        let controller = controller.clone();
        async move { controller.reconcile(&name).await }
    })
    .await;
}

impl NodeIpam {
    fn given(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Vec<String>>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn reconcile(&self, name: &str) -> Outcome {
        let ranges = &self.context.settings.pod_ranges;
        let Some(node) = self.nodes.get(name) else { return Ok(None) };
        if ranges.is_empty() || node.view.shares().next().is_some() {
            return Ok(None);
        }
        let shares = {
            let given = self.given();
            let taken = || given.values().flatten().cloned().collect::<BTreeSet<String>>();
            given.get(name).cloned().or_else(|| share(ranges, &taken()))
        };
        let Some(shares) = shares else {
            // Upstream names nodes by their name in events, where kubectl looks.
            let about =
                Reference { uid: name.to_owned(), ..Reference::new("v1", "Node", &node.meta) };
            let message = format!("Node {name} status is now: CIDRNotAvailable");
            self.recorder.normal(&about, "CIDRNotAvailable", message);
            return Ok(Some(LOOK_AGAIN));
        };
        self.given().insert(name.to_owned(), shares.clone());
        let patch = json!({
            "metadata": {"uid": node.meta.uid},
            "spec": {"podCIDR": shares[0], "podCIDRs": shares},
        });
        match self.context.api.patch(NODES, "", name, "", PatchKind::Merge, &patch).await {
            // Gone, or another Node by now, which the watch tells.
            Err(error) if error.is_not_found() || error.is_conflict() => {
                self.given().remove(name);
                Ok(None)
            }
            Err(error) => Err(error.into()),
            Ok(_) => Ok(None),
        }
    }
}

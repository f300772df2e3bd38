//! What a DaemonSet does next: each node that fits has its pod, and no other
//! node has one; only when that is so, a rollout goes on (`rolling.rs`).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use client::{Cached, Severity};

use super::{fit::Belongs, rolling, status, view::View};
use crate::{
    cached::{ControllerRevision, DaemonSetStatus, Node, Pod, next_available},
    owner::{self, Claim},
    revisions::{self, POD_LABEL, Present},
};

/// Most pods created or deleted in one go; upstream's number.
const BURST_MAX: usize = 250;

/// What is to be done, in this order.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) pods: Claim<Pod>,
    /// Revisions that match and have no controller.
    pub(super) adopt_revisions: Vec<Arc<Cached<ControllerRevision>>>,
    /// The revision of the present template.
    pub(super) update: Present,
    /// The nodes that get a pod.
    pub(super) create: Vec<String>,
    pub(super) delete: Vec<Arc<Cached<Pod>>>,
    /// Pods of an old template that do not work, to be deleted if that still is so.
    pub(super) broken: Vec<Arc<Cached<Pod>>>,
    /// Pods that ended by themselves, and are among those to be deleted.
    pub(super) ended: Vec<Ended>,
    pub(super) status: DaemonSetStatus,
    /// Those beyond the history limit.
    pub(super) delete_revisions: Vec<Arc<Cached<ControllerRevision>>>,
    /// When something is due by mere passing of time.
    pub(super) look_again: Option<Duration>,
}

/// A pod that ended by itself, and what is told of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ended {
    pub(super) node: String,
    pub(super) severity: Severity,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// A node and the DaemonSet's pods on it, oldest first.
pub(super) struct OnNode<'a> {
    pub(super) node: &'a Cached<Node>,
    pub(super) belongs: Belongs,
    pub(super) pods: Vec<&'a Arc<Cached<Pod>>>,
}

/// Decides from what is seen.
pub(super) fn plan(view: &View) -> Plan {
    let set = &view.set;
    let pods = owner::claim(&set.meta, &view.selector, &view.pods, |_| true);
    let revisions = revisions::claim(&set.meta, &view.selector, &view.revisions);
    let collisions = set.view.status.collision_count.unwrap_or(0);
    let update = revisions::present(&set.meta, &revisions.own, &view.template, collisions);
    let mut by_node: BTreeMap<&str, Vec<&Arc<Cached<Pod>>>> = BTreeMap::new();
    for pod in &pods.own {
        by_node.entry(pod.view.node_or_target()).or_default().push(pod);
    }
    // RFC 3339 in UTC sorts as text. Of those of one second (upstream: the first by name) the
    // one that is ready stands for the node, or a surge would show nobody while one serves.
    for pods in by_node.values_mut() {
        pods.sort_by_key(|pod| {
            let is_waiting = pod.view.ready().is_none();
            (pod.meta.creation_timestamp.clone(), is_waiting, pod.meta.name.clone())
        });
    }
    let nodes: Vec<OnNode<'_>> = view
        .nodes
        .iter()
        .map(|node| OnNode {
            node,
            belongs: view.fit.on(node),
            pods: by_node.remove(node.meta.name.as_str()).unwrap_or_default(),
        })
        .collect();
    let mut doing = Doing::default();
    for on in &nodes {
        manage(view, on, &update.hash, &mut doing);
    }
    // Pods that wait for a node that is gone; those that were bound to one are
    // the pod garbage collector's.
    let lost = by_node.into_values().flatten().filter(|pod| pod.view.spec.node_name.is_empty());
    doing.delete.extend(lost.filter(|pod| !is_terminating(view, pod)).cloned());
    let is_rolling = set.view.spec.update_strategy.r#type != "OnDelete";
    if is_rolling && doing.create.is_empty() && doing.delete.is_empty() {
        rolling::roll(view, &nodes, &update.hash, &mut doing);
    }
    doing.create.truncate(BURST_MAX);
    doing.delete.truncate(BURST_MAX);
    doing.broken.truncate(BURST_MAX - doing.delete.len());
    let live = |revision: &Cached<ControllerRevision>| {
        revision.meta.name == update.name
            || pods
                .own
                .iter()
                .any(|pod| pod.meta.labels.get(POD_LABEL) == revision.meta.labels.get(POD_LABEL))
    };
    let limit = set.view.spec.revision_history_limit;
    let min_ready = set.view.spec.min_ready_seconds;
    let due = next_available(pods.own.iter(), min_ready, view.now);
    Plan {
        status: status::status(view, &nodes, &update.hash, collisions),
        delete_revisions: revisions::beyond_limit(&revisions.own, limit, live),
        look_again: due.into_iter().chain(doing.wait).min(),
        adopt_revisions: revisions.adopt,
        update,
        create: doing.create,
        delete: doing.delete,
        broken: doing.broken,
        ended: doing.ended,
        pods,
    }
}

#[derive(Default)]
pub(super) struct Doing {
    pub(super) create: Vec<String>,
    pub(super) delete: Vec<Arc<Cached<Pod>>>,
    pub(super) broken: Vec<Arc<Cached<Pod>>>,
    ended: Vec<Ended>,
    wait: Option<Duration>,
}

impl Doing {
    fn wait(&mut self, wait: Duration) {
        self.wait = Some(self.wait.map_or(wait, |known| known.min(wait)));
    }
}

pub(super) fn is_terminating(view: &View, pod: &Cached<Pod>) -> bool {
    pod.meta.deletion_timestamp.is_some() || view.deleted.contains(&pod.meta.uid)
}

pub(super) fn is_available(view: &View, pod: &Cached<Pod>) -> bool {
    pod.view.is_available(view.set.view.spec.min_ready_seconds, view.now)
}

pub(super) fn is_of(hash: &str, pod: &Cached<Pod>) -> bool {
    pod.meta.labels.get(POD_LABEL).is_some_and(|label| label == hash)
}

fn manage(view: &View, on: &OnNode<'_>, hash: &str, doing: &mut Doing) {
    let name = &on.node.meta.name;
    // One that was told to go and has gone to its end holds nothing any more.
    let is_over = |pod: &Cached<Pod>| is_terminating(view, pod) && pod.view.is_terminal();
    let present: Vec<_> = on.pods.iter().copied().filter(|pod| !is_over(pod)).collect();
    if on.belongs == Belongs::No {
        let going = present.into_iter().filter(|pod| !is_terminating(view, pod));
        return doing.delete.extend(going.cloned());
    }
    let is_wanted = on.belongs == Belongs::Yes;
    if present.is_empty() {
        if is_wanted {
            doing.create.push(name.clone());
        }
        return;
    }
    let wait = view.waiting.get(name).copied();
    let mut running = Vec::new();
    for pod in present {
        if is_terminating(view, pod) {
            continue;
        }
        match (pod.view.status.phase.as_str(), wait) {
            ("Failed", Some(wait)) => doing.wait(wait),
            (phase @ ("Failed" | "Succeeded"), _) => {
                doing.ended.push(ended(phase, pod, name));
                doing.delete.push(pod.clone());
            }
            _ => running.push(pod),
        }
    }
    if rolling::surge_max(view, 1) == 0 {
        return doing.delete.extend(running.into_iter().skip(1).cloned());
    }
    if running.is_empty() && is_wanted {
        // The failed one is still there: a second would fail beside it, and a third.
        return match wait {
            Some(wait) => doing.wait(wait),
            None => doing.create.push(name.clone()),
        };
    }
    // Two may be here while the new one is not available and the old one is ready.
    let (new, mut old): (Vec<_>, Vec<_>) = running.into_iter().partition(|pod| is_of(hash, pod));
    // Of several old ones, of different templates, one that works is kept.
    old.sort_by_key(|pod| !is_available(view, pod));
    doing.delete.extend(new.iter().skip(1).chain(old.iter().skip(1)).copied().cloned());
    if let (Some(new), Some(old)) = (new.first(), old.first())
        && (old.view.ready().is_none() || is_available(view, new))
    {
        doing.delete.push(Arc::clone(old));
    }
}

fn ended(phase: &str, pod: &Cached<Pod>, node: &str) -> Ended {
    let key = pod.key();
    let (severity, reason, message) = match phase {
        "Failed" => (
            Severity::Warning,
            "FailedDaemonPod",
            format!("Found failed daemon pod {key} on node {node}, will try to kill it"),
        ),
        _ => (
            Severity::Normal,
            "SucceededDaemonPod",
            format!("Found succeeded daemon pod {key} on node {node}, will try to delete it"),
        ),
    };
    Ended { node: node.to_owned(), severity, reason, message }
}

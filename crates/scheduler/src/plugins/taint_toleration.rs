//! Keeps pods off nodes whose taints they do not tolerate.

use api_types::core::{Taint, Toleration};
use client::Cached;

use super::{Rejection, Start, Task, normalized};
use crate::{Cluster, Happening, Node, Pod};

/// Whether one of the tolerations covers the taint.
pub(super) fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| toleration.tolerates(taint))
}

/// The first taint that keeps a pod away.
pub(crate) fn untolerated<'a>(
    taints: &'a [Taint],
    tolerations: &[Toleration],
) -> Option<&'a Taint> {
    taints.iter().find(|taint| {
        matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute")
            && !tolerates(tolerations, taint)
    })
}

pub(super) fn begin<'a>(task: &Task<'a>) -> Start<'a> {
    let tolerations = &task.waiting().tolerations;
    Start::each(move |node: &Node| {
        // Which taint it is stays in the node: its value may be nobody's business.
        untolerated(&node.offer().taints, tolerations)
            .map(|_| Rejection::never("node(s) had untolerated taint(s)"))
    })
}

pub(super) fn helps(cluster: &Cluster, pod: &Cached<Pod>, what: &Happening) -> bool {
    let node = what.slot().and_then(|slot| cluster.at(slot));
    let tolerations = pod.view.waiting.as_ref().map_or(&[][..], |waiting| &waiting.tolerations);
    node.is_some_and(|node| untolerated(&node.offer().taints, tolerations).is_none())
}

/// Fewer taints that say "rather not" are better.
pub(super) fn score(task: &Task<'_>, nodes: &[&Node]) -> Vec<i64> {
    if nodes.iter().all(|node| node.offer().taints.is_empty()) {
        return Vec::new();
    }
    let tolerations = &task.waiting().tolerations;
    let count = |node: &&Node| {
        let taints = node.offer().taints.iter();
        let disliked = taints
            .filter(|taint| taint.effect == "PreferNoSchedule" && !tolerates(tolerations, taint));
        i64::try_from(disliked.count()).unwrap_or(i64::MAX)
    };
    normalized(nodes.iter().map(count).collect(), true)
}

//! Keeps pods off nodes that were cordoned.

use api_types::core::{Taint, Toleration};
use client::Cached;

use super::{Rejection, Start, Task, taint_toleration::tolerates};
use crate::{Cluster, Happening, Node, Pod};

/// Whoever tolerates the taint that stands for it may go there.
fn tolerates_it(tolerations: &[Toleration]) -> bool {
    let taint = Taint {
        key: "node.kubernetes.io/unschedulable".into(),
        effect: "NoSchedule".into(),
        ..Taint::default()
    };
    tolerates(tolerations, &taint)
}

pub(super) fn begin<'a>(task: &Task<'a>) -> Start<'a> {
    if tolerates_it(&task.waiting().tolerations) {
        return Start::Skip;
    }
    Start::each(|node: &Node| {
        node.offer().unschedulable.then(|| Rejection::never("node(s) were unschedulable"))
    })
}

pub(super) fn helps(cluster: &Cluster, _: &Cached<Pod>, what: &Happening) -> bool {
    let node = what.slot().and_then(|slot| cluster.at(slot));
    node.is_some_and(|node| !node.offer().unschedulable)
}

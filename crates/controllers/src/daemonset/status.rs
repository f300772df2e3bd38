//! What a DaemonSet's status counts: nodes, not pods.

use super::{
    fit::Belongs,
    plan::{OnNode, is_available, is_of},
    view::View,
};
use crate::cached::DaemonSetStatus;

pub(super) fn status(
    view: &View,
    nodes: &[OnNode<'_>],
    hash: &str,
    collisions: i32,
) -> DaemonSetStatus {
    let mut status = DaemonSetStatus {
        observed_generation: view.set.meta.generation,
        collision_count: view.set.view.status.collision_count.map(|_| collisions),
        ..DaemonSetStatus::default()
    };
    for on in nodes {
        if on.belongs != Belongs::Yes {
            status.number_misscheduled += i32::from(!on.pods.is_empty());
            continue;
        }
        status.desired_number_scheduled += 1;
        // The oldest stands for the node.
        let Some(pod) = on.pods.first() else { continue };
        status.current_number_scheduled += 1;
        status.number_ready += i32::from(pod.view.ready().is_some());
        status.number_available += i32::from(is_available(view, pod));
        status.updated_number_scheduled += i32::from(is_of(hash, pod));
    }
    status.number_unavailable = status.desired_number_scheduled - status.number_available;
    status
}

//! Keeps pods off nodes that were cordoned.

use api_types::core::Taint;

use super::{Rejection, tolerates};
use crate::{Node, Pod};

pub(super) fn filter(pod: &Pod, node: &Node) -> Option<Rejection> {
    // Whoever tolerates the taint that stands for it may go there.
    let taint = Taint {
        key: "node.kubernetes.io/unschedulable".into(),
        effect: "NoSchedule".into(),
        ..Taint::default()
    };
    let tolerations = pod.waiting.as_ref().map_or(&[][..], |waiting| &waiting.tolerations);
    (node.offer.unschedulable && !tolerates(tolerations, &taint))
        .then(|| Rejection::never("node(s) were unschedulable"))
}

//! A pod that names its node goes nowhere else.

use super::Rejection;
use crate::{Node, Pod};

pub(super) fn filter(pod: &Pod, node: &Node) -> Option<Rejection> {
    (!pod.node_name.is_empty() && pod.node_name != node.name)
        .then(|| Rejection::never("node(s) didn't match the requested node name"))
}

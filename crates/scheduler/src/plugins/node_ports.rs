//! Ports on the node belong to one pod at a time.

use super::Rejection;
use crate::{Node, Pod, pod::HostPort};

pub(super) fn filter(pod: &Pod, node: &Node) -> Option<Rejection> {
    let taken = |port: &HostPort| node.host_ports.iter().any(|other| conflicts(port, other));
    pod.host_ports
        .iter()
        .any(taken)
        .then(|| Rejection::crowded("node(s) didn't have free ports for the requested pod ports"))
}

/// All addresses of a node include each of them.
fn conflicts(a: &HostPort, b: &HostPort) -> bool {
    let any = |address: &str| matches!(address, "0.0.0.0" | "::");
    (&a.1, a.2) == (&b.1, b.2) && (a.0 == b.0 || any(&a.0) || any(&b.0))
}

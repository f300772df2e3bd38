//! Ports on the node belong to one pod at a time.

use client::Cached;

use super::{Rejection, Start, Task};
use crate::{Cluster, Happening, Node, Pod, pod::HostPort};

pub(super) fn begin<'a>(task: &Task<'a>) -> Start<'a> {
    let wanted = &task.pod.view.host_ports;
    if wanted.is_empty() {
        return Start::Skip;
    }
    Start::each(move |node: &Node| {
        wanted.iter().any(|port| node.host_ports.iter().any(|other| conflicts(port, other))).then(
            || Rejection::crowded("node(s) didn't have free ports for the requested pod ports"),
        )
    })
}

pub(super) fn helps(_: &Cluster, pod: &Cached<Pod>, what: &Happening) -> bool {
    let Happening::PodGone(gone, _) = what else { return true };
    let freed = &gone.view.host_ports;
    pod.view.host_ports.iter().any(|port| freed.iter().any(|other| conflicts(port, other)))
}

/// All addresses of a node include each of them.
fn conflicts(a: &HostPort, b: &HostPort) -> bool {
    let any = |address: &str| matches!(address, "0.0.0.0" | "::");
    (&a.1, a.2) == (&b.1, b.2) && (a.0 == b.0 || any(&a.0) || any(&b.0))
}

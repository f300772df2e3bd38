//! The way from this node's pods to those of other nodes: plain routes where
//! both nodes share a segment, VXLAN elsewhere.
//!
//! [`plan`] decides from what is known of the nodes and of the links; [`apply`]
//! makes the kernel so. It knows no Kubernetes object: whoever follows Nodes
//! gives it a plain table. WireGuard is not here yet.

#![warn(missing_docs)]

mod plan;

use std::collections::{BTreeMap, BTreeSet};

pub use netlink::overlay::{Changed, Network, Reach};
pub use plan::{Mode, Peer, Plan, View, plan};

/// Why the kernel could not be told.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(#[from] netlink::Error);

/// Looks at the links and makes the routes right. Cheap where nothing changed,
/// and then nothing is written; blocks on the kernel.
///
/// # Errors
/// What the kernel refused; the next call goes on from there.
pub fn apply(
    me: &str,
    nodes: &BTreeMap<String, Peer>,
    mode: Mode,
) -> Result<(Plan, Changed), Error> {
    let addresses: BTreeSet<_> =
        nodes.values().flat_map(|node| node.addresses.iter().copied()).collect();
    let reach = netlink::overlay::reach(&addresses)?;
    let plan = plan(&View { me, nodes, reach: &reach, mode });
    for node in &plan.unreachable {
        tracing::debug!(node, "no address of the node can be reached from here");
    }
    let changed = netlink::overlay::apply(&plan.wanted)?;
    Ok((plan, changed))
}

/// Takes everything away that [`apply`] has made.
///
/// # Errors
/// What the kernel refused.
pub fn killall() -> Result<(), Error> {
    Ok(netlink::overlay::killall()?)
}

//! Carries Nodes from the API into the routes to their pods.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use ::node::Live;
use api_types::core::Node;
use client::{Backoff, Resource, Selection, SharedInformers};
use net_overlay::{Mode, Network, Peer};
use tokio::sync::Notify;
use tracing::{info, warn};

const NODES: Resource = Resource::cluster("", "v1", "nodes");

/// What the routes need to know of a Node.
fn peer(node: &Node) -> Peer {
    let own = node.status.addresses.iter().filter(|address| address.r#type == "InternalIP");
    let cidrs = match node.spec.pod_cidrs.is_empty() {
        true => std::slice::from_ref(&node.spec.pod_cidr),
        false => &node.spec.pod_cidrs[..],
    };
    let network = |text: &String| -> Option<Network> {
        let (ip, prefix) = text.split_once('/')?;
        Some((ip.parse().ok()?, prefix.parse().ok()?))
    };
    Peer {
        addresses: own.filter_map(|address| address.address.parse::<IpAddr>().ok()).collect(),
        pods: cidrs.iter().filter_map(network).collect(),
    }
}

/// Keeps the routes equal to the API's Nodes until dropped. `links` is told
/// when the machine's own addresses change; `pod_mtu` hears what fits.
pub(crate) async fn run(
    informers: SharedInformers,
    me: String,
    mode: Mode,
    links: Arc<Notify>,
    pod_mtu: Live<u32>,
) {
    let nodes = informers.get::<Node>(Selection::all(NODES));
    // Heartbeats are Leases, so a Node changes when there is something to see.
    let seen: Arc<Mutex<BTreeMap<String, Peer>>> = Arc::default();
    let (told, notify) = (seen.clone(), links.clone());
    nodes.on_change(move |change| {
        let mut seen = told.lock().unwrap_or_else(PoisonError::into_inner);
        let name = change.object().meta.name.clone();
        let other = match &change.new {
            Some(node) => {
                let peer = peer(&node.view);
                seen.insert(name, peer.clone()) != Some(peer)
            }
            None => seen.remove(&name).is_some(),
        };
        if other {
            notify.notify_one();
        }
    });
    // Before all are known, routes of those that are not would be taken away.
    nodes.wait_synced().await;
    let mut failures = 0;
    let mut unreachable: Vec<String> = Vec::new();
    loop {
        let peers = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let name = me.clone();
        let applied =
            tokio::task::spawn_blocking(move || net_overlay::apply(&name, &peers, mode)).await;
        match applied {
            Ok(Ok((plan, changed))) => {
                if changed.routed + changed.unrouted > 0 {
                    info!(
                        routed = changed.routed,
                        unrouted = changed.unrouted,
                        tunnels = plan.wanted.tunnels.len(),
                        "routes to other nodes' pods are in place"
                    );
                }
                if plan.unreachable != unreachable {
                    for node in plan.unreachable.iter().filter(|node| !unreachable.contains(node)) {
                        warn!(
                            node,
                            "the pods of this node cannot be reached from here: no route leads to \
                             any of its addresses (with --pod-network=direct, none on this segment)"
                        );
                    }
                    unreachable = plan.unreachable;
                }
                pod_mtu.set(plan.pod_mtu);
                failures = 0;
                links.notified().await;
            }
            Ok(Err(error)) => {
                warn!(%error, "routes to other nodes' pods could not be changed; trying again");
                failures += 1;
                tokio::time::sleep(Backoff::CONNECT.delay(failures)).await;
            }
            // The worker panicked or the runtime stops.
            Err(error) => {
                warn!(%error, "routes to other nodes' pods are no longer followed");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_is_where_it_says() {
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": "n1"},
            "spec": {"podCIDR": "10.42.1.0/24", "podCIDRs": ["10.42.1.0/24", "fd42::/64"]},
            "status": {"addresses": [
                {"type": "InternalIP", "address": "192.0.2.1"},
                {"type": "ExternalIP", "address": "203.0.113.1"},
                {"type": "Hostname", "address": "n1"},
            ]},
        }))
        .expect("a Node");
        let peer = super::peer(&node);
        assert_eq!(peer.addresses, ["192.0.2.1".parse::<IpAddr>().expect("ip")]);
        assert_eq!(peer.pods.len(), 2);
        assert_eq!(super::peer(&Node::default()), Peer::default());
    }
}

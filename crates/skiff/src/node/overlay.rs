//! Carries Nodes from the API into the routes to their pods.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use ::node::Live;
use api_types::core::Node;
use client::{Backoff, Informer, Resource, Selection, SharedInformers};
use net_overlay::{Carrier, Mode, Network, Overlay, Peer, Sealing};
use tokio::sync::Notify;
use tracing::{info, warn};

const NODES: Resource = Resource::cluster("", "v1", "nodes");

/// By which a node is known in WireGuard. Only the node itself and administrators
/// may change its Node.
pub(crate) const KEY: &str = "skiff.sh/wireguard-key";
/// Who carries its packets: for people, and `skiff status`.
pub(crate) const CARRIER: &str = "skiff.sh/wireguard-carrier";
/// The value of [`CARRIER`] where it is not the kernel.
pub(crate) const USERSPACE: &str = "userspace";

/// What a node says of itself; without a value, what it says no more.
pub(super) fn annotations(sealing: Option<&Sealing>) -> [(String, String); 2] {
    let (key, carrier) = match sealing {
        Some(sealing) => {
            let carrier = match sealing.carrier {
                Carrier::Kernel => "kernel",
                Carrier::Userspace => USERSPACE,
            };
            (sealing.keys.public.to_string(), carrier)
        }
        None => (String::new(), ""),
    };
    [(KEY.to_owned(), key), (CARRIER.to_owned(), carrier.to_owned())]
}

/// What the routes need to know of a Node.
fn peer(annotations: &BTreeMap<String, String>, node: &Node) -> Peer {
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
        key: annotations.get(KEY).and_then(|text| text.parse().ok()),
        is_ready: node.status.conditions.iter().any(|c| c.r#type == "Ready" && c.status == "True"),
    }
}

/// The Nodes, for all who follow them here.
pub(super) fn nodes(informers: &SharedInformers) -> Informer<Node> {
    informers.get(Selection::all(NODES))
}

/// Says once of each node what the network does to pods' packets on the way there.
fn tell_filtered(mode: Mode, before: &[String], now: &[String]) {
    for node in now.iter().filter(|node| !before.contains(node)) {
        match mode {
            Mode::Direct => warn!(
                node,
                "the network drops packets with pods' addresses on the way to this node, so its \
                 pods cannot be reached from here: start the servers without --pod-network=direct"
            ),
            _ => info!(
                node,
                "the network drops packets with pods' addresses on the way to this node: they go \
                 in a tunnel"
            ),
        }
    }
    for node in before.iter().filter(|node| !now.contains(node)) {
        info!(node, "packets with pods' addresses are no longer dropped on the way to this node");
    }
}

/// Keeps the routes equal to the API's Nodes until dropped. `links` is told
/// when the machine's own addresses change, or `ways` has found something out of the
/// network; `pod_mtu` hears what fits.
pub(crate) async fn run(
    informers: SharedInformers,
    ways: Overlay,
    links: Arc<Notify>,
    pod_mtu: Live<u32>,
) {
    let nodes = nodes(&informers);
    // Heartbeats are Leases, so a Node changes when there is something to see.
    let seen: Arc<Mutex<BTreeMap<String, Peer>>> = Arc::default();
    let (told, notify) = (seen.clone(), links.clone());
    nodes.on_change(move |change| {
        let mut seen = told.lock().unwrap_or_else(PoisonError::into_inner);
        let name = change.object().meta.name.clone();
        let other = match &change.new {
            Some(node) => {
                let peer = peer(&node.meta.annotations, &node.view);
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
    let mode = ways.mode();
    let ways = Arc::new(Mutex::new(ways));
    let mut failures = 0;
    let mut unreachable: Vec<String> = Vec::new();
    let mut filtered: Vec<String> = Vec::new();
    loop {
        let peers = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let ways = ways.clone();
        let apply = move || ways.lock().unwrap_or_else(PoisonError::into_inner).apply(&peers);
        match tokio::task::spawn_blocking(apply).await {
            Ok(Ok((plan, changed))) => {
                if changed.routed + changed.unrouted > 0 {
                    info!(
                        routed = changed.routed,
                        unrouted = changed.unrouted,
                        tunnels = plan.wanted.tunnels.len(),
                        encrypted = plan.peers.len(),
                        "routes to other nodes' pods are in place"
                    );
                }
                tell_filtered(mode, &filtered, &plan.filtered);
                filtered = plan.filtered;
                if plan.unreachable != unreachable {
                    for node in plan.unreachable.iter().filter(|node| !unreachable.contains(node)) {
                        warn!(
                            node,
                            "the pods of this node cannot be reached from here: no route leads to \
                             any of its addresses (with --pod-network=direct, none on this segment; \
                             with wireguard, it may have told no key yet: restart its skiff)"
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
            "status": {
                "addresses": [
                    {"type": "InternalIP", "address": "192.0.2.1"},
                    {"type": "ExternalIP", "address": "203.0.113.1"},
                    {"type": "Hostname", "address": "n1"},
                ],
                "conditions": [
                    {"type": "DiskPressure", "status": "False"},
                    {"type": "Ready", "status": "True"},
                ],
            },
        }))
        .expect("a Node");
        let key = net_overlay::Keys::generate().expect("random numbers").public;
        let told = BTreeMap::from([(KEY.to_owned(), key.to_string())]);
        let peer = super::peer(&told, &node);
        assert_eq!(peer.addresses, ["192.0.2.1".parse::<IpAddr>().expect("ip")]);
        assert_eq!(peer.pods.len(), 2);
        assert_eq!(peer.key, Some(key));
        assert!(peer.is_ready);
        let nothing = annotations(None).into();
        assert_eq!(super::peer(&nothing, &Node::default()), Peer::default());
    }
}

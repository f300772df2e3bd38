//! What addresses of Services are from, as it changes: the cluster's own
//! networks, and those that ServiceCIDRs add (KEP-1880). Each has a route on
//! the node, and the service rules and the DNS are told of all.
//!
//! [`usable`] decides; [`run`] follows and acts.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};

use ::node::Live;
use api_types::networking::ServiceCIDR;
use client::{Backoff, Resource, Selection, SharedInformers};
use net_dns::Zone;
use tokio::sync::Notify;
use tracing::{info, warn};

use super::network::{Footprint, pairs, route_services};
use crate::config::{Cidr, Cluster};

const SERVICE_CIDRS: Resource = Resource::cluster("networking.k8s.io", "v1", "servicecidrs");

/// The networks of Services on this node, the cluster's own first, and why others
/// are none. A range that is on its way out counts until it is gone: Services may
/// have its addresses. One with the node or pods in it would take their packets.
fn usable(cluster: &Cluster, ips: &[IpAddr], told: &BTreeSet<String>) -> (Vec<Cidr>, Vec<String>) {
    let (mut usable, mut refused) = (cluster.service_cidrs.clone(), Vec::new());
    for text in told {
        // The API has checked it; what is of another form is from a version to come.
        let Some(cidr) = Cidr::parse(text).filter(|cidr| !usable.contains(cidr)) else { continue };
        let overlaps = |other: &&Cidr| cidr.contains(other.network) || other.contains(cidr.network);
        let own = ips.iter().find(|ip| cidr.contains(**ip)).map(|ip| format!("this node's {ip}"));
        let pods = || cluster.pod_cidrs.iter().find(overlaps).map(|pods| format!("pods' {pods}"));
        match own.or_else(pods) {
            Some(what) => refused.push(format!("{cidr} overlaps {what}")),
            None => usable.push(cidr),
        }
    }
    (usable, refused)
}

/// Who is told, and what is kept for `skiff killall`.
pub(super) struct Networks {
    pub(super) cluster: Cluster,
    pub(super) data_dir: PathBuf,
    pub(super) ips: Live<Vec<IpAddr>>,
    /// As they are now, for the service rules and for who makes routes anew.
    pub(super) usable: Live<Vec<Cidr>>,
    pub(super) zone: Arc<RwLock<Zone>>,
}

/// Keeps all of it equal to the API's ServiceCIDRs until dropped.
pub(super) async fn run(informers: SharedInformers, networks: Networks) {
    let ranges = informers.get::<ServiceCIDR>(Selection::all(SERVICE_CIDRS));
    let changed = Arc::new(Notify::new());
    let told = changed.clone();
    ranges.on_change(move |_| told.notify_one());
    // Of a part, a network that Services use would seem to be gone.
    ranges.wait_synced().await;
    let (mut known, mut failures) = (Vec::new(), 0);
    let mut ips = networks.ips.follow();
    loop {
        let told = ranges.list().iter().flat_map(|range| range.view.spec.cidrs.clone()).collect();
        let own = ips.borrow_and_update().clone();
        let (usable, refused) = usable(&networks.cluster, &own, &told);
        for why in refused.iter().filter(|why| !known.contains(*why)) {
            warn!(
                "the ServiceCIDR {why}: its Services cannot be reached from here; delete it, and \
                 add a range that is free on every node"
            );
        }
        known = refused;
        match act(&networks, &usable, &own) {
            Ok(()) => failures = 0,
            Err(error) => {
                warn!(%error, "Services of an added range cannot be reached yet; trying again");
                failures += 1;
                tokio::time::sleep(Backoff::CONNECT.delay(failures)).await;
                continue;
            }
        }
        tokio::select! {
            () = changed.notified() => {}
            // The node outlives its networks.
            _ = ips.changed() => {}
        }
    }
}

/// What is to be undone is on disk before it is done, and until it is undone.
fn act(networks: &Networks, usable: &[Cidr], ips: &[IpAddr]) -> Result<(), crate::StartError> {
    let before = Footprint::load(&networks.data_dir)?.map(|kept| kept.service_networks);
    let before = before.unwrap_or_default();
    let wanted = pairs(usable);
    let (old, new): (Vec<_>, Vec<_>) = before.iter().partition(|old| !wanted.contains(old));
    let footprint = |routes: Vec<(IpAddr, u8)>| {
        Footprint::new(&networks.cluster).with(routes).save(&networks.data_dir)
    };
    if wanted.iter().any(|network| !new.contains(network)) {
        let added = wanted.iter().filter(|network| !before.contains(network));
        footprint(before.iter().chain(added).copied().collect())?;
    }
    route_services(usable, ips)?;
    networks.usable.set(usable.to_vec());
    let pods = pairs(&networks.cluster.pod_cidrs);
    let all = pods.into_iter().chain(wanted.iter().copied()).collect();
    networks.zone.write().unwrap_or_else(PoisonError::into_inner).set_networks(all);
    for (network, prefix) in &old {
        netlink::host::remove_service_route(*network, *prefix)?;
    }
    if !old.is_empty() {
        footprint(wanted.clone())?;
    }
    if before != wanted {
        let all: Vec<String> = usable.iter().map(ToString::to_string).collect();
        info!(networks = all.join(", "), "Services have other networks");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_ranges_are_the_services_own() {
        let cluster = crate::config::Cluster {
            pod_cidrs: vec![Cidr::parse("10.42.0.0/16").expect("a network")],
            service_cidrs: vec![Cidr::parse("10.43.0.0/16").expect("a network")],
            dns: Vec::new(),
            domain: "cluster.local".into(),
            pod_network: net_overlay::Mode::Auto,
            wireguard_port: 51820,
        };
        let ips = ["192.0.2.1".parse().expect("an address")];
        let check = |told: &[&str], expected: &str, why: &str| {
            let told = told.iter().map(|text| (*text).to_owned()).collect();
            let (usable, refused) = usable(&cluster, &ips, &told);
            let usable: Vec<String> = usable.iter().map(ToString::to_string).collect();
            assert_eq!((&*usable.join(" "), &*refused.join(", ")), (expected, why), "{told:?}");
        };
        check(&[], "10.43.0.0/16", "");
        check(&["10.43.0.0/16", "10.99.0.0/24"], "10.43.0.0/16 10.99.0.0/24", "");
        check(&["10.43.1.0/24"], "10.43.0.0/16 10.43.1.0/24", "");
        check(&["nonsense"], "10.43.0.0/16", "");
        check(&["192.0.2.0/24"], "10.43.0.0/16", "192.0.2.0/24 overlaps this node's 192.0.2.1");
        check(&["10.42.9.0/24"], "10.43.0.0/16", "10.42.9.0/24 overlaps pods' 10.42.0.0/16");
        check(&["10.40.0.0/14"], "10.43.0.0/16", "10.40.0.0/14 overlaps pods' 10.42.0.0/16");
    }
}

//! Which pod has which address. The runtime keeps each sandbox's addresses
//! with it (a label), so there is no file of our own that could disagree: what
//! is listed at the start is taken, everything else is free.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use crate::config::Cidr;

/// The pod addresses of this node.
#[derive(Debug, Default)]
pub(crate) struct Addresses(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    cidrs: Vec<Cidr>,
    by_pod: BTreeMap<String, Vec<IpAddr>>,
    /// Where the next search begins, so that a released address rests before
    /// somebody else gets it.
    next: Vec<u64>,
}

impl Addresses {
    /// Sets the networks; allocations made before stay.
    pub(crate) fn set_cidrs(&self, cidrs: Vec<Cidr>) {
        let mut inner = self.lock();
        if inner.cidrs != cidrs {
            inner.next = vec![0; cidrs.len()];
            inner.cidrs = cidrs;
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        !self.lock().cidrs.is_empty()
    }

    /// Takes in what an earlier process gave a pod.
    pub(crate) fn adopt(&self, uid: &str, ips: Vec<IpAddr>) {
        let mut inner = self.lock();
        for i in 0..inner.cidrs.len() {
            let cidr = inner.cidrs[i];
            let offsets = ips.iter().filter(|ip| cidr.contains(**ip)).map(|ip| offset(&cidr, *ip));
            let past = offsets.max().map_or(0, |offset| offset + 1);
            inner.next[i] = inner.next[i].max(past);
        }
        inner.by_pod.insert(uid.to_owned(), ips);
    }

    /// The pod's addresses, one of each family; the same at every call until
    /// they are released. Those that it had `before` where nobody else has them:
    /// after a reboot, what others know of the pod then still holds.
    pub(crate) fn allocate(&self, uid: &str, before: &[IpAddr]) -> Result<Vec<IpAddr>, String> {
        let mut inner = self.lock();
        if let Some(ips) = inner.by_pod.get(uid) {
            return Ok(ips.clone());
        }
        if inner.cidrs.is_empty() {
            return Err("the node has no pod network yet (spec.podCIDRs is empty)".into());
        }
        let mut ips = Vec::new();
        for i in 0..inner.cidrs.len() {
            let cidr = inner.cidrs[i];
            // The first address names the network, the last of IPv4 is its
            // broadcast; small networks have neither to spare.
            let size = cidr.size();
            let (first, end) = match (size, cidr.address) {
                (0..=2, _) => (0, size),
                (_, IpAddr::V4(_)) => (1, size - 1),
                (_, IpAddr::V6(_)) => (1, size),
            };
            let start = inner.next[i].clamp(first, end);
            let taken = |ip: &IpAddr| inner.by_pod.values().flatten().any(|other| other == ip);
            let ours = before.iter().filter(|ip| cidr.contains(**ip)).map(|ip| offset(&cidr, *ip));
            let ours = ours.filter(|n| (first..end).contains(n)).find(|n| !taken(&cidr.nth(*n)));
            let search = || (start..end).chain(first..start).find(|n| !taken(&cidr.nth(*n)));
            let found = ours.or_else(search);
            let Some(found) = found else {
                return Err(format!("no addresses are left in {cidr}"));
            };
            inner.next[i] = match ours {
                Some(ours) => inner.next[i].max(ours + 1),
                None => found + 1,
            };
            ips.push(cidr.nth(found));
        }
        inner.by_pod.insert(uid.to_owned(), ips.clone());
        Ok(ips)
    }

    pub(crate) fn release(&self, uid: &str) {
        self.lock().by_pod.remove(uid);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn offset(cidr: &Cidr, ip: IpAddr) -> u64 {
    match (cidr.address, ip) {
        (IpAddr::V4(net), IpAddr::V4(ip)) => u64::from(ip.to_bits() - net.to_bits()),
        (IpAddr::V6(net), IpAddr::V6(ip)) => {
            u64::try_from(ip.to_bits() - net.to_bits()).unwrap_or(u64::MAX)
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(cidr: &str) -> Addresses {
        let addresses = Addresses::default();
        addresses.set_cidrs(vec![cidr.parse().expect("a network")]);
        addresses
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn never_two_pods_and_released_ones_rest() {
        let a = addresses("10.42.0.0/29");
        assert_eq!(a.allocate("a", &[]), Ok(vec![ip("10.42.0.1")]));
        assert_eq!(a.allocate("a", &[]), Ok(vec![ip("10.42.0.1")]), "the same again");
        assert_eq!(a.allocate("b", &[]), Ok(vec![ip("10.42.0.2")]));
        a.release("a");
        assert_eq!(a.allocate("c", &[]), Ok(vec![ip("10.42.0.3")]));
        for (uid, last) in [("d", 4), ("e", 5), ("f", 6), ("g", 1)] {
            assert_eq!(a.allocate(uid, &[]), Ok(vec![ip(&format!("10.42.0.{last}"))]));
        }
        assert!(a.allocate("h", &[]).is_err());
    }

    #[test]
    fn after_a_reboot_pods_have_the_addresses_of_before() {
        let a = addresses("10.42.0.0/24");
        assert_eq!(a.allocate("b", &[ip("10.42.0.9")]), Ok(vec![ip("10.42.0.9")]));
        assert_eq!(a.allocate("c", &[ip("10.42.0.9")]), Ok(vec![ip("10.42.0.10")]), "taken");
        assert_eq!(a.allocate("d", &[ip("10.9.0.9")]), Ok(vec![ip("10.42.0.11")]), "not ours");
        assert_eq!(a.allocate("e", &[ip("10.42.0.0")]), Ok(vec![ip("10.42.0.12")]), "no pod's");
    }

    #[test]
    fn what_runs_keeps_its_address() {
        let a = addresses("10.42.0.0/24");
        a.adopt("old", vec![ip("10.42.0.7")]);
        assert_eq!(a.allocate("new", &[]), Ok(vec![ip("10.42.0.8")]));
        assert_eq!(a.allocate("old", &[]), Ok(vec![ip("10.42.0.7")]));
        assert!(addresses("10.42.0.0/24").is_ready());
        assert!(Addresses::default().allocate("x", &[]).is_err());
    }
}

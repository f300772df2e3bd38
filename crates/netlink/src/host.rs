//! What the node itself needs: its addresses, forwarding, the loopback, and a
//! place for the service addresses.

use crate::Error;
use crate::pod_link::HOST_PREFIX;
use crate::route::{Address, Link, Route, Scope, host_prefix};
use crate::wire::Socket;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

/// The node's addresses: for each family the source address of the default
/// route, or else the first global address of a link that is up. Pod links do
/// not count. Empty on a machine without any network.
pub fn node_addresses() -> Result<Vec<IpAddr>, Error> {
    let socket = Socket::route()?;
    let (links, addresses, routes) = (socket.links()?, socket.addresses()?, socket.routes()?);
    Ok([true, false]
        .into_iter()
        .filter_map(|v4| choose_address(&links, &addresses, &routes, v4))
        .collect())
}

/// Every address by which others may know this machine, pod links aside; those of
/// a link or of the machine alone are none.
pub fn all_addresses() -> Result<Vec<IpAddr>, Error> {
    let socket = Socket::route()?;
    let (links, addresses) = (socket.links()?, socket.addresses()?);
    let ours: Vec<u32> = (links.iter())
        .filter(|link| crate::overlay::is_ours(&link.name) || link.name.starts_with(HOST_PREFIX))
        .map(|link| link.index)
        .collect();
    let known = |a: &&Address| a.scope == Scope::Universe as u8 && !ours.contains(&a.index);
    Ok(addresses.iter().filter(known).map(|a| a.ip).collect())
}

fn choose_address(
    links: &[Link],
    addresses: &[Address],
    routes: &[Route],
    v4: bool,
) -> Option<IpAddr> {
    let global = |a: &&Address| a.ip.is_ipv4() == v4 && a.scope == Scope::Universe as u8;
    // The first of those that suit best.
    let best = |of: &dyn Fn(u32) -> bool| {
        let found = addresses.iter().filter(global).filter(|a| of(a.index));
        found.filter_map(|a| Some((a.rank()?, a.ip))).min_by_key(|(rank, _)| *rank)
    };
    let defaults = routes.iter().filter(|r| {
        let like = r.gateway.or(r.source);
        r.destination.is_none() && like.is_none_or(|ip| ip.is_ipv4() == v4)
    });
    let mut defaults: Vec<&Route> = defaults.collect();
    defaults.sort_by_key(|r| r.metric);
    let from_route = |route: &&Route| {
        let source = route.source.filter(|ip| ip.is_ipv4() == v4);
        source.or_else(|| best(&|index| index == route.index).map(|(_, ip)| ip))
    };
    defaults.iter().find_map(from_route).or_else(|| {
        let usable = |index: u32| {
            links.iter().any(|l| {
                l.index == index
                    && l.up
                    && l.name != "lo"
                    && !crate::overlay::is_ours(&l.name)
                    && !l.name.starts_with(HOST_PREFIX)
            })
        };
        best(&usable).map(|(_, ip)| ip)
    })
}

/// The number of a link, which an IPv6 address of the link alone (fe80::1%eth0)
/// needs beside it; `None` where there is no such link.
///
/// # Errors
/// What the kernel refused.
pub fn link_index(name: &str) -> Result<Option<u32>, Error> {
    Ok(Socket::route()?.link(name)?.map(|link| link.index))
}

/// Calls `told` after changes of links and addresses, from a thread of its own
/// that lives as long as the process.
///
/// # Errors
/// Where the kernel does not tell.
pub fn follow_addresses(told: impl Fn() + Send + 'static) -> Result<(), Error> {
    const RTMGRP_LINK: u32 = 1;
    const RTMGRP_IPV4_IFADDR: u32 = 0x10;
    const RTMGRP_IPV6_IFADDR: u32 = 0x100;
    let socket = Socket::route_changes(RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR)?;
    let wait = move || {
        while socket.wait_change().is_ok() {
            told();
        }
    };
    std::thread::Builder::new()
        .name("addresses".into())
        .spawn(wait)
        .map(drop)
        .map_err(|e| Error::io("start a thread", e))
}

/// Turns on forwarding of IPv4 and, if pods have such addresses, of IPv6. Links
/// that take their IPv6 routes from router advertisements keep doing so, which
/// a forwarding host would stop by default.
pub fn enable_forwarding(ipv6: bool) -> Result<(), Error> {
    set_sysctl("net/ipv4/ip_forward", "1")?;
    if !ipv6 {
        return Ok(());
    }
    let conf = Path::new("/proc/sys/net/ipv6/conf");
    let entries = fs::read_dir(conf)
        .map_err(|e| Error::io("IPv6 is switched off in the kernel: /proc/sys/net/ipv6/conf", e))?;
    for entry in entries.flatten() {
        let accept = entry.path().join("accept_ra");
        if fs::read_to_string(&accept).is_ok_and(|value| value.trim() == "1") {
            fs::write(&accept, "2").map_err(|e| Error::io(accept.display().to_string(), e))?;
        }
    }
    set_sysctl("net/ipv6/conf/all/forwarding", "1")
}

/// Writes a sysctl unless it has that value: /proc/sys may be read-only.
pub(crate) fn set_sysctl(name: &str, value: &str) -> Result<(), Error> {
    let path = Path::new("/proc/sys").join(name);
    let fail = |e| Error::io(format!("set {} to {value}", path.display()), e);
    if fs::read_to_string(&path).map_err(fail)?.trim() == value {
        return Ok(());
    }
    fs::write(&path, value).map_err(fail)
}

fn loopback(socket: &Socket) -> Result<Link, Error> {
    socket.link("lo")?.ok_or_else(|| Error::Answer("this network namespace has no lo".into()))
}

/// Brings `lo` up.
pub fn ensure_loopback() -> Result<(), Error> {
    let socket = Socket::route()?;
    socket.set_up(&loopback(&socket)?)
}

/// Gives this node `addresses` on `lo`, with host scope (IPv6: deprecated) so that
/// they are never chosen as a source. This is how the cluster DNS address (10.43.0.10) is
/// reached from pods and from the node: sockets are bound to it and no rule is
/// needed. Idempotent.
pub fn ensure_local_addresses(addresses: &[IpAddr]) -> Result<(), Error> {
    let socket = Socket::route()?;
    let loopback = loopback(&socket)?;
    socket.set_up(&loopback)?;
    for &ip in addresses {
        socket.add_address(&loopback, ip, host_prefix(ip), Scope::Host)?;
    }
    Ok(())
}

/// Takes addresses of [`ensure_local_addresses`] away again.
pub fn remove_local_addresses(addresses: &[IpAddr]) -> Result<(), Error> {
    let socket = Socket::route()?;
    let loopback = loopback(&socket)?;
    addresses.iter().try_for_each(|&ip| socket.delete_address(&loopback, ip, host_prefix(ip)))
}

/// Routes a service network to `lo`, so that a node without a default route can
/// send to a ClusterIP (the output hook rewrites the destination before the
/// packet leaves) and so that a refused connection is refused by us instead of
/// sent to a router. `source` is the address such connections come from.
pub fn ensure_service_route(
    network: IpAddr,
    prefix_len: u8,
    source: Option<IpAddr>,
) -> Result<(), Error> {
    let socket = Socket::route()?;
    let index = loopback(&socket)?.index;
    socket.replace_route(&service_route(network, prefix_len, index, source), network)
}

/// Takes a route of [`ensure_service_route`] away again.
pub fn remove_service_route(network: IpAddr, prefix_len: u8) -> Result<(), Error> {
    let socket = Socket::route()?;
    let index = loopback(&socket)?.index;
    socket.delete_route(&service_route(network, prefix_len, index, None), network)
}

fn service_route(network: IpAddr, prefix_len: u8, index: u32, source: Option<IpAddr>) -> Route {
    let source = source.filter(|ip| ip.is_ipv4() == network.is_ipv4());
    let destination = Some((network, prefix_len));
    Route { destination, index, gateway: None, source, metric: 0, scope: Scope::Link }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str) -> Link {
        let mac = Vec::new();
        Link { index, name: name.into(), up: true, mtu: 1500, mac, peer: 0, carrier_changes: 0 }
    }

    fn address(index: u32, ip: &str) -> Address {
        Address { index, ip: ip.parse().unwrap(), prefix_len: 24, scope: 0, flags: 0 }
    }

    fn default_route(index: u32, gateway: &str, metric: u32) -> Route {
        let gateway = Some(gateway.parse().unwrap());
        Route { destination: None, index, gateway, source: None, metric, scope: Scope::Universe }
    }

    #[test]
    fn the_default_route_decides_and_pods_do_not_count() {
        let links = [link(1, "lo"), link(2, "eth0"), link(3, "wlan0"), link(4, "skp01")];
        let addresses = [
            address(4, "10.9.9.9"),
            address(2, "10.0.0.2"),
            address(3, "10.1.0.2"),
            address(3, "fd00::2"),
        ];
        let choose = |routes: &[Route], v4| {
            choose_address(&links, &addresses, routes, v4)
                .map(|ip| ip.to_string())
                .unwrap_or_default()
        };
        assert_eq!(choose(&[], true), "10.0.0.2");
        assert_eq!(choose(&[], false), "fd00::2");
        let routes = [default_route(2, "10.0.0.1", 600), default_route(3, "10.1.0.1", 100)];
        assert_eq!(choose(&routes, true), "10.1.0.2");
        let preferred = Route { source: Some("10.0.0.9".parse().unwrap()), ..routes[0].clone() };
        assert_eq!(choose(&[preferred], true), "10.0.0.9");
    }

    /// As the kernel lists them: the one of today first.
    #[test]
    fn an_address_of_ipv6_that_lasts_is_chosen() {
        let links = [link(2, "eth0")];
        let with = |flags: &[u32]| {
            let all = flags.iter().enumerate();
            let all: Vec<Address> = all
                .map(|(n, flags)| Address { flags: *flags, ..address(2, &format!("fd00::{n}")) })
                .collect();
            choose_address(&links, &all, &[default_route(2, "fe80::1", 1024)], false)
                .map(|ip| ip.to_string())
                .unwrap_or_default()
        };
        assert_eq!(with(&[0x01, 0x00]), "fd00::1", "a temporary one");
        assert_eq!(with(&[0x20, 0x01, 0x80]), "fd00::2", "a deprecated one");
        assert_eq!(with(&[0x01, 0x40]), "fd00::1", "one that is about to be usable");
        assert_eq!(with(&[0x01]), "fd00::", "better than none");
        assert_eq!(with(&[0x48]), "", "somebody else's");
    }

    #[test]
    fn an_address_of_lo_is_no_source() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: making network namespaces needs root");
            return;
        }
        let story = || {
            let dns: IpAddr = "fd43::a".parse().unwrap();
            for _ in 0..2 {
                ensure_local_addresses(&[dns]).unwrap();
                let all = Socket::route().unwrap().addresses().unwrap();
                let found = all.iter().find(|address| address.ip == dns).expect("it is there");
                assert_eq!(found.rank(), Some(3), "deprecated");
            }
            // It is answered at, at once.
            std::net::UdpSocket::bind((dns, 53)).unwrap();
            assert_eq!(link_index("lo").unwrap(), Some(1));
            assert_eq!(link_index("nowhere").unwrap(), None);
            remove_local_addresses(&[dns]).unwrap();
            assert!(std::net::UdpSocket::bind((dns, 53)).is_err());
        };
        crate::netns::Netns::new().unwrap().within(story).unwrap();
    }
}

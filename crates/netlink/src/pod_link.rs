//! A pod's way to the world: a routed veth.
//!
//! There is no bridge. The pod has its addresses as /32 and /128 on `eth0`, a
//! default route through the link-local gateway 169.254.1.1 (fe80::1) and a
//! permanent neighbour entry that names the host side's MAC for it, so nobody
//! needs to answer ARP. The host has one route to each pod address through the
//! host side, so same-node traffic passes the forward hook like any other.
//! Spoofed sources are dropped by the rule that `net-rules` puts on every
//! interface whose name starts with [`HOST_PREFIX`].

use crate::Error;
use crate::route::{Link, Route, Scope, host_prefix};
use crate::wire::Socket;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

/// How the host side of every pod link is named: this, then eleven hex digits.
pub const HOST_PREFIX: &str = "skp";

/// The gateways that pods see; no link has them.
const GATEWAY_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1));
const GATEWAY_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));

/// The MAC of every host side. Set explicitly, since udev replaces one that the
/// kernel chose, after pods have learned it; the same for all, since no two
/// host sides share a segment.
const HOST_MAC: [u8; 6] = [0xee; 6];

/// What a pod's link should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodLink {
    /// A pinned network namespace (`/run/.../net`, `/proc/<pid>/ns/net`).
    pub netns_path: PathBuf,
    /// The host side's name, from [`host_ifname`].
    pub host_ifname: String,
    /// The name inside the pod, `eth0` for every tool's sake.
    pub pod_ifname: String,
    /// The pod's addresses, at most one of each family is usual.
    pub addresses: Vec<IpAddr>,
    /// Bytes; 1500 on a plain Ethernet, less under an overlay.
    pub mtu: u32,
    /// What the node sends to its own loopback address may be sent on to the
    /// pod (a port of the node that leads there).
    pub from_loopback: bool,
}

/// A pod link found on the host, for adoption after a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Existing {
    /// The host side's name.
    pub host_ifname: String,
    /// The addresses that are routed to it.
    pub addresses: Vec<IpAddr>,
    /// Bytes.
    pub mtu: u32,
}

/// The host side's name for a pod: the prefix and a hash of its UID, 14 bytes
/// (the kernel takes 15).
pub fn host_ifname(pod_uid: &str) -> String {
    // FNV-1a: stable across versions, which adoption needs.
    let hash = pod_uid
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    format!("{HOST_PREFIX}{:011x}", hash >> 20)
}

/// Makes the link be as described. Each step looks first or replaces, so this
/// may be called again after a crash at any line, and on a link that is already
/// complete.
///
/// # Errors
/// The step that the kernel refused; what was done before it stays and is
/// found by the next call.
pub fn ensure(link: &PodLink) -> Result<(), Error> {
    check(link)?;
    let host = Socket::route()?;
    let pod = Socket::route_in(&link.netns_path)?;
    let (host_side, pod_side) = ensure_pair(&host, &pod, link)?;

    if let Some(loopback) = pod.link("lo")? {
        pod.set_up(&loopback)?;
    }
    pod.set_mtu(&pod_side, link.mtu)?;
    host.set_mtu(&host_side, link.mtu)?;
    for &ip in &link.addresses {
        pod.add_address(&pod_side, ip, host_prefix(ip), Scope::Universe)?;
    }
    refuse_routers(link)?;
    pod.set_up(&pod_side)?;
    host.set_up(&host_side)?;
    if link.from_loopback {
        // `net-rules` drops what a pod itself sends to loopback addresses.
        let name = format!("net/ipv4/conf/{}/route_localnet", link.host_ifname);
        crate::host::set_sysctl(&name, "1")?;
    }
    for &ip in &link.addresses {
        let gateway = if ip.is_ipv4() { GATEWAY_V4 } else { GATEWAY_V6 };
        pod.replace_neighbour(&pod_side, gateway, &host_side.mac)?;
        pod.replace_route(&default_route(&pod_side, gateway), ip)?;
        // The host need not ask who has the pod's address either.
        host.replace_neighbour(&host_side, ip, &pod_side.mac)?;
        host.replace_route(&pod_route(&host_side, ip), ip)?;
    }
    Ok(())
}

/// A pod that says it is a router must not become its node's (CVE-2020-10749).
/// The kernel would listen: by default without forwarding, and with it since the
/// node's own links go on doing so.
fn refuse_routers(link: &PodLink) -> Result<(), Error> {
    let name = format!("net/ipv6/conf/{}/accept_ra", link.host_ifname);
    match crate::host::set_sysctl(&name, "0") {
        // No IPv6 in this kernel, or a /proc/sys that nobody may write.
        Err(_) if link.addresses.iter().all(IpAddr::is_ipv4) => Ok(()),
        done => done,
    }
}

fn check(link: &PodLink) -> Result<(), Error> {
    let bad_name =
        |name: &str| name.is_empty() || name.len() > 15 || name.contains(['/', ' ', ':']);
    if bad_name(&link.host_ifname) || bad_name(&link.pod_ifname) {
        return Err(Error::Invalid(format!(
            "{:?} and {:?}: an interface name has 1 to 15 bytes",
            link.host_ifname, link.pod_ifname
        )));
    }
    if !(1280..=65535).contains(&link.mtu) {
        return Err(Error::Invalid(format!("{}: an MTU of {} bytes", link.host_ifname, link.mtu)));
    }
    Ok(())
}

/// Both ends, made now or found. A host side whose other end is not in this
/// pod belongs to an earlier life and is replaced.
fn ensure_pair(host: &Socket, pod: &Socket, link: &PodLink) -> Result<(Link, Link), Error> {
    if let Some(host_side) = host.link(&link.host_ifname)? {
        if let Some(pod_side) = pod.link(&link.pod_ifname)?
            && pod_side.peer == host_side.index
            && host_side.peer == pod_side.index
        {
            return Ok((host_side, pod_side));
        }
        host.delete_link(&link.host_ifname)?;
    }
    let netns = File::open(&link.netns_path)
        .map_err(|e| Error::io(format!("open {}", link.netns_path.display()), e))?;
    host.add_veth(&link.host_ifname, HOST_MAC, &link.pod_ifname, &netns, link.mtu)?;
    let gone = |name: &str| Error::Answer(format!("{name} vanished after it was made"));
    let host_side = host.link(&link.host_ifname)?.ok_or_else(|| gone(&link.host_ifname))?;
    let pod_side = pod.link(&link.pod_ifname)?.ok_or_else(|| gone(&link.pod_ifname))?;
    Ok((host_side, pod_side))
}

fn default_route(link: &Link, gateway: IpAddr) -> Route {
    let (index, gateway) = (link.index, Some(gateway));
    Route { destination: None, index, gateway, source: None, metric: 0, scope: Scope::Universe }
}

fn pod_route(link: &Link, ip: IpAddr) -> Route {
    let destination = Some((ip, host_prefix(ip)));
    let index = link.index;
    Route { destination, index, gateway: None, source: None, metric: 0, scope: Scope::Link }
}

/// Removes a pod link; the pod's side and the routes go with it. Not an error
/// if there is none.
pub fn remove(host_ifname: &str) -> Result<(), Error> {
    Socket::route()?.delete_link(host_ifname)
}

/// The pod links on this host, in the order of their names.
pub fn list() -> Result<Vec<Existing>, Error> {
    let host = Socket::route()?;
    let mut found: BTreeMap<u32, Existing> = host
        .links()?
        .into_iter()
        .filter(|link| link.name.starts_with(HOST_PREFIX))
        .map(|link| {
            (link.index, Existing { host_ifname: link.name, addresses: Vec::new(), mtu: link.mtu })
        })
        .collect();
    for route in host.routes()? {
        if let (Some(existing), Some((ip, prefix_len))) =
            (found.get_mut(&route.index), route.destination)
            && prefix_len == host_prefix(ip)
        {
            existing.addresses.push(ip);
        }
    }
    let mut found: Vec<Existing> = found.into_values().collect();
    found.sort_by(|a, b| a.host_ifname.cmp(&b.host_ifname));
    Ok(found)
}

/// Removes every pod link of this network namespace and says how many there
/// were. Goes on after a failure and reports the first one.
pub fn remove_all() -> Result<usize, Error> {
    let links = list()?;
    let failed = links.iter().filter_map(|link| remove(&link.host_ifname).err()).next();
    match failed {
        // Its pod ended meanwhile.
        Some(e) if e.errno() != Some(Errno::NODEV) => Err(e),
        _ => Ok(links.len()),
    }
}

#[cfg(test)]
mod tests;

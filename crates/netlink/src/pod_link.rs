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
use std::net::IpAddr;
use std::path::PathBuf;

/// How the host side of every pod link is named: this, then eleven hex digits.
pub const HOST_PREFIX: &str = "skp";

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

/// Makes the link be as described. Each step looks first, so this may be called
/// again after a crash at any line, and on a link that is already complete.
///
/// # Errors
/// The step that the kernel refused; what was done before it stays and is
/// found by the next call.
pub fn ensure(link: &PodLink) -> Result<(), Error> {
    Err(Error::Invalid(format!("{}: pod links are not built yet", link.host_ifname)))
}

/// Removes a pod link; the pod's side and the routes go with it. Not an error
/// if there is none.
pub fn remove(host_ifname: &str) -> Result<(), Error> {
    Err(Error::Invalid(format!("{host_ifname}: pod links are not built yet")))
}

/// The pod links on this host.
pub fn list() -> Result<Vec<Existing>, Error> {
    Err(Error::Invalid("pod links are not built yet".into()))
}

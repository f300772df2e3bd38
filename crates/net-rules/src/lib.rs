//! kube-proxy's job: Services become nf_tables rules.
//!
//! The ruleset is flat: maps from service address, protocol and port to what
//! happens, one `pick-N` chain for each number of endpoints in use, and nothing
//! for a Service but elements. So 10,000 Services load in a fraction of a second
//! and a change costs its own elements, in one transaction.
//!
//! `plan` is pure (services and what the kernel has → batch), [`Proxy`] acts.
//! Calls are synchronous and short; async callers use `spawn_blocking`. Also
//! here: egress of pods is masqueraded, sources they spoof are dropped.
//!
//! Must not know: the Kubernetes API, DNS, pods' objects, other nodes.
//!
//! Start with [`Service`], then `layout` for the chains, then `plan`.

mod forget;
mod frontend;
mod layout;
mod plan;
mod proxy;
mod service;

pub use proxy::{Proxy, killall};
pub use service::{Endpoint, Hint, Port, Protocol, Service, ServiceName, TrafficPolicy};

use std::net::IpAddr;

/// What the rules depend on beside Services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The table's name, `skiff` unless several proxies share a network
    /// namespace.
    pub table: String,
    /// The cluster's pod networks (`10.42.0.0/16`), at most one of each family.
    /// They also say which families there are.
    pub pod_networks: Vec<(IpAddr, u8)>,
    /// The service networks (`10.43.0.0/16`) that there are from the start:
    /// unknown ports and addresses in them are refused. [`Proxy::set_networks`]
    /// says others later.
    pub service_networks: Vec<(IpAddr, u8)>,
    /// Service addresses that this node answers itself on a socket (cluster
    /// DNS): the proxy leaves them alone whatever Services say.
    pub node_local: Vec<IpAddr>,
    /// What the host sides of pod links begin with.
    pub pod_ifname_prefix: String,
}

/// Why the rules are not as they should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused something.
    #[error("service rules: {0}")]
    Netlink(#[from] netlink::Error),
}

/// What a call changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Map and set elements that were added.
    pub added: usize,
    /// Map and set elements that were deleted.
    pub deleted: usize,
    /// Conntrack entries of UDP endpoints that went away.
    pub conntrack_deleted: usize,
    /// The whole table was made anew: there was none, or one of another version.
    pub replaced: bool,
    /// What leads to endpoints that are gone could not be forgotten: the next
    /// [`Proxy::apply`], if only of nothing, tries that again.
    pub unforgotten: bool,
}

#[cfg(test)]
mod tests;

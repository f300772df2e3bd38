//! Cluster DNS, answered from memory on every node (Kubernetes DNS-Based
//! Service Discovery, specification 1.1.0); other names go to the host's
//! resolvers.
//!
//! `answer` is pure (zone and query → message); [`Server`] is the thin loop that
//! moves datagrams; [`resolv`] reads and writes `resolv.conf`.
//!
//! How pods reach it: the sockets are bound to the cluster DNS address itself
//! (10.43.0.10), which `netlink::host::ensure_local_addresses` puts on `lo` with
//! host scope. Pods' packets are routed to the node and delivered there, the
//! node's own find it on `lo`, and the proxy leaves the address alone
//! (`net_rules::Config::node_local`). No rule, no extra device, and the same
//! address on every node.
//!
//! Must not know: the Kubernetes API, nf_tables, how sockets get their address.
//!
//! Start with [`Service`] and [`Zone`].

pub mod resolv;

mod answer;
mod forward;
mod server;
mod service;
mod zone;

pub use answer::{Answer, answer, encode, udp_limit};
pub use server::{Server, Sockets};
pub use service::{Endpoint, Port, Protocol, Service, ServiceName};
pub use zone::{Zone, ZoneConfig};

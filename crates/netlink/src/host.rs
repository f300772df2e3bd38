//! What the node itself needs: its addresses, forwarding, the loopback, and a
//! place for the service addresses.

use crate::Error;
use std::net::IpAddr;

/// The node's addresses: for each family the source address of the default
/// route, or else the first global address of a link that is up. Pod links do
/// not count. Empty on a machine without any network.
pub fn node_addresses() -> Result<Vec<IpAddr>, Error> {
    Err(Error::Invalid("not built yet".into()))
}

/// Turns on forwarding of both families (where the kernel has IPv6).
pub fn enable_forwarding() -> Result<(), Error> {
    Err(Error::Invalid("not built yet".into()))
}

/// Brings `lo` up.
pub fn ensure_loopback() -> Result<(), Error> {
    Err(Error::Invalid("not built yet".into()))
}

/// Gives this node `addresses` on `lo`, with host scope so that they are never
/// chosen as a source. This is how the cluster DNS address (10.43.0.10) is
/// reached from pods and from the node: sockets are bound to it and no rule is
/// needed. Idempotent.
pub fn ensure_local_addresses(addresses: &[IpAddr]) -> Result<(), Error> {
    Err(Error::Invalid(format!("{addresses:?}: not built yet")))
}

/// Takes addresses of [`ensure_local_addresses`] away again.
pub fn remove_local_addresses(addresses: &[IpAddr]) -> Result<(), Error> {
    Err(Error::Invalid(format!("{addresses:?}: not built yet")))
}

/// Routes service networks to `lo`, so that a node without a default route can
/// send to a ClusterIP (the output hook rewrites the destination before the
/// packet leaves). `source` is the address such connections come from.
pub fn ensure_service_route(
    network: IpAddr,
    prefix_len: u8,
    source: Option<IpAddr>,
) -> Result<(), Error> {
    Err(Error::Invalid(format!("{network}/{prefix_len} from {source:?}: not built yet")))
}

/// Takes a route of [`ensure_service_route`] away again.
pub fn remove_service_route(network: IpAddr, prefix_len: u8) -> Result<(), Error> {
    Err(Error::Invalid(format!("{network}/{prefix_len}: not built yet")))
}

//! The kubelet's job: what the API binds to this node runs on it, and the API
//! hears how it fares.
//!
//! One task a pod ([`pod`]) looks at what is there (`view`), decides without
//! I/O (`plan`), and acts (`act`): start steps are ordered and may be repeated
//! after a crash at any line. [`machine`] speaks for the node itself (Node
//! object, Lease), [`device`] for what plugins offer, [`streams`] answers logs, exec,
//! attach and port-forward, [`usage`] measures, [`port`] is where others may ask for that
//! than servers, [`eviction`] ends pods where
//! the node runs short, [`shutdown`] where the machine is switched off.
//!
//! This crate reaches the cluster through [`client::Api`] and nothing else: it
//! must not know the store, the API registry or the rules of Services. It
//! runs containers through [`node_runtime::Runtime`] and takes images from an
//! [`Images`], so it knows neither namespaces nor registries.
//!
//! Not here: starting without a server in reach is its caller's, an API that keeps what it
//! was told, and says so ([`TOLD_BEFORE`]).
//!
//! Start reading at [`Node::start`], then `pod::plan`.

mod config;
mod container;
mod counted;
mod counts;
mod device;
mod enforce;
mod eviction;
mod images;
mod machine;
mod network;
mod node;
mod plugin;
mod pod;
mod port;
mod probe;
mod pulled;
mod resources;
mod sealed;
mod shutdown;
mod streams;
mod supervised;
mod usage;
mod volume;

pub use config::{Cidr, Live, NodeConfig, PodCidrs, Reserved, Taint};
pub use device::cdi::CdiFiles;
pub use eviction::{DeadContainers, EVICTION_HARD, Eviction, Signal};
pub use images::{
    BoxFuture, Collect, Fetched, Image, ImageConfig, ImageError, ImageListing, Images,
};
pub use node::{Node, NodeHandle, StartError};
pub use pod::{
    host_ports::{HostPort, HostPorts, PodPorts},
    static_pods::{ReadPod, StaticPods},
};
pub use port::{Port, Sign};
pub use resources::TOLD_BEFORE;
pub use shutdown::ShutdownGrace;

#[cfg(test)]
mod tests;

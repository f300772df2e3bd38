//! The kernel's network configuration, over netlink: links, addresses, routes,
//! neighbours, nf_tables and conntrack, without a helper program.
//!
//! Every call is synchronous: the kernel answers a netlink request inside the
//! `sendmsg` that carries it, so a request costs tens of microseconds. A call
//! may still wait for the kernel's RTNL lock or load many rules, so async
//! callers use `spawn_blocking`.
//!
//! Must not know: Kubernetes, pods' objects, Services.
//!
//! Start with [`pod_link`] (a pod's way to the world) and [`host`] (what the
//! node itself needs); [`overlay`] leads to pods on other nodes, [`wireguard`]
//! seals what goes there, [`tun`] where the kernel cannot; [`packet`] tries a way that
//! no route takes; [`nft`] speaks nf_tables; [`conntrack`] forgets connections; `wire` is the message format
//! under all of them.

pub mod conntrack;
pub mod host;
pub mod netns;
pub mod nft;
pub mod overlay;
pub mod packet;
pub mod pod_link;
pub mod tun;
pub mod wireguard;

mod error;
mod generic;
mod route;
mod sys;
mod wire;

pub use error::Error;

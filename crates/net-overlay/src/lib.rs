//! The way from this node's pods to those of other nodes: plain routes where
//! both nodes share a segment that lets them pass, WireGuard or VXLAN elsewhere.
//!
//! [`plan`] decides from what is known of the nodes and of the links, and from what
//! `segment` has found out of the networks between; [`Overlay::apply`] makes the
//! kernel so. [`Keys`] are the node's own. It knows no Kubernetes object: whoever
//! follows Nodes gives it a plain table. Where the kernel has no WireGuard,
//! `userspace` carries the packets in this process.

#![warn(missing_docs)]

mod keys;
mod plan;
mod segment;
mod userspace;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
};

use netlink::wireguard::{self, Device};

pub use keys::{Keys, NoKey, PublicKey};
pub use netlink::overlay::{Changed, Network, Reach};
pub use plan::{Mode, Peer, Plan, View, plan};
use segment::Scout;
pub use segment::{PORT as SEGMENT_PORT, Verdict};

/// Why the pods of other nodes cannot be reached as they should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused something.
    #[error(transparent)]
    Kernel(#[from] netlink::Error),
    /// The port or the link cannot be had here.
    #[error("{what}: {source}")]
    Userspace {
        /// What was tried.
        what: String,
        /// Why not.
        source: io::Error,
    },
}

/// Who carries what WireGuard seals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// The kernel.
    Kernel,
    /// This process: slower, and only while it runs.
    Userspace,
}

impl Carrier {
    /// The kernel, where it has WireGuard.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    pub fn found() -> Result<Self, Error> {
        Ok(match wireguard::is_supported()? {
            true => Self::Kernel,
            false => Self::Userspace,
        })
    }
}

/// How this node takes part in WireGuard.
#[derive(Debug, Clone)]
pub struct Sealing {
    /// By which the others know it.
    pub keys: Keys,
    /// Who carries it here.
    pub carrier: Carrier,
}

/// This node's ways to the others.
#[derive(Debug)]
pub struct Overlay {
    me: String,
    mode: Mode,
    /// The UDP port at which every node hears WireGuard.
    port: u16,
    /// Where the pods of all nodes are.
    cluster: Vec<Network>,
    sealing: Option<Sealing>,
    engine: Option<userspace::Engine>,
    /// Where peers are as the kernel was told last.
    told: BTreeMap<[u8; 32], SocketAddr>,
    scout: Scout,
}

impl Overlay {
    /// Does nothing yet. `port` is the UDP port at which every node hears WireGuard,
    /// `cluster` where the pods of all nodes are. Without `sealing` nobody is reached
    /// by WireGuard. `judged` is called from a thread where [`Self::apply`] has to be
    /// called again: something was found out of the network to another node.
    pub fn new(
        me: String,
        mode: Mode,
        port: u16,
        cluster: Vec<Network>,
        sealing: Option<Sealing>,
        judged: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let (told, scout) = (BTreeMap::new(), Scout::new(me.clone(), judged));
        Self { me, mode, port, cluster, sealing, engine: None, told, scout }
    }

    /// How nodes are to be reached.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Looks at the links and makes the routes right. Cheap where nothing changed,
    /// and then nothing is written; blocks on the kernel.
    ///
    /// # Errors
    /// What was refused; the next call goes on from there.
    pub fn apply(&mut self, nodes: &BTreeMap<String, Peer>) -> Result<(Plan, Changed), Error> {
        let addresses: BTreeSet<_> =
            nodes.values().flat_map(|node| node.addresses.iter().copied()).collect();
        let reach = netlink::overlay::reach(&addresses)?;
        let nothing = BTreeMap::new();
        let view = View {
            me: &self.me,
            nodes,
            reach: &reach,
            verdicts: &nothing,
            mode: self.mode,
            key: self.sealing.as_ref().map(|sealing| sealing.keys.public),
            port: self.port,
            cluster: &self.cluster,
        };
        let others = plan::others(&view, &netlink::overlay::tunnelled()?);
        let verdicts = self.scout.verdicts(&others);
        let plan = plan(&View { verdicts: &verdicts, ..view });
        for node in &plan.unreachable {
            tracing::debug!(node, "no address of the node can be reached from here");
        }
        // The device knows whom it reaches before anything is routed there, and is
        // gone after nothing is any more.
        if plan.wanted.sealed.is_some() {
            self.seal(&plan)?;
        }
        let changed = netlink::overlay::apply(&plan.wanted)?;
        if plan.wanted.sealed.is_none() {
            self.engine = None;
            self.told.clear();
        }
        Ok((plan, changed))
    }

    fn seal(&mut self, plan: &Plan) -> Result<(), Error> {
        let Some(sealing) = &self.sealing else { return Ok(()) };
        let peers = plan.peers.iter().map(|(key, peer)| (key.0, peer.clone())).collect();
        let device = Device { secret: sealing.keys.secret.clone(), port: self.port, peers };
        match sealing.carrier {
            Carrier::Kernel => {
                wireguard::ensure_link()?;
                wireguard::configure(&device, &self.told)?;
                let told = device.peers.iter().map(|(key, peer)| (*key, peer.endpoint));
                self.told = told.collect();
            }
            Carrier::Userspace => {
                // Its threads end where somebody takes the link away.
                if !self.engine.as_ref().is_some_and(userspace::Engine::runs) {
                    self.engine = None;
                    wireguard::make_way_for_tun()?;
                    self.engine = Some(userspace::Engine::start(&device)?);
                }
                if let Some(engine) = &self.engine {
                    engine.tell(&device.peers);
                }
            }
        }
        Ok(())
    }
}

/// Takes everything away that [`Overlay::apply`] has made, whoever did.
///
/// # Errors
/// What the kernel refused.
pub fn killall() -> Result<(), Error> {
    Ok(netlink::overlay::killall()?)
}

#[cfg(test)]
mod tests;

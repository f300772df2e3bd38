//! What is known of a machine before it is judged. Nothing here looks.

use std::{net::IpAddr, path::PathBuf};

use jiff::Timestamp;
use net_overlay::Mode;

use crate::config::Cidr;

/// A machine as it was found. [`Default`] is one that nothing was asked of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// What it is asked for.
    pub(crate) wanted: Wanted,
    /// Whether this process may do everything.
    pub(crate) is_root: bool,
    /// Major, minor, and the whole text.
    pub(crate) kernel: (u32, u32, String),
    /// Kernel features by name.
    pub(crate) features: Vec<(&'static str, bool)>,
    /// Why pods cannot be limited in memory, if so: the sentence of the crate `linux`.
    pub(crate) memory_cgroup: Option<String>,
    /// Version 1 or 2, 0 for none, and the controllers.
    pub(crate) cgroups: (u8, Vec<&'static str>),
    /// The file of the kernel command line, where the firmware has one, and its text.
    pub(crate) command_line: Option<(PathBuf, String)>,
    /// Why containers cannot have their layers in the data directory, if so.
    pub(crate) overlay: Option<String>,
    /// Why the rules of Services cannot be made, if so; tried out.
    pub(crate) nftables: Option<String>,
    /// Why a pod cannot have a link, if so; tried out.
    pub(crate) pod_link: Option<String>,
    /// Why there is no way to nodes behind a router, if so; tried out.
    pub(crate) vxlan: Option<String>,
    /// Why the kernel cannot seal what goes to other nodes (WireGuard), if so; tried out.
    pub(crate) wireguard: Option<String>,
    /// Why skiff itself cannot either (a TUN link), if so.
    pub(crate) tun: Option<String>,
    /// Bytes of the data directory's file system: all and free.
    pub(crate) disk_space: Option<(u64, u64)>,
    /// What synced writes took in the data directory, milliseconds, or why there are none.
    pub(crate) sync_ms: Option<Result<Vec<f64>, String>>,
    /// Every address that this machine has, or why that is not known.
    pub(crate) own_addresses: Option<Result<Vec<IpAddr>, String>>,
    /// The servers to join or joined, and why one is not reached, if so.
    pub(crate) servers: Vec<(String, Option<String>)>,
    /// The addresses that the node is known by, or why there are none.
    pub(crate) addresses: Option<Result<Vec<IpAddr>, String>>,
    /// Who listens on what.
    pub(crate) listeners: Vec<Listener>,
    /// What the clock says, and when this program was made.
    pub(crate) now: Timestamp,
    /// See [`Self::now`].
    pub(crate) built: Timestamp,
    /// Whether something keeps the clock right; `None` where the kernel does not say.
    pub(crate) clock_synchronized: Option<bool>,
    /// The resolvers of this machine, and why one does not answer, if so.
    pub(crate) resolvers: Vec<(IpAddr, Option<String>)>,
    /// Base chains that drop what they do not decide: `ip filter FORWARD`.
    pub(crate) dropping: Vec<String>,
    /// Chains of others, `ip filter KUBE-FORWARD`, and their tables, `inet firewalld`.
    pub(crate) chains: Vec<String>,
    /// Why the rules of others cannot be read, if so.
    pub(crate) rules_fault: Option<String>,
    /// Tables that only `iptables-legacy` shows.
    pub(crate) legacy_tables: Vec<String>,
    /// Links of this machine.
    pub(crate) links: Vec<String>,
    /// Names of the processes in this network.
    pub(crate) processes: Vec<String>,
    /// Which of the folders that others leave behind are there.
    pub(crate) folders: Vec<&'static str>,
}

/// What a server or an agent here is told by its flags, or would be.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// It is an agent, which serves no API.
    pub(crate) agent: bool,
    /// It has joined: its pods start without a server in reach.
    pub(crate) joined: bool,
    /// `host:port` of the servers that it joins or has joined.
    pub(crate) servers: Vec<String>,
    /// `--node-ip`
    pub(crate) node_ips: Vec<IpAddr>,
    /// The port of the API.
    pub(crate) https_port: u16,
    /// The port of the node; 0 for none.
    pub(crate) kubelet_port: u16,
    /// Where pods have their addresses.
    pub(crate) pod_cidrs: Vec<Cidr>,
    /// Where Services have theirs.
    pub(crate) service_cidrs: Vec<Cidr>,
    /// The cluster DNS.
    pub(crate) dns: Vec<IpAddr>,
    /// How pods reach those of other nodes.
    pub(crate) pod_network: Mode,
    /// The UDP port of WireGuard.
    pub(crate) wireguard_port: u16,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            agent: false,
            joined: false,
            servers: vec![],
            node_ips: vec![],
            https_port: 6443,
            kubelet_port: 10250,
            pod_cidrs: vec![],
            service_cidrs: vec![],
            dns: vec![],
            pod_network: Mode::Auto,
            wireguard_port: 51820,
        }
    }
}

/// A port that is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listener {
    /// `tcp` or `udp`.
    pub(crate) protocol: &'static str,
    /// Where; unspecified for everywhere.
    pub(crate) ip: IpAddr,
    /// The port.
    pub(crate) port: u16,
    /// The process's name and number, where it can be found.
    pub(crate) by: Option<(String, u32)>,
}

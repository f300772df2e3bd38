//! The server's own node.

use std::{net::IpAddr, path::Path, sync::Arc};

use ::node::{Cidr, HostPorts, Node, NodeConfig, NodeHandle, PodCidrs, StaticPods, Taint};
use client::{Ambient, Api};
use node_runtime::ShimRuntime;

use super::{StartError, images, static_pods};
use crate::config::{self, Config};

/// The share of the cluster's pod network that is a node's: 254 pods.
const NODE_PREFIX_V4: u8 = 24;
const NODE_PREFIX_V6: u8 = 64;

/// Where the runtime of a data directory keeps its state.
pub(crate) fn runtime_dir(data_dir: &Path) -> std::path::PathBuf {
    data_dir.join("node/runtime")
}

/// Starts it; its pods of before are adopted.
pub(super) async fn start(
    config: &Config,
    node_ips: &[IpAddr],
    api: Api,
    ambient: Ambient,
    host_ports: HostPorts,
) -> Result<NodeHandle, StartError> {
    let runtime = ShimRuntime::open(node_runtime::Config {
        state_dir: runtime_dir(&config.data_dir),
        cgroup_prefix: config::instance(&config.data_dir),
    })
    .await?;
    let images_dir = images::socket::images_dir(&config.data_dir);
    let store = tokio::task::spawn_blocking(move || images::open(&images_dir)).await??;
    images::socket::serve(&config.data_dir, store.clone()).map_err(|error| {
        format!("{}: {error}", images::socket::path(&config.data_dir).display())
    })?;
    let node = NodeConfig {
        labels: config.node_labels.iter().cloned().collect(),
        taints: config
            .node_taints
            .iter()
            .map(|(key, value, effect)| Taint {
                key: key.clone(),
                value: value.clone(),
                effect: effect.clone(),
            })
            .collect(),
        host_ports,
        static_pods: config
            .static_pods
            .clone()
            .map(|dir| StaticPods { dir, read: static_pods::reader() }),
        allowed_unsafe_sysctls: config.allowed_unsafe_sysctls.clone(),
        cluster_dns: config.cluster_dns.clone(),
        cluster_domain: config.cluster_domain.clone(),
        // With one node its share is known; more nodes ask the API for theirs.
        pod_cidrs: PodCidrs::Fixed(config.cluster_cidrs.iter().map(own_share).collect()),
        kubelet_dir: config.kubelet_dir(),
        log_dir: config.log_dir(),
        resolv_conf: net_dns::resolv::host_path(),
        ..NodeConfig::new(&config.node_name, config.data_dir.join("node"), node_ips.to_vec())
    };
    Ok(Node::start(node, api, runtime, Arc::new(images::StoreImages(store)), ambient)?)
}

fn own_share(network: &config::Cidr) -> Cidr {
    let prefix = if network.network.is_ipv4() { NODE_PREFIX_V4 } else { NODE_PREFIX_V6 };
    Cidr { address: network.network, prefix_len: network.prefix.max(prefix) }
}

//! What every machine of a cluster runs, server or agent: the node itself, and
//! the network around it.

mod cluster_dns;
mod health_ports;
mod host_ports;
pub(crate) mod images;
pub(crate) mod network;
pub(crate) mod overlay;
pub(crate) mod preflight;
mod served;
mod service_networks;
mod service_proxy;
mod static_pods;

use std::{collections::BTreeMap, fs::File, path::Path, sync::Arc};

use ::node::{CdiFiles, Node, NodeConfig, NodeHandle, Port, Sign, StaticPods, Taint};
use client::{Ambient, Api};
use node_runtime::ShimRuntime;

use crate::{
    StartError,
    config::{Cluster, Machine},
};

/// Where the runtime of a data directory keeps its state.
pub(crate) fn runtime_dir(data_dir: &Path) -> std::path::PathBuf {
    data_dir.join("node/runtime")
}

/// Makes sure that no process works on a data directory, for as long as the
/// files are held.
///
/// # Errors
/// Where one does; says which.
pub(crate) fn lock(data_dir: &Path) -> Result<Vec<File>, store_raft::OpenError> {
    let folders = [data_dir.join("server/db"), crate::agent::state::dir(data_dir)];
    folders.iter().filter(|dir| dir.exists()).map(|dir| store_raft::lock(dir)).collect()
}

/// Starts it; its pods of before are adopted.
pub(crate) async fn start(
    machine: &Machine,
    cluster: &Cluster,
    outside: network::Outside,
    mut annotations: BTreeMap<String, String>,
    sign: Sign,
    api: Api,
    ambient: Ambient,
) -> Result<NodeHandle, StartError> {
    let runtime = ShimRuntime::open(node_runtime::Config {
        state_dir: runtime_dir(&machine.data_dir),
        cgroup_prefix: machine.instance(),
    })
    .await?;
    let images_dir = images::socket::images_dir(&machine.data_dir);
    let images_at = images_dir.clone();
    let data_dir = machine.data_dir.clone();
    let store = tokio::task::spawn_blocking(move || {
        let store = images::open(&images_dir)?;
        images::bundles::import(&data_dir, &store);
        Ok::<_, StartError>(store)
    })
    .await??;
    images::socket::serve(&machine.data_dir, store.clone()).map_err(|error| {
        format!("{}: {error}", images::socket::path(&machine.data_dir).display())
    })?;
    let images =
        images::StoreImages::new(store, &machine.registries, machine.credential_plugins.as_ref())?;
    annotations.extend(overlay::annotations(outside.sealing.as_ref()));
    let node = NodeConfig {
        labels: machine.node_labels.iter().cloned().collect(),
        taints: machine
            .node_taints
            .iter()
            .map(|(key, value, effect)| Taint {
                key: key.clone(),
                value: value.clone(),
                effect: effect.clone(),
            })
            .collect(),
        host_ports: outside.host_ports,
        static_pods: (machine.static_pods.clone())
            .map(|dir| StaticPods { dir, read: static_pods::reader() }),
        allowed_unsafe_sysctls: machine.allowed_unsafe_sysctls.clone(),
        eviction: machine.eviction.clone(),
        reserved: machine.reserved,
        shutdown: machine.shutdown.clone(),
        cdi: CdiFiles {
            read: |bytes| serde_saphyr::from_slice(bytes).map_err(|error| error.to_string()),
            ..CdiFiles::default()
        },
        dead_containers: machine.dead_containers,
        enforce_allocatable: machine.enforce_allocatable,
        cluster_dns: cluster.dns.clone(),
        cluster_domain: cluster.domain.clone(),
        kubelet_dir: machine.kubelet_dir(),
        log_dir: machine.log_dir(),
        images_dir: images_at,
        resolv_conf: net_dns::resolv::host_path,
        annotations,
        ips: outside.ips,
        pod_mtu: outside.pod_mtu,
        port: machine.kubelet_port.map(|number| Port { number, sign }),
        storage_dir: machine.data_dir.join("storage"),
        ..NodeConfig::new(&machine.node_name, machine.data_dir.join("node"), Vec::new())
    };
    Ok(Node::start(node, api, runtime, Arc::new(images), ambient)?)
}

//! The part of the kubelet's Summary that is read here.

use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Summary {
    pub(crate) node: NodeStats,
    #[serde(default)]
    pub(crate) pods: Vec<PodStats>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeStats {
    pub(crate) node_name: String,
    #[serde(default)]
    pub(crate) cpu: CpuStats,
    #[serde(default)]
    pub(crate) memory: MemoryStats,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PodStats {
    pub(crate) pod_ref: PodRef,
    #[serde(default)]
    pub(crate) containers: Vec<ContainerStats>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct PodRef {
    pub(crate) name: String,
    pub(crate) namespace: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ContainerStats {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) cpu: CpuStats,
    #[serde(default)]
    pub(crate) memory: MemoryStats,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CpuStats {
    #[serde(default)]
    pub(crate) time: String,
    /// `None` for what has not run long enough.
    pub(crate) usage_nano_cores: Option<u64>,
    /// Over which that was measured.
    #[serde(default)]
    pub(crate) window: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MemoryStats {
    pub(crate) working_set_bytes: Option<u64>,
}

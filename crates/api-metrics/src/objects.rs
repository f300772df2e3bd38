//! NodeMetrics and PodMetrics from what nodes say. Pure.

use std::collections::BTreeMap;

use api_object::{Quantity, time::format_seconds};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::summary::{CpuStats, MemoryStats, Summary};

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Meta {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) namespace: String,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct NodeMeta {
    pub(crate) metadata: Meta,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct PodMeta {
    pub(crate) metadata: Meta,
    #[serde(default)]
    pub(crate) spec: PodPlace,
    #[serde(default)]
    pub(crate) status: PodPhase,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PodPlace {
    #[serde(default)]
    pub(crate) node_name: String,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct PodPhase {
    #[serde(default)]
    pub(crate) phase: String,
}

impl PodMeta {
    /// Whether a node may know what it uses.
    pub(crate) fn may_run(&self) -> bool {
        !self.spec.node_name.is_empty() && self.status.phase == "Running"
    }
}

/// `None` for a node that has not answered.
pub(crate) fn node(node: &NodeMeta, told: &[Summary], now: Timestamp) -> Option<Value> {
    let stats = &told.iter().find(|s| s.node.node_name == node.metadata.name)?.node;
    let usage = usage(&stats.cpu, &stats.memory)?;
    let mut object = metrics("NodeMetrics", &node.metadata, &stats.cpu, now);
    object.insert("usage".into(), usage);
    Some(object.into())
}

/// `None` for a pod that no node tells of, and for one of whose containers some are
/// not measured yet: half of a pod's use would scale it down.
pub(crate) fn pod(pod: &PodMeta, told: &[Summary], now: Timestamp) -> Option<Value> {
    let meta = &pod.metadata;
    let of_node = told.iter().find(|s| s.node.node_name == pod.spec.node_name)?;
    let stats = of_node.pods.iter().find(|stats| {
        stats.pod_ref.name == meta.name && stats.pod_ref.namespace == meta.namespace
    })?;
    let container = |stats: &crate::summary::ContainerStats| {
        Some(json!({"name": stats.name, "usage": usage(&stats.cpu, &stats.memory)?}))
    };
    let containers: Vec<Value> = stats.containers.iter().map(container).collect::<Option<_>>()?;
    // The shortest window: what has just started is judged by when it did.
    let nanos = |text: &str| api_object::time::parse_duration(text).unwrap_or(i64::MAX);
    let shortest = stats.containers.iter().min_by_key(|c| nanos(&c.cpu.window))?;
    let mut object = metrics("PodMetrics", meta, &shortest.cpu, now);
    object.insert("containers".into(), containers.into());
    Some(object.into())
}

fn usage(cpu: &CpuStats, memory: &MemoryStats) -> Option<Value> {
    let cpu = Quantity::parse(&format!("{}n", cpu.usage_nano_cores?)).ok()?;
    let memory = memory.working_set_bytes?.div_ceil(1024);
    Some(json!({"cpu": cpu.to_string(), "memory": format!("{memory}Ki")}))
}

fn metrics(kind: &str, meta: &Meta, cpu: &CpuStats, now: Timestamp) -> Map<String, Value> {
    let mut metadata = json!({"name": meta.name, "creationTimestamp": format_seconds(now)});
    if !meta.namespace.is_empty() {
        metadata["namespace"] = meta.namespace.as_str().into();
    }
    if !meta.labels.is_empty() {
        metadata["labels"] = json!(meta.labels);
    }
    let object = json!({
        "kind": kind,
        "apiVersion": "metrics.k8s.io/v1beta1",
        "metadata": metadata,
        "timestamp": cpu.time,
        "window": cpu.window,
    });
    match object {
        Value::Object(object) => object,
        _ => unreachable!("an object was written"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(containers: Value) -> Vec<Summary> {
        let summary = json!({
            "node": {"nodeName": "n1",
                "cpu": {"time": "2026-01-01T00:00:00Z", "usageNanoCores": 250_000_000, "window": "10s"},
                "memory": {"workingSetBytes": 1_048_577}},
            "pods": [{"podRef": {"name": "p", "namespace": "default", "uid": "u"},
                "containers": containers}],
        });
        vec![serde_json::from_value(summary).expect("a summary")]
    }

    fn container(name: &str, nanos: Option<u64>, window: &str) -> Value {
        json!({"name": name, "memory": {"workingSetBytes": 4096},
            "cpu": {"time": "2026-01-01T00:00:00Z", "usageNanoCores": nanos, "window": window}})
    }

    #[test]
    fn a_node_that_answers() {
        let at = |name: &str| NodeMeta { metadata: Meta { name: name.into(), ..Meta::default() } };
        let told = told(json!([]));
        let object = node(&at("n1"), &told, Timestamp::UNIX_EPOCH).expect("answered");
        assert_eq!(object["usage"], json!({"cpu": "250m", "memory": "1025Ki"}));
        assert_eq!(object["window"], "10s");
        assert_eq!(node(&at("n2"), &told, Timestamp::UNIX_EPOCH), None);
    }

    #[test]
    fn a_pod_whose_containers_are_all_measured() {
        let of = |namespace: &str| PodMeta {
            metadata: Meta { name: "p".into(), namespace: namespace.into(), ..Meta::default() },
            spec: PodPlace { node_name: "n1".into() },
            status: PodPhase { phase: "Running".into() },
        };
        let pod = |containers: Value, namespace: &str| {
            pod(&of(namespace), &told(containers), Timestamp::UNIX_EPOCH)
        };
        let both = json!([container("a", Some(1_500), "10s"), container("b", Some(0), "2s")]);
        let object = pod(both.clone(), "default").expect("measured");
        assert_eq!(object["containers"][0]["usage"]["cpu"], "1500n");
        assert_eq!(object["containers"][1]["usage"], json!({"cpu": "0", "memory": "4Ki"}));
        assert_eq!(object["window"], "2s");
        assert_eq!(pod(both, "other"), None, "another pod of that name");
        let half = json!([container("a", Some(1), "10s"), container("b", None, "")]);
        assert_eq!(pod(half, "default"), None);
        assert_eq!(pod(json!([]), "default"), None);
    }
}

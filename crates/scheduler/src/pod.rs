//! A pod as the scheduler sees it.

use std::collections::BTreeMap;

use api_types::core::{self, NodeSelector, PreferredSchedulingTerm, Toleration};
use serde::Deserialize;

use crate::Requests;

/// A port on the node: address (`0.0.0.0` for all), protocol and number.
pub type HostPort = (String, String, i32);

/// What matters about a pod. Of one that has a node only what it takes up
/// there is kept.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "core::Pod")]
pub struct Pod {
    /// Empty while it waits.
    pub node_name: String,
    /// What it takes up.
    pub requests: Requests,
    /// What it takes up, of ports.
    pub host_ports: Vec<HostPort>,
    /// Whether it has ended: it takes up nothing.
    pub is_terminal: bool,
    /// Only of pods that wait.
    pub waiting: Option<Box<Waiting>>,
}

/// What decides where a pod may go.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Waiting {
    /// Whose job it is; empty for the default scheduler.
    pub scheduler_name: String,
    /// Higher goes first.
    pub priority: i32,
    /// Somebody said not yet.
    pub gates: Vec<String>,
    /// Labels the node must have.
    pub node_selector: BTreeMap<String, String>,
    /// Terms of which one must match.
    pub required: Option<NodeSelector>,
    /// Terms that are wished for.
    pub preferred: Vec<PreferredSchedulingTerm>,
    /// Which taints it puts up with.
    pub tolerations: Vec<Toleration>,
    /// Of its containers.
    pub images: Vec<String>,
    /// Its `PodScheduled` condition: status, reason, message.
    pub condition: Option<(String, String, String)>,
}

impl From<core::Pod> for Pod {
    fn from(pod: core::Pod) -> Self {
        let requests = Requests::of_pod(&pod.spec);
        let is_terminal = pod.is_terminal();
        let host_network = pod.spec.host_network;
        let sidecars = pod.spec.init_containers.iter();
        let sidecars = sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always"));
        let containers = pod.spec.containers.iter().chain(sidecars);
        let ports = containers.flat_map(|container| &container.ports).filter_map(|port| {
            let number = match port.host_port {
                0 if host_network => port.container_port,
                number => number,
            };
            let or =
                |text: &str, other: &str| if text.is_empty() { other } else { text }.to_owned();
            (number > 0).then(|| (or(&port.host_ip, "0.0.0.0"), or(&port.protocol, "TCP"), number))
        });
        let host_ports = ports.collect();
        let condition = pod.status.condition("PodScheduled").map(|condition| {
            (condition.status.clone(), condition.reason.clone(), condition.message.clone())
        });
        let spec = pod.spec;
        let affinity = spec.affinity.and_then(|a| a.node_affinity).unwrap_or_default();
        let waiting = spec.node_name.is_empty().then(|| {
            Box::new(Waiting {
                scheduler_name: spec.scheduler_name,
                priority: spec.priority.unwrap_or(0),
                gates: spec.scheduling_gates.into_iter().map(|gate| gate.name).collect(),
                node_selector: spec.node_selector,
                required: affinity.required_during_scheduling_ignored_during_execution,
                preferred: affinity.preferred_during_scheduling_ignored_during_execution,
                tolerations: spec.tolerations,
                images: spec.containers.into_iter().map(|container| container.image).collect(),
                condition,
            })
        });
        Self { node_name: spec.node_name, requests, host_ports, is_terminal, waiting }
    }
}

//! A pod as the scheduler sees it.

use std::collections::BTreeMap;

use api_object::Meta;
use api_types::core::{self, NodeSelector, PreferredSchedulingTerm, Toleration};
use serde::Deserialize;

use crate::{Affinity, Requests, Spread, disks::Disk, disks::disks};

/// A port on the node: address (`0.0.0.0` for all), protocol and number.
pub type HostPort = (String, String, i32);

/// What matters about a pod. Of one that has a node only what it takes up
/// there, and what it wants of its neighbours, is kept.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "core::Pod")]
pub struct Pod {
    /// Empty while it waits.
    pub node_name: String,
    /// Higher goes first, and may displace lower.
    pub priority: i32,
    /// What it takes up.
    pub requests: Requests,
    /// The same for comparing nodes, where what asks for nothing counts for a
    /// little: thousandths of a CPU, and bytes of memory.
    pub scored: [i64; 2],
    /// What it takes up, of ports.
    pub host_ports: Vec<HostPort>,
    /// What it wants of its neighbours.
    pub affinity: Option<Box<Affinity>>,
    /// Its PersistentVolumeClaims, by name.
    pub claims: Vec<Claimed>,
    /// Disks that are given to one node at a time.
    pub disks: Vec<Disk>,
    /// Whether it has ended: it takes up nothing.
    pub is_terminal: bool,
    /// Whether it goes because a more important pod needs its place.
    pub is_preempted: bool,
    /// When it was started, RFC 3339 in UTC; `None` before.
    pub started: Option<String>,
    /// Only of pods that wait.
    pub waiting: Option<Box<Waiting>>,
}

/// A claim that a pod uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The PersistentVolumeClaim's name, in the pod's namespace.
    pub name: String,
    /// Whether it is made for this pod (a generic ephemeral volume).
    pub is_ephemeral: bool,
}

/// What decides where a pod may go.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Waiting {
    /// Whose job it is; empty for the default scheduler.
    pub scheduler_name: String,
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
    /// How its likes are to be spread.
    pub spread: Vec<Spread>,
    /// Of its containers, and those that are volumes.
    pub images: Vec<String>,
    /// Whether it may displace others.
    pub may_preempt: bool,
    /// Where room is being made for it; empty for nowhere.
    pub nominated_node: String,
    /// Devices it claims (KEP-4381).
    pub resource_claims: usize,
    /// Its `PodScheduled` condition.
    pub condition: Option<Condition>,
}

/// A condition, without its times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// `True`, `False`, `Unknown`.
    pub status: String,
    /// One word.
    pub reason: String,
    /// For people.
    pub message: String,
    /// Of which pod it was said.
    pub observed_generation: i64,
}

impl Waiting {
    /// What a pod that waits for nothing says.
    pub(crate) fn none() -> &'static Self {
        static NONE: Waiting = Waiting {
            scheduler_name: String::new(),
            gates: Vec::new(),
            node_selector: BTreeMap::new(),
            required: None,
            preferred: Vec::new(),
            tolerations: Vec::new(),
            spread: Vec::new(),
            images: Vec::new(),
            may_preempt: false,
            nominated_node: String::new(),
            resource_claims: 0,
            condition: None,
        };
        &NONE
    }
}

impl From<core::Pod> for Pod {
    fn from(pod: core::Pod) -> Self {
        let (requests, scored) = Requests::of_pod(&pod);
        let is_terminal = pod.is_terminal();
        let is_preempted = pod.status.condition("DisruptionTarget").is_some_and(|condition| {
            condition.status == "True" && condition.reason == "PreemptionByScheduler"
        });
        let condition = pod.status.condition("PodScheduled").map(|condition| Condition {
            status: condition.status.clone(),
            reason: condition.reason.clone(),
            message: condition.message.clone(),
            observed_generation: condition.observed_generation,
        });
        let (meta, spec) = (pod.metadata, pod.spec);
        let host_ports = host_ports(&spec);
        let claims = claims(&meta, &spec);
        let disks = spec.volumes.iter().flat_map(disks).collect();
        let mut affinity = spec.affinity.unwrap_or_default();
        let node = affinity.node_affinity.take().unwrap_or_default();
        let spread = spec.topology_spread_constraints;
        let waiting = spec.node_name.is_empty().then(|| {
            let images = spec.init_containers.into_iter().chain(spec.containers);
            Box::new(Waiting {
                scheduler_name: spec.scheduler_name,
                gates: spec.scheduling_gates.into_iter().map(|gate| gate.name).collect(),
                node_selector: spec.node_selector,
                required: node.required_during_scheduling_ignored_during_execution,
                preferred: node.preferred_during_scheduling_ignored_during_execution,
                tolerations: spec.tolerations,
                spread: spread.into_iter().map(|wanted| Spread::new(wanted, &meta)).collect(),
                images: images.map(|container| container.image).collect(),
                may_preempt: spec.preemption_policy != "Never",
                nominated_node: pod.status.nominated_node_name,
                resource_claims: spec.resource_claims.len(),
                condition,
            })
        });
        Self {
            node_name: spec.node_name,
            priority: spec.priority.unwrap_or(0),
            requests,
            scored,
            host_ports,
            affinity: Affinity::of(affinity, &meta),
            claims,
            disks,
            is_terminal,
            is_preempted,
            started: pod.status.start_time,
            waiting,
        }
    }
}

fn host_ports(spec: &core::PodSpec) -> Vec<HostPort> {
    let sidecars = spec.init_containers.iter();
    let sidecars = sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let containers = spec.containers.iter().chain(sidecars);
    let ports = containers.flat_map(|container| &container.ports).filter_map(|port| {
        let number = match port.host_port {
            0 if spec.host_network => port.container_port,
            number => number,
        };
        let or = |text: &str, other: &str| if text.is_empty() { other } else { text }.to_owned();
        (number > 0).then(|| (or(&port.host_ip, "0.0.0.0"), or(&port.protocol, "TCP"), number))
    });
    ports.collect()
}

fn claims(meta: &Meta, spec: &core::PodSpec) -> Vec<Claimed> {
    let claim = |volume: &core::Volume| {
        if let Some(source) = &volume.persistent_volume_claim {
            return Some(Claimed { name: source.claim_name.clone(), is_ephemeral: false });
        }
        volume
            .ephemeral
            .as_ref()
            .map(|_| Claimed { name: format!("{}-{}", meta.name, volume.name), is_ephemeral: true })
    };
    spec.volumes.iter().filter_map(claim).collect()
}

//! A node as the scheduler sees it, with what its pods take up.

use std::{collections::BTreeMap, sync::Arc};

use api_types::core::{self, Taint};
use client::Cached;
use serde::Deserialize;

use crate::{Labels, Pod, Requests, pod::HostPort};

/// What a node says of itself.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "core::Node")]
pub struct Offer {
    /// What pods may take up.
    pub allocatable: Requests,
    /// How many pods it takes.
    pub pods_max: i64,
    /// Whom it keeps away.
    pub taints: Vec<Taint>,
    /// `kubectl cordon`.
    pub unschedulable: bool,
    /// Bytes of each image that it has, by name.
    pub images: BTreeMap<String, i64>,
}

impl From<core::Node> for Offer {
    fn from(node: core::Node) -> Self {
        // A node that tells only its capacity keeps nothing back.
        let offered = match node.status.allocatable.is_empty() {
            true => &node.status.capacity,
            false => &node.status.allocatable,
        };
        let mut allocatable = Requests::from_list(offered);
        let pods_max = allocatable.others.remove("pods").unwrap_or(0);
        let images =
            node.status.images.into_iter().flat_map(|image| {
                image.names.into_iter().map(move |name| (name, image.size_bytes))
            });
        Self {
            allocatable,
            pods_max,
            taints: node.spec.taints,
            unschedulable: node.spec.unschedulable,
            images: images.collect(),
        }
    }
}

/// A node and the pods on it. Cheap to clone, so that one can try what it
/// would be like with other pods.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its number among the cluster's nodes, while it is there.
    pub slot: usize,
    /// The object.
    pub object: Arc<Cached<Offer>>,
    /// Its pods, those assumed to be bound to it included.
    pub pods: Vec<Arc<Cached<Pod>>>,
    /// What they take up.
    pub used: Requests,
    /// The same for comparing nodes; see [`Pod::scored`].
    pub scored: [i64; 2],
    /// Ports that they take up.
    pub host_ports: Vec<HostPort>,
}

impl Node {
    /// An empty node.
    pub(crate) fn new(slot: usize, object: Arc<Cached<Offer>>) -> Self {
        Self {
            slot,
            object,
            pods: Vec::new(),
            used: Requests::default(),
            scored: [0; 2],
            host_ports: Vec::new(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.object.meta.name
    }

    /// Its labels.
    pub fn labels(&self) -> &Labels {
        &self.object.meta.labels
    }

    /// What it says of itself.
    pub fn offer(&self) -> &Offer {
        &self.object.view
    }

    /// A pod takes its place.
    pub(crate) fn add(&mut self, pod: &Arc<Cached<Pod>>) {
        self.used.add(&pod.view.requests);
        for (sum, own) in self.scored.iter_mut().zip(pod.view.scored) {
            *sum += own;
        }
        self.host_ports.extend(pod.view.host_ports.iter().cloned());
        self.pods.push(pod.clone());
    }

    /// A pod leaves; no-op where it is not there.
    pub(crate) fn remove(&mut self, pod: &Cached<Pod>) {
        let Some(at) = self.pods.iter().position(|other| other.meta.uid == pod.meta.uid) else {
            return;
        };
        // What was added is taken away, whatever the newer form says.
        let pod = self.pods.swap_remove(at);
        self.used.subtract(&pod.view.requests);
        for (sum, own) in self.scored.iter_mut().zip(pod.view.scored) {
            *sum -= own;
        }
        for port in &pod.view.host_ports {
            if let Some(at) = self.host_ports.iter().position(|other| other == port) {
                self.host_ports.swap_remove(at);
            }
        }
    }
}

//! A node as the scheduler sees it, with what its pods take up.

use std::collections::BTreeMap;

use api_types::core::{self, Taint};
use client::Cached;
use serde::Deserialize;

use crate::{Requests, pod::HostPort};

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

/// A node of a snapshot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What it says of itself.
    pub offer: Offer,
    /// What its pods take up, those assumed to be bound to it included.
    pub used: Requests,
    /// How many they are.
    pub pods: i64,
    /// Ports that they take up.
    pub host_ports: Vec<HostPort>,
}

impl Node {
    /// An empty node.
    pub fn new(node: &Cached<Offer>) -> Self {
        Self {
            name: node.meta.name.clone(),
            labels: node.meta.labels.clone(),
            offer: node.view.clone(),
            ..Self::default()
        }
    }
}

//! What the controller sees.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use api_object::LabelSelector;
use client::{Cached, Informer};
use jiff::Timestamp;
use serde_json::Value;

use super::row::Row;
use crate::{
    cached::{BY_CONTROLLER, Pod, ReplicaSet, is_active},
    owner,
};

/// One ReplicaSet (or ReplicationController) and the pods that concern it, at one moment.
#[derive(Debug)]
pub(super) struct View {
    pub(super) row: &'static Row,
    pub(super) set: Arc<Cached<ReplicaSet>>,
    pub(super) selector: LabelSelector,
    pub(super) template: Value,
    /// Its own pods, and those without a controller in its namespace.
    pub(super) pods: Vec<Arc<Cached<Pod>>>,
    /// How many pods of ReplicaSets with the same owner are on each node.
    pub(super) related_on_node: BTreeMap<String, usize>,
    /// Uids of pods whose deletion was asked for, though the cache may not
    /// show it yet.
    pub(super) deleted: BTreeSet<String>,
    pub(super) now: Timestamp,
}

/// Gathers the view. A selector that cannot be read selects nothing: the
/// server validates them, so none is expected.
pub(super) fn view(
    row: &'static Row,
    set: Arc<Cached<ReplicaSet>>,
    sets: &Informer<ReplicaSet>,
    pods: &Informer<Pod>,
    deleted: BTreeSet<String>,
    now: Timestamp,
) -> Result<View, api_object::selector::SelectorError> {
    let selector = row.selector(&set.view.spec.selector)?;
    let all = owner::claimable(&set.meta, pods);
    let siblings = match set.meta.controller() {
        Some(owner) => sets.by_index(BY_CONTROLLER, &owner.uid),
        None => vec![set.clone()],
    };
    let mut related_on_node = BTreeMap::new();
    for sibling in siblings {
        for pod in pods.by_index(BY_CONTROLLER, &sibling.meta.uid) {
            if is_active(&pod) && !deleted.contains(&pod.meta.uid) {
                *related_on_node.entry(pod.view.spec.node_name.clone()).or_default() += 1;
            }
        }
    }
    let template = set.view.spec.template.value();
    Ok(View { row, set, selector, template, pods: all, related_on_node, deleted, now })
}

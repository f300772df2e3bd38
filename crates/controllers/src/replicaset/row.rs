//! The two kinds that keep a number of pods of one template.

use api_object::{LabelSelector, selector::SelectorError};
use client::Resource;
use serde_json::{Value, json};

use crate::cached::{REPLICA_SETS, REPLICATION_CONTROLLERS};

/// A kind, and how it differs from the other.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) resource: Resource,
    pub(super) api_version: &'static str,
    pub(super) kind: &'static str,
    /// In events and the log.
    pub(super) controller: &'static str,
    /// Whether `spec.selector` is the labels themselves, as it was before
    /// selectors had operators.
    pub(super) selects_by_map: bool,
    /// Whether the status counts pods on their way out.
    pub(super) counts_terminating: bool,
}

pub(super) static REPLICA_SET: Row = Row {
    resource: REPLICA_SETS,
    api_version: "apps/v1",
    kind: "ReplicaSet",
    controller: "replicaset-controller",
    selects_by_map: false,
    counts_terminating: true,
};

pub(super) static REPLICATION_CONTROLLER: Row = Row {
    resource: REPLICATION_CONTROLLERS,
    api_version: "v1",
    kind: "ReplicationController",
    controller: "replication-controller",
    selects_by_map: true,
    counts_terminating: false,
};

impl Row {
    /// The selector in a spec.
    pub(super) fn selector(&self, selector: &Value) -> Result<LabelSelector, SelectorError> {
        match self.selects_by_map {
            true => LabelSelector::from_object(&json!({"matchLabels": selector})),
            false => LabelSelector::from_object(selector),
        }
    }
}

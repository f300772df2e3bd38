//! What the DaemonSet controller sees.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use api_object::LabelSelector;
use client::{Cached, Informer};
use jiff::Timestamp;
use serde_json::Value;

use super::fit::Fit;
use crate::{
    cached::{ControllerRevision, DaemonSet, Node, Pod},
    owner,
};

/// One DaemonSet and what concerns it, at one moment.
#[derive(Debug)]
pub(super) struct View {
    pub(super) set: Arc<Cached<DaemonSet>>,
    pub(super) selector: LabelSelector,
    pub(super) template: Value,
    pub(super) fit: Fit,
    /// By name.
    pub(super) nodes: Vec<Arc<Cached<Node>>>,
    /// Its own, and those without a controller in its namespace.
    pub(super) pods: Vec<Arc<Cached<Pod>>>,
    /// Its own, and those without a controller in its namespace.
    pub(super) revisions: Vec<Arc<Cached<ControllerRevision>>>,
    /// Uids of pods whose deletion was asked for, though the cache may not
    /// show it yet.
    pub(super) deleted: BTreeSet<String>,
    /// Nodes on which its pods failed, and how long the next has to wait.
    pub(super) waiting: BTreeMap<String, Duration>,
    pub(super) now: Timestamp,
}

/// What is seen beside the objects.
pub(super) struct Remembered {
    pub(super) deleted: BTreeSet<String>,
    pub(super) waiting: BTreeMap<String, Duration>,
    pub(super) now: Timestamp,
}

pub(super) fn view(
    set: Arc<Cached<DaemonSet>>,
    nodes: &Informer<Node>,
    pods: &Informer<Pod>,
    revisions: &Informer<ControllerRevision>,
    remembered: Remembered,
) -> Result<View, client::ReconcileError> {
    let selector = LabelSelector::from_object(&set.view.spec.selector)?;
    let template = set.view.spec.template.value();
    let Remembered { deleted, waiting, now } = remembered;
    Ok(View {
        selector,
        fit: Fit::of(&template)?,
        template,
        nodes: nodes.list(),
        pods: owner::claimable(&set.meta, pods),
        revisions: owner::claimable(&set.meta, revisions),
        set,
        deleted,
        waiting,
        now,
    })
}

//! What the Deployment controller sees.

use std::{collections::BTreeMap, sync::Arc};

use api_object::{LabelSelector, selector::SelectorError};
use client::{Cached, Informer};
use jiff::Timestamp;
use serde_json::Value;

use crate::cached::{BY_CONTROLLER, Deployment, Pod, ReplicaSet};

/// The label that tells the pods and ReplicaSets of one template from others.
pub(super) const HASH_LABEL: &str = "pod-template-hash";

/// One Deployment and the ReplicaSets that concern it, at one moment.
#[derive(Debug)]
pub(super) struct View {
    pub(super) deployment: Arc<Cached<Deployment>>,
    pub(super) selector: LabelSelector,
    pub(super) template: Value,
    /// Its own, and those without a controller in its namespace.
    pub(super) sets: Vec<Seen>,
    pub(super) now: Timestamp,
}

/// A ReplicaSet, and what of it is not in its status.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) set: Arc<Cached<ReplicaSet>>,
    /// Whether its pods are those of the Deployment's present template.
    pub(super) is_of_template: bool,
    /// Pods that have not ended, those being deleted among them.
    pub(super) live_pods: usize,
}

pub(super) fn view(
    deployment: Arc<Cached<Deployment>>,
    sets: &Informer<ReplicaSet>,
    pods: &Informer<Pod>,
    now: Timestamp,
) -> Result<View, SelectorError> {
    let selector = LabelSelector::from_object(&deployment.view.spec.selector)?;
    let template = deployment.view.spec.template.value();
    let mut all = sets.by_index(BY_CONTROLLER, &deployment.meta.uid);
    let orphans = sets.by_index(BY_CONTROLLER, "");
    all.extend(orphans.into_iter().filter(|set| set.meta.namespace == deployment.meta.namespace));
    let live: BTreeMap<String, usize> = all
        .iter()
        .map(|set| {
            let pods = pods.by_index(BY_CONTROLLER, &set.meta.uid);
            let live = pods.iter().filter(|pod| !pod.view.is_terminal()).count();
            (set.meta.uid.clone(), live)
        })
        .collect();
    let sets = all
        .into_iter()
        .map(|set| Seen {
            is_of_template: same_template(&template, set.view.spec.template.value()),
            live_pods: live.get(&set.meta.uid).copied().unwrap_or(0),
            set,
        })
        .collect();
    Ok(View { deployment, selector, template, sets, now })
}

/// Whether a ReplicaSet's template is the Deployment's, but for the hash.
pub(super) fn same_template(template: &Value, mut of_set: Value) -> bool {
    if let Some(labels) = of_set["metadata"]["labels"].as_object_mut() {
        labels.remove(HASH_LABEL);
    }
    *template == of_set
}

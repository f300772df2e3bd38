//! What the StatefulSet controller sees.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use api_object::{LabelSelector, selector::SelectorError};
use client::{Cached, Informer, MetaOnly};
use jiff::Timestamp;
use serde_json::Value;

use super::{claims, pod};
use crate::{
    cached::{ControllerRevision, Pod, StatefulSet},
    owner,
};

/// One StatefulSet and what concerns it, at one moment.
#[derive(Debug)]
pub(super) struct View {
    pub(super) set: Arc<Cached<StatefulSet>>,
    pub(super) selector: LabelSelector,
    pub(super) template: Value,
    pub(super) claim_templates: Vec<Value>,
    /// Its own, and those without a controller in its namespace.
    pub(super) pods: Vec<Arc<Cached<Pod>>>,
    /// Its own, and those without a controller in its namespace.
    pub(super) revisions: Vec<Arc<Cached<ControllerRevision>>>,
    /// The claims that its pods name, as far as they are there.
    pub(super) claims: BTreeMap<String, Arc<Cached<MetaOnly>>>,
    /// Uids of pods whose deletion was asked for, though the cache may not
    /// show it yet.
    pub(super) deleted: BTreeSet<String>,
    pub(super) now: Timestamp,
}

pub(super) fn view(
    set: Arc<Cached<StatefulSet>>,
    pods: &Informer<Pod>,
    revisions: &Informer<ControllerRevision>,
    claims: &Informer<MetaOnly>,
    deleted: BTreeSet<String>,
    now: Timestamp,
) -> Result<View, SelectorError> {
    let selector = LabelSelector::from_object(&set.view.spec.selector)?;
    let claim_templates = match set.view.spec.volume_claim_templates.value() {
        Value::Array(templates) => templates,
        _ => Vec::new(),
    };
    let pods = owner::claimable(&set.meta, pods);
    let mut named = BTreeMap::new();
    if !claim_templates.is_empty() {
        let present = pods.iter().filter_map(|pod| pod::ordinal(&set.meta.name, &pod.meta.name));
        let ordinals: BTreeSet<i64> = pod::range(&set.view.spec).chain(present).collect();
        for ordinal in ordinals {
            for template in &claim_templates {
                let name = claims::name(&set.meta, template, ordinal);
                if let Some(claim) = claims.get(&format!("{}/{name}", set.meta.namespace)) {
                    named.insert(name, claim);
                }
            }
        }
    }
    Ok(View {
        selector,
        template: set.view.spec.template.value(),
        claim_templates,
        revisions: owner::claimable(&set.meta, revisions),
        claims: named,
        set,
        pods,
        deleted,
        now,
    })
}

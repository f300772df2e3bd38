//! What the Job controller sees.

use std::{collections::BTreeSet, sync::Arc};

use api_object::{LabelSelector, selector::SelectorError};
use client::{Cached, Informer};
use jiff::Timestamp;
use serde_json::Value;

use super::backoff::Failures;
use crate::cached::{BY_CONTROLLER, Job, Pod};

/// One Job and the pods that concern it, at one moment.
#[derive(Debug)]
pub(super) struct View {
    pub(super) job: Arc<Cached<Job>>,
    pub(super) selector: LabelSelector,
    pub(super) template: Value,
    /// Its own pods, and those without a controller in its namespace.
    pub(super) pods: Vec<Arc<Cached<Pod>>>,
    /// Uids of pods whose deletion was asked for, though the cache may not
    /// show it yet.
    pub(super) deleted: BTreeSet<String>,
    /// The failures counted so far; absent after a restart.
    pub(super) failures: Option<Failures>,
    pub(super) now: Timestamp,
}

pub(super) fn view(
    job: Arc<Cached<Job>>,
    pods: &Informer<Pod>,
    deleted: BTreeSet<String>,
    failures: Option<Failures>,
    now: Timestamp,
) -> Result<View, SelectorError> {
    let selector = LabelSelector::from_object(&job.view.spec.selector)?;
    let template = job.view.spec.template.value();
    let mut all = pods.by_index(BY_CONTROLLER, &job.meta.uid);
    let orphans = pods.by_index(BY_CONTROLLER, "");
    all.extend(orphans.into_iter().filter(|pod| pod.meta.namespace == job.meta.namespace));
    Ok(View { job, selector, template, pods: all, deleted, failures, now })
}

//! What the Job controller sees.

use std::{collections::BTreeSet, sync::Arc};

use api_object::{LabelSelector, Object, selector::SelectorError};
use client::{Cached, Informer};
use jiff::Timestamp;
use serde_json::Value;

use super::{backoff::Failures, pods::PodRef, verdict::Verdict};
use crate::cached::{BY_CONTROLLER, Job, Pod};

/// One Job and the pods that concern it, at one moment.
#[derive(Debug)]
pub(super) struct View {
    pub(super) job: Arc<Cached<Job>>,
    pub(super) selector: LabelSelector,
    pub(super) template: Value,
    /// Its own pods, and those without a controller in its namespace.
    pub(super) pods: Vec<PodRef>,
    /// Uids of pods whose deletion was asked for here, though the cache may not
    /// show it yet.
    pub(super) deleted: BTreeSet<String>,
    /// The failures counted so far; absent after a restart.
    pub(super) failures: Option<Failures>,
    /// How the Job ends, where that was decided in this pass already.
    pub(super) decided: Option<Verdict>,
    pub(super) now: Timestamp,
}

impl View {
    /// The same after pods were deleted since the Job ends so. What the deletions made of
    /// them is newer than any cache: it tells whether a pod had ended before.
    ///
    /// # Errors
    /// Where what was answered is no pod.
    pub(super) fn once_ended(
        mut self,
        verdict: Option<Verdict>,
        left: Vec<Object>,
    ) -> Result<Self, serde_json::Error> {
        for pod in left {
            let pod = Arc::new(Cached::<Pod>::read(pod, false)?);
            self.pods.retain(|known| known.meta.uid != pod.meta.uid);
            // Nothing held the others, and they are gone.
            if pod.meta.deletion_timestamp.is_some() {
                self.deleted.insert(pod.meta.uid.clone());
                self.pods.push(pod);
            }
        }
        self.decided = verdict;
        Ok(self)
    }
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
    Ok(View { job, selector, template, pods: all, deleted, failures, decided: None, now })
}

//! Lets go of pods that carry the Job finalizer and whose Job will never count
//! them: it is gone, or has finished.

use std::sync::Arc;

use client::{Api, Cached, Error, Informer, Outcome, PatchKind, WorkQueue, reconcile_loop};

use super::{
    act::{is_ours, without_finalizer},
    pods::is_tracked,
};
use crate::{
    cached::{BY_CONTROLLER, JOBS, Job, PODS, Pod},
    owner,
};

/// Its keys are pods.
pub(super) struct Orphans {
    api: Api,
    jobs: Informer<Job>,
    pods: Informer<Pod>,
    queue: Arc<WorkQueue<String>>,
}

impl Orphans {
    /// Follows caches that are complete: what is not there is not.
    pub(super) fn new(api: &Api, jobs: &Informer<Job>, pods: &Informer<Pod>) -> Self {
        let (queue, api) = (Arc::new(WorkQueue::default()), api.clone());
        let (keys, seen) = (queue.clone(), jobs.clone());
        pods.on_change(move |change| {
            if let Some(pod) = change.new.as_ref().filter(|pod| is_orphan(pod, &seen)) {
                keys.add(pod.key());
            }
        });
        let (keys, seen) = (queue.clone(), pods.clone());
        jobs.on_change(move |change| {
            let lives = change.new.as_ref().is_some_and(|job| job.view.finished().is_none());
            if lives {
                return;
            }
            let job = &change.object().meta;
            let mut pods = seen.by_index(BY_CONTROLLER, &job.uid);
            let loose = seen.by_index(BY_CONTROLLER, "");
            pods.extend(loose.into_iter().filter(|pod| pod.meta.namespace == job.namespace));
            pods.iter().filter(|pod| is_tracked(pod)).for_each(|pod| keys.add(pod.key()));
        });
        Self { api, jobs: jobs.clone(), pods: pods.clone(), queue }
    }

    pub(super) async fn run(self) {
        let queue = self.queue.clone();
        let controller = Arc::new(self);
        reconcile_loop("job-orphans", queue, 1, move |key| {
            let controller = controller.clone();
            async move { controller.reconcile(&key).await }
        })
        .await;
    }

    async fn reconcile(&self, key: &str) -> Outcome {
        let Some(pod) = self.pods.get(key).filter(|pod| is_orphan(pod, &self.jobs)) else {
            return Ok(None);
        };
        if let Some(owner) = pod.meta.controller() {
            // The cache may not know the Job yet.
            match self.api.get(JOBS, &pod.meta.namespace, &owner.name).await {
                Ok(job)
                    if job.meta.uid == owner.uid && self.jobs.get(&job.meta.key()).is_none() =>
                {
                    return Ok(None);
                }
                Err(error) if !error.is_not_found() => return Err(error.into()),
                _ => {}
            }
        }
        let (namespace, name) = (&pod.meta.namespace, &pod.meta.name);
        let patch = without_finalizer(&pod);
        let patched = self.api.patch(PODS, namespace, name, "", PatchKind::Strategic, &patch).await;
        match patched {
            Err(error) if !gone(&error) => Err(error.into()),
            _ => Ok(None),
        }
    }
}

fn gone(error: &Error) -> bool {
    error.is_not_found() || error.is_conflict()
}

/// Whether nobody is there to count the pod.
fn is_orphan(pod: &Cached<Pod>, jobs: &Informer<Job>) -> bool {
    if !is_tracked(pod) {
        return false;
    }
    match pod.meta.controller() {
        Some(owner) if owner.kind == "Job" => {
            let job = jobs.get(&format!("{}/{}", pod.meta.namespace, owner.name));
            job.filter(|job| job.meta.uid == owner.uid)
                .is_none_or(|job| is_ours(&job.view) && job.view.finished().is_some())
        }
        Some(_) => true,
        // Whoever selects it adopts it.
        None => !jobs.list_namespace(&pod.meta.namespace).iter().any(|job| {
            job.view.finished().is_none()
                && job.meta.deletion_timestamp.is_none()
                && owner::selects(&job.view.spec.selector, &pod.meta.labels)
        }),
    }
}

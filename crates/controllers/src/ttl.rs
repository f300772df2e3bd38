//! TTL after finished: deletes Jobs some time after they have ended.

use std::{sync::Arc, time::Duration};

use api_object::time;
use client::{Api, Cached, DeleteOptions, Informer, Outcome, reconcile_loop};
use jiff::{SignedDuration, Timestamp};

use crate::{
    Context,
    cached::{self, JOBS, Job},
};

struct Expiry {
    api: Api,
    jobs: Informer<Job>,
    context: Context,
}

/// The controller. Never returns.
pub(crate) async fn run(context: Context) {
    let controller = Arc::new(Expiry {
        api: context.api.clone(),
        jobs: cached::jobs(&context.informers),
        context,
    });
    let queue = controller.context.queue();
    let keys = queue.clone();
    controller.jobs.on_change(move |change| {
        if let Some(job) = change.new.as_ref().filter(|job| expires_at(job).is_some()) {
            keys.add(job.key());
        }
    });
    controller.jobs.wait_synced().await;
    reconcile_loop("ttl-after-finished", queue, 1, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    })
    .await;
}

/// When a Job is to be deleted; `None` where it has not ended, is to stay, or
/// goes already.
fn expires_at(job: &Cached<Job>) -> Option<Timestamp> {
    let seconds = job.view.spec.ttl_seconds_after_finished?;
    let ended = job.view.finished()?.last_transition_time.as_deref().and_then(time::parse)?;
    let stays = job.meta.deletion_timestamp.is_none();
    ended.checked_add(SignedDuration::from_secs(seconds)).ok().filter(|_| stays)
}

impl Expiry {
    async fn reconcile(&self, key: &str) -> Outcome {
        let Some(job) = self.jobs.get(key) else { return Ok(None) };
        let Some(wait) = self.wait(&job) else { return Ok(None) };
        if !wait.is_zero() {
            return Ok(Some(wait));
        }
        // The time may have been made longer since.
        let (namespace, name) = (&job.meta.namespace, &job.meta.name);
        let fresh = match self.api.get(JOBS, namespace, name).await {
            Ok(fresh) => Cached::<Job>::read(fresh, false)?,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        match self.wait(&fresh) {
            Some(Duration::ZERO) if fresh.meta.uid == job.meta.uid => {}
            // The change is on its way to the cache.
            _ => return Ok(None),
        }
        let options = DeleteOptions {
            propagation_policy: Some("Foreground"),
            ..DeleteOptions::uid(&job.meta.uid)
        };
        match self.api.delete(JOBS, namespace, name, &options).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error.into()),
            _ => Ok(None),
        }
    }

    fn wait(&self, job: &Cached<Job>) -> Option<Duration> {
        let left = expires_at(job)?.duration_since(self.context.ambient.now());
        Some(Duration::try_from(left).unwrap_or(Duration::ZERO))
    }
}

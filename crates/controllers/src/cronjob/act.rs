//! Carries out CronJob plans.

use std::{collections::BTreeSet, sync::Arc};

use api_object::{Object, time};
use client::{
    Api, Cached, DeleteOptions, Error, Informer, Outcome, OwnWrites, Recorder, Reference,
    Selection, reconcile_loop,
};
use serde_json::{Value, json};

use super::{
    plan::{NewJob, plan},
    view::{ActiveJob, CronJob, CronJobStatus, View},
};
use crate::{
    Context,
    cached::{self, BY_CONTROLLER, CRON_JOBS, JOBS, Job},
    deletions::Deletions,
    owner, status,
};

const WORKERS: usize = 2;

struct CronJobs {
    api: Api,
    crons: Informer<CronJob>,
    jobs: Informer<Job>,
    recorder: Recorder,
    context: Context,
    writes: OwnWrites,
    job_writes: OwnWrites,
    deletions: Deletions,
}

/// The controller. Never returns.
pub(crate) async fn run(context: Context) {
    let controller = Arc::new(CronJobs {
        api: context.api.clone(),
        crons: context.informers.get(Selection::all(CRON_JOBS)),
        jobs: cached::jobs(&context.informers),
        recorder: context.recorder("cronjob-controller"),
        context,
        writes: OwnWrites::default(),
        job_writes: OwnWrites::default(),
        deletions: Deletions::default(),
    });
    let queue = controller.context.queue();
    let keys = queue.clone();
    controller.crons.on_change(move |change| keys.add(change.object().key()));
    let keys = queue.clone();
    controller.jobs.on_change(move |change| {
        // Only its end, its coming and its going concern a CronJob.
        let finished =
            |job: &Option<Arc<Cached<Job>>>| job.as_ref().map(|job| job.view.finished().is_some());
        if finished(&change.old) != finished(&change.new) {
            owner::queue_controller(&keys, "CronJob", &change.object().meta);
        }
    });
    controller.crons.wait_synced().await;
    controller.jobs.wait_synced().await;
    reconcile_loop("cronjob", queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    })
    .await;
}

impl CronJobs {
    async fn reconcile(&self, key: &str) -> Outcome {
        self.writes.settle(key, &self.crons).await?;
        self.job_writes.settle(key, &self.jobs).await?;
        let Some(cron) = self.crons.get(key) else {
            self.deletions.forget(key);
            return Ok(None);
        };
        let jobs = self.jobs.by_index(BY_CONTROLLER, &cron.meta.uid);
        let view = View {
            missing: self.missing(&cron, &jobs).await?,
            deleted: self.deletions.unseen(key, &self.jobs),
            local: self.context.settings.time_zone.clone(),
            now: self.context.ambient.now(),
            cron: cron.clone(),
            jobs,
        };
        let mut plan = plan(&view);
        for (severity, reason, message) in &plan.events {
            self.recorder.event(&reference(&cron), *severity, reason, message);
        }
        for job in &plan.forget {
            self.delete(&cron, &job.meta.uid, &job.meta.name).await?;
            self.deletions.record(key, job);
        }
        for (uid, name) in &plan.replace {
            self.delete(&cron, uid, name).await?;
        }
        let mut failed = None;
        if let Some(new) = &plan.create {
            match self.create(&cron, new).await {
                Ok(Some(job)) => {
                    plan.status.active.push(active(&job));
                    plan.status.last_schedule_time = Some(time::format_seconds(new.at));
                }
                // Somebody else's Job has the name; the moment has passed.
                Ok(None) => {}
                Err(error) if owner::namespace_terminates(&error) => return Ok(None),
                Err(error) => failed = Some(error),
            }
        }
        self.write_status(&cron, &plan.status).await?;
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(plan.look_again),
        }
    }

    /// Active Jobs that are not there. The cache may be behind, so the server
    /// is asked.
    async fn missing(
        &self,
        cron: &Cached<CronJob>,
        jobs: &[Arc<Cached<Job>>],
    ) -> Result<BTreeSet<String>, Error> {
        let mut missing = BTreeSet::new();
        for active in &cron.view.status.active {
            if jobs.iter().any(|job| job.meta.uid == active.uid) {
                continue;
            }
            match self.api.get(JOBS, &cron.meta.namespace, &active.name).await {
                Ok(job) if job.meta.uid == active.uid => {}
                Err(error) if !error.is_not_found() => return Err(error),
                _ => drop(missing.insert(active.uid.clone())),
            }
        }
        Ok(missing)
    }

    async fn delete(&self, cron: &Cached<CronJob>, uid: &str, name: &str) -> Result<(), Error> {
        let options =
            DeleteOptions { propagation_policy: Some("Background"), ..DeleteOptions::uid(uid) };
        match self.api.delete(JOBS, &cron.meta.namespace, name, &options).await {
            Ok(()) => {
                let message = format!("Deleted job {name}");
                self.recorder.normal(&reference(cron), "SuccessfulDelete", message);
                Ok(())
            }
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
            Err(error) => {
                let message = format!("Deleted job: {error}");
                self.recorder.warning(&reference(cron), "FailedDelete", message);
                Err(error)
            }
        }
    }

    /// The Job of a moment: made now, or made before and not yet told of.
    async fn create(&self, cron: &Cached<CronJob>, new: &NewJob) -> Result<Option<Object>, Error> {
        let namespace = &cron.meta.namespace;
        match self.api.create(JOBS, namespace, &job(cron, new)).await {
            Ok(job) => {
                self.job_writes.record(&cron.key(), &job);
                let message = format!("Created job {}", new.name);
                self.recorder.normal(&reference(cron), "SuccessfulCreate", message);
                Ok(Some(job))
            }
            Err(error) if error.is_conflict() => {
                let job = self.api.get(JOBS, namespace, &new.name).await?;
                let is_ours = job.meta.controller().is_some_and(|o| o.uid == cron.meta.uid);
                Ok(is_ours.then_some(job))
            }
            Err(error) => {
                if !owner::namespace_terminates(&error) {
                    let message = format!("Error creating job: {error}");
                    self.recorder.warning(&reference(cron), "FailedCreate", message);
                }
                Err(error)
            }
        }
    }

    async fn write_status(
        &self,
        cron: &Cached<CronJob>,
        status: &CronJobStatus,
    ) -> Result<(), Error> {
        if *status == cron.view.status {
            return Ok(());
        }
        let one = |job: &ActiveJob| {
            json!({
                "apiVersion": "batch/v1",
                "kind": "Job",
                "name": job.name,
                "namespace": job.namespace,
                "uid": job.uid,
                "resourceVersion": job.resource_version,
            })
        };
        let active: Vec<Value> = status.active.iter().map(one).collect();
        let patch = json!({
            "metadata": {"uid": cron.meta.uid, "resourceVersion": cron.meta.resource_version},
            "status": {
                "active": if active.is_empty() { Value::Null } else { json!(active) },
                "lastScheduleTime": status.last_schedule_time,
                "lastSuccessfulTime": status.last_successful_time,
            },
        });
        status::write(&self.api, &self.writes, CRON_JOBS, &cron.meta, &patch).await
    }
}

/// The Job of a CronJob's template.
fn job(cron: &Cached<CronJob>, new: &NewJob) -> Value {
    let template = cron.view.spec.job_template.value();
    let mut metadata = json!({
        "name": new.name,
        "namespace": cron.meta.namespace,
        "ownerReferences": [owner::reference("batch/v1", "CronJob", &cron.meta)],
    });
    for field in ["labels", "annotations"] {
        if template["metadata"][field].is_object() {
            metadata[field] = template["metadata"][field].clone();
        }
    }
    metadata["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"] =
        json!(new.annotation);
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": template["spec"]})
}

fn active(job: &Object) -> ActiveJob {
    ActiveJob {
        name: job.meta.name.clone(),
        namespace: job.meta.namespace.clone(),
        uid: job.meta.uid.clone(),
        resource_version: job.meta.resource_version.clone(),
    }
}

fn reference(cron: &Cached<CronJob>) -> Reference {
    Reference::new("batch/v1", "CronJob", &cron.meta)
}

//! Carries out Job plans.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use api_object::Object;
use client::{
    Api, Cached, Error, Informer, ListOptions, Outcome, OwnWrites, PatchKind, Recorder, Reference,
    WorkQueue, reconcile_loop,
};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{
    backoff::Failures,
    orphans::Orphans,
    plan::{self, NewPod},
    pods::{FINALIZER, INDEX, INDEX_FAILURES, INDEX_IGNORED, PodRef, is_tracked},
    view::view,
};
use crate::{
    Context,
    cached::{self, JOBS, Job, JobStatus, PODS, Pod},
    owner,
    pods::{PodOwner, Pods, Refused, has_finalizer, stale},
    status::{conditions_json, count},
};

const WORKERS: usize = 4;
/// Who looks after Jobs that say nothing in `managedBy`.
const MANAGER: &str = "kubernetes.io/job-controller";
/// What Kubernetes generates names from is no longer than this.
const GENERATE_NAME_LEN_MAX: usize = 58;

struct Jobs {
    api: Api,
    jobs: Informer<Job>,
    pods: Pods,
    recorder: Recorder,
    context: Context,
    job_writes: OwnWrites,
    /// By key; with the uid, since a new Job may have an old one's name.
    failures: Mutex<BTreeMap<String, (String, Failures)>>,
}

/// The controller. Never returns.
pub(crate) async fn run(context: Context) {
    let recorder = context.recorder("job-controller");
    let controller = Arc::new(Jobs {
        api: context.api.clone(),
        jobs: cached::jobs(&context.informers),
        pods: Pods::new(&context, recorder.clone()),
        recorder,
        context,
        job_writes: OwnWrites::default(),
        failures: Mutex::default(),
    });
    let queue = controller.context.queue();
    controller.watch(&queue);
    controller.jobs.wait_synced().await;
    let pods = &controller.pods.informer;
    pods.wait_synced().await;
    let orphans = Orphans::new(&controller.api, &controller.jobs, pods);
    let jobs = reconcile_loop("job", queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
    tokio::join!(jobs, orphans.run());
}

/// Whether this controller looks after a Job.
pub(super) fn is_ours(job: &Job) -> bool {
    matches!(job.spec.managed_by.as_str(), "" | MANAGER)
}

/// The patch that takes the finalizer away and leaves others alone.
pub(super) fn without_finalizer(pod: &Cached<Pod>) -> Value {
    json!({"metadata": {
        "uid": pod.meta.uid,
        "$deleteFromPrimitiveList/finalizers": [FINALIZER],
    }})
}

impl Jobs {
    fn watch(&self, queue: &Arc<WorkQueue<String>>) {
        let keys = queue.clone();
        self.jobs.on_change(move |change| keys.add(change.object().key()));
        let pods = &self.pods.informer;
        owner::follow(pods, queue, "Job", &self.jobs, |owner| &owner.spec.selector);
    }

    async fn reconcile(&self, key: &str) -> Outcome {
        self.job_writes.settle(key, &self.jobs).await?;
        self.pods.settle(key).await?;
        let job = self.jobs.get(key);
        let Some(job) = job.filter(|job| is_ours(&job.view) && job.view.finished().is_none())
        else {
            self.pods.forget(key);
            self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
            return Ok(None);
        };
        let (deleted, failures) = (self.pods.deleted(key), self.failures(key, &job));
        let now = self.context.ambient.now();
        let mut view = view(job.clone(), &self.pods.informer, deleted, failures, now)?;
        let mut plan = plan::plan(&view);
        let by = pod_owner(&job);
        self.check_pods(&job, &plan.let_go).await?;
        self.pods.claim(&by, &plan.pods, Some(FINALIZER)).await?;
        // Without its finalizer a pod does not count.
        let tracked = plan.discard.iter().filter(|pod| is_tracked(pod)).cloned();
        self.let_go(key, &tracked.collect::<Vec<PodRef>>()).await?;
        self.pods.delete_all(&by, &plan.discard).await?;
        if !plan.end.is_empty() {
            let left = self.pods.delete_all(&by, &plan.end).await?;
            view = view.once_ended(plan.verdict, left)?;
            plan = plan::plan(&view);
        }
        let new = plan.create.iter().map(|new| pod(&job, &view.template, new));
        let created = self.pods.create_all(&by, &new.collect::<Vec<Value>>()).await;
        if let Err(refused) = &created {
            plan.status.active -= i32::try_from(refused.missing).unwrap_or(i32::MAX);
        }
        self.write_status(&job, &plan.status).await?;
        for (severity, reason, message) in &plan.events {
            self.recorder.event(&reference(&job), *severity, reason, message);
        }
        let known = (job.meta.uid.clone(), plan.failures);
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned(), known);
        self.let_go(key, &plan.let_go).await?;
        created.or_else(Refused::retried)?;
        Ok(plan.look_again)
    }

    fn failures(&self, key: &str, job: &Cached<Job>) -> Option<Failures> {
        let all = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(key).filter(|(uid, _)| *uid == job.meta.uid).map(|(_, failures)| *failures)
    }

    /// Whether pods about to be counted still are uncounted. The cache of pods
    /// may be older than the Job's status, in which they may be counted already:
    /// after a change of leader, or a watch that broke.
    async fn check_pods(&self, job: &Cached<Job>, pods: &[PodRef]) -> Result<(), Error> {
        if self.pods.informer.revision() >= job.revision() {
            return Ok(());
        }
        let uncounted = job.view.status.uncounted_terminated_pods.clone().unwrap_or_default();
        let is_known = |pod: &&PodRef| {
            uncounted.succeeded.contains(&pod.meta.uid) || uncounted.failed.contains(&pod.meta.uid)
        };
        let checks = pods.iter().filter(|pod| !is_known(pod)).map(async |pod| {
            // A list of one, since upstream's role may list pods and not get them.
            let options = ListOptions {
                field_selector: format!("metadata.name={}", pod.meta.name),
                ..ListOptions::default()
            };
            let fresh = self.api.list(PODS, &pod.meta.namespace, &options).await?;
            let fresh = fresh.items.into_iter().next().and_then(|pod| Object::parse(pod).ok());
            let is_it = fresh.is_some_and(|fresh| {
                fresh.meta.uid == pod.meta.uid && has_finalizer(&fresh.meta, FINALIZER)
            });
            if is_it { Ok(()) } else { Err(stale(PODS, &pod.meta)) }
        });
        join_all(checks).await.into_iter().collect()
    }

    async fn let_go(&self, key: &str, pods: &[PodRef]) -> Result<(), Error> {
        let patches = pods.iter().map(async |pod| {
            let patch = without_finalizer(pod);
            match self.pods.patch(key, &pod.meta, PatchKind::Strategic, &patch).await {
                // Another pod has its name by now.
                Err(error) if error.is_conflict() => Ok(()),
                result => result,
            }
        });
        join_all(patches).await.into_iter().collect()
    }

    /// Names the version that was seen, since counters are no merge.
    async fn write_status(&self, job: &Cached<Job>, status: &JobStatus) -> Result<(), Error> {
        if *status == job.view.status {
            return Ok(());
        }
        let text = |text: &str| if text.is_empty() { Value::Null } else { json!(text) };
        let list = |uids: &[String]| if uids.is_empty() { Value::Null } else { json!(uids) };
        let uncounted = status
            .uncounted_terminated_pods
            .as_ref()
            .map(|pods| json!({"succeeded": list(&pods.succeeded), "failed": list(&pods.failed)}));
        let patch = json!({
            "metadata": {"uid": job.meta.uid, "resourceVersion": job.meta.resource_version},
            "status": {
                "conditions": conditions_json(&status.conditions),
                "startTime": status.start_time,
                "completionTime": status.completion_time,
                "active": count(status.active),
                "succeeded": count(status.succeeded),
                "failed": count(status.failed),
                "ready": status.ready,
                "terminating": status.terminating,
                "completedIndexes": text(&status.completed_indexes),
                "failedIndexes": status.failed_indexes,
                "uncountedTerminatedPods": uncounted,
            },
        });
        let (namespace, name) = (&job.meta.namespace, &job.meta.name);
        let kind = PatchKind::Merge;
        match self.api.patch(JOBS, namespace, name, "status", kind, &patch).await {
            Ok(written) => {
                self.job_writes.record(&job.key(), &written);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// The pod of a Job's template.
fn pod(job: &Cached<Job>, template: &Value, new: &NewPod) -> Value {
    let mut pod = owner::pod_from_template("batch/v1", "Job", &job.meta, template);
    let finalizers = &mut pod["metadata"]["finalizers"];
    match finalizers.as_array_mut() {
        Some(list) if list.contains(&json!(FINALIZER)) => {}
        Some(list) => list.push(json!(FINALIZER)),
        None => *finalizers = json!([FINALIZER]),
    }
    let Some(index) = new.index else { return pod };
    let index = index.to_string();
    pod["metadata"]["annotations"][INDEX] = json!(index);
    pod["metadata"]["labels"][INDEX] = json!(index);
    if let Some((failures, ignored)) = new.failures {
        pod["metadata"]["annotations"][INDEX_FAILURES] = json!(failures.to_string());
        if ignored > 0 {
            pod["metadata"]["annotations"][INDEX_IGNORED] = json!(ignored.to_string());
        }
    }
    let name = &job.meta.name;
    pod["spec"]["hostname"] = json!(format!("{name}-{index}"));
    let mut prefix = name.clone();
    prefix.truncate(GENERATE_NAME_LEN_MAX.saturating_sub(index.len() + 2));
    pod["metadata"]["generateName"] = json!(format!("{prefix}-{index}-"));
    for list in ["containers", "initContainers"] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            add_index_variable(container);
        }
    }
    pod
}

/// Tells a container its index, unless it has a variable of that name.
fn add_index_variable(container: &mut Value) {
    const NAME: &str = "JOB_COMPLETION_INDEX";
    let field = format!("metadata.labels['{INDEX}']");
    let variable = json!({"name": NAME, "valueFrom": {"fieldRef": {"fieldPath": field}}});
    match container["env"].as_array_mut() {
        Some(list) if list.iter().any(|known| known["name"] == NAME) => {}
        Some(list) => list.push(variable),
        None => container["env"] = json!([variable]),
    }
}

fn pod_owner(job: &Cached<Job>) -> PodOwner<'_> {
    PodOwner { resource: JOBS, api_version: "batch/v1", kind: "Job", meta: &job.meta }
}

fn reference(job: &Cached<Job>) -> Reference {
    Reference::new("batch/v1", "Job", &job.meta)
}

//! The loop: caches in, bindings out.

use std::{
    collections::BTreeSet,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use api_object::time;
use client::{
    Ambient, Api, Backoff, Cached, DeleteOptions, Error, Informer, PatchKind, Recorder, Reference,
    Severity, SharedInformers,
};
use serde_json::{Value, json};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::{
    Binds, Cluster, Configuration, Decision, Happening, Pod, Preemption, Profile, Unschedulable,
    decide,
    pod::Condition,
    queue::Queue,
    watching::{Informers, PODS},
};

/// How many decisions are being written at once; further ones wait for them.
const WRITES_MAX: usize = 64;

/// Schedules pods until `shutdown`. The server calls this while it leads.
pub async fn run(
    api: Api,
    ambient: Ambient,
    configuration: Configuration,
    shutdown: impl Future<Output = ()>,
) {
    let api = api.named("kube-scheduler");
    let informers = Informers::new(SharedInformers::new(api.clone(), ambient.clone()));
    let recorder = |profile: &Profile| {
        {
            // Upstream's name of itself, of which others may be running.
            let instance = match configuration.host.as_str() {
                "" => profile.name.clone(),
                host => format!("{}-{host}", profile.name),
            };
            let recorder = Recorder::new(api.clone(), &profile.name, &instance, ambient.clone());
            (profile.name.clone(), recorder)
        }
    };
    let backoff = Backoff { base: configuration.backoff_initial, cap: configuration.backoff_max };
    let scheduler = Arc::new(Scheduler {
        recorders: configuration.profiles.iter().map(recorder).collect(),
        pods: informers.pods.clone(),
        shared: Mutex::new(Shared { cluster: Cluster::default(), queue: Queue::new(backoff) }),
        api,
        ambient,
        configuration,
        wake: Notify::new(),
        storage: watch::Sender::default(),
        writes: Arc::new(Semaphore::new(WRITES_MAX)),
    });
    tokio::select! {
        biased;
        () = shutdown => {}
        () = async {
            informers.follow(&scheduler).await;
            scheduler.run().await;
        } => {}
    }
}

#[derive(Debug)]
pub(crate) struct Scheduler {
    pub(crate) api: Api,
    ambient: Ambient,
    configuration: Configuration,
    /// By profile.
    recorders: Vec<(String, Recorder)>,
    pods: Informer<Pod>,
    shared: Mutex<Shared>,
    wake: Notify,
    /// Rises with every change of storage, for those who wait for volumes.
    pub(crate) storage: watch::Sender<u64>,
    pub(crate) writes: Arc<Semaphore>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) cluster: Cluster,
    queue: Queue,
}

impl Shared {
    pub(crate) fn happened(&mut self, what: &[Happening], now: Instant) {
        self.queue.happened(what, &self.cluster, now);
    }
}

/// What is to be written.
enum Step {
    Gated(Arc<Cached<Pod>>),
    Bind { pod: Arc<Cached<Pod>>, node: String, binds: Binds },
    Failed(Arc<Cached<Pod>>, Unschedulable),
}

/// A `PodScheduled` condition that is false.
struct Why<'a> {
    reason: &'a str,
    message: &'a str,
    /// Where room is being made: `Some("")` for nowhere any more.
    nominated: Option<&'a str>,
}

impl Scheduler {
    async fn run(self: &Arc<Self>) {
        let mut tasks = JoinSet::new();
        loop {
            while let Some(ended) = tasks.try_join_next() {
                if let Err(error) = ended {
                    tracing::error!(%error, "writing a decision broke off");
                }
            }
            let permit = self.writes.clone().acquire_owned().await;
            let permit = permit.expect("the semaphore is never closed");
            let (step, due) = self.step();
            match (step, due) {
                (Some(step), _) => {
                    let scheduler = self.clone();
                    tasks.spawn(async move { scheduler.write(step, permit).await });
                    // Whoever writes or tells of changes gets a turn.
                    tokio::task::yield_now().await;
                }
                (None, Some(due)) => tokio::select! {
                    biased;
                    () = self.wake.notified() => {}
                    () = sleep_until(due) => {}
                },
                (None, None) => self.wake.notified().await,
            }
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something happened; `storage` where it may be a volume that a binding
    /// waits for.
    pub(crate) fn woken(&self, storage: bool) {
        if storage {
            self.storage.send_modify(|changes| *changes += 1);
        }
        self.wake.notify_one();
    }

    /// The profile of a pod that waits for this scheduler.
    fn profile(&self, pod: &Cached<Pod>) -> Option<&Profile> {
        let waiting = pod.view.waiting.as_ref()?;
        let waits = pod.meta.deletion_timestamp.is_none() && !pod.view.is_terminal;
        waits.then(|| self.configuration.profile(&waiting.scheduler_name)).flatten()
    }

    pub(crate) fn pod_changed(&self, change: &client::Change<Pod>) {
        let mut shared = self.lock();
        let now = Instant::now();
        let happened = shared.cluster.pod_changed(change);
        shared.happened(&happened, now);
        let waiting = change.new.as_ref().filter(|pod| self.profile(pod).is_some());
        match waiting {
            Some(pod) if !shared.cluster.is_placed(pod) => {
                let replaced = change.old.as_ref().is_none_or(|old| old.meta.uid != pod.meta.uid);
                if replaced {
                    shared.queue.remove(&pod.key());
                }
                // What we wrote into the status ourselves is no news.
                match replaced || is_news(change) {
                    true => shared.queue.add(pod, now),
                    false => shared.queue.update(pod),
                }
            }
            Some(_) => {}
            None => shared.queue.remove(&change.object().key()),
        }
        drop(shared);
        self.woken(!change.object().view.claims.is_empty());
    }

    /// Decides for the next pod, and takes its place on the node; else says
    /// when there is something to do.
    fn step(&self) -> (Option<Step>, Option<Instant>) {
        let mut shared = self.lock();
        let Shared { cluster, queue } = &mut *shared;
        let now = Instant::now();
        while let Some(pod) = queue.pop(now) {
            let key = pod.key();
            let Some(profile) = self.profile(&pod) else {
                queue.remove(&key);
                continue;
            };
            if pod.view.waiting.as_ref().is_some_and(|waiting| !waiting.gates.is_empty()) {
                // Lifting the gate changes the pod, and that brings it back.
                queue.remove(&key);
                return (Some(Step::Gated(pod)), None);
            }
            return match decide(cluster, &pod, profile, self.ambient.random()) {
                Decision::Bind { node, binds } => {
                    cluster.volumes.assume(&binds);
                    let placed = cluster.assume(&pod, &node);
                    queue.remove(&key);
                    queue.happened(&[placed], cluster, now);
                    (Some(Step::Bind { pod, node, binds }), None)
                }
                Decision::Unschedulable(why) => {
                    queue.failed(&key, why.plugins.clone(), now);
                    match &why.preemption {
                        Some(Preemption { node, displaced, .. }) => {
                            displaced.iter().for_each(|pod| cluster.nominate(pod, ""));
                            cluster.nominate(&pod, node);
                        }
                        None if why.clears_nomination => cluster.nominate(&pod, ""),
                        None => {}
                    }
                    (Some(Step::Failed(pod, why)), None)
                }
            };
        }
        (None, queue.next_due())
    }

    async fn write(&self, step: Step, permit: OwnedSemaphorePermit) {
        match step {
            Step::Gated(pod) => {
                let message = "Scheduling is blocked due to non-empty scheduling gates";
                self.note(&pod, Why { reason: "SchedulingGated", message, nominated: None }).await;
            }
            Step::Bind { pod, node, binds } => self.bind(&pod, &node, &binds, permit).await,
            Step::Failed(pod, why) => self.failed(&pod, &why).await,
        }
    }

    /// Tells why a pod has no node, and makes room for it where that helps.
    async fn failed(&self, pod: &Arc<Cached<Pod>>, why: &Unschedulable) {
        self.tell_failure(pod, &why.message);
        let nominated = match &why.preemption {
            Some(preemption) => Some(preemption.node.as_str()),
            None if why.clears_nomination => Some(""),
            None => None,
        };
        let message = &why.message;
        self.note(pod, Why { reason: "Unschedulable", message, nominated }).await;
        let Some(Preemption { node, victims, displaced }) = &why.preemption else { return };
        for victim in victims {
            if let Err(error) = self.preempt(victim, pod, node).await {
                tracing::warn!(victim = victim.key(), pod = pod.key(), %error, "not preempted");
                let mut shared = self.lock();
                shared.cluster.nominate(pod, "");
                // Nothing else would tell it to try again.
                shared.queue.failed(&pod.key(), BTreeSet::new(), Instant::now());
                drop(shared);
                self.wake.notify_one();
            }
        }
        for other in displaced {
            let patch =
                json!({"metadata": {"uid": other.meta.uid}, "status": {"nominatedNodeName": null}});
            self.write_status(other, &patch).await.unwrap_or_else(|error| {
                tracing::warn!(pod = other.key(), %error, "nomination not cleared");
            });
        }
    }

    /// Ends a pod, so that another gets its place.
    async fn preempt(
        &self,
        victim: &Cached<Pod>,
        preemptor: &Cached<Pod>,
        node: &str,
    ) -> Result<(), Error> {
        let gone = |result: Result<(), Error>| match result {
            Err(error) if error.is_not_found() => Ok(false),
            result => result.map(|()| true),
        };
        let name = self.profile(preemptor).map_or("", |profile| &profile.name);
        if victim.meta.deletion_timestamp.is_none() {
            let condition = json!({
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "PreemptionByScheduler",
                "observedGeneration": victim.meta.generation,
                "message": format!("{name}: preempting to accommodate a higher priority pod"),
                "lastTransitionTime": time::format_seconds(self.ambient.now()),
            });
            let patch = json!({"metadata": {"uid": victim.meta.uid}, "status": {"conditions": [condition]}});
            if !gone(self.write_status(victim, &patch).await)? {
                return Ok(());
            }
            let options = DeleteOptions::uid(&victim.meta.uid);
            let (namespace, pod) = (&victim.meta.namespace, &victim.meta.name);
            if !gone(self.api.delete(PODS, namespace, pod, &options).await.map(drop))? {
                return Ok(());
            }
        }
        if let Some(recorder) = self.recorder(preemptor) {
            let message = format!("Preempted by pod {} on node {node}", preemptor.meta.uid);
            let (about, related) = (reference(victim), Some(reference(preemptor)));
            let what = ("Preempted", "Preempting");
            recorder.acted(&about, related, Severity::Normal, what, message);
        }
        Ok(())
    }

    /// The binding of a pod, or of its volumes, failed.
    pub(crate) async fn binding_failed(
        &self,
        pod: &Arc<Cached<Pod>>,
        binds: &Binds,
        why: Option<String>,
    ) {
        {
            let mut shared = self.lock();
            let Shared { cluster, queue } = &mut *shared;
            cluster.volumes.forget(binds);
            let left = cluster.forget(pod);
            let (key, now) = (pod.key(), Instant::now());
            // As it is now: it may be going, or have a node by somebody else.
            let known = self
                .pods
                .get(&key)
                .filter(|known| known.meta.uid == pod.meta.uid && self.profile(known).is_some());
            if let Some(known) = known {
                queue.add(&known, now);
                queue.failed(&key, BTreeSet::new(), now);
            }
            queue.happened(left.as_slice(), cluster, now);
        }
        self.wake.notify_one();
        if let Some(message) = why {
            tracing::warn!(pod = pod.key(), message, "binding failed");
            self.tell_failure(pod, &message);
            let message = &message;
            self.note(pod, Why { reason: "SchedulerError", message, nominated: None }).await;
        }
    }

    fn tell_failure(&self, pod: &Cached<Pod>, message: &str) {
        if let Some(recorder) = self.recorder(pod) {
            let what = ("FailedScheduling", "Scheduling");
            recorder.acted(&reference(pod), None, Severity::Warning, what, message);
        }
    }

    /// Who tells of a pod.
    pub(crate) fn recorder(&self, pod: &Cached<Pod>) -> Option<&Recorder> {
        let name = &self.profile(pod)?.name;
        self.recorders.iter().find(|(of, _)| of == name).map(|(_, recorder)| recorder)
    }

    /// How long the volumes of a pod may take.
    pub(crate) fn bind_timeout(&self, pod: &Cached<Pod>) -> std::time::Duration {
        self.profile(pod).map_or(std::time::Duration::ZERO, |profile| profile.args.bind_timeout)
    }

    /// Puts into the pod's status why it has no node, unless it says so
    /// already.
    async fn note(&self, pod: &Cached<Pod>, why: Why<'_>) {
        let waiting = pod.view.waiting.as_ref();
        let known = waiting.and_then(|waiting| waiting.condition.as_ref());
        let next = Condition {
            status: "False".into(),
            reason: why.reason.into(),
            message: why.message.into(),
            observed_generation: pod.meta.generation,
        };
        let nominated = why
            .nominated
            .filter(|nominated| waiting.is_none_or(|waiting| waiting.nominated_node != *nominated));
        let mut status = json!({});
        if known != Some(&next) {
            let mut condition = json!({
                "type": "PodScheduled",
                "status": "False",
                "reason": why.reason,
                "message": why.message,
                "observedGeneration": pod.meta.generation,
            });
            if known.is_none_or(|known| known.status != "False") {
                condition["lastTransitionTime"] = json!(time::format_seconds(self.ambient.now()));
            }
            status["conditions"] = json!([condition]);
        }
        match nominated {
            Some("") => status["nominatedNodeName"] = Value::Null,
            Some(node) => status["nominatedNodeName"] = json!(node),
            None => {}
        }
        if status == json!({}) {
            return;
        }
        let patch = json!({"metadata": {"uid": pod.meta.uid}, "status": status});
        match self.write_status(pod, &patch).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => {
                tracing::warn!(pod = pod.key(), %error, "status not written");
            }
            _ => {}
        }
    }

    async fn write_status(&self, pod: &Cached<Pod>, patch: &Value) -> Result<(), Error> {
        let (namespace, name) = (&pod.meta.namespace, &pod.meta.name);
        let written =
            self.api.patch(PODS, namespace, name, "status", PatchKind::Strategic, patch).await;
        written.map(drop)
    }
}

/// Whether more than what we write ourselves changed.
fn is_news(change: &client::Change<Pod>) -> bool {
    let (Some(old), Some(new)) = (&change.old, &change.new) else { return true };
    let without_ours = |pod: &Cached<Pod>| {
        let mut view = pod.view.clone();
        if let Some(waiting) = &mut view.waiting {
            waiting.condition = None;
            waiting.nominated_node.clear();
        }
        (view, pod.meta.labels.clone())
    };
    without_ours(old) != without_ours(new)
}

pub(crate) fn reference(pod: &Cached<Pod>) -> Reference {
    Reference::new("v1", "Pod", &pod.meta)
}

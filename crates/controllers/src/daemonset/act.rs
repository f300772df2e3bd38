//! Carries out DaemonSet plans.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use client::{
    Api, Backoff, Cached, Error, Informer, Outcome, OwnWrites, Recorder, Selection, WorkQueue,
    reconcile_loop,
};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::{
    fit,
    plan::plan,
    view::{Remembered, view},
};
use crate::{
    Context,
    cached::{DAEMON_SETS, DaemonSet, DaemonSetStatus, NODES, Node},
    owner,
    pods::{PodOwner, Pods, Refused},
    revisions::{Made, POD_LABEL, Revisions},
    status::{self, count},
};

const WORKERS: usize = 4;
/// How long a node has to wait for the next pod after one failed there;
/// upstream's numbers.
const FAILED_POD: Backoff =
    Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(15 * 60) };

/// How often pods failed on a node, and when the last was deleted for it.
#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: Instant,
}

struct DaemonSets {
    api: Api,
    sets: Informer<DaemonSet>,
    nodes: Informer<Node>,
    pods: Pods,
    revisions: Revisions,
    recorder: Recorder,
    context: Context,
    writes: OwnWrites,
    /// By DaemonSet and node.
    failures: Mutex<BTreeMap<String, BTreeMap<String, Failures>>>,
}

/// The controller. Never returns.
pub(crate) async fn run(context: Context) {
    let recorder = context.recorder("daemonset-controller");
    let controller = Arc::new(DaemonSets {
        api: context.api.clone(),
        sets: context.informers.get(Selection::all(DAEMON_SETS)),
        nodes: context.informers.get(Selection::all(NODES)),
        pods: Pods::new(&context, recorder.clone()),
        revisions: Revisions::new(&context),
        recorder,
        context,
        writes: OwnWrites::default(),
        failures: Mutex::default(),
    });
    let queue = controller.context.queue();
    controller.watch(&queue);
    controller.sets.wait_synced().await;
    controller.nodes.wait_synced().await;
    controller.pods.informer.wait_synced().await;
    controller.revisions.informer.wait_synced().await;
    reconcile_loop("daemonset", queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    })
    .await;
}

impl DaemonSets {
    fn watch(&self, queue: &Arc<WorkQueue<String>>) {
        let keys = queue.clone();
        self.sets.on_change(move |change| keys.add(change.object().key()));
        let (pods, revisions) = (&self.pods.informer, &self.revisions.informer);
        owner::follow(pods, queue, "DaemonSet", &self.sets, |set| &set.spec.selector);
        owner::follow(revisions, queue, "DaemonSet", &self.sets, |set| &set.spec.selector);
        // A node's heartbeat changes nothing here; its labels and taints may.
        let (keys, sets) = (queue.clone(), self.sets.clone());
        self.nodes.on_change(move |change| {
            let counts = |node: &Cached<Node>| {
                (node.meta.labels.clone(), node.view.spec.taints.clone(), node.meta.uid.clone())
            };
            let old = change.old.as_deref().map(counts);
            if old != change.new.as_deref().map(counts) {
                sets.list().iter().for_each(|set| keys.add(set.key()));
            }
        });
    }

    fn lock_failures(&self) -> MutexGuard<'_, BTreeMap<String, BTreeMap<String, Failures>>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long each node has to wait for a next pod.
    fn waiting(&self, key: &str) -> BTreeMap<String, Duration> {
        let mut all = self.lock_failures();
        let Some(nodes) = all.get_mut(key) else { return BTreeMap::new() };
        // A node on which pods did not fail for long starts afresh.
        nodes.retain(|_, failures| failures.last.elapsed() < FAILED_POD.cap * 2);
        let left = |failures: &Failures| {
            let left = FAILED_POD.delay(failures.count).checked_sub(failures.last.elapsed());
            left.filter(|left| !left.is_zero())
        };
        nodes.iter().filter_map(|(node, f)| Some((node.clone(), left(f)?))).collect()
    }

    fn failed_on(&self, key: &str, node: &str) {
        let mut all = self.lock_failures();
        let nodes = all.entry(key.to_owned()).or_default();
        let count = nodes.get(node).map_or(1, |known| known.count.saturating_add(1));
        nodes.insert(node.to_owned(), Failures { count, last: Instant::now() });
    }

    async fn reconcile(&self, key: &str) -> Outcome {
        self.writes.settle(key, &self.sets).await?;
        self.pods.settle(key).await?;
        self.revisions.settle(key).await?;
        let Some(set) = self.sets.get(key) else {
            self.pods.forget(key);
            self.lock_failures().remove(key);
            return Ok(None);
        };
        if set.view.spec.selector.as_object().is_none_or(Map::is_empty) {
            self.recorder.warning(
                &pod_owner(&set).reference(),
                "SelectingAll",
                "This daemon set is selecting all pods. A non-empty selector is required.",
            );
            return Ok(None);
        }
        if set.meta.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let now = self.context.ambient.now();
        let remembered =
            Remembered { deleted: self.pods.deleted(key), waiting: self.waiting(key), now };
        let (pods, revisions) = (&self.pods.informer, &self.revisions.informer);
        let view = view(set.clone(), &self.nodes, pods, revisions, remembered)?;
        let plan = plan(&view);
        let by = pod_owner(&set);
        self.pods.claim(&by, &plan.pods, None).await?;
        self.pods.tell_of_overlap(&by, &view.selector, set.view.status.observed_generation);
        let (adopt, template) = (&plan.adopt_revisions, &view.template);
        let made = self.revisions.ensure(&by, adopt, template, &plan.update, POD_LABEL).await?;
        if made == Made::Collision {
            let collisions = set.view.status.collision_count.unwrap_or(0) + 1;
            self.patch_status(&set, &json!({"collisionCount": collisions})).await?;
            return Ok(None);
        }
        for ended in &plan.ended {
            if ended.reason == "FailedDaemonPod" {
                self.failed_on(key, &ended.node);
            }
            self.recorder.event(&by.reference(), ended.severity, ended.reason, &ended.message);
        }
        let bodies: Vec<Value> = plan
            .create
            .iter()
            .map(|node| fit::pod(&set.meta, &view.template, &view.fit, &plan.update.hash, node))
            .collect();
        let created = self.pods.create_all(&by, &bodies).await;
        let deleted = self.pods.delete_all(&by, &plan.delete).await;
        let replaced = self.pods.delete_broken(&by, &plan.broken).await;
        self.write_status(&set, &plan.status).await?;
        created.or_else(Refused::retried)?;
        deleted?;
        replaced?;
        self.revisions.delete(&plan.delete_revisions).await?;
        Ok(plan.look_again)
    }

    async fn write_status(
        &self,
        set: &Cached<DaemonSet>,
        status: &DaemonSetStatus,
    ) -> Result<(), Error> {
        if *status == set.view.status {
            return Ok(());
        }
        let status = json!({
            "currentNumberScheduled": status.current_number_scheduled,
            "numberMisscheduled": status.number_misscheduled,
            "desiredNumberScheduled": status.desired_number_scheduled,
            "numberReady": status.number_ready,
            "observedGeneration": status.observed_generation,
            "updatedNumberScheduled": count(status.updated_number_scheduled),
            "numberAvailable": count(status.number_available),
            "numberUnavailable": count(status.number_unavailable),
        });
        self.patch_status(set, &status).await
    }

    async fn patch_status(&self, set: &Cached<DaemonSet>, status: &Value) -> Result<(), Error> {
        let patch = json!({"metadata": {"uid": set.meta.uid}, "status": status});
        status::write(&self.api, &self.writes, DAEMON_SETS, &set.meta, &patch).await
    }
}

fn pod_owner(set: &Cached<DaemonSet>) -> PodOwner<'_> {
    PodOwner { resource: DAEMON_SETS, api_version: "apps/v1", kind: "DaemonSet", meta: &set.meta }
}

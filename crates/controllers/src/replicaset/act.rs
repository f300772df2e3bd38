//! Carries out the plans.

use std::sync::Arc;

use api_object::time;
use api_types::core::Condition;
use client::{
    Api, Cached, DeleteOptions, Error, Informer, Outcome, OwnWrites, PatchKind, Recorder,
    Reference, WorkQueue, reconcile_loop,
};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{
    plan::{Plan, plan},
    row::{REPLICA_SET, REPLICATION_CONTROLLER, Row},
    view::view,
};
use crate::{
    Context,
    cached::{self, PODS, Pod, ReplicaSet, ReplicaSetStatus},
    deletions::Deletions,
    owner,
    status::{conditions_json, count, set_condition},
};

const WORKERS: usize = 4;

struct ReplicaSets {
    row: &'static Row,
    api: Api,
    sets: Informer<ReplicaSet>,
    pods: Informer<Pod>,
    recorder: Recorder,
    context: Context,
    pod_writes: OwnWrites,
    set_writes: OwnWrites,
    deletions: Deletions,
}

/// The controller of ReplicaSets. Never returns.
pub(crate) async fn run(context: Context) {
    run_row(context, &REPLICA_SET).await;
}

/// The controller of ReplicationControllers. Never returns.
pub(crate) async fn run_replication_controllers(context: Context) {
    run_row(context, &REPLICATION_CONTROLLER).await;
}

async fn run_row(context: Context, row: &'static Row) {
    let controller = Arc::new(ReplicaSets {
        row,
        api: context.api.clone(),
        sets: cached::replicas(&context.informers, row.resource),
        pods: cached::pods(&context.informers),
        recorder: context.recorder(row.controller),
        context,
        pod_writes: OwnWrites::default(),
        set_writes: OwnWrites::default(),
        deletions: Deletions::default(),
    });
    let queue = Arc::new(WorkQueue::default());
    let keys = queue.clone();
    controller.sets.on_change(move |change| keys.add(change.object().key()));
    let (keys, sets) = (queue.clone(), controller.sets.clone());
    controller.pods.on_change(move |change| {
        for pod in change.sides() {
            owner::queue_controller(&keys, row.kind, &pod.meta);
        }
        // An orphan may be somebody's to adopt, whenever its labels change.
        if let Some(pod) = change.new.as_ref().filter(|pod| pod.meta.controller().is_none()) {
            for set in sets.list_namespace(&pod.meta.namespace) {
                let selector = row.selector(&set.view.spec.selector);
                if selector.is_ok_and(|s| !s.is_empty() && s.matches(&pod.meta.labels)) {
                    keys.add(set.key());
                }
            }
        }
    });
    controller.sets.wait_synced().await;
    controller.pods.wait_synced().await;
    reconcile_loop(row.controller, queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    })
    .await;
}

impl ReplicaSets {
    async fn reconcile(&self, key: &str) -> Outcome {
        self.pod_writes.settle(key, &self.pods).await?;
        self.set_writes.settle(key, &self.sets).await?;
        let Some(set) = self.sets.get(key) else {
            self.deletions.forget(key);
            return Ok(None);
        };
        let deleted = self.deletions.unseen(key, &self.pods);
        let now = self.context.ambient.now();
        let view = view(self.row, set.clone(), &self.sets, &self.pods, deleted, now)?;
        let plan = plan(&view);
        self.claim(&set, &plan).await?;
        let failure = self.create(&set, &view.template, plan.create).await.err();
        let failure = match failure {
            Some(error) => Some(("FailedCreate", error)),
            None => self.delete(&set, &plan.delete).await.err().map(|e| ("FailedDelete", e)),
        };
        self.write_status(&set, &plan.status, failure.as_ref().map(|(r, e)| (*r, e))).await?;
        match failure {
            Some((_, error)) => Err(error.into()),
            None => Ok(plan.look_again),
        }
    }

    async fn claim(&self, set: &Cached<ReplicaSet>, plan: &Plan) -> Result<(), Error> {
        let key = set.key();
        if !plan.adopt.is_empty() {
            // Our cache may not know yet that the set is being deleted, or is
            // another one of that name; an adopted pod would be lost with it.
            let fresh =
                self.api.get(self.row.resource, &set.meta.namespace, &set.meta.name).await?;
            if fresh.meta.uid != set.meta.uid || fresh.meta.deletion_timestamp.is_some() {
                return Ok(());
            }
        }
        for pod in &plan.adopt {
            let patch = owner::adopt(self.row.api_version, self.row.kind, &set.meta, &pod.meta);
            self.patch_pod(&key, pod, &patch).await?;
        }
        for pod in &plan.release {
            let patch = owner::release(&set.meta.uid, &pod.meta);
            self.patch_pod(&key, pod, &patch).await?;
        }
        Ok(())
    }

    async fn patch_pod(&self, key: &str, pod: &Cached<Pod>, patch: &Value) -> Result<(), Error> {
        let (namespace, name) = (&pod.meta.namespace, &pod.meta.name);
        match self.api.patch(PODS, namespace, name, "", PatchKind::Merge, patch).await {
            Ok(written) => {
                self.pod_writes.record(key, &written);
                Ok(())
            }
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Creates pods in batches of 1, 2, 4 and so on, so that a quota or an
    /// admission that refuses them all is asked once and not 500 times.
    async fn create(
        &self,
        set: &Cached<ReplicaSet>,
        template: &Value,
        n: usize,
    ) -> Result<(), Error> {
        let Row { api_version, kind, .. } = self.row;
        let pod = owner::pod_from_template(api_version, kind, &set.meta, template);
        let (mut left, mut batch) = (n, 1);
        while left > 0 {
            batch = batch.min(left);
            let creates = (0..batch).map(|_| self.api.create(PODS, &set.meta.namespace, &pod));
            let mut failed = None;
            for result in join_all(creates).await {
                match result {
                    Ok(created) => {
                        self.pod_writes.record(&set.key(), &created);
                        let message = format!("Created pod: {}", created.meta.name);
                        self.recorder.normal(&self.reference(set), "SuccessfulCreate", message);
                    }
                    Err(error) => failed = Some(error),
                }
            }
            if let Some(error) = failed {
                if owner::namespace_terminates(&error) {
                    return Ok(());
                }
                let message = format!("Error creating: {error}");
                self.recorder.warning(&self.reference(set), "FailedCreate", message);
                return Err(error);
            }
            left -= batch;
            batch *= 2;
        }
        Ok(())
    }

    async fn delete(
        &self,
        set: &Cached<ReplicaSet>,
        pods: &[Arc<Cached<Pod>>],
    ) -> Result<(), Error> {
        let deletes = pods.iter().map(async |pod| {
            let (namespace, name) = (&pod.meta.namespace, &pod.meta.name);
            match self.api.delete(PODS, namespace, name, &DeleteOptions::uid(&pod.meta.uid)).await {
                Ok(()) => {
                    self.deletions.record(&set.key(), pod);
                    let message = format!("Deleted pod: {name}");
                    self.recorder.normal(&self.reference(set), "SuccessfulDelete", message);
                    Ok(())
                }
                // Gone, or another pod by now.
                Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
                Err(error) => {
                    let message = format!("Error deleting: {error}");
                    self.recorder.warning(&self.reference(set), "FailedDelete", message);
                    Err(error)
                }
            }
        });
        join_all(deletes).await.into_iter().collect()
    }

    async fn write_status(
        &self,
        set: &Cached<ReplicaSet>,
        status: &ReplicaSetStatus,
        failure: Option<(&str, &Error)>,
    ) -> Result<(), Error> {
        let mut status = status.clone();
        match failure {
            Some((reason, error)) => set_condition(
                &mut status.conditions,
                Condition {
                    r#type: "ReplicaFailure".into(),
                    status: "True".into(),
                    reason: reason.into(),
                    message: error.to_string(),
                    last_transition_time: Some(time::format_seconds(self.context.ambient.now())),
                    ..Condition::default()
                },
            ),
            None => status.conditions.retain(|condition| condition.r#type != "ReplicaFailure"),
        }
        if status == set.view.status {
            return Ok(());
        }
        let patch = json!({"metadata": {"uid": set.meta.uid}, "status": {
            "replicas": status.replicas,
            "fullyLabeledReplicas": count(status.fully_labeled_replicas),
            "readyReplicas": count(status.ready_replicas),
            "availableReplicas": count(status.available_replicas),
            "terminatingReplicas": status.terminating_replicas,
            "observedGeneration": status.observed_generation,
            "conditions": conditions_json(&status.conditions),
        }});
        let (namespace, name) = (&set.meta.namespace, &set.meta.name);
        let written = self
            .api
            .patch(self.row.resource, namespace, name, "status", PatchKind::Merge, &patch)
            .await;
        match written {
            Ok(written) => {
                self.set_writes.record(&set.key(), &written);
                Ok(())
            }
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn reference(&self, set: &Cached<ReplicaSet>) -> Reference {
        Reference::new(self.row.api_version, self.row.kind, &set.meta)
    }
}

//! Carries out the plans.

use std::sync::Arc;

use api_object::time;
use api_types::core::Condition;
use client::{Api, Cached, Error, Informer, Outcome, OwnWrites, reconcile_loop};
use serde_json::json;

use super::{
    plan::plan,
    row::{REPLICA_SET, REPLICATION_CONTROLLER, Row},
    view::view,
};
use crate::{
    Context,
    cached::{self, ReplicaSet, ReplicaSetStatus},
    owner,
    pods::{PodOwner, Pods, Refused},
    status::{self, conditions_json, count, set_condition},
};

const WORKERS: usize = 4;

struct ReplicaSets {
    row: &'static Row,
    api: Api,
    sets: Informer<ReplicaSet>,
    pods: Pods,
    context: Context,
    set_writes: OwnWrites,
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
        pods: Pods::new(&context, context.recorder(row.controller)),
        context,
        set_writes: OwnWrites::default(),
    });
    let queue = controller.context.queue();
    let keys = queue.clone();
    controller.sets.on_change(move |change| keys.add(change.object().key()));
    let (keys, sets) = (queue.clone(), controller.sets.clone());
    controller.pods.informer.on_change(move |change| {
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
    controller.pods.informer.wait_synced().await;
    reconcile_loop(row.controller, queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    })
    .await;
}

impl ReplicaSets {
    async fn reconcile(&self, key: &str) -> Outcome {
        self.pods.settle(key).await?;
        self.set_writes.settle(key, &self.sets).await?;
        let Some(set) = self.sets.get(key) else {
            self.pods.forget(key);
            return Ok(None);
        };
        let (pods, deleted) = (&self.pods.informer, self.pods.deleted(key));
        let now = self.context.ambient.now();
        let view = view(self.row, set.clone(), &self.sets, pods, deleted, now)?;
        let plan = plan(&view);
        let Row { resource, api_version, kind, .. } = *self.row;
        let by = PodOwner { resource, api_version, kind, meta: &set.meta };
        self.pods.claim(&by, &plan.pods, None).await?;
        // A Deployment's set selects by a hash that no other has.
        if set.meta.controller().is_none() {
            self.pods.tell_of_overlap(&by, &view.selector, set.view.status.observed_generation);
        }
        let pod = owner::pod_from_template(api_version, kind, &set.meta, &view.template);
        let created = self.pods.create_all(&by, &vec![&pod; plan.create]).await;
        let failure = match created.or_else(Refused::retried) {
            Err(error) => Some(("FailedCreate", error)),
            Ok(()) => {
                let deleted = self.pods.delete_all(&by, &plan.delete).await;
                deleted.err().map(|error| ("FailedDelete", error))
            }
        };
        self.write_status(&set, &plan.status, failure.as_ref().map(|(r, e)| (*r, e))).await?;
        match failure {
            Some((_, error)) => Err(error.into()),
            None => Ok(plan.look_again),
        }
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
        status::write(&self.api, &self.set_writes, self.row.resource, &set.meta, &patch).await
    }
}

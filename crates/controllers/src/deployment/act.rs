//! Carries out Deployment plans.

use std::sync::Arc;

use api_object::OwnerReference;
use client::{
    Api, Cached, DeleteOptions, Error, Informer, Outcome, OwnWrites, PatchKind, Recorder,
    Reference, Selection, WorkQueue, reconcile_loop,
};
use serde_json::{Map, Value, json};

use super::{
    plan::{NewSet, Plan, SetChange, plan},
    revision::REVISION,
    view::{HASH_LABEL, View, same_template, view},
};
use crate::{
    Context,
    cached::{self, DEPLOYMENTS, Deployment, DeploymentStatus, Pod, REPLICA_SETS, ReplicaSet},
    overlap::{self, Selecting},
    owner,
    status::{conditions_json, count},
};

const WORKERS: usize = 4;

struct Deployments {
    api: Api,
    deployments: Informer<Deployment>,
    sets: Informer<ReplicaSet>,
    pods: Informer<Pod>,
    recorder: Recorder,
    context: Context,
    writes: OwnWrites,
    set_writes: OwnWrites,
}

/// The controller. Never returns.
pub(crate) async fn run(context: Context) {
    let controller = Arc::new(Deployments {
        api: context.api.clone(),
        deployments: context.informers.get(Selection::all(DEPLOYMENTS)),
        sets: cached::replica_sets(&context.informers),
        pods: cached::pods(&context.informers),
        recorder: context.recorder("deployment-controller"),
        context,
        writes: OwnWrites::default(),
        set_writes: OwnWrites::default(),
    });
    let queue = controller.context.queue();
    controller.watch(&queue);
    controller.deployments.wait_synced().await;
    controller.sets.wait_synced().await;
    controller.pods.wait_synced().await;
    reconcile_loop("deployment", queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    })
    .await;
}

impl Deployments {
    fn watch(&self, queue: &Arc<WorkQueue<String>>) {
        let keys = queue.clone();
        self.deployments.on_change(move |change| keys.add(change.object().key()));
        let owners = &self.deployments;
        owner::follow(&self.sets, queue, "Deployment", owners, |owner| &owner.spec.selector);
        // Recreate waits for the last old pod to end, which no count tells.
        let (keys, sets) = (queue.clone(), self.sets.clone());
        self.pods.on_change(move |change| {
            let pod = change.object();
            if change.new.as_ref().is_some_and(|pod| !pod.view.is_terminal()) {
                return;
            }
            let owner = pod.meta.controller().filter(|owner| owner.kind == "ReplicaSet");
            let set = owner.and_then(|o| sets.get(&format!("{}/{}", pod.meta.namespace, o.name)));
            if let Some(set) = set {
                owner::queue_controller(&keys, "Deployment", &set.meta);
            }
        });
    }

    async fn reconcile(&self, key: &str) -> Outcome {
        self.writes.settle(key, &self.deployments).await?;
        self.set_writes.settle(key, &self.sets).await?;
        let Some(deployment) = self.deployments.get(key) else { return Ok(None) };
        if deployment.view.spec.selector.as_object().is_none_or(Map::is_empty) {
            self.recorder.warning(
                &reference(&deployment),
                "SelectingAll",
                "This deployment is selecting all pods. A non-empty selector is required.",
            );
            return Ok(None);
        }
        let now = self.context.ambient.now();
        let view = view(deployment.clone(), &self.sets, &self.pods, now)?;
        let mut plan = plan(&view);
        self.claim(&deployment, &plan).await?;
        self.tell_of_overlap(&view, &plan);
        if let Some(set) = &plan.create
            && let Err(error) = self.create(&view, set).await
        {
            return self.create_failed(&deployment, &mut plan, error).await;
        }
        for change in &plan.update {
            self.update(&deployment, change).await?;
        }
        for set in &plan.delete {
            let options = DeleteOptions::uid(&set.meta.uid);
            let deleted =
                self.api.delete(REPLICA_SETS, &set.meta.namespace, &set.meta.name, &options);
            ignore_gone(deleted.await)?;
        }
        self.write_status(&deployment, &plan.status, plan.revision.as_deref()).await?;
        Ok(plan.look_again)
    }

    fn tell_of_overlap(&self, view: &View, plan: &Plan) {
        let deployment = &view.deployment;
        let selecting = Selecting {
            owner: &deployment.meta,
            selector: &view.selector,
            observed_generation: deployment.view.status.observed_generation,
        };
        let is_own =
            |owner: &OwnerReference| plan.sets.own.iter().any(|set| set.meta.uid == owner.uid);
        let about = reference(deployment);
        overlap::tell(&self.recorder, &about, &selecting, &self.pods, is_own);
    }

    async fn claim(&self, deployment: &Cached<Deployment>, plan: &Plan) -> Result<(), Error> {
        if !plan.sets.adopt.is_empty() {
            // Our cache may not know yet that the Deployment is being deleted.
            let (namespace, name) = (&deployment.meta.namespace, &deployment.meta.name);
            let fresh = self.api.get(DEPLOYMENTS, namespace, name).await?;
            if fresh.meta.uid != deployment.meta.uid || fresh.meta.deletion_timestamp.is_some() {
                return Ok(());
            }
        }
        for set in &plan.sets.adopt {
            let patch = owner::adopt("apps/v1", "Deployment", &deployment.meta, &set.meta);
            self.patch_set(deployment, set, &patch).await?;
        }
        for set in &plan.sets.release {
            let patch = owner::release(&deployment.meta.uid, &set.meta);
            self.patch_set(deployment, set, &patch).await?;
        }
        Ok(())
    }

    async fn patch_set(
        &self,
        deployment: &Cached<Deployment>,
        set: &Cached<ReplicaSet>,
        patch: &Value,
    ) -> Result<(), Error> {
        let (namespace, name) = (&set.meta.namespace, &set.meta.name);
        let written =
            self.api.patch(REPLICA_SETS, namespace, name, "", PatchKind::Merge, patch).await;
        if let Some(written) = ignore_gone(written)? {
            self.set_writes.record(&deployment.key(), &written);
        }
        Ok(())
    }

    async fn create(&self, view: &View, new: &NewSet) -> Result<(), Error> {
        let deployment = &view.deployment;
        let namespace = &deployment.meta.namespace;
        let set = replica_set(view, new);
        let created = match self.api.create(REPLICA_SETS, namespace, &set).await {
            Ok(created) => created,
            Err(error) if error.is_conflict() => {
                // Ours from a moment ago, or another template of that hash.
                let found = self.api.get(REPLICA_SETS, namespace, &new.name).await?;
                let controller = found.meta.controller().map(|owner| owner.uid.as_str());
                let found_set = Cached::<ReplicaSet>::read(found.clone(), false);
                let is_it = controller == Some(deployment.meta.uid.as_str())
                    && found_set.is_ok_and(|set| {
                        same_template(&view.template, set.view.spec.template.value())
                    });
                if !is_it {
                    let collisions = deployment.view.status.collision_count.unwrap_or(0);
                    let patch = json!({
                        "metadata": {"uid": deployment.meta.uid},
                        "status": {"collisionCount": collisions + 1},
                    });
                    self.patch(deployment, "status", &patch).await?;
                    return Err(error);
                }
                self.set_writes.record(&deployment.key(), &found);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        self.set_writes.record(&deployment.key(), &created);
        if new.replicas > 0 {
            let message = format!("Scaled up replica set {} from 0 to {}", new.name, new.replicas);
            self.recorder.normal(&reference(deployment), "ScalingReplicaSet", message);
        }
        Ok(())
    }

    /// The status tells of the failure; the queue tries again.
    async fn create_failed(
        &self,
        deployment: &Cached<Deployment>,
        plan: &mut Plan,
        error: Error,
    ) -> Outcome {
        if owner::namespace_terminates(&error) {
            return Ok(None);
        }
        if error.is_conflict() {
            return Err(error.into());
        }
        let message = format!("Failed to create new replica set: {error}");
        self.recorder.warning(&reference(deployment), "ReplicaSetCreateError", message);
        let mut conditions = deployment.view.status.conditions.clone();
        let now = api_object::time::format_seconds(self.context.ambient.now());
        if deployment.view.spec.progress_deadline_seconds.is_some() {
            crate::status::set_condition(
                &mut conditions,
                api_types::core::Condition {
                    r#type: "Progressing".into(),
                    status: "False".into(),
                    reason: "ReplicaSetCreateError".into(),
                    message: error.to_string(),
                    last_update_time: Some(now.clone()),
                    last_transition_time: Some(now),
                    ..Default::default()
                },
            );
        }
        let status = DeploymentStatus { conditions, ..deployment.view.status.clone() };
        plan.status = status;
        self.write_status(deployment, &plan.status, None).await?;
        Err(error.into())
    }

    async fn update(
        &self,
        deployment: &Cached<Deployment>,
        change: &SetChange,
    ) -> Result<(), Error> {
        let set = &change.set;
        let mut patch = json!({"metadata": {
            "uid": set.meta.uid,
            "resourceVersion": set.meta.resource_version,
        }});
        if !change.annotations.is_empty() {
            patch["metadata"]["annotations"] = json!(change.annotations);
        }
        if let Some(replicas) = change.replicas {
            patch["spec"]["replicas"] = json!(replicas);
        }
        if let Some(seconds) = change.min_ready_seconds {
            patch["spec"]["minReadySeconds"] = json!(seconds);
        }
        self.patch_set(deployment, set, &patch).await?;
        if let Some(to) = change.replicas {
            let from = i64::from(set.view.spec.replicas.unwrap_or(1));
            let direction = if to > from { "up" } else { "down" };
            let name = &set.meta.name;
            let message = format!("Scaled {direction} replica set {name} from {from} to {to}");
            self.recorder.normal(&reference(deployment), "ScalingReplicaSet", message);
        }
        Ok(())
    }

    /// Writes what became of it, and the number of its template in the history: an
    /// annotation that goes in with the status is no change of what is wanted, and
    /// raises no generation.
    async fn write_status(
        &self,
        deployment: &Cached<Deployment>,
        status: &DeploymentStatus,
        revision: Option<&str>,
    ) -> Result<(), Error> {
        if *status == deployment.view.status && revision.is_none() {
            return Ok(());
        }
        let mut patch = json!({"metadata": {"uid": deployment.meta.uid}, "status": {
            "observedGeneration": status.observed_generation,
            "replicas": count(status.replicas),
            "updatedReplicas": count(status.updated_replicas),
            "readyReplicas": count(status.ready_replicas),
            "availableReplicas": count(status.available_replicas),
            "unavailableReplicas": count(status.unavailable_replicas),
            "terminatingReplicas": status.terminating_replicas,
            "conditions": conditions_json(&status.conditions),
        }});
        if let Some(revision) = revision {
            patch["metadata"]["annotations"] = json!({REVISION: revision});
        }
        self.patch(deployment, "status", &patch).await
    }

    async fn patch(
        &self,
        deployment: &Cached<Deployment>,
        subresource: &str,
        patch: &Value,
    ) -> Result<(), Error> {
        let (namespace, name) = (&deployment.meta.namespace, &deployment.meta.name);
        let written =
            self.api.patch(DEPLOYMENTS, namespace, name, subresource, PatchKind::Merge, patch);
        if let Some(written) = ignore_gone(written.await)? {
            self.writes.record(&deployment.key(), &written);
        }
        Ok(())
    }
}

/// The object of a new template; what the Deployment's template says goes in
/// as it is, known fields or not.
fn replica_set(view: &View, new: &NewSet) -> Value {
    let deployment = &view.deployment;
    let spec = &deployment.view.spec;
    let mut template = view.template.clone();
    template["metadata"]["labels"][HASH_LABEL] = json!(new.hash);
    let mut selector = spec.selector.clone();
    selector["matchLabels"][HASH_LABEL] = json!(new.hash);
    json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": new.name,
            "namespace": deployment.meta.namespace,
            "labels": template["metadata"]["labels"],
            "annotations": new.annotations,
            "ownerReferences": [owner::reference("apps/v1", "Deployment", &deployment.meta)],
        },
        "spec": {
            "replicas": new.replicas,
            "minReadySeconds": spec.min_ready_seconds,
            "selector": selector,
            "template": template,
        },
    })
}

fn reference(deployment: &Cached<Deployment>) -> Reference {
    Reference::new("apps/v1", "Deployment", &deployment.meta)
}

fn ignore_gone<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(done) => Ok(Some(done)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

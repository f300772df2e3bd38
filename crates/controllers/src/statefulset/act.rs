//! Carries out StatefulSet plans.

use std::sync::Arc;

use api_object::Object;
use client::{
    Api, Cached, Error, Informer, MetaOnly, Outcome, OwnWrites, PatchKind, Recorder, Selection,
    WorkQueue, reconcile_loop,
};
use serde_json::{Map, Value, json};

use super::{
    claims::Owned,
    plan::{Plan, Step, plan},
    view::{View, view},
};
use crate::{
    Context,
    cached::{Pod, SERVICES, STATEFUL_SETS, Service, StatefulSet, StatefulSetStatus},
    owner,
    pods::{PodOwner, Pods},
    revisions::{HASH_LABEL, Made, Revisions},
    status::{self, count},
    storage::CLAIMS,
};

const WORKERS: usize = 4;

struct StatefulSets {
    api: Api,
    sets: Informer<StatefulSet>,
    pods: Pods,
    revisions: Revisions,
    claims: Informer<MetaOnly>,
    services: Informer<Service>,
    recorder: Recorder,
    context: Context,
    writes: OwnWrites,
    claim_writes: OwnWrites,
}

/// The controller. Never returns.
pub(crate) async fn run(context: Context) {
    let recorder = context.recorder("statefulset-controller");
    let controller = Arc::new(StatefulSets {
        api: context.api.clone(),
        sets: context.informers.get(Selection::all(STATEFUL_SETS)),
        pods: Pods::new(&context, recorder.clone()),
        revisions: Revisions::new(&context),
        claims: context.informers.get(Selection::all(CLAIMS)),
        services: context.informers.get(Selection::all(SERVICES)),
        recorder,
        context,
        writes: OwnWrites::default(),
        claim_writes: OwnWrites::default(),
    });
    let queue = controller.context.queue();
    controller.watch(&queue);
    controller.sets.wait_synced().await;
    controller.pods.informer.wait_synced().await;
    controller.revisions.informer.wait_synced().await;
    controller.claims.wait_synced().await;
    controller.services.wait_synced().await;
    reconcile_loop("statefulset", queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    })
    .await;
}

impl StatefulSets {
    fn watch(&self, queue: &Arc<WorkQueue<String>>) {
        let keys = queue.clone();
        self.sets.on_change(move |change| keys.add(change.object().key()));
        let (pods, revisions) = (&self.pods.informer, &self.revisions.informer);
        owner::follow(pods, queue, "StatefulSet", &self.sets, |set| &set.spec.selector);
        owner::follow(revisions, queue, "StatefulSet", &self.sets, |set| &set.spec.selector);
        // A pod may wait until a claim that goes is gone.
        let (keys, sets) = (queue.clone(), self.sets.clone());
        self.claims.on_change(move |change| {
            let claim = &change.object().meta;
            for set in sets.list_namespace(&claim.namespace) {
                if claim.name.contains(&format!("-{}-", set.meta.name)) {
                    keys.add(set.key());
                }
            }
        });
    }

    async fn reconcile(&self, key: &str) -> Outcome {
        self.writes.settle(key, &self.sets).await?;
        self.pods.settle(key).await?;
        self.revisions.settle(key).await?;
        self.claim_writes.settle(key, &self.claims).await?;
        let Some(set) = self.sets.get(key) else {
            self.pods.forget(key);
            return Ok(None);
        };
        if set.view.spec.selector.as_object().is_none_or(Map::is_empty) {
            // The API refuses these; without a selector there is nothing to do.
            return Ok(None);
        }
        let (deleted, now) = (self.pods.deleted(key), self.context.ambient.now());
        let (pods, revisions) = (&self.pods.informer, &self.revisions.informer);
        let view = view(set.clone(), pods, revisions, &self.claims, deleted, now)?;
        let plan = plan(&view);
        let by = pod_owner(&set);
        self.pods.claim(&by, &plan.pods, None).await?;
        self.pods.tell_of_overlap(&by, &view.selector, set.view.status.observed_generation);
        if self.ensure_revision(&view, &plan).await? == Made::Collision {
            let collisions = set.view.status.collision_count.unwrap_or(0) + 1;
            self.patch_status(&set, &json!({"collisionCount": collisions})).await?;
            return Ok(None);
        }
        self.tell_of_service(&view, &plan);
        let mut failure = None;
        for step in &plan.steps {
            if let Err(error) = self.step(&set, step).await {
                failure = Some(error);
                break;
            }
        }
        self.write_status(&set, &plan.status).await?;
        match failure {
            Some(error) if owner::namespace_terminates(&error) => Ok(None),
            Some(error) => Err(error.into()),
            None => {
                self.revisions.delete(&plan.delete_revisions).await?;
                Ok(plan.look_again)
            }
        }
    }

    async fn ensure_revision(&self, view: &View, plan: &Plan) -> Result<Made, Error> {
        if view.set.meta.deletion_timestamp.is_some() {
            return Ok(Made::Done);
        }
        let by = pod_owner(&view.set);
        let (adopt, template) = (&plan.adopt_revisions, &view.template);
        self.revisions.ensure(&by, adopt, template, &plan.update, HASH_LABEL).await
    }

    async fn step(&self, set: &Cached<StatefulSet>, step: &Step) -> Result<(), Error> {
        let name = |body: &Value| body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        match step {
            Step::CreateClaim { pod, body } => {
                let namespace = &set.meta.namespace;
                let created = self.api.create(CLAIMS, namespace, body).await;
                self.tell_of_claim(set, &name(body), pod, created.as_ref().err());
                self.claim_writes.record(&set.key(), &created?);
                Ok(())
            }
            Step::OwnClaim(owned) => self.own_claim(set, owned).await,
            Step::CreatePod { body } => {
                let created = self.pods.create(&set.meta, body).await;
                self.tell(set, "create", &name(body), created.as_ref().err());
                created.map(drop)
            }
            Step::Label { pod, labels } => {
                let patch = json!({"metadata": {
                    "uid": pod.meta.uid,
                    "resourceVersion": pod.meta.resource_version,
                    "labels": labels,
                }});
                let patched =
                    self.pods.patch(&set.key(), &pod.meta, PatchKind::Merge, &patch).await;
                self.tell(set, "update", &pod.meta.name, patched.as_ref().err());
                patched
            }
            Step::DeletePod(pod) => self.delete(set, pod, self.pods.delete(&set.meta, pod)).await,
            Step::DeleteBroken(pod) => {
                self.delete(set, pod, self.pods.delete_unchanged(&set.meta, pod)).await
            }
        }
    }

    /// Tells what became of a deletion.
    async fn delete(
        &self,
        set: &Cached<StatefulSet>,
        pod: &Cached<Pod>,
        deleting: impl Future<Output = Result<Option<Object>, Error>>,
    ) -> Result<(), Error> {
        let deleted = deleting.await;
        if !matches!(deleted, Ok(None)) {
            self.tell(set, "delete", &pod.meta.name, deleted.as_ref().err());
        }
        deleted.map(drop)
    }

    /// Reads and replaces, since upstream's role has no patch of claims.
    async fn own_claim(&self, set: &Cached<StatefulSet>, owned: &Owned) -> Result<(), Error> {
        let namespace = &set.meta.namespace;
        let found = self.api.get(CLAIMS, namespace, &owned.claim).await;
        let found = match found {
            Ok(found) if found.meta.uid == owned.uid => found,
            // Gone, or another one by now.
            Ok(_) => return Ok(()),
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut claim: Value = serde_json::from_slice(&found.bytes)
            .map_err(|error| Error::Malformed(error.to_string()))?;
        claim["metadata"]["ownerReferences"] = json!(owned.owners);
        let name = &owned.claim;
        match self.api.update(CLAIMS, namespace, name, "", &claim).await {
            Ok(written) => {
                self.claim_writes.record(&set.key(), &written);
                Ok(())
            }
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Upstream makes the pods without a word, and nobody finds them by name.
    /// Said of the first of them; the second is in the same case.
    fn tell_of_service(&self, view: &View, plan: &Plan) {
        let set = &view.set;
        let name = &set.view.spec.service_name;
        let creates = view.pods.is_empty()
            && plan.steps.iter().any(|step| matches!(step, Step::CreatePod { .. }));
        let is_there = || self.services.get(&format!("{}/{name}", set.meta.namespace)).is_some();
        if creates && !name.is_empty() && !is_there() {
            let message = format!(
                "Service {name:?} of spec.serviceName does not exist: pods have no DNS names of \
                 their own until it does"
            );
            self.recorder.warning(&pod_owner(set).reference(), "ServiceNotFound", message);
        }
    }

    /// `SuccessfulCreate`: `create Pod web-0 in StatefulSet web successful`.
    fn tell(&self, set: &Cached<StatefulSet>, verb: &str, pod: &str, error: Option<&Error>) {
        let about = pod_owner(set).reference();
        let reason = &format!("{}{}", verb[..1].to_uppercase(), &verb[1..]);
        let what = format!("{verb} Pod {pod} in StatefulSet {}", set.meta.name);
        match error {
            None => {
                let (reason, message) =
                    (format!("Successful{reason}"), format!("{what} successful"));
                self.recorder.normal(&about, &reason, message);
            }
            Some(error) if owner::namespace_terminates(error) => {}
            Some(error) => {
                let (reason, message) =
                    (format!("Failed{reason}"), format!("{what} failed error: {error}"));
                self.recorder.warning(&about, &reason, message);
            }
        }
    }

    fn tell_of_claim(
        &self,
        set: &Cached<StatefulSet>,
        claim: &str,
        pod: &str,
        error: Option<&Error>,
    ) {
        let about = pod_owner(set).reference();
        let set = &set.meta.name;
        match error {
            None => {
                let message =
                    format!("create Claim {claim} Pod {pod} in StatefulSet {set} success");
                self.recorder.normal(&about, "SuccessfulCreate", message);
            }
            Some(error) if owner::namespace_terminates(error) => {}
            Some(error) => {
                let message = format!(
                    "create Claim {claim} for Pod {pod} in StatefulSet {set} failed error: {error}"
                );
                self.recorder.warning(&about, "FailedCreate", message);
            }
        }
    }

    async fn write_status(
        &self,
        set: &Cached<StatefulSet>,
        status: &StatefulSetStatus,
    ) -> Result<(), Error> {
        if *status == set.view.status {
            return Ok(());
        }
        let status = json!({
            "observedGeneration": status.observed_generation,
            "replicas": status.replicas,
            "readyReplicas": count(status.ready_replicas),
            "currentReplicas": count(status.current_replicas),
            "updatedReplicas": count(status.updated_replicas),
            "availableReplicas": status.available_replicas,
            "currentRevision": status.current_revision,
            "updateRevision": status.update_revision,
            "collisionCount": status.collision_count,
        });
        self.patch_status(set, &status).await
    }

    async fn patch_status(&self, set: &Cached<StatefulSet>, status: &Value) -> Result<(), Error> {
        let patch = json!({"metadata": {"uid": set.meta.uid}, "status": status});
        status::write(&self.api, &self.writes, STATEFUL_SETS, &set.meta, &patch).await
    }
}

fn pod_owner(set: &Cached<StatefulSet>) -> PodOwner<'_> {
    PodOwner {
        resource: STATEFUL_SETS,
        api_version: "apps/v1",
        kind: "StatefulSet",
        meta: &set.meta,
    }
}

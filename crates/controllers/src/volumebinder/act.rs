//! Carries out the binder's plans. One worker looks at everything, after it
//! has seen its own last writes: no volume is ever given to two claims.

use std::sync::Arc;

use client::{
    Api, Cached, Error, Informer, Outcome, OwnWrites, PatchKind, Recorder, WorkQueue,
    reconcile_loop,
};
use serde_json::{Value, json};

use super::{
    claim::claim,
    plan::{Action, BIND_COMPLETED, Plan},
    view::{ClaimView, VolumeView},
    volume::volume,
};
use crate::{
    Context,
    cached::Pod,
    storage::{
        self, BY_CLAIM, CLAIMS, Claim, ClaimRef, Class, VOLUMES, Volume, about_claim, about_volume,
        class_of_claim,
    },
};

/// Index of claims by the volume that they name.
const BY_VOLUME: &str = "volume";
/// Index of the claims that were not bound yet; all under its own name.
const OPEN: &str = "open";
/// All writes wait for each other.
const ALL: &str = "";

struct Binder {
    api: Api,
    claims: Informer<Claim>,
    volumes: Informer<Volume>,
    classes: Informer<Class>,
    pods: Informer<Pod>,
    recorder: Recorder,
    claim_writes: OwnWrites,
    volume_writes: OwnWrites,
}

/// The controller. Never returns. Its keys are `namespace/name` of claims and
/// names of volumes.
pub(crate) async fn run(context: Context) {
    let informers = &context.informers;
    let binder = Arc::new(Binder {
        api: context.api.clone(),
        claims: storage::claims(informers),
        volumes: storage::volumes(informers),
        classes: storage::classes(informers),
        pods: storage::pods_by_claim(informers),
        recorder: context.recorder("persistentvolume-controller"),
        claim_writes: OwnWrites::default(),
        volume_writes: OwnWrites::default(),
    });
    binder.classes.wait_synced().await;
    binder.claims.add_index(BY_VOLUME, |claim| vec![claim.view.spec.volume_name.clone()]);
    binder
        .claims
        .add_index(OPEN, |claim| is_open(claim).then(|| OPEN.to_owned()).into_iter().collect());
    binder.volumes.add_index(BY_CLAIM, |volume| {
        volume.view.spec.claim_ref.iter().map(ClaimRef::key).collect()
    });
    let queue = Arc::new(WorkQueue::default());
    binder.listen(&queue);
    binder.claims.wait_synced().await;
    binder.volumes.wait_synced().await;
    binder.pods.wait_synced().await;
    reconcile_loop("persistentvolume-binder", queue, 1, move |key| {
        let binder = binder.clone();
        async move { binder.reconcile(&key).await }
    })
    .await;
}

/// Whether nothing was decided about a claim yet.
fn is_open(claim: &Cached<Claim>) -> bool {
    !claim.meta.annotations.contains_key(BIND_COMPLETED)
}

impl Binder {
    fn listen(&self, queue: &Arc<WorkQueue<String>>) {
        let (keys, volumes) = (queue.clone(), self.volumes.clone());
        self.claims.on_change(move |change| {
            let key = change.object().key();
            let names = change.sides().map(|claim| &claim.view.spec.volume_name);
            names.filter(|name| !name.is_empty()).for_each(|name| keys.add(name.clone()));
            if change.new.is_none() {
                // A binding that broke off half-way has its end here too.
                let naming = volumes.by_index(BY_CLAIM, &key);
                naming.iter().for_each(|volume| keys.add(volume.key()));
            }
            keys.add(key);
        });
        let (keys, claims) = (queue.clone(), self.claims.clone());
        self.volumes.on_change(move |change| {
            let key = change.object().key();
            for reference in change.sides().filter_map(|v| v.view.spec.claim_ref.as_ref()) {
                keys.add(reference.key());
            }
            let is_free = |volume: &Arc<Cached<Volume>>| {
                volume.view.status.phase == "Available" && volume.view.spec.claim_ref.is_none()
            };
            let mut concerned = claims.by_index(BY_VOLUME, &key);
            if change.new.as_ref().is_some_and(is_free) {
                concerned.extend(claims.by_index(OPEN, OPEN));
            }
            concerned.iter().for_each(|claim| keys.add(claim.key()));
            keys.add(key);
        });
        let (keys, claims) = (queue.clone(), self.claims.clone());
        self.classes.on_change(move |change| {
            let name = change.object().meta.name.as_str();
            let concerned = claims.by_index(OPEN, OPEN).into_iter();
            concerned
                .filter(|claim| class_of_claim(claim).is_none_or(|class| class == name))
                .for_each(|claim| keys.add(claim.key()));
        });
        let (keys, claims) = (queue.clone(), self.claims.clone());
        self.pods.on_change(move |change| {
            // Whose scheduling a claim waits for is part of what it is told.
            let node = |pod: &Arc<Cached<Pod>>| pod.view.spec.node_name.clone();
            if change.old.as_ref().map(node) == change.new.as_ref().map(node) {
                return;
            }
            for key in storage::claims_of(change.object()) {
                if claims.get(&key).is_some_and(|claim| is_open(&claim)) {
                    keys.add(key);
                }
            }
        });
    }

    async fn reconcile(&self, key: &str) -> Outcome {
        self.claim_writes.settle(ALL, &self.claims).await?;
        self.volume_writes.settle(ALL, &self.volumes).await?;
        let plan = match key.find('/') {
            Some(_) => match self.claims.get(key) {
                Some(found) => claim(&self.claim_view(found)),
                None => return Ok(None),
            },
            None => match self.volumes.get(key) {
                Some(found) => volume(&self.volume_view(found).await?),
                None => return Ok(None),
            },
        };
        self.carry_out(plan).await?;
        Ok(None)
    }

    fn claim_view(&self, claim: Arc<Cached<Claim>>) -> ClaimView {
        let named = claim.view.spec.volume_name.as_str();
        let is_choosing = named.is_empty() && is_open(&claim);
        let users: Vec<_> = self
            .pods
            .by_index(BY_CLAIM, &claim.key())
            .into_iter()
            .filter(|pod| pod.meta.deletion_timestamp.is_none() && !pod.view.is_terminal())
            .collect();
        let node = |pod: &Arc<Cached<Pod>>| pod.view.spec.node_name.clone();
        let waiting = users.iter().filter(|pod| node(pod).is_empty());
        ClaimView {
            volume: if named.is_empty() { None } else { self.volumes.get(named) },
            volumes: if is_choosing { self.volumes.list() } else { Vec::new() },
            class: class_of_claim(&claim).and_then(|name| self.classes.get(name)),
            default_class: storage::default_class(&self.classes),
            used_on: users.iter().map(node).find(|node| !node.is_empty()),
            waiting_pods: waiting.map(|pod| pod.meta.name.clone()).collect(),
            claim,
        }
    }

    async fn volume_view(&self, volume: Arc<Cached<Volume>>) -> Result<VolumeView, Error> {
        let Some(reference) = volume.view.spec.claim_ref.as_ref().filter(|r| !r.uid.is_empty())
        else {
            return Ok(VolumeView { volume, claim: None });
        };
        let is_it = |claim: &Cached<Claim>| claim.meta.uid == reference.uid;
        let known = self.claims.get(&format!("{}/{}", reference.namespace, reference.name));
        if let Some(claim) = known.filter(|claim| is_it(claim)) {
            return Ok(VolumeView { volume, claim: Some(claim) });
        }
        // Data may be removed for this, so the cache's word is not enough.
        let claim = match self.api.get(CLAIMS, &reference.namespace, &reference.name).await {
            Ok(object) => Cached::read(object, false).ok().filter(is_it).map(Arc::new),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
        Ok(VolumeView { volume, claim })
    }

    /// Each write names the version that the plan saw or that the write before
    /// made: where somebody else wrote meanwhile, the plan is made anew.
    async fn carry_out(&self, plan: Plan) -> Result<(), Error> {
        let Plan { claim, volume, actions } = plan;
        let mut claim_version = claim.as_ref().map(|c| c.meta.resource_version.clone());
        let mut volume_version = volume.as_ref().map(|v| v.meta.resource_version.clone());
        for action in actions {
            let (is_volume, subresource, mut patch) = match action {
                Action::PatchVolume(patch) => (true, "", patch),
                Action::PatchVolumeStatus(status) => (true, "status", json!({"status": status})),
                Action::PatchClaim(patch) => (false, "", patch),
                Action::PatchClaimStatus(status) => (false, "status", json!({"status": status})),
                Action::TellVolume(severity, reason, message) => {
                    if let Some(volume) = &volume {
                        let about = about_volume(&volume.meta);
                        self.recorder.event(&about, severity, reason, message);
                    }
                    continue;
                }
                Action::TellClaim(severity, reason, message) => {
                    if let Some(claim) = &claim {
                        let about = about_claim(&claim.meta);
                        self.recorder.event(&about, severity, reason, message);
                    }
                    continue;
                }
            };
            let (resource, meta, version, writes) = match is_volume {
                true => {
                    let meta = volume.as_ref().map(|volume| &volume.meta);
                    (VOLUMES, meta, &mut volume_version, &self.volume_writes)
                }
                false => {
                    let meta = claim.as_ref().map(|claim| &claim.meta);
                    (CLAIMS, meta, &mut claim_version, &self.claim_writes)
                }
            };
            let Some(meta) = meta else { continue };
            patch["metadata"]["uid"] = Value::from(meta.uid.as_str());
            patch["metadata"]["resourceVersion"] = json!(version);
            let (namespace, name) = (&meta.namespace, &meta.name);
            let written = self
                .api
                .patch(resource, namespace, name, subresource, PatchKind::Merge, &patch)
                .await;
            let written = match written {
                Ok(written) => written,
                Err(error) if error.is_not_found() => return Ok(()),
                Err(error) => return Err(error),
            };
            *version = Some(written.meta.resource_version.clone());
            writes.record(ALL, &written);
        }
        Ok(())
    }
}

//! How controllers write pods: claimed, created in growing batches, deleted
//! once; and what they remember of that until their cache shows it.

use std::{borrow::Borrow, collections::BTreeSet, sync::Arc};

use api_object::{LabelSelector, Meta, Object, Status};
use client::{
    Api, Cached, DeleteOptions, Error, Informer, Lagging, OwnWrites, PatchKind, Recorder,
    Reference, Resource,
};
use futures_util::future::join_all;
use serde_json::Value;

use crate::{
    Context,
    cached::{self, PODS, Pod},
    deletions::Deletions,
    overlap::{self, Selecting},
    owner::{self, Claim},
};

/// Who owns the pods that are written.
#[derive(Clone, Debug)]
pub(crate) struct PodOwner<'a> {
    pub(crate) resource: Resource,
    pub(crate) api_version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) meta: &'a Meta,
}

impl PodOwner<'_> {
    pub(crate) fn reference(&self) -> Reference {
        Reference::new(self.api_version, self.kind, self.meta)
    }
}

/// Pods that were to be made and are not there.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) missing: usize,
    error: Error,
}

impl Refused {
    /// What is to be told and tried again; nothing where the namespace goes.
    pub(crate) fn retried(self) -> Result<(), Error> {
        match owner::namespace_terminates(&self.error) {
            true => Ok(()),
            false => Err(self.error),
        }
    }
}

/// What was seen is no longer so; the newer state is on its way.
pub(crate) fn stale(resource: Resource, object: &Meta) -> Error {
    Error::Status(Box::new(Status::modified(&resource.gvr(), &object.name)))
}

pub(crate) fn has_finalizer(pod: &Meta, name: &str) -> bool {
    pod.finalizers.iter().any(|finalizer| finalizer == name)
}

/// A controller's hand on its pods.
pub(crate) struct Pods {
    api: Api,
    recorder: Recorder,
    pub(crate) informer: Informer<Pod>,
    writes: OwnWrites,
    deleted: Deletions,
}

impl Pods {
    pub(crate) fn new(context: &Context, recorder: Recorder) -> Self {
        Self {
            api: context.api.clone(),
            recorder,
            informer: cached::pods(&context.informers),
            writes: OwnWrites::default(),
            deleted: Deletions::default(),
        }
    }

    /// Waits until the cache has what was written for an owner.
    pub(crate) async fn settle(&self, key: &str) -> Result<(), Lagging> {
        self.writes.settle(key, &self.informer).await
    }

    /// The deletions that the cache does not show yet.
    pub(crate) fn deleted(&self, key: &str) -> BTreeSet<String> {
        self.deleted.unseen(key, &self.informer)
    }

    /// Forgets an owner that is gone.
    pub(crate) fn forget(&self, key: &str) {
        self.deleted.forget(key);
    }

    /// Takes what is to be adopted, lets go what is to be released. Either also
    /// changes the finalizer that all pods of the owner have, where there is one.
    pub(crate) async fn claim(
        &self,
        by: &PodOwner<'_>,
        claim: &Claim<Pod>,
        finalizer: Option<&str>,
    ) -> Result<(), Error> {
        let owner = by.meta;
        if !claim.adopt.is_empty() {
            // Our cache may not know yet that the owner is being deleted, or is
            // another one of that name; an adopted pod would be lost with it.
            let fresh = self.api.get(by.resource, &owner.namespace, &owner.name).await?;
            if fresh.meta.uid != owner.uid || fresh.meta.deletion_timestamp.is_some() {
                return Err(stale(by.resource, owner));
            }
        }
        for pod in &claim.adopt {
            let mut patch = owner::adopt(by.api_version, by.kind, owner, &pod.meta);
            if let Some(finalizer) = finalizer.filter(|name| !has_finalizer(&pod.meta, name)) {
                let all = pod.meta.finalizers.iter().map(String::as_str).chain([finalizer]);
                patch["metadata"]["finalizers"] = all.collect();
            }
            self.patch(&owner.key(), &pod.meta, PatchKind::Merge, &patch).await?;
        }
        for pod in &claim.release {
            let mut patch = owner::release(&owner.uid, &pod.meta);
            if let Some(finalizer) = finalizer {
                let others = pod.meta.finalizers.iter().filter(|name| *name != finalizer);
                patch["metadata"]["finalizers"] = others.map(String::as_str).collect();
            }
            self.patch(&owner.key(), &pod.meta, PatchKind::Merge, &patch).await?;
        }
        Ok(())
    }

    /// Tells a new owner, which has observed no generation of itself yet, of pods that it
    /// selects and others control.
    pub(crate) fn tell_of_overlap(
        &self,
        by: &PodOwner<'_>,
        selector: &LabelSelector,
        observed_generation: i64,
    ) {
        let selecting = Selecting { owner: by.meta, selector, observed_generation };
        overlap::tell(&self.recorder, &by.reference(), &selecting, &self.informer, |_| false);
    }

    /// Changes a pod's metadata; one that is gone needs none.
    pub(crate) async fn patch(
        &self,
        key: &str,
        pod: &Meta,
        kind: PatchKind,
        patch: &Value,
    ) -> Result<(), Error> {
        match self.api.patch(PODS, &pod.namespace, &pod.name, "", kind, patch).await {
            Ok(written) => {
                self.writes.record(key, &written);
                Ok(())
            }
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Creates one pod, without a word.
    pub(crate) async fn create(&self, owner: &Meta, body: &Value) -> Result<Object, Error> {
        let created = self.api.create(PODS, &owner.namespace, body).await?;
        self.writes.record(&owner.key(), &created);
        Ok(created)
    }

    /// Deletes one pod, without a word. Returns what the deletion made of it; nothing
    /// where it was not there.
    pub(crate) async fn delete(
        &self,
        owner: &Meta,
        pod: &Cached<Pod>,
    ) -> Result<Option<Object>, Error> {
        self.delete_if(owner, pod, &DeleteOptions::uid(&pod.meta.uid)).await
    }

    /// The same of one that still is as it was seen; see [`Self::delete_broken`].
    pub(crate) async fn delete_unchanged(
        &self,
        owner: &Meta,
        pod: &Cached<Pod>,
    ) -> Result<Option<Object>, Error> {
        self.delete_if(owner, pod, &DeleteOptions::unchanged(&pod.meta)).await
    }

    async fn delete_if(
        &self,
        owner: &Meta,
        pod: &Cached<Pod>,
        options: &DeleteOptions,
    ) -> Result<Option<Object>, Error> {
        let (namespace, name) = (&pod.meta.namespace, &pod.meta.name);
        match self.api.delete_answered(PODS, namespace, name, options).await {
            Ok(left) => {
                self.deleted.record(&owner.key(), pod);
                Ok(Some(left))
            }
            // Gone, another pod by now, or not as it was seen.
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates pods in batches of 1, 2, 4 and so on, so that a quota or an
    /// admission that refuses them all is asked once and not 500 times.
    pub(crate) async fn create_all<Body: Borrow<Value>>(
        &self,
        by: &PodOwner<'_>,
        bodies: &[Body],
    ) -> Result<(), Refused> {
        let (mut rest, mut batch) = (bodies, 1);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(batch.min(rest.len()));
            let (mut missing, mut failed) = (later.len(), None);
            for result in join_all(now.iter().map(|body| self.create(by.meta, body.borrow()))).await
            {
                match result {
                    Ok(created) => {
                        let message = format!("Created pod: {}", created.meta.name);
                        self.recorder.normal(&by.reference(), "SuccessfulCreate", message);
                    }
                    Err(error) => {
                        missing += 1;
                        failed = Some(error);
                    }
                }
            }
            if let Some(error) = failed {
                if !owner::namespace_terminates(&error) {
                    let message = format!("Error creating: {error}");
                    self.recorder.warning(&by.reference(), "FailedCreate", message);
                }
                return Err(Refused { missing, error });
            }
            (rest, batch) = (later, batch * 2);
        }
        Ok(())
    }

    /// Deletes pods. Returns what the deletions made of those that were there.
    pub(crate) async fn delete_all(
        &self,
        by: &PodOwner<'_>,
        pods: &[Arc<Cached<Pod>>],
    ) -> Result<Vec<Object>, Error> {
        self.delete_each(by, pods, |pod| DeleteOptions::uid(&pod.uid)).await
    }

    /// Deletes pods since nothing is lost with them: only those that still are as they were
    /// seen, since the cache may be behind, and a pod that did not work a moment ago may now.
    pub(crate) async fn delete_broken(
        &self,
        by: &PodOwner<'_>,
        pods: &[Arc<Cached<Pod>>],
    ) -> Result<(), Error> {
        self.delete_each(by, pods, DeleteOptions::unchanged).await.map(drop)
    }

    async fn delete_each(
        &self,
        by: &PodOwner<'_>,
        pods: &[Arc<Cached<Pod>>],
        options: fn(&Meta) -> DeleteOptions,
    ) -> Result<Vec<Object>, Error> {
        let delete = async |pod| self.delete_if(by.meta, pod, &options(&pod.meta)).await;
        let deletes = pods.iter().map(async |pod| match delete(pod).await {
            Ok(left) => {
                if left.is_some() {
                    let message = format!("Deleted pod: {}", pod.meta.name);
                    self.recorder.normal(&by.reference(), "SuccessfulDelete", message);
                }
                Ok(left)
            }
            Err(error) => {
                let message = format!("Error deleting: {error}");
                self.recorder.warning(&by.reference(), "FailedDelete", message);
                Err(error)
            }
        });
        let left: Result<Vec<Option<Object>>, Error> =
            join_all(deletes).await.into_iter().collect();
        Ok(left?.into_iter().flatten().collect())
    }
}

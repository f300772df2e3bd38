//! ControllerRevisions: the templates that a StatefulSet or DaemonSet had, by
//! number, so that `kubectl rollout undo` can put one of them back.

use std::sync::Arc;

use api_object::{LabelSelector, Meta};
use client::{Api, Cached, DeleteOptions, Error, Informer, OwnWrites, PatchKind};
use serde_json::{Value, json};

use crate::{
    Context,
    cached::{self, CONTROLLER_REVISIONS, ControllerRevision},
    hash::template_hash,
    owner,
    pods::PodOwner,
};

/// The label by which pods name their revision.
pub(crate) const POD_LABEL: &str = "controller-revision-hash";
/// The hash of a StatefulSet's revision.
pub(crate) const HASH_LABEL: &str = "controller.kubernetes.io/hash";

/// What a revision keeps: the strategic merge patch that puts the template back.
pub(crate) fn data(template: &Value) -> Value {
    let mut template = template.clone();
    template["$patch"] = json!("replace");
    json!({"spec": {"template": template}})
}

/// The template that a revision puts back.
pub(crate) fn template(revision: &Cached<ControllerRevision>) -> Value {
    let mut template = revision.view.data.value()["spec"]["template"].take();
    if let Some(template) = template.as_object_mut() {
        template.remove("$patch");
    }
    template
}

/// The revision of the present template.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Present {
    pub(crate) name: String,
    pub(crate) hash: String,
    /// Above those of all others.
    pub(crate) number: i64,
    /// Where it is there already.
    pub(crate) known: Option<Arc<Cached<ControllerRevision>>>,
}

impl Present {
    /// Whether it is there and has to be given its number: an old template came
    /// back.
    pub(crate) fn is_renumbered(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.view.revision != self.number)
    }
}

/// Finds the present template among its owner's revisions, or says what it will
/// be called.
pub(crate) fn present(
    owner: &Meta,
    own: &[Arc<Cached<ControllerRevision>>],
    template: &Value,
    collisions: i32,
) -> Present {
    let wanted = data(template);
    let same = own.iter().filter(|revision| revision.view.data.value() == wanted);
    let known = same.max_by_key(|revision| revision.view.revision);
    let others = own.iter().filter(|r| known.is_none_or(|known| r.meta.name != known.meta.name));
    let highest = others.map(|revision| revision.view.revision).max().unwrap_or(0);
    match known {
        Some(known) => Present {
            name: known.meta.name.clone(),
            hash: hash_of(known),
            number: known.view.revision.max(highest + 1),
            known: Some(known.clone()),
        },
        None => {
            let hash = template_hash(template, collisions);
            let name = format!("{}-{hash}", prefix(&owner.name));
            Present { name, hash, number: highest + 1, known: None }
        }
    }
}

/// As much of an owner's name as leaves room for the hash.
fn prefix(name: &str) -> &str {
    &name[..name.len().min(223)]
}

fn hash_of(revision: &Cached<ControllerRevision>) -> String {
    let labels = &revision.meta.labels;
    labels.get(HASH_LABEL).or_else(|| labels.get(POD_LABEL)).cloned().unwrap_or_default()
}

/// What an owner has: its own and what it is going to adopt; and the latter.
pub(crate) fn claim(
    owner: &Meta,
    selector: &LabelSelector,
    all: &[Arc<Cached<ControllerRevision>>],
) -> owner::Claim<ControllerRevision> {
    let mut claim = owner::claim(owner, selector, all, |_| true);
    // The history is its owner's whatever its labels say.
    claim.own.append(&mut claim.release);
    claim
}

/// The oldest beyond `limit`, of those that nothing is of any more.
pub(crate) fn beyond_limit(
    own: &[Arc<Cached<ControllerRevision>>],
    limit: Option<i32>,
    is_live: impl Fn(&Cached<ControllerRevision>) -> bool,
) -> Vec<Arc<Cached<ControllerRevision>>> {
    let limit = usize::try_from(limit.unwrap_or(10)).unwrap_or(0);
    let dead = own.iter().filter(|r| !is_live(r) && r.meta.deletion_timestamp.is_none());
    let mut dead: Vec<_> = dead.cloned().collect();
    dead.sort_by_key(|revision| (revision.view.revision, revision.meta.name.clone()));
    dead.truncate(dead.len().saturating_sub(limit));
    dead
}

/// How a revision was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Made {
    Done,
    /// Something else has the name: another template of the same hash.
    Collision,
}

/// The history and its writers.
pub(crate) struct Revisions {
    api: Api,
    pub(crate) informer: Informer<ControllerRevision>,
    writes: OwnWrites,
}

impl Revisions {
    pub(crate) fn new(context: &Context) -> Self {
        let informer = cached::revisions(&context.informers);
        Self { api: context.api.clone(), informer, writes: OwnWrites::default() }
    }

    /// Waits until the cache has what was written for an owner.
    pub(crate) async fn settle(&self, key: &str) -> Result<(), client::Lagging> {
        self.writes.settle(key, &self.informer).await
    }

    /// Takes revisions without a controller, then makes the present template's or
    /// gives it its number. `hash_label` is the label of its hash.
    pub(crate) async fn ensure(
        &self,
        by: &PodOwner<'_>,
        adopt: &[Arc<Cached<ControllerRevision>>],
        template: &Value,
        present: &Present,
        hash_label: &str,
    ) -> Result<Made, Error> {
        let owner = by.meta;
        let key = owner.key();
        for revision in adopt {
            let patch = owner::adopt(by.api_version, by.kind, owner, &revision.meta);
            self.patch(&key, &revision.meta, &patch).await?;
        }
        if let Some(known) = &present.known {
            if present.is_renumbered() {
                let patch = json!({
                    "metadata": {"uid": known.meta.uid, "resourceVersion": known.meta.resource_version},
                    "revision": present.number,
                });
                self.patch(&key, &known.meta, &patch).await?;
            }
            return Ok(Made::Done);
        }
        let mut labels = owner::labels(template);
        labels.insert(hash_label.to_owned(), present.hash.clone());
        let mut annotations = owner.annotations.clone();
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        let data = data(template);
        let body = json!({
            "apiVersion": "apps/v1",
            "kind": "ControllerRevision",
            "metadata": {
                "name": present.name,
                "namespace": owner.namespace,
                "labels": labels,
                "annotations": annotations,
                "ownerReferences": [owner::reference(by.api_version, by.kind, owner)],
            },
            "data": data,
            "revision": present.number,
        });
        match self.api.create(CONTROLLER_REVISIONS, &owner.namespace, &body).await {
            Ok(created) => {
                self.writes.record(&key, &created);
                Ok(Made::Done)
            }
            Err(error) if error.is_conflict() => {
                let found =
                    self.api.get(CONTROLLER_REVISIONS, &owner.namespace, &present.name).await?;
                let is_ours = found.meta.controller().is_some_and(|c| c.uid == owner.uid);
                let read = Cached::<ControllerRevision>::read(found.clone(), false);
                let is_same = read.is_ok_and(|found| found.view.data.value() == data);
                if is_ours && is_same {
                    self.writes.record(&key, &found);
                    return Ok(Made::Done);
                }
                Ok(Made::Collision)
            }
            Err(error) => Err(error),
        }
    }

    /// Forgets revisions.
    pub(crate) async fn delete(
        &self,
        revisions: &[Arc<Cached<ControllerRevision>>],
    ) -> Result<(), Error> {
        for revision in revisions {
            let options = DeleteOptions::uid(&revision.meta.uid);
            let (namespace, name) = (&revision.meta.namespace, &revision.meta.name);
            match self.api.delete(CONTROLLER_REVISIONS, namespace, name, &options).await {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    async fn patch(&self, key: &str, revision: &Meta, patch: &Value) -> Result<(), Error> {
        let (namespace, name) = (&revision.namespace, &revision.name);
        let patched =
            self.api.patch(CONTROLLER_REVISIONS, namespace, name, "", PatchKind::Merge, patch);
        match patched.await {
            Ok(written) => {
                self.writes.record(key, &written);
                Ok(())
            }
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }
}

//! Watches every kind, and carries out what is planned.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use api_object::{GroupVersion, Meta};
use client::{
    Ambient, Api, Backoff, DeleteOptions, Error, ListOptions, Outcome, PatchKind, Preconditions,
    Recorder, Reference, Reflected, Resource, WorkQueue, reconcile_loop, reflect,
};
use serde_json::{Value, json};
use tokio::{sync::Notify, task::JoinSet};

use super::{
    graph::{Changed, Graph, Misplaced, Node, Owner},
    plan::{Action, OwnerState, plan, unknown_owners},
};
use crate::{
    Context,
    discovery::{Away, Found, Names, discover},
    owner,
};

const WORKERS: usize = 4;
/// Owned by nobody, many, and gone by themselves.
const LEFT_OUT: &[&str] = &["events"];
/// Where kinds come from: a change there is a reason to look which there are.
const KINDS_COME_FROM: &[&str] = &["customresourcedefinitions", "apiservices"];
/// How soon groups that could not be asked for their kinds are asked again.
const DISCOVERY_BACKOFF: Backoff =
    Backoff { base: Duration::from_millis(100), cap: Duration::from_secs(60) };
/// What a kind must allow to be collected.
const VERBS: &[&str] = &["list", "watch", "delete"];

struct Collector {
    api: Api,
    recorder: Recorder,
    graph: Mutex<Graph>,
    /// By group and kind.
    kinds: Mutex<BTreeMap<(String, String), Resource>>,
    queue: Arc<WorkQueue<String>>,
    rediscover: Notify,
    /// Resources that are followed, and whether their state is complete.
    followed: Mutex<BTreeMap<Resource, bool>>,
}

/// The controller. Never returns.
pub(crate) async fn run(context: Context) {
    let collector = Arc::new(Collector {
        api: context.api.clone(),
        recorder: context.recorder("garbage-collector-controller"),
        graph: Mutex::default(),
        kinds: Mutex::default(),
        queue: Arc::default(),
        rediscover: Notify::new(),
        followed: Mutex::default(),
    });
    let worker = collector.clone();
    let work = reconcile_loop("garbage-collector", collector.queue.clone(), WORKERS, move |uid| {
        let collector = worker.clone();
        async move { collector.reconcile(&uid).await }
    });
    tokio::join!(collector.follow_kinds(&context.ambient), work);
}

impl Collector {
    fn graph(&self) -> MutexGuard<'_, Graph> {
        self.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn followed(&self) -> MutexGuard<'_, BTreeMap<Resource, bool>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look_at(&self, uids: Vec<String>) {
        uids.into_iter().for_each(|uid| self.queue.add(uid));
    }

    /// Follows every kind there is, and those that come and go.
    async fn follow_kinds(self: &Arc<Self>, ambient: &Ambient) {
        let mut names = Names::default();
        let mut following: BTreeMap<Resource, JoinSet<()>> = BTreeMap::new();
        let mut failures = 0;
        let mut away = Away::default();
        loop {
            let mut backoff = DISCOVERY_BACKOFF;
            match discover(&self.api, &mut names).await {
                Ok(discovery) => {
                    failures = if discovery.failed.is_empty() { 0 } else { failures + 1 };
                    let failed = discovery.failed.iter().map(|(group, _)| group.as_str());
                    let change = away.now(failed);
                    for (group, error) in &discovery.failed {
                        if change.left.contains(group) {
                            tracing::warn!(group, %error, "kinds not known, collecting the others");
                        }
                    }
                    for group in &change.back {
                        tracing::info!(group, "kinds known again");
                    }
                    // A kind whose group is away is not gone.
                    let complete = discovery.failed.is_empty();
                    self.follow(discovery.found, complete, &mut following, ambient);
                }
                Err(error) => {
                    failures += 1;
                    backoff = Backoff::CONNECT;
                    tracing::warn!(%error, "kinds not known");
                }
            }
            match failures {
                0 => self.rediscover.notified().await,
                // An API server beside ours may be away for long: it comes back with
                // a change of its APIService.
                n => {
                    let delay = ambient.jittered(backoff.delay(n));
                    tokio::select! {
                        () = self.rediscover.notified() => {}
                        () = tokio::time::sleep(delay) => {}
                    }
                }
            }
        }
    }

    fn follow(
        self: &Arc<Self>,
        found: Vec<Found>,
        complete: bool,
        following: &mut BTreeMap<Resource, JoinSet<()>>,
        ambient: &Ambient,
    ) {
        let mut wanted = BTreeSet::new();
        {
            let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
            // Below a path that is served no more all seems absent.
            if complete {
                kinds.clear();
            }
            for found in found {
                let resource = found.resource;
                if found.has(VERBS) && !LEFT_OUT.contains(&resource.plural) {
                    wanted.insert(resource);
                }
                kinds.insert((resource.group.to_owned(), found.kind), resource);
            }
        }
        if complete {
            let gone: Vec<Resource> =
                following.keys().filter(|known| !wanted.contains(known)).copied().collect();
            for resource in gone {
                following.remove(&resource);
                self.followed().remove(&resource);
                self.left(resource);
            }
        }
        for resource in wanted {
            self.followed().entry(resource).or_insert(false);
            following.entry(resource).or_insert_with(|| {
                let (collector, ambient) = (self.clone(), ambient.clone());
                let mut task = JoinSet::new();
                task.spawn(async move { collector.follow_one(resource, &ambient).await });
                task
            });
        }
    }

    async fn follow_one(&self, resource: Resource, ambient: &Ambient) {
        let mut seen: Option<BTreeSet<String>> = None;
        let options = ListOptions::default();
        reflect(&self.api, resource, "", &options, ambient, |event| match event {
            Reflected::Restart => seen = Some(BTreeSet::new()),
            Reflected::Upsert(object) => {
                let meta = &object.meta;
                if let Some(seen) = &mut seen {
                    seen.insert(meta.uid.clone());
                }
                let Changed { look, misplaced } =
                    self.graph().upsert(&meta.uid, Node::new(resource, meta));
                misplaced.iter().for_each(|found| self.tell(found));
                self.look_at(look);
                self.kinds_changed(resource);
            }
            Reflected::Delete(object) => {
                if let Some(seen) = &mut seen {
                    seen.remove(&object.meta.uid);
                }
                let look = self.graph().remove(&object.meta.uid);
                self.look_at(look);
                self.kinds_changed(resource);
            }
            Reflected::Synced(_) => {
                if let Some(seen) = seen.take() {
                    self.restarted(resource, &seen);
                }
                if self.followed().insert(resource, true) != Some(true) {
                    // References to this kind can be judged now.
                    let owned = self.graph().owned().map(str::to_owned).collect();
                    self.look_at(owned);
                }
            }
            Reflected::Progress(_) => {}
        })
        .await;
    }

    /// Says that a reference leads nowhere, before its object goes for it.
    fn tell(&self, found: &Misplaced) {
        let Node { resource, namespace, name, .. } = &found.dependent;
        let kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        // Kinds are known before their objects are followed.
        let kind = kinds.iter().find(|(_, known)| *known == resource);
        let kind = kind.map(|((_, kind), _)| kind.clone()).unwrap_or_default();
        drop(kinds);
        let about = Reference {
            kind,
            api_version: resource.api_version(),
            namespace: namespace.to_string(),
            name: name.to_string(),
            uid: found.uid.clone(),
            ..Reference::default()
        };
        self.recorder.warning(&about, "OwnerRefInvalidNamespace", found.message());
    }

    fn restarted(&self, resource: Resource, seen: &BTreeSet<String>) {
        let mut graph = self.graph();
        let gone: Vec<String> =
            graph.of(resource).filter(|uid| !seen.contains(*uid)).map(str::to_owned).collect();
        let look: Vec<String> = gone.iter().flat_map(|uid| graph.remove(uid)).collect();
        drop(graph);
        self.look_at(look);
    }

    /// A kind is served no more: its objects may be there all the same.
    fn left(&self, resource: Resource) {
        let mut graph = self.graph();
        let lost: Vec<String> = graph.of(resource).map(str::to_owned).collect();
        let look: Vec<String> = lost.iter().flat_map(|uid| graph.lose(uid)).collect();
        drop(graph);
        self.look_at(look);
    }

    fn kinds_changed(&self, resource: Resource) {
        if KINDS_COME_FROM.contains(&resource.plural) {
            self.rediscover.notify_one();
        }
    }

    async fn reconcile(&self, uid: &str) -> Outcome {
        let Some(node) = self.graph().get(uid).cloned() else { return Ok(None) };
        let unknown: Vec<Owner> =
            unknown_owners(&self.graph(), &node).into_iter().cloned().collect();
        let mut asked = Vec::new();
        for owner in unknown {
            let resource = self.resource_of(&owner);
            // While its kind is still being read everything seems gone; all
            // is looked at again when that is complete.
            if resource.is_some_and(|resource| self.followed().get(&resource) == Some(&false)) {
                return Ok(None);
            }
            let state = self.ask(&node, &owner, resource).await?;
            asked.push((owner.uid.to_string(), state));
        }
        let action = plan(&self.graph(), uid, &asked);
        self.carry_out(uid, &node, action).await?;
        Ok(None)
    }

    fn resource_of(&self, owner: &Owner) -> Option<Resource> {
        let group = GroupVersion::parse(&owner.api_version)?.group;
        let kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        kinds.get(&(group, owner.kind.to_string())).copied()
    }

    /// Asks the server whether an owner is there: the caches of two kinds
    /// are not of one moment, and a deletion cannot be taken back.
    async fn ask(
        &self,
        node: &Node,
        owner: &Owner,
        resource: Option<Resource>,
    ) -> Result<OwnerState, Error> {
        // A kind that nobody knows may come back with its definition, but what was seen to
        // go before it does not.
        let Some(resource) = resource else {
            if self.graph().is_gone(&owner.uid) {
                return Ok(OwnerState::Absent);
            }
            tracing::debug!(kind = %owner.kind, name = %node.name, "owner of an unknown kind");
            return Ok(OwnerState::Solid);
        };
        if resource.namespaced && node.namespace.is_empty() {
            tracing::warn!(name = %node.name, owner = %owner.name, "cluster-scoped object with a namespaced owner");
            return Ok(OwnerState::Solid);
        }
        match self.api.get(resource, &node.namespace, &owner.name).await {
            Ok(found) if found.meta.uid != *owner.uid => Ok(OwnerState::Absent),
            Ok(found) => Ok(match Node::new(resource, &found.meta).waits_for_dependents() {
                true => OwnerState::Waiting,
                false => OwnerState::Solid,
            }),
            Err(error) if is_absent(&error, &owner.name) => Ok(OwnerState::Absent),
            Err(error) => Err(error),
        }
    }

    async fn carry_out(&self, uid: &str, node: &Node, action: Action) -> Result<(), Error> {
        match action {
            Action::Keep => Ok(()),
            Action::AwaitDependents(uids) => {
                self.look_at(uids);
                Ok(())
            }
            Action::Delete(policy) => {
                // Our graph may lag behind: only the object as it is counts.
                let Some(fresh) = self.fresh(uid, node).await? else { return Ok(()) };
                if Node::new(node.resource, &fresh).owners != node.owners {
                    return Ok(());
                }
                let options = DeleteOptions {
                    propagation_policy: Some(policy),
                    preconditions: Some(Preconditions {
                        uid: Some(uid.to_owned()),
                        resource_version: Some(fresh.resource_version),
                    }),
                    ..DeleteOptions::default()
                };
                ignore_gone(
                    self.api.delete(node.resource, &node.namespace, &node.name, &options).await,
                )
            }
            Action::Forget(owners) => self.forget(uid, node, &owners).await,
            Action::Orphan(dependents) => {
                for dependent in dependents {
                    let found = self.graph().get(&dependent).cloned();
                    if let Some(found) = found {
                        self.forget(&dependent, &found, &[uid.to_owned()]).await?;
                    }
                }
                // The owner comes back when the last of them has changed.
                Ok(())
            }
            Action::Unblock(dependents) => {
                for dependent in dependents {
                    let found = self.graph().get(&dependent).cloned();
                    if let Some(found) = found {
                        self.unblock(&dependent, &found, uid).await?;
                    }
                }
                let options = DeleteOptions {
                    propagation_policy: Some("Foreground"),
                    ..DeleteOptions::uid(uid)
                };
                ignore_gone(
                    self.api.delete(node.resource, &node.namespace, &node.name, &options).await,
                )
            }
            Action::Release(finalizer) => {
                let Some(fresh) = self.fresh(uid, node).await? else { return Ok(()) };
                let left: Vec<&String> =
                    fresh.finalizers.iter().filter(|known| *known != finalizer).collect();
                if left.len() == fresh.finalizers.len() {
                    return Ok(());
                }
                let left = if left.is_empty() { Value::Null } else { json!(left) };
                self.patch(uid, node, &fresh, json!({"finalizers": left})).await
            }
        }
    }

    async fn forget(&self, uid: &str, node: &Node, owners: &[String]) -> Result<(), Error> {
        let Some(mut fresh) = self.fresh(uid, node).await? else { return Ok(()) };
        let before = fresh.owner_references.len();
        fresh.owner_references.retain(|reference| !owners.contains(&reference.uid));
        if fresh.owner_references.len() == before {
            return Ok(());
        }
        self.patch_owners(uid, node, &fresh).await
    }

    async fn unblock(&self, uid: &str, node: &Node, owner: &str) -> Result<(), Error> {
        let Some(mut fresh) = self.fresh(uid, node).await? else { return Ok(()) };
        for reference in fresh.owner_references.iter_mut().filter(|r| r.uid == owner) {
            reference.block_owner_deletion = Some(false);
        }
        self.patch_owners(uid, node, &fresh).await
    }

    async fn patch_owners(&self, uid: &str, node: &Node, fresh: &Meta) -> Result<(), Error> {
        let references = match fresh.owner_references.is_empty() {
            true => Value::Null,
            false => json!(fresh.owner_references),
        };
        self.patch(uid, node, fresh, json!({"ownerReferences": references})).await
    }

    async fn patch(
        &self,
        uid: &str,
        node: &Node,
        fresh: &Meta,
        mut metadata: Value,
    ) -> Result<(), Error> {
        metadata["uid"] = json!(uid);
        metadata["resourceVersion"] = json!(fresh.resource_version);
        let patch = json!({"metadata": metadata});
        let (namespace, name) = (&node.namespace, &node.name);
        let patched =
            self.api.patch(node.resource, namespace, name, "", PatchKind::Merge, &patch).await;
        ignore_gone(patched.map(drop))
    }

    /// The object's metadata as the server has it, unless it is gone.
    async fn fresh(&self, uid: &str, node: &Node) -> Result<Option<Meta>, Error> {
        match self.api.get(node.resource, &node.namespace, &node.name).await {
            Ok(found) => Ok((found.meta.uid == uid).then_some(found.meta)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Whether the server says that there is no object of that name: where nothing is served
/// any more it says the same of the path, and names nothing.
fn is_absent(error: &Error, name: &str) -> bool {
    let Error::Status(status) = error else { return false };
    error.is_not_found() && status.details.as_ref().is_some_and(|details| details.name == name)
}

fn ignore_gone(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(error) if error.is_not_found() || owner::namespace_terminates(&error) => Ok(()),
        result => result,
    }
}

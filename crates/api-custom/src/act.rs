//! Follows the definitions and serves their kinds.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use api_kinds::custom_resource_definition::{is_true, rows};
use api_schema::{Catalogue, tree};
use client::{
    Ambient, Api, Error, Informer, MetaOnly, Outcome, Resource, Selection, WorkQueue,
    reconcile_loop,
};
use serde_json::Value;
use tokio::{sync::watch, task::JoinSet};

use crate::{
    cleanup,
    plan::{Plan, Taken, plan},
};

pub(crate) const DEFINITIONS: Resource =
    Resource::cluster("apiextensions.k8s.io", "v1", "customresourcedefinitions");

/// The kinds that definitions make.
#[derive(Debug)]
pub struct CustomKinds {
    catalogue: Arc<Catalogue>,
    api: Api,
    ambient: Ambient,
    /// What was learned of each definition, by its name.
    known: Mutex<BTreeMap<String, Known>>,
    /// True once every definition that was there at first is served.
    ready: watch::Sender<bool>,
}

/// What is remembered of a definition between two looks at it.
#[derive(Clone, Debug)]
struct Known {
    group: String,
    accepted: Value,
    /// What the served rows were made from; `None` while none are.
    served: Option<u64>,
    terminating: bool,
}

impl CustomKinds {
    /// Nothing happens before [`Self::run`]. `api` must be allowed everything.
    pub fn new(catalogue: Arc<Catalogue>, api: Api, ambient: Ambient) -> Arc<Self> {
        let ready = watch::Sender::new(false);
        Arc::new(Self { catalogue, api, ambient, known: Mutex::default(), ready })
    }

    /// Completes when every definition that was there at first is served.
    pub async fn ready(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// Whether [`Self::ready`] is over.
    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// Never returns: drop it to stop.
    pub async fn run(self: Arc<Self>) {
        let informer = Informer::<MetaOnly>::new(Selection::all(DEFINITIONS));
        let queue = Arc::new(WorkQueue::default());
        let keys = queue.clone();
        informer.on_change(move |change| keys.add(change.object().key()));
        let mut tasks = JoinSet::new();
        let (follow, api, ambient) = (informer.clone(), self.api.clone(), self.ambient.clone());
        tasks.spawn(async move { follow.run(&api, &ambient).await });
        informer.wait_synced().await;
        let cleanups = Arc::new(tokio::sync::Mutex::new((JoinSet::new(), BTreeSet::new())));
        for cached in informer.list() {
            let key = cached.key();
            if let Err(error) = self.reconcile(&key, &queue, &cleanups).await {
                tracing::warn!(definition = key, %error, "a custom kind could not be served at first");
            }
        }
        self.ready.send_replace(true);
        let kinds = self.clone();
        let again = queue.clone();
        // One at a time: names are given to the first who asks.
        reconcile_loop("custom-kinds", queue, 1, move |key| {
            let (kinds, queue, cleanups) = (kinds.clone(), again.clone(), cleanups.clone());
            async move { kinds.reconcile(&key, &queue, &cleanups).await }
        })
        .await;
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn reconcile(
        self: &Arc<Self>,
        name: &str,
        queue: &WorkQueue<String>,
        cleanups: &tokio::sync::Mutex<(JoinSet<()>, BTreeSet<String>)>,
    ) -> Outcome {
        let found = match self.api.get(DEFINITIONS, "", name).await {
            Ok(object) => serde_json::from_slice(&object.bytes)?,
            Err(error) if error.is_not_found() => {
                self.forget(name, queue);
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let definition: Value = found;
        let group = tree::text(&definition, "spec.group").to_owned();
        let Plan { definition: wanted, serve, cleanup } =
            plan(&definition, &self.taken(&group, name), self.ambient.now());
        let accepted = tree::get(&wanted, "status.acceptedNames").clone();
        let before = self.known().get(name).cloned();
        let renamed = before.as_ref().is_none_or(|before| before.accepted != accepted);
        let served = match serve {
            true => self.serve(&wanted, before.as_ref())?,
            false => None,
        };
        let terminating = is_true(&wanted, "Terminating");
        let known = Known { group: group.clone(), accepted, served, terminating };
        self.known().insert(name.to_owned(), known);
        if wanted != definition {
            self.api.update(DEFINITIONS, "", name, "status", &wanted).await?;
        }
        if renamed {
            self.look_again(&group, name, queue);
        }
        if cleanup {
            let mut running = cleanups.lock().await;
            let (tasks, names) = &mut *running;
            while tasks.try_join_next().is_some() {}
            let uid = tree::text(&definition, "metadata.uid").to_owned();
            if names.insert(uid) {
                let (kinds, name) = (self.clone(), name.to_owned());
                tasks.spawn(async move { cleanup::run(&kinds.api, &kinds.ambient, &name).await });
            }
        }
        Ok(None)
    }

    /// Names of the group that others have.
    fn taken(&self, group: &str, name: &str) -> Taken {
        let mut taken = Taken::default();
        for (other, known) in &*self.known() {
            if other != name && known.group == group {
                taken.add(&known.accepted);
            }
        }
        for row in self.catalogue.all() {
            if row.custom.is_none() && row.group == group {
                taken.resources.insert(row.plural.to_string());
                taken.kinds.insert(row.kind.to_string());
            }
        }
        taken
    }

    /// Puts the kind's rows into the catalogue where they are other than those
    /// that are there.
    fn serve(&self, definition: &Value, before: Option<&Known>) -> Result<Option<u64>, Error> {
        let mut hasher = DefaultHasher::new();
        for part in ["metadata.uid", "spec", "status.acceptedNames"] {
            tree::get(definition, part).to_string().hash(&mut hasher);
        }
        let hash = hasher.finish();
        let group = tree::text(definition, "spec.group");
        let plural = tree::text(definition, "status.acceptedNames.plural");
        let terminating = is_true(definition, "Terminating");
        let same = before.is_some_and(|before| before.served == Some(hash));
        if same && before.is_some_and(|before| before.terminating == terminating) {
            return Ok(Some(hash));
        }
        let current: Vec<_> = self
            .catalogue
            .all()
            .into_iter()
            .filter(|row| row.custom.is_some() && row.group == group && row.plural == plural)
            .collect();
        let rows = match same && !current.is_empty() {
            // The same kinds under the same definition: their watches go on.
            true => current
                .iter()
                .map(|row| {
                    let mut row = (**row).clone();
                    if let Some(custom) = &mut row.custom {
                        custom.terminating = terminating;
                    }
                    row
                })
                .collect(),
            false => rows(definition).map_err(Error::Malformed)?,
        };
        self.catalogue.serve(group, plural, rows);
        Ok(Some(hash))
    }

    fn forget(&self, name: &str, queue: &WorkQueue<String>) {
        let Some(known) = self.known().remove(name) else { return };
        self.catalogue.serve(&known.group, tree::text(&known.accepted, "plural"), Vec::new());
        self.look_again(&known.group, name, queue);
    }

    /// Others of a group may have waited for a name.
    fn look_again(&self, group: &str, name: &str, queue: &WorkQueue<String>) {
        for (other, known) in &*self.known() {
            if other != name && known.group == group {
                queue.add(other.clone());
            }
        }
    }
}

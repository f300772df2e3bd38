//! The objects that quotas count, followed only where a quota does: one
//! informer for each namespace with quotas and each kind that they limit.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use api_kinds::quota;
use client::{Ambient, Api, Informer, Selection};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::discovery::{Found, Names, discover};

/// As much of an object as counts.
pub(super) struct Counted(pub(super) Value);

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut object = Value::deserialize(deserializer)?;
        quota::prune(&mut object);
        Ok(Self(object))
    }
}

/// Group and plural.
pub(super) type Kind = (String, String);

struct Followed {
    informer: Informer<Counted>,
    task: JoinHandle<()>,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Told of a namespace in which something that counts changed.
type OnChange = Arc<dyn Fn(&str) + Send + Sync>;

pub(super) struct Follower {
    api: Api,
    ambient: Ambient,
    on_change: OnChange,
    namespaces: Mutex<BTreeMap<String, BTreeMap<Kind, Followed>>>,
    kinds: tokio::sync::Mutex<(Names, Vec<Found>)>,
}

impl Follower {
    pub(super) fn new(api: Api, ambient: Ambient, on_change: OnChange) -> Self {
        Self {
            api,
            ambient,
            on_change,
            namespaces: Mutex::default(),
            kinds: tokio::sync::Mutex::new((Names::default(), Vec::new())),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, BTreeMap<Kind, Followed>>> {
        self.namespaces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows these kinds of a namespace and no others; gives their informers.
    /// A kind that the server does not serve has no objects.
    pub(super) async fn follow(
        &self,
        namespace: &str,
        wanted: &BTreeSet<Kind>,
    ) -> Result<BTreeMap<Kind, Informer<Counted>>, client::Error> {
        let missing: Vec<Kind> = {
            let mut all = self.lock();
            let known = all.entry(namespace.to_owned()).or_default();
            known.retain(|kind, _| wanted.contains(kind));
            wanted.iter().filter(|kind| !known.contains_key(*kind)).cloned().collect()
        };
        for kind in missing {
            let Some(resource) = self.resource(&kind).await? else { continue };
            let informer = Informer::<Counted>::new(Selection::all(resource).namespace(namespace));
            let (told, of, place) = (self.on_change.clone(), kind.clone(), namespace.to_owned());
            let ambient = self.ambient.clone();
            informer.on_change(move |change| {
                let counts = |object: &Arc<client::Cached<Counted>>| {
                    let ((group, plural), object, now) = (&of, &object.view.0, ambient.now());
                    let until = quota::until(group, plural, object, now);
                    (quota::usage(group, plural, object, now), until, quota::marks(object))
                };
                if change.old.as_ref().map(counts) != change.new.as_ref().map(counts) {
                    told(&place);
                }
            });
            let (api, ambient, running) =
                (self.api.clone(), self.ambient.clone(), informer.clone());
            let task = tokio::spawn(async move { running.run(&api, &ambient).await });
            let mut all = self.lock();
            let known = all.entry(namespace.to_owned()).or_default();
            known.entry(kind).or_insert(Followed { informer, task });
        }
        let mut all = self.lock();
        let known = all.entry(namespace.to_owned()).or_default();
        let informers = known.iter().map(|(kind, f)| (kind.clone(), f.informer.clone())).collect();
        if known.is_empty() {
            all.remove(namespace);
        }
        Ok(informers)
    }

    /// Asks what there is where the kind is not known yet.
    async fn resource(
        &self,
        (group, plural): &Kind,
    ) -> Result<Option<client::Resource>, client::Error> {
        let mut kinds = self.kinds.lock().await;
        let find = |kinds: &[Found]| {
            let mut known = kinds.iter().map(|known| known.resource);
            known.find(|r| r.group == group && r.plural == plural && r.namespaced)
        };
        if let Some(found) = find(&kinds.1) {
            return Ok(Some(found));
        }
        let found = discover(&self.api, &mut kinds.0).await?;
        kinds.1 = found.found;
        Ok(find(&kinds.1))
    }
}

//! What a controller has deleted, until its cache shows it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use client::{Cached, Informer, View};

/// Uids of objects that were deleted for a key. The answer to a delete has no
/// revision to wait for, so that the cache may show the object as if nothing
/// had happened for a while.
#[derive(Debug, Default)]
pub(crate) struct Deletions(Mutex<BTreeMap<String, BTreeSet<String>>>);

impl Deletions {
    /// An object was deleted for a key.
    pub(crate) fn record<V>(&self, key: &str, object: &Cached<V>) {
        self.lock().entry(key.to_owned()).or_default().insert(object.meta.uid.clone());
    }

    /// Those of a key (`namespace/name`) that the cache does not show yet.
    pub(crate) fn unseen<V: View>(&self, key: &str, cache: &Informer<V>) -> BTreeSet<String> {
        let mut all = self.lock();
        let Some(uids) = all.get_mut(key) else { return BTreeSet::new() };
        let namespace = key.split('/').next().unwrap_or_default();
        let alive: BTreeSet<String> = cache
            .list_namespace(namespace)
            .into_iter()
            .filter(|object| object.meta.deletion_timestamp.is_none())
            .map(|object| object.meta.uid.clone())
            .collect();
        uids.retain(|uid| alive.contains(uid));
        let uids = uids.clone();
        if uids.is_empty() {
            all.remove(key);
        }
        uids
    }

    /// The key is gone.
    pub(crate) fn forget(&self, key: &str) {
        self.lock().remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, BTreeSet<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

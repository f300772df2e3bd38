//! Keeps quotas' statuses.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use api_kinds::quota as reckon;
use client::{
    Api, Cached, Informer, Outcome, OwnWrites, PatchKind, Selection, WorkQueue, reconcile_loop,
};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    follow::{Follower, Kind},
    plan::{Objects, look_again, patch, used},
};
use crate::{Context, cached::RESOURCE_QUOTAS};

const WORKERS: usize = 2;
/// How long after a charge nothing is given back: the object that it was for
/// may not be stored, or not be in the caches, yet.
const AFTER_CHARGE: Duration = Duration::from_secs(1);
/// Longer than any healthy server takes to list a kind.
const SYNC_MAX: Duration = Duration::from_secs(30);

/// A quota as a whole: few, and small.
type Quota = Value;

struct Quotas {
    api: Api,
    quotas: Informer<Quota>,
    follower: Follower,
    context: Context,
    writes: OwnWrites,
    /// When each quota was last charged.
    charged: Arc<Mutex<BTreeMap<String, Instant>>>,
}

/// The controller. Never returns.
pub(crate) async fn run(context: Context) {
    let queue = context.queue();
    let quotas: Informer<Quota> = context.informers.get(Selection::all(RESOURCE_QUOTAS));
    let (keys, of) = (queue.clone(), quotas.clone());
    let told = move |namespace: &str| {
        of.list_namespace(namespace).iter().for_each(|quota| keys.add(quota.key()));
    };
    let controller = Arc::new(Quotas {
        api: context.api.clone(),
        follower: Follower::new(context.api.clone(), context.ambient.clone(), Arc::new(told)),
        quotas,
        context,
        writes: OwnWrites::default(),
        charged: Arc::default(),
    });
    controller.watch(&queue);
    controller.quotas.wait_synced().await;
    reconcile_loop("resourcequota", queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    })
    .await;
}

impl Quotas {
    fn watch(&self, queue: &Arc<WorkQueue<String>>) {
        let (keys, charged) = (queue.clone(), self.charged.clone());
        self.quotas.on_change(move |change| {
            let key = change.object().key();
            if let (Some(old), Some(new)) = (&change.old, &change.new) {
                let before = reckon::amounts(&old.view["status"]["used"]);
                let after = reckon::amounts(&new.view["status"]["used"]);
                if after.iter().any(|(name, n)| before.get(name).is_none_or(|known| n > known)) {
                    let mut charged = charged.lock().unwrap_or_else(PoisonError::into_inner);
                    charged.insert(key.clone(), Instant::now());
                }
            }
            keys.add(key);
        });
    }

    /// How long a charge is still too fresh to be taken back.
    fn fresh(&self, key: &str) -> Option<Duration> {
        let mut charged = self.charged.lock().unwrap_or_else(PoisonError::into_inner);
        let left = AFTER_CHARGE.checked_sub(charged.get(key)?.elapsed());
        let left = left.filter(|left| !left.is_zero());
        if left.is_none() {
            charged.remove(key);
        }
        left
    }

    async fn reconcile(&self, key: &str) -> Outcome {
        self.writes.settle(key, &self.quotas).await?;
        let namespace = key.split('/').next().unwrap_or_default();
        let all = self.quotas.list_namespace(namespace);
        let wanted: BTreeSet<Kind> = all.iter().flat_map(|quota| kinds(quota)).collect();
        let informers = self.follower.follow(namespace, &wanted).await?;
        let Some(quota) = self.quotas.get(key) else {
            self.charged.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
            return Ok(None);
        };
        let mut objects = Vec::new();
        for (kind, informer) in informers {
            if !kinds(&quota).contains(&kind) {
                continue;
            }
            tokio::time::timeout(SYNC_MAX, informer.wait_synced()).await?;
            let (group, plural) = kind;
            let counted = informer.list().iter().map(|object| object.view.0.clone()).collect();
            objects.push(Objects { group, plural, objects: counted });
        }
        let now = self.context.ambient.now();
        let used = used(&quota.view, &objects, now);
        let (fresh, later) = (self.fresh(key), look_again(&objects, now));
        if let Some(patch) = patch(&quota.view, used, fresh.is_some()) {
            let (namespace, name) = (&quota.meta.namespace, &quota.meta.name);
            let patched = self.api.patch(
                RESOURCE_QUOTAS,
                namespace,
                name,
                "status",
                PatchKind::Merge,
                &patch,
            );
            match patched.await {
                Ok(written) => self.writes.record(key, &written),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(fresh.into_iter().chain(later).min())
    }
}

/// The kinds that a quota limits.
fn kinds(quota: &Cached<Quota>) -> BTreeSet<Kind> {
    let hard = reckon::amounts(&quota.view["spec"]["hard"]);
    hard.keys().flat_map(|name| reckon::kinds_of(name)).collect()
}

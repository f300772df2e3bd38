//! Objects that go by themselves, many in one write.

use std::{sync::Arc, time::Duration};

use api_object::Status;
use api_schema::ResourceSpec;
use jiff::Timestamp;
use store::{CommitError, Condition, Item, Op, Range, Txn};

use crate::{Registry, registry::read_failed, stored};

/// What expires within this time of each other goes together: the clock ticks
/// seldom, and the disk is written once.
const TOGETHER: Duration = Duration::from_secs(300);
/// A clock that is set right long after boot must be noticed too.
const LOOK_AGAIN: Duration = Duration::from_secs(2 * 3600);
/// Deletions in one transaction.
const DELETIONS_MAX: usize = 500;

/// What one look at all objects of a kind has found.
struct Found {
    expired: Vec<Item>,
    /// When the next one expires; `None` where there is no other.
    next: Option<Timestamp>,
}

impl Registry {
    /// Removes objects when they expire, of every kind whose objects do. Runs
    /// until it is dropped. Several servers may do it at once: who comes second
    /// finds nothing left.
    pub async fn expire(self: Arc<Self>) {
        let rows = self.catalogue.all().into_iter();
        let kinds = rows
            .filter(|spec| spec.hooks.expires.is_some() && spec.stored_as.is_none())
            .map(|spec| self.clone().expire_kind(spec));
        futures_util::future::join_all(kinds).await;
    }

    async fn expire_kind(self: Arc<Self>, spec: Arc<ResourceSpec>) {
        loop {
            let seen = self.store.revision();
            let wait = match self.look(&spec) {
                Ok(found) => match self.remove_all(&found.expired).await {
                    Ok(()) => found.next.map(|next| self.until(next)),
                    Err(error) => {
                        tracing::warn!(kind = %spec.kind, "expired objects stay for now: {error}");
                        Some(TOGETHER)
                    }
                },
                Err(status) => {
                    tracing::warn!(kind = %spec.kind, "expired objects stay for now: {status}");
                    Some(LOOK_AGAIN)
                }
            };
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => self.changed(&spec, seen).await,
            }
        }
    }

    fn until(&self, next: Timestamp) -> Duration {
        let left = Duration::try_from(next.duration_since(self.now())).unwrap_or(Duration::ZERO);
        left.saturating_add(TOGETHER).min(LOOK_AGAIN)
    }

    fn look(&self, spec: &ResourceSpec) -> Result<Found, Status> {
        let now = self.now();
        let prefix = stored::prefix_of(spec, "");
        let page = self.store.range(&Range::all(prefix)).map_err(read_failed)?;
        let mut found = Found { expired: Vec::new(), next: None };
        for item in page.items {
            // What cannot be read stays, for whoever may remove it to see.
            let object = serde_json::from_slice(&item.value.data).ok();
            let at = spec.hooks.expires.zip(object).and_then(|(expires, object)| expires(&object));
            let Some(at) = at else { continue };
            if at <= now {
                found.expired.push(item);
            } else {
                found.next = Some(found.next.map_or(at, |next| next.min(at)));
            }
        }
        Ok(found)
    }

    async fn remove_all(&self, expired: &[Item]) -> Result<(), CommitError> {
        for some in expired.chunks(DELETIONS_MAX) {
            let at = |item: &Item| (item.key.clone(), Condition::AtRevision(item.revision));
            let txn = Txn {
                conditions: some.iter().map(at).collect(),
                ops: some.iter().map(|item| Op::Delete { key: item.key.clone() }).collect(),
            };
            self.store.commit(txn).await?;
        }
        Ok(())
    }

    /// Waits for something of the kind to be written after a revision.
    async fn changed(&self, spec: &ResourceSpec, since: store::Revision) {
        match self.store.watch(&stored::prefix_of(spec, ""), since) {
            // Either way there is something to look at.
            Ok(mut watcher) => drop(watcher.next().await),
            Err(error) => {
                tracing::debug!(kind = %spec.kind, "looking again later: {error}");
                tokio::time::sleep(TOGETHER).await;
            }
        }
    }
}

#[cfg(test)]
mod tests;

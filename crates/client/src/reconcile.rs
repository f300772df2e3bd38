//! The loop that every controller runs, and how a controller reads its own
//! writes.

use std::{
    any::Any,
    collections::BTreeMap,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use api_object::Object;
use futures_util::FutureExt;
use tokio::{task::JoinSet, time::timeout};

use crate::{BoxFuture, Error, Informer, View, WorkQueue, revision};

/// Longer than any healthy watch lags behind.
const LAG_MAX: Duration = Duration::from_secs(30);

/// Why a reconcile did not get to its end.
pub type ReconcileError = Box<dyn std::error::Error + Send + Sync>;

/// How a reconcile ended: done (and to be looked at again after a while, even
/// if nothing changes), or failed and to be tried again with back-off.
pub type Outcome = Result<Option<Duration>, ReconcileError>;

/// Takes keys from the queue and reconciles them, `workers` at a time, never
/// the same key twice at once. A failure or a panic is logged and tried again
/// with the queue's back-off. Returns when the queue is closed; may be
/// dropped at any time, which drops the reconciles that run and closes the
/// queue.
pub async fn reconcile_loop<F, Fut>(
    controller: &'static str,
    queue: Arc<WorkQueue<String>>,
    workers: usize,
    reconcile: F,
) where
    F: Fn(String) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Outcome> + Send + 'static,
{
    work_off(controller, queue, workers, Arc::new(move |key| Box::pin(reconcile(key)))).await;
}

/// Behind a pointer: the loop is one program and not one for each controller.
type Reconcile = dyn Fn(String) -> BoxFuture<Outcome> + Send + Sync;

async fn work_off(
    controller: &'static str,
    queue: Arc<WorkQueue<String>>,
    workers: usize,
    reconcile: Arc<Reconcile>,
) {
    let _close = CloseWhenDropped(queue.clone());
    let mut tasks = JoinSet::new();
    for _ in 0..workers {
        let (queue, reconcile) = (queue.clone(), reconcile.clone());
        tasks.spawn(async move {
            while let Some(key) = queue.next().await {
                work(controller, &queue, key, &*reconcile).await;
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}

/// Nobody takes keys any more: those who still hear of changes need not add
/// any.
struct CloseWhenDropped(Arc<WorkQueue<String>>);

impl Drop for CloseWhenDropped {
    fn drop(&mut self) {
        self.0.close();
    }
}

async fn work(
    controller: &'static str,
    queue: &WorkQueue<String>,
    key: String,
    reconcile: &Reconcile,
) {
    let attempt = AssertUnwindSafe(async { reconcile(key.clone()).await }).catch_unwind().await;
    match attempt {
        Ok(Ok(again)) => {
            queue.forget(&key);
            if let Some(delay) = again {
                queue.add_after(key.clone(), delay);
            }
        }
        Ok(Err(error)) => {
            let retry = queue.add_failed(key.clone());
            // Somebody else wrote first: the newer state is already on its way.
            let conflict = error.downcast_ref::<Error>().is_some_and(Error::is_conflict);
            if conflict {
                tracing::debug!(controller, key, %error, ?retry, "reconcile met a newer state");
            } else {
                tracing::warn!(controller, key, %error, ?retry, "reconcile failed");
            }
        }
        Err(panic) => {
            let retry = queue.add_failed(key.clone());
            let panic = panic_message(&*panic);
            tracing::error!(controller, key, panic, ?retry, "reconcile panicked");
        }
    }
    queue.done(&key);
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("unknown")
}

/// The revisions of a controller's own last writes, by key. A reconcile first
/// waits until its cache has them, so that it never creates twice because the
/// cache lags behind: what upstream's "expectations" guess by counting, the
/// store's one rising revision tells exactly. A write to one resource must be
/// waited for in an informer of that resource: keep one `OwnWrites` for each.
#[derive(Debug, Default)]
pub struct OwnWrites(Mutex<BTreeMap<String, u64>>);

/// The cache did not get to a controller's own write in time.
#[derive(Debug, thiserror::Error)]
#[error("the cache lags behind the controller's own write at revision {0}")]
pub struct Lagging(u64);

impl OwnWrites {
    /// Remembers a write done for `key`, from the server's answer.
    pub fn record(&self, key: &str, written: &Object) {
        let revision = revision(&written.meta.resource_version);
        let mut writes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match writes.get_mut(key) {
            Some(known) => *known = revision.max(*known),
            None => drop(writes.insert(key.to_owned(), revision)),
        }
    }

    /// Waits until the cache has what was written for `key`.
    ///
    /// # Errors
    /// Where that takes too long: the watch is broken, and its loop is at it.
    pub async fn settle<V: View>(&self, key: &str, informer: &Informer<V>) -> Result<(), Lagging> {
        let Some(revision) = self.get(key) else { return Ok(()) };
        if timeout(LAG_MAX, informer.wait_revision(revision)).await.is_err() {
            return Err(Lagging(revision));
        }
        let mut writes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if writes.get(key) == Some(&revision) {
            writes.remove(key);
        }
        Ok(())
    }

    fn get(&self, key: &str) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn failures_and_panics_are_tried_again() {
        let queue = Arc::new(WorkQueue::<String>::default());
        let tries = Arc::new(AtomicU32::new(0));
        queue.add("a".into());
        let (seen, closing) = (tries.clone(), queue.clone());
        reconcile_loop("test", queue, 2, move |key| {
            let (tries, queue) = (seen.clone(), closing.clone());
            async move {
                assert_eq!(key, "a");
                match tries.fetch_add(1, Ordering::Relaxed) {
                    0 => Err("no".into()),
                    1 => panic!("worse"),
                    2 => Ok(Some(Duration::from_secs(3600))),
                    _ => {
                        queue.close();
                        Ok(None)
                    }
                }
            }
        })
        .await;
        assert_eq!(tries.load(Ordering::Relaxed), 4);
    }
}

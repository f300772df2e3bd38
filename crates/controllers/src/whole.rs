//! Controllers that bring about one whole, of all objects of a few kinds: what they see
//! of each, their loop, and how what they decided is carried out.

use std::sync::Arc;

use client::{Change, Error, Informer, Outcome, View, WorkQueue, reconcile_loop};
use futures_util::{StreamExt, TryStreamExt};
use serde::Deserialize;
use serde_json::Value;

/// Writes in flight at once: they share the log's fsyncs.
const AT_ONCE: usize = 16;
/// There is one thing to be brought about.
const KEY: &str = "cluster";

/// The part of an object that is looked at.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Kept {
    pub(crate) spec: Value,
    pub(crate) status: Value,
}

impl Kept {
    /// The conditions as they are written.
    pub(crate) fn conditions(&self) -> Vec<Value> {
        self.status["conditions"].as_array().cloned().unwrap_or_default()
    }
}

/// The one key, which each change of what is followed queues.
#[derive(Debug)]
pub(crate) struct Whole(Arc<WorkQueue<String>>);

impl Whole {
    /// Queued once, whatever changes.
    pub(crate) fn new() -> Self {
        let queue = Arc::new(WorkQueue::default());
        queue.add(KEY.to_owned());
        Self(queue)
    }

    /// Looks at it again when one of these changes; returns once they are known.
    pub(crate) async fn follow<V: View>(&self, informer: &Informer<V>) {
        self.follow_where(informer, |_| true).await;
    }

    /// As [`Self::follow`], for the changes that matter.
    pub(crate) async fn follow_where<V: View>(
        &self,
        informer: &Informer<V>,
        matters: impl Fn(&Change<V>) -> bool + Send + Sync + 'static,
    ) {
        let keys = self.0.clone();
        informer.on_change(move |change| {
            if matters(change) {
                keys.add(KEY.to_owned());
            }
        });
        informer.wait_synced().await;
    }

    /// The loop. Never returns.
    pub(crate) async fn run<F, Fut>(self, controller: &'static str, reconcile: F)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        reconcile_loop(controller, self.0, 1, move |_| reconcile()).await;
    }
}

/// Carries out actions side by side. What another server was first with, or what is
/// gone meanwhile, is seen next.
///
/// # Errors
/// The first of the others.
pub(crate) async fn carry_out<A, Fut>(actions: Vec<A>, act: impl Fn(A) -> Fut) -> Result<(), Error>
where
    Fut: Future<Output = Result<(), Error>>,
{
    let done = futures_util::stream::iter(actions).map(act).buffer_unordered(AT_ONCE);
    done.map(|result| match result {
        Err(error) if error.is_conflict() || error.is_not_found() => Ok(()),
        other => other,
    })
    .try_collect()
    .await
}

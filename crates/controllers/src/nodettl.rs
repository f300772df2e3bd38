//! TTL: tells each node for how long it may keep Secrets and ConfigMaps in mind,
//! the longer the more nodes there are to ask for them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use client::{Informer, MetaOnly, Outcome, PatchKind, Selection, WorkQueue, reconcile_loop};
use serde_json::json;

use crate::{Context, cached::NODES};

const ANNOTATION: &str = "node.alpha.kubernetes.io/ttl";

/// A step of cluster size: it is left upwards at `most` nodes and downwards
/// below `least`; they overlap, so that one node more or less does not change
/// all of them. Upstream's numbers.
struct Step {
    least: usize,
    most: usize,
    seconds: u32,
}

const STEPS: &[Step] = &[
    Step { least: 0, most: 100, seconds: 0 },
    Step { least: 90, most: 500, seconds: 15 },
    Step { least: 450, most: 1000, seconds: 30 },
    Step { least: 900, most: 2000, seconds: 60 },
    Step { least: 1800, most: usize::MAX, seconds: 300 },
];

/// The step for a number of nodes, coming from another.
fn step(mut at: usize, nodes: usize) -> usize {
    while nodes > STEPS[at].most {
        at += 1;
    }
    while nodes < STEPS[at].least {
        at -= 1;
    }
    at
}

/// The controller. Never returns.
pub(crate) async fn run(context: Context) {
    let nodes: Informer<MetaOnly> = context.informers.get(Selection::all(NODES));
    let at = Arc::new(AtomicUsize::new(0));
    let queue = Arc::new(WorkQueue::default());
    nodes.wait_synced().await;
    let (keys, all, known) = (queue.clone(), nodes.clone(), at.clone());
    nodes.on_change(move |change| {
        let before = known.load(Ordering::Relaxed);
        let now = step(before, all.len());
        known.store(now, Ordering::Relaxed);
        if now != before {
            all.list().iter().for_each(|node| keys.add(node.key()));
        }
        keys.add(change.object().key());
    });
    reconcile_loop("ttl", queue, 1, move |name| {
        let (nodes, at, api) = (nodes.clone(), at.clone(), context.api.clone());
        async move {
            let Some(node) = nodes.get(&name) else { return Ok(None) };
            let wanted = STEPS[at.load(Ordering::Relaxed)].seconds.to_string();
            if node.meta.annotations.get(ANNOTATION) == Some(&wanted) {
                return Outcome::Ok(None);
            }
            let patch = json!({"metadata": {
                "uid": node.meta.uid,
                "annotations": {ANNOTATION: wanted},
            }});
            match api.patch(NODES, "", &name, "", PatchKind::Merge, &patch).await {
                Err(error) if !error.is_not_found() => Err(error.into()),
                _ => Ok(None),
            }
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_overlap() {
        let walk = [50, 101, 95, 89, 501, 460, 440, 5000, 1800, 1799, 10];
        let mut at = 0;
        let seconds: Vec<u32> = walk
            .iter()
            .map(|nodes| {
                at = step(at, *nodes);
                STEPS[at].seconds
            })
            .collect();
        assert_eq!(seconds, [0, 15, 15, 0, 30, 30, 15, 300, 300, 60, 0]);
    }
}

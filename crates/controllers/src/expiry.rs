//! Deletes objects once their time is up: what the cleaners have in common.

use std::time::Duration;

use client::{Cached, DeleteOptions, Informer, Outcome, Selection, View, reconcile_loop};
use jiff::Timestamp;

use crate::Context;

/// Follows the objects that are selected, and deletes each when nothing is left of
/// its life; `None` is for ever. Reads and writes as whom the context is. Never
/// returns.
pub(crate) async fn run<V: View>(
    context: Context,
    name: &'static str,
    selection: Selection,
    left: fn(&Cached<V>, Timestamp) -> Option<Duration>,
) {
    let resource = selection.resource;
    let objects = Informer::<V>::new(selection);
    let queue = context.queue();
    let keys = queue.clone();
    objects.on_change(move |change| {
        if let Some(object) = &change.new {
            keys.add(object.meta.key());
        }
    });
    let (known, api, ambient) = (objects.clone(), context.api.clone(), context.ambient.clone());
    let clean = reconcile_loop(name, queue, 1, move |key: String| {
        let (known, context) = (known.clone(), context.clone());
        async move {
            let Some(object) = known.get(&key) else { return Ok(None) };
            let Some(left) = left(&object, context.ambient.now()) else { return Ok(None) };
            if !left.is_zero() {
                return Ok(Some(left));
            }
            let (meta, options) = (&object.meta, DeleteOptions::uid(&object.meta.uid));
            let deleted = context.api.delete(resource, &meta.namespace, &meta.name, &options).await;
            let outcome: Outcome = match deleted {
                Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error.into()),
                _ => Ok(None),
            };
            outcome
        }
    });
    tokio::select! {
        () = objects.run(&api, &ambient) => {}
        () = clean => {}
    }
}

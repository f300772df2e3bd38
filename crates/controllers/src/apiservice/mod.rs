//! APIServices: each version of a group that this server serves has one that
//! says so, and each that names another server says that nobody asks it.
//! Upstream calls the two auto-registration and availability.

mod plan;

use std::sync::Arc;

use api_object::time;
use client::{
    Api, Cached, DeleteOptions, Error, Informer, MetaOnly, Outcome, PatchKind, Selection,
    WorkQueue, reconcile_loop,
};
use futures_util::{StreamExt, TryStreamExt};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Context,
    cached::{API_SERVICES, CUSTOM_RESOURCE_DEFINITIONS},
    discovery,
};
use plan::{Action, Seen};

/// Writes in flight at once: they share the log's fsyncs.
const AT_ONCE: usize = 16;
/// There is one thing to be brought about.
const KEY: &str = "cluster";

/// The part of an object that is looked at.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Kept {
    spec: Value,
    status: Value,
}

struct ApiServices {
    api: Api,
    services: Informer<Kept>,
    definitions: Informer<MetaOnly>,
    context: Context,
}

/// The controller. Never returns. What is served comes from discovery; a change
/// of a definition is what changes it.
pub(crate) async fn run(context: Context) {
    let controller = Arc::new(ApiServices {
        api: context.api.clone(),
        services: context.informers.get(Selection::all(API_SERVICES)),
        definitions: context.informers.get(Selection::all(CUSTOM_RESOURCE_DEFINITIONS)),
        context,
    });
    let queue = Arc::new(WorkQueue::default());
    queue.add(KEY.to_owned());
    let keys = queue.clone();
    controller.services.on_change(move |_| keys.add(KEY.to_owned()));
    let keys = queue.clone();
    controller.definitions.on_change(move |_| keys.add(KEY.to_owned()));
    controller.services.wait_synced().await;
    controller.definitions.wait_synced().await;
    reconcile_loop("apiservice", queue, 1, move |_| {
        let controller = controller.clone();
        async move { controller.reconcile().await }
    })
    .await;
}

impl ApiServices {
    async fn reconcile(&self) -> Outcome {
        let served = discovery::group_versions(&self.api).await?;
        let seen: Vec<Seen> = self.services.list().iter().map(|object| Seen::of(object)).collect();
        let now = time::format_seconds(self.context.ambient.now());
        let actions = plan::plan(&served, &seen, &now);
        futures_util::stream::iter(actions)
            .map(|action| self.act(action))
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        Ok(None)
    }

    async fn act(&self, action: Action) -> Result<(), Error> {
        let result = match action {
            Action::Create(object) => self.api.create(API_SERVICES, "", &object).await.map(drop),
            Action::Delete { name, uid } => {
                self.api.delete(API_SERVICES, "", &name, &DeleteOptions::uid(&uid)).await.map(drop)
            }
            Action::Report { name, conditions } => {
                let patch = json!({ "status": { "conditions": conditions } });
                let kind = PatchKind::Merge;
                let patched = self.api.patch(API_SERVICES, "", &name, "status", kind, &patch);
                patched.await.map(drop)
            }
        };
        match result {
            // Another server was first, or the object is gone meanwhile: both
            // are seen next.
            Err(error) if error.is_conflict() || error.is_not_found() => Ok(()),
            other => other,
        }
    }
}

impl Seen {
    fn of(object: &Cached<Kept>) -> Self {
        Self {
            name: object.meta.name.clone(),
            uid: object.meta.uid.clone(),
            managed: object.meta.labels.get(plan::MANAGED).cloned(),
            local: object.view.spec["service"].is_null(),
            conditions: object.view.status["conditions"].as_array().cloned().unwrap_or_default(),
        }
    }
}

//! Flow control: the FlowSchemas and PriorityLevelConfigurations that every
//! cluster has are there and as they should be, and each FlowSchema says whether
//! its level exists. Upstream's API server does this itself.

mod plan;

use std::sync::Arc;

use api_object::time;
use client::{
    Api, Cached, Error, Informer, Outcome, PatchKind, Selection, WorkQueue, reconcile_loop,
};
use futures_util::{StreamExt, TryStreamExt};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Context,
    cached::{FLOW_SCHEMAS, PRIORITY_LEVELS},
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

struct FlowControl {
    api: Api,
    schemas: Informer<Kept>,
    levels: Informer<Kept>,
    context: Context,
}

/// The controller. Never returns.
pub(crate) async fn run(context: Context) {
    let controller = Arc::new(FlowControl {
        api: context.api.clone(),
        schemas: context.informers.get(Selection::all(FLOW_SCHEMAS)),
        levels: context.informers.get(Selection::all(PRIORITY_LEVELS)),
        context,
    });
    let queue = Arc::new(WorkQueue::default());
    queue.add(KEY.to_owned());
    let keys = queue.clone();
    controller.schemas.on_change(move |_| keys.add(KEY.to_owned()));
    let keys = queue.clone();
    controller.levels.on_change(move |_| keys.add(KEY.to_owned()));
    controller.schemas.wait_synced().await;
    controller.levels.wait_synced().await;
    reconcile_loop("flowcontrol", queue, 1, move |_| {
        let controller = controller.clone();
        async move { controller.reconcile().await }
    })
    .await;
}

impl FlowControl {
    async fn reconcile(&self) -> Outcome {
        let seen = |objects: Vec<Arc<Cached<Kept>>>| objects.iter().map(|o| Seen::of(o)).collect();
        let schemas: Vec<Seen> = seen(self.schemas.list());
        let levels: Vec<Seen> = seen(self.levels.list());
        let now = time::format_seconds(self.context.ambient.now());
        let actions = plan::plan(&schemas, &levels, &now);
        futures_util::stream::iter(actions)
            .map(|action| self.act(action))
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        Ok(None)
    }

    async fn act(&self, action: Action) -> Result<(), Error> {
        let resource = |plural| match plural {
            "flowschemas" => FLOW_SCHEMAS,
            _ => PRIORITY_LEVELS,
        };
        let result = match action {
            Action::Create { plural, object } => {
                self.api.create(resource(plural), "", object).await
            }
            Action::Correct { plural, name, spec } => {
                let patch = json!([{ "op": "replace", "path": "/spec", "value": spec }]);
                let kind = PatchKind::Json;
                self.api.patch(resource(plural), "", &name, "", kind, &patch).await
            }
            Action::Report { name, conditions } => {
                let patch = json!({ "status": { "conditions": conditions } });
                let kind = PatchKind::Merge;
                self.api.patch(FLOW_SCHEMAS, "", &name, "status", kind, &patch).await
            }
        };
        match result {
            // Another server was first, or the object is gone meanwhile: both
            // are seen next.
            Err(error) if error.is_conflict() || error.is_not_found() => Ok(()),
            other => other.map(drop),
        }
    }
}

impl Seen {
    fn of(object: &Cached<Kept>) -> Self {
        Self {
            name: object.meta.name.clone(),
            generation: object.meta.generation,
            auto_update: object.meta.annotations.get(api_kinds::flow_control::AUTO_UPDATE).cloned(),
            spec: object.view.spec.clone(),
            conditions: object.view.status["conditions"].as_array().cloned().unwrap_or_default(),
        }
    }
}

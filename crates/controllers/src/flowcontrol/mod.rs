//! Flow control: the FlowSchemas and PriorityLevelConfigurations that every
//! cluster has are there and as they should be, and each FlowSchema says whether
//! its level exists. Upstream's API server does this itself.

mod plan;

use std::sync::Arc;

use api_object::time;
use client::{Api, Cached, Error, Informer, Outcome, PatchKind, Selection};
use serde_json::json;

use crate::{
    Context,
    cached::{FLOW_SCHEMAS, PRIORITY_LEVELS},
    whole::{Kept, Whole, carry_out},
};
use plan::{Action, Seen};

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
    let whole = Whole::new();
    whole.follow(&controller.schemas).await;
    whole.follow(&controller.levels).await;
    let reconcile = move || {
        let controller = controller.clone();
        async move { controller.reconcile().await }
    };
    whole.run("flowcontrol", reconcile).await;
}

impl FlowControl {
    async fn reconcile(&self) -> Outcome {
        let seen = |objects: Vec<Arc<Cached<Kept>>>| objects.iter().map(|o| Seen::of(o)).collect();
        let schemas: Vec<Seen> = seen(self.schemas.list());
        let levels: Vec<Seen> = seen(self.levels.list());
        let now = time::format_seconds(self.context.ambient.now());
        carry_out(plan::plan(&schemas, &levels, &now), |action| self.act(action)).await?;
        Ok(None)
    }

    async fn act(&self, action: Action) -> Result<(), Error> {
        let resource = |plural| match plural {
            "flowschemas" => FLOW_SCHEMAS,
            _ => PRIORITY_LEVELS,
        };
        let written = match action {
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
        written.map(drop)
    }
}

impl Seen {
    fn of(object: &Cached<Kept>) -> Self {
        Self {
            name: object.meta.name.clone(),
            generation: object.meta.generation,
            auto_update: object.meta.annotations.get(api_kinds::flow_control::AUTO_UPDATE).cloned(),
            spec: object.view.spec.clone(),
            conditions: object.view.conditions(),
        }
    }
}

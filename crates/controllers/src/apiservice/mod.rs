//! APIServices: each version of a group that this server serves has one that
//! says so (here), and each that names another server says whether that one
//! answers (`availability.rs`, decided in `available.rs`). Upstream calls the two
//! auto-registration and availability.

mod availability;
mod available;
mod plan;
#[cfg(test)]
mod story;

use std::sync::Arc;

use api_object::time;
use client::{Api, Cached, DeleteOptions, Error, Informer, Outcome, PatchKind, Selection};
use serde_json::json;

use crate::{
    Context,
    cached::{API_SERVICES, CUSTOM_RESOURCE_DEFINITIONS},
    whole::{Kept, Whole, carry_out},
};
pub(crate) use availability::run as run_availability;
use plan::{Action, Definition, Seen};

struct ApiServices {
    api: Api,
    services: Informer<Kept>,
    definitions: Informer<Definition>,
    context: Context,
}

/// The controller. Never returns. Discovery is not asked what is served: others
/// have a part in that.
pub(crate) async fn run(context: Context) {
    let controller = Arc::new(ApiServices {
        api: context.api.clone(),
        services: context.informers.get(Selection::all(API_SERVICES)),
        definitions: context.informers.get(Selection::all(CUSTOM_RESOURCE_DEFINITIONS)),
        context,
    });
    let whole = Whole::new();
    whole.follow(&controller.services).await;
    whole.follow(&controller.definitions).await;
    let reconcile = move || {
        let controller = controller.clone();
        async move { controller.reconcile().await }
    };
    whole.run("apiservice", reconcile).await;
}

impl ApiServices {
    async fn reconcile(&self) -> Outcome {
        let definitions = self.definitions.list();
        let served = plan::served(definitions.iter().map(|object| &object.view));
        let seen: Vec<Seen> = self.services.list().iter().map(|object| Seen::of(object)).collect();
        let now = time::format_seconds(self.context.ambient.now());
        carry_out(plan::plan(&served, &seen, &now), |action| self.act(action)).await?;
        Ok(None)
    }

    async fn act(&self, action: Action) -> Result<(), Error> {
        match action {
            Action::Create(object) => self.api.create(API_SERVICES, "", &object).await.map(drop),
            Action::Delete { name, uid } => {
                self.api.delete(API_SERVICES, "", &name, &DeleteOptions::uid(&uid)).await
            }
            Action::Report { name, conditions } => {
                let patch = json!({ "status": { "conditions": conditions } });
                let kind = PatchKind::Merge;
                let patched = self.api.patch(API_SERVICES, "", &name, "status", kind, &patch);
                patched.await.map(drop)
            }
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
            conditions: object.view.conditions(),
        }
    }
}

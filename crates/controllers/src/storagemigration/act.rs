//! Goes through the objects page by page.

use std::sync::Arc;

use api_object::{Object, time};
use bytes::Bytes;
use client::{
    Api, Cached, Error, Informer, Outcome, OwnWrites, PatchKind, Resource, Selection, WorkQueue,
    reconcile_loop, with_query,
};
use http::Method;
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use tokio::sync::Mutex;

use super::plan::{
    FAILED, Migration, Plan, RUNNING, SUCCEEDED, Verdict, has_ended, is_due, plan, reached, verdict,
};
use crate::{
    Context,
    cached::STORAGE_MIGRATIONS,
    discovery::{Names, discover},
    status::{self, conditions_json},
};

/// Objects may be a megabyte each.
const PAGE: &str = "100";

struct Migrator {
    api: Api,
    migrations: Informer<Migration>,
    names: Mutex<Names>,
    writes: OwnWrites,
    context: Context,
}

/// The controller. Never returns. Its keys are the names of migrations; one is done
/// after the other, so that they cost the server no more than one.
pub(crate) async fn run(context: Context) {
    let controller = Arc::new(Migrator {
        api: context.api.clone(),
        migrations: context.informers.get(Selection::all(STORAGE_MIGRATIONS)),
        names: Mutex::default(),
        writes: OwnWrites::default(),
        context,
    });
    let queue = Arc::new(WorkQueue::default());
    let keys = queue.clone();
    controller.migrations.on_change(move |change| {
        if change.new.as_ref().is_some_and(|new| !has_ended(&new.view)) {
            keys.add(change.object().key());
        }
    });
    controller.migrations.wait_synced().await;
    reconcile_loop("storage-version-migrator", queue, 1, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    })
    .await;
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
    metadata: PageMeta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMeta {
    resource_version: String,
    #[serde(default)]
    r#continue: String,
}

impl Migrator {
    async fn reconcile(&self, name: &str) -> Outcome {
        self.writes.settle(name, &self.migrations).await?;
        let Some(migration) = self.migrations.get(name) else { return Ok(None) };
        if has_ended(&migration.view) || migration.meta.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let discovery = discover(&self.api, &mut *self.names.lock().await).await?;
        match plan(&migration.view, &discovery) {
            Plan::Nothing => {}
            Plan::Wait(why) => return Err(why.into()),
            Plan::Fail(why) => self.write(&migration, FAILED, &why, "").await?,
            Plan::Migrate(resource) if migration.view.status.resource_version.is_empty() => {
                // From here on it is known what was there before, whoever goes on.
                let now = self.page(resource, "1", "").await?.1.resource_version;
                self.write(&migration, RUNNING, "", &now).await?;
            }
            Plan::Migrate(resource) => {
                let began = &migration.view.status.resource_version;
                match self.migrate(resource, began).await? {
                    None => self.write(&migration, SUCCEEDED, "", "").await?,
                    Some(why) => self.write(&migration, FAILED, &why, "").await?,
                }
            }
        }
        Ok(None)
    }

    /// Writes every object; says why where one cannot be.
    async fn migrate(&self, resource: Resource, began: &str) -> Result<Option<String>, Error> {
        let mut next = String::new();
        loop {
            let (objects, page) = self.page(resource, PAGE, &next).await?;
            for object in objects {
                let meta = &object.meta;
                if !is_due(&meta.resource_version, began) {
                    continue;
                }
                // It changes nothing, and says of which object: another one of the name,
                // or what was written meanwhile, is in the new form already.
                let patch = json!({
                    "metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version},
                });
                let (namespace, name) = (&meta.namespace, &meta.name);
                let kind = PatchKind::Merge;
                let written = self.api.patch(resource, namespace, name, "", kind, &patch).await;
                let Err(error) = written else { continue };
                match verdict(&error) {
                    Verdict::Done => {}
                    Verdict::TryAgain => return Err(error),
                    Verdict::Never => return Ok(Some(format!("{}: {error}", meta.key()))),
                }
            }
            if page.r#continue.is_empty() {
                return Ok(None);
            }
            next = page.r#continue;
        }
    }

    async fn page(
        &self,
        resource: Resource,
        limit: &str,
        next: &str,
    ) -> Result<(Vec<Object>, PageMeta), Error> {
        let query = [("limit", limit), ("continue", next)];
        let query = if next.is_empty() { &query[..1] } else { &query[..] };
        let path = with_query(resource.path("", "", ""), query);
        let bytes = self.api.request(Method::GET, &path, None, Bytes::new()).await?;
        let malformed = |error: String| Error::Malformed(format!("{path}: {error}"));
        let page: Page<'_> =
            serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
        let parse = |item: &RawValue| {
            let object = Object::parse(bytes.slice_ref(item.get().as_bytes()));
            object.map_err(|error| malformed(error.to_string()))
        };
        let items = page.items.unwrap_or_default();
        let objects = items.into_iter().map(parse).collect::<Result<_, _>>()?;
        Ok((objects, page.metadata))
    }

    async fn write(
        &self,
        migration: &Cached<Migration>,
        kind: &str,
        message: &str,
        began: &str,
    ) -> Result<(), Error> {
        let now = time::format_seconds(self.context.ambient.now());
        let conditions = reached(&migration.view, kind, message, &now);
        let mut patch = json!({
            "metadata": {"uid": migration.meta.uid},
            "status": {"conditions": conditions_json(&conditions)},
        });
        if !began.is_empty() {
            patch["status"]["resourceVersion"] = began.into();
        }
        status::write(&self.api, &self.writes, STORAGE_MIGRATIONS, &migration.meta, &patch).await
    }
}

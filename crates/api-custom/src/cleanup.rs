//! Lets the objects of a deleted definition go, then the definition.

use std::{collections::BTreeSet, time::Duration};

use api_kinds::custom_resource_definition::CLEANUP_FINALIZER;
use api_schema::tree;
use bytes::Bytes;
use client::{Ambient, Api, Backoff, Error, ListOptions, WatchEvent};
use http::Method;
use serde_json::Value;

use crate::act::DEFINITIONS;

/// Objects looked at in one go.
const PAGE: usize = 500;
/// A watch that tells nothing is begun anew after this, in case it was lost.
const WATCH_MAX: Duration = Duration::from_secs(600);

/// Works until the definition is gone. Repeats what failed, later each time.
pub(crate) async fn run(api: &Api, ambient: &Ambient, name: &str) {
    let mut failures = 0;
    while let Err(error) = empty(api, name).await {
        failures += 1;
        tracing::warn!(definition = name, %error, "a custom kind's objects are not gone yet");
        tokio::time::sleep(ambient.jittered(Backoff::CONNECT.delay(failures))).await;
    }
}

async fn empty(api: &Api, name: &str) -> Result<(), Error> {
    loop {
        let definition = match api.get(DEFINITIONS, "", name).await {
            Ok(object) => parse(&object.bytes)?,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        };
        let collection = Collection::of(&definition);
        let objects = match collection.list(api).await {
            Ok(objects) => objects,
            // Names that were never accepted have no objects.
            Err(error) if error.is_not_found() => Listed::default(),
            Err(error) => return Err(error),
        };
        if objects.namespaces.is_empty() {
            return release(api, name, definition).await;
        }
        for namespace in &objects.namespaces {
            let path = collection.path(namespace);
            match api.request(Method::DELETE, &path, None, Bytes::new()).await {
                Ok(_) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        // Those with finalizers stay; the next that goes is the moment to look.
        let left = collection.list(api).await?;
        if !left.namespaces.is_empty() {
            let waiting = collection.wait(api, left.resource_version);
            if let Ok(done) = tokio::time::timeout(WATCH_MAX, waiting).await {
                done?;
            }
        }
    }
}

/// Takes the finalizer away.
async fn release(api: &Api, name: &str, mut definition: Value) -> Result<(), Error> {
    let finalizers: Vec<Value> = tree::list(&definition, "metadata.finalizers")
        .iter()
        .filter(|finalizer| **finalizer != CLEANUP_FINALIZER)
        .cloned()
        .collect();
    tree::set(&mut definition, "metadata.finalizers", finalizers);
    match api.update(DEFINITIONS, "", name, "", &definition).await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

/// Where the objects of a definition are.
struct Collection {
    group_version: String,
    plural: String,
    namespaced: bool,
}

#[derive(Default)]
struct Listed {
    /// Of the objects that are there; an empty one for cluster-scoped objects.
    namespaces: BTreeSet<String>,
    resource_version: String,
}

impl Collection {
    /// By any version that is served; where none is, the stored one is served
    /// for this.
    fn of(definition: &Value) -> Self {
        let versions = tree::list(definition, "spec.versions");
        let marked = |mark: &str| versions.iter().find(|version| tree::flag(version, mark));
        let version = marked("served").or_else(|| marked("storage"));
        let version = version.map(|version| tree::text(version, "name")).unwrap_or_default();
        Self {
            group_version: format!("{}/{version}", tree::text(definition, "spec.group")),
            plural: tree::text(definition, "spec.names.plural").to_owned(),
            namespaced: tree::text(definition, "spec.scope") == "Namespaced",
        }
    }

    fn path(&self, namespace: &str) -> String {
        let Self { group_version, plural, .. } = self;
        match namespace {
            "" => format!("/apis/{group_version}/{plural}"),
            namespace => format!("/apis/{group_version}/namespaces/{namespace}/{plural}"),
        }
    }

    async fn list(&self, api: &Api) -> Result<Listed, Error> {
        let path = format!("{}?limit={PAGE}", self.path(""));
        let list = parse(&api.request(Method::GET, &path, None, Bytes::new()).await?)?;
        let namespaces = tree::list(&list, "items").iter().map(|item| match self.namespaced {
            true => tree::text(item, "metadata.namespace").to_owned(),
            false => String::new(),
        });
        Ok(Listed {
            namespaces: namespaces.collect(),
            resource_version: tree::text(&list, "metadata.resourceVersion").to_owned(),
        })
    }

    /// Completes when an object went.
    async fn wait(&self, api: &Api, resource_version: String) -> Result<(), Error> {
        let options = ListOptions { resource_version, ..ListOptions::default() };
        let mut watch = api.watch_path(self.path(""), &options).await?;
        while let Some(event) = watch.next().await {
            if let WatchEvent::Deleted(_) = event? {
                break;
            }
        }
        Ok(())
    }
}

fn parse(bytes: &[u8]) -> Result<Value, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::Malformed(error.to_string()))
}

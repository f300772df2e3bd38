//! Empties namespaces that are being deleted.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use api_object::{Object, time};
use api_types::core::{Condition, Namespace};
use bytes::Bytes;
use client::{
    Api, Cached, DeleteOptions, Error, Informer, ListOptions, Outcome, PatchKind, Selection,
    WorkQueue, reconcile_loop,
};
use http::Method;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::plan::{Found, conditions};
use crate::{
    Context,
    cached::{self, NAMESPACES},
    discovery::{Names, discover},
    status::conditions_json,
};

const WORKERS: usize = 2;
/// What is left may go without any event that we see: it is of every kind,
/// and only GC watches those. Looked at again only while a namespace is on
/// its way out and not empty.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

struct Namespaces {
    api: Api,
    namespaces: Informer<Namespace>,
    names: Mutex<Names>,
    context: Context,
}

/// The controller. Never returns.
pub(crate) async fn run(context: Context) {
    let controller = Arc::new(Namespaces {
        api: context.api.clone(),
        namespaces: context.informers.get(Selection::all(NAMESPACES)),
        names: Mutex::default(),
        context,
    });
    let queue = Arc::new(WorkQueue::default());
    let keys = queue.clone();
    controller.namespaces.on_change(move |change| {
        if change.new.as_ref().is_some_and(|new| new.meta.deletion_timestamp.is_some()) {
            keys.add(change.object().key());
        }
    });
    // Pods take longest; the last one to go is the moment to look.
    let (keys, namespaces) = (queue.clone(), controller.namespaces.clone());
    cached::pods(&controller.context.informers).on_change(move |change| {
        let namespace = &change.object().meta.namespace;
        let ends = namespaces.get(namespace).is_some_and(|n| n.meta.deletion_timestamp.is_some());
        if change.new.is_none() && ends {
            keys.add(namespace.clone());
        }
    });
    controller.namespaces.wait_synced().await;
    reconcile_loop("namespace", queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    })
    .await;
}

impl Namespaces {
    async fn reconcile(&self, name: &str) -> Outcome {
        let Some(namespace) = self.namespaces.get(name) else { return Ok(None) };
        let ours = namespace.view.spec.finalizers.iter().any(|finalizer| finalizer == "kubernetes");
        if namespace.meta.deletion_timestamp.is_none() || !ours {
            return Ok(None);
        }
        let found = self.delete_contents(name).await?;
        self.write_conditions(&namespace, &found).await?;
        if !found.is_empty() {
            return Ok(Some(LOOK_AGAIN));
        }
        self.finalize(name).await?;
        Ok(None)
    }

    async fn delete_contents(&self, namespace: &str) -> Result<Found, Error> {
        let discovery = discover(&self.api, &mut *self.names.lock().await).await?;
        let mut found = Found {
            discovery: discovery.failed.iter().map(|(gv, e)| format!("{gv}: {e}")).collect(),
            ..Found::default()
        };
        let mut finalizers: BTreeMap<String, usize> = BTreeMap::new();
        let resources =
            discovery.found.iter().filter(|f| f.resource.namespaced && f.has(&["list", "delete"]));
        let resources = resources.map(|found| found.resource);
        // What runs goes before what guards it: nobody takes a NetworkPolicy
        // away under a pod that still ends.
        let (pods, others): (Vec<_>, Vec<_>) =
            resources.partition(|resource| resource.group.is_empty() && resource.plural == "pods");
        let pods_of = pods.len();
        for (at, resource) in pods.into_iter().chain(others).enumerate() {
            if at == pods_of && !(found.remaining.is_empty() && found.failures.is_empty()) {
                break;
            }
            let title = format!("{}.{}", resource.plural, resource.group);
            match self.delete_all(resource, namespace).await {
                Ok(left) if left.is_empty() => {}
                Ok(left) => {
                    for finalizer in left.iter().flat_map(|object| &object.meta.finalizers) {
                        *finalizers.entry(finalizer.clone()).or_default() += 1;
                    }
                    found.remaining.push((title, left.len()));
                }
                Err(error) => found.failures.push(format!("{title}: {error}")),
            }
        }
        found.finalizers = finalizers.into_iter().collect();
        Ok(found)
    }

    /// Asks for the deletion of everything of a kind; returns what is left.
    async fn delete_all(
        &self,
        resource: client::Resource,
        namespace: &str,
    ) -> Result<Vec<Object>, Error> {
        let list = async || {
            let list = self.api.list(resource, namespace, &ListOptions::default()).await?;
            let parse = |item: Bytes| {
                Object::parse(item).map_err(|error| Error::Malformed(error.to_string()))
            };
            list.items.into_iter().map(parse).collect::<Result<Vec<_>, _>>()
        };
        let present = list().await?;
        let mut asked = false;
        for object in present.iter().filter(|object| object.meta.deletion_timestamp.is_none()) {
            let options = DeleteOptions {
                propagation_policy: Some("Background"),
                ..DeleteOptions::uid(&object.meta.uid)
            };
            match self.api.delete(resource, namespace, &object.meta.name, &options).await {
                Ok(()) => asked = true,
                Err(error) if error.is_not_found() || error.is_conflict() => asked = true,
                Err(error) => return Err(error),
            }
        }
        if asked { list().await } else { Ok(present) }
    }

    async fn write_conditions(
        &self,
        namespace: &Cached<Namespace>,
        found: &Found,
    ) -> Result<(), Error> {
        let now = time::format_seconds(self.context.ambient.now());
        let mut next: Vec<Condition> = conditions(found, &now);
        for condition in &mut next {
            let known = &namespace.view.status.conditions;
            let known = known.iter().find(|known| known.r#type == condition.r#type);
            if let Some(known) = known.filter(|known| known.status == condition.status) {
                condition.last_transition_time.clone_from(&known.last_transition_time);
            }
        }
        // A namespace that was empty from the start goes without a word.
        let silent = found.is_empty() && namespace.view.status.conditions.is_empty();
        if silent || next == namespace.view.status.conditions {
            return Ok(());
        }
        let patch = json!({
            "metadata": {"uid": namespace.meta.uid},
            "status": {"conditions": conditions_json(&next)},
        });
        let name = &namespace.meta.name;
        match self.api.patch(NAMESPACES, "", name, "status", PatchKind::Merge, &patch).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// Takes our finalizer away; the server then lets the namespace go.
    async fn finalize(&self, name: &str) -> Result<(), Error> {
        let fresh = match self.api.get(NAMESPACES, "", name).await {
            Ok(fresh) => fresh,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut body: Value = serde_json::from_slice(&fresh.bytes)
            .map_err(|error| Error::Malformed(error.to_string()))?;
        if let Some(finalizers) = body["spec"]["finalizers"].as_array_mut() {
            finalizers.retain(|finalizer| finalizer != "kubernetes");
        }
        let path = NAMESPACES.path("", name, "finalize");
        let body = Bytes::from(body.to_string());
        match self.api.request(Method::PUT, &path, Some("application/json"), body).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}

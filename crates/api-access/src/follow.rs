//! Keeps the state current: one watch a source, from the first state on.

use std::{sync::Arc, time::Duration};

use api_object::Object;
use client::{Api, Error, ListOptions, WatchEvent};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::{
    Access,
    authorization::aggregation,
    bootstrap,
    state::{CLUSTER_ROLES, PODS, SERVICE_ACCOUNTS, SERVICES, SOURCES, Source},
};

/// How long to wait after a failure; doubles up to the longest.
const RETRY_SHORTEST: Duration = Duration::from_millis(50);
const RETRY_LONGEST: Duration = Duration::from_secs(10);

pub(crate) async fn run(access: Arc<Access>) {
    let Some(api) = access.api.get().cloned() else { return };
    let mut tasks = JoinSet::new();
    for source in SOURCES {
        tasks.spawn(follow(access.clone(), api.named("skiff/access"), source));
    }
    access.synced().await;
    let mut wait = RETRY_SHORTEST;
    while let Err(error) = bootstrap::ensure(&access, &api).await {
        tracing::warn!(%error, "the bootstrap policy could not be written; trying again");
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY_LONGEST);
    }
    tasks.spawn(aggregation::run(
        access.clone(),
        api.named("skiff/clusterrole-aggregation-controller"),
    ));
    // None of them ends by itself.
    while tasks.join_next().await.is_some() {}
}

async fn follow(access: Arc<Access>, api: Api, source: &'static Source) {
    let mut wait = RETRY_SHORTEST;
    let mut first = true;
    // The last revision that the state reflects; empty asks for everything.
    let mut version = String::new();
    loop {
        let result = follow_once(&access, &api, source, &mut version, &mut first).await;
        match result {
            Ok(()) => {
                wait = RETRY_SHORTEST;
                continue;
            }
            Err(error) if error.code() == Some(410) => {
                version.clear();
                continue;
            }
            Err(error) => {
                let resource = source.resource.plural;
                tracing::debug!(resource, %error, "watch failed; trying again");
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY_LONGEST);
    }
}

/// One watch until the server ends it.
async fn follow_once(
    access: &Access,
    api: &Api,
    source: &'static Source,
    version: &mut String,
    first: &mut bool,
) -> Result<(), Error> {
    let options = ListOptions { resource_version: version.clone(), ..ListOptions::default() };
    let mut watch = api.watch(source.resource, "", &options).await?;
    // Collects the initial state, to be put in place as a whole: what is not
    // in it is gone.
    let mut initial = version.is_empty().then(Vec::new);
    let resumed = initial.is_none();
    let mut told = false;
    while let Some(event) = watch.next().await {
        told = true;
        match event? {
            WatchEvent::Bookmark { resource_version, initial_end } => {
                if initial_end && let Some(objects) = initial.take() {
                    replace(access, source, &objects);
                    if std::mem::take(first) {
                        access.source_synced();
                    }
                }
                if initial.is_none() {
                    *version = resource_version;
                }
            }
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                let seen = object.meta.resource_version.clone();
                match &mut initial {
                    Some(objects) => objects.push(object),
                    None => {
                        set(access, source, &object);
                        *version = seen;
                    }
                }
            }
            WatchEvent::Deleted(object) => match &mut initial {
                Some(objects) => objects.retain(|other: &Object| other.meta.uid != object.meta.uid),
                None => {
                    remove(access, source, &object);
                    version.clone_from(&object.meta.resource_version);
                }
            },
        }
    }
    // A server that ends a watch at once must not be asked in a circle.
    match if resumed { told } else { initial.is_none() } {
        true => Ok(()),
        false => Err(Error::Malformed("the watch ended before it told anything".into())),
    }
}

fn replace(access: &Access, source: &Source, objects: &[Object]) {
    if source.resource == SERVICES {
        let services: Vec<_> =
            objects.iter().filter_map(|object| Some((object, parse(object)?))).collect();
        access.allocators.replace(services.iter().map(|(object, value)| (&object.meta, value)));
    }
    access.change_state(|state| {
        (source.clear)(state);
        for object in objects {
            if let Some(value) = parse(object) {
                (source.set)(state, object, &value);
            }
        }
    });
    announce(access, source);
}

fn set(access: &Access, source: &Source, object: &Object) {
    if source.resource == PODS && access.state().pods.knows(&object.meta) {
        return;
    }
    let Some(value) = parse(object) else { return };
    if source.resource == SERVICES {
        access.allocators.observed(&object.meta, &value);
    }
    access.change_state(|state| (source.set)(state, object, &value));
    announce(access, source);
}

fn remove(access: &Access, source: &Source, object: &Object) {
    if source.resource == SERVICES {
        access.allocators.removed(&object.meta);
    }
    access.change_state(|state| (source.remove)(state, &object.meta.namespace, &object.meta.name));
    announce(access, source);
}

fn announce(access: &Access, source: &Source) {
    if source.resource == SERVICE_ACCOUNTS {
        access.accounts_changed.send_modify(|count| *count += 1);
    } else if source.resource == CLUSTER_ROLES {
        access.roles_changed.send_modify(|count| *count += 1);
    }
}

fn parse(object: &Object) -> Option<Value> {
    serde_json::from_slice(&object.bytes)
        .inspect_err(|error| tracing::error!(name = object.meta.key(), %error, "object unreadable"))
        .ok()
}

//! Keeps the state current: one watch a source, from the first state on.

pub(crate) mod pods;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use api_object::Object;
use client::{Ambient, Api, Backoff, ListOptions, Reflected, reflect, supervise};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::{
    Access,
    authorization::aggregation,
    bootstrap, legacy_tokens,
    service::{cidrs, repair},
    state::{CLUSTER_ROLES, PODS, SERVICE_ACCOUNTS, SERVICE_CIDRS, SERVICES, SOURCES, Source},
};

pub(crate) async fn run(access: Arc<Access>) {
    let Some(api) = access.api.get().cloned() else { return };
    let (clock, random) = (access.settings.clock.clone(), access.settings.random.clone());
    let ambient = Ambient::new(
        move || clock(),
        // Spreads retries only, so nothing depends on it.
        move || random().unwrap_or_default(),
    );
    let mut tasks = JoinSet::new();
    for source in SOURCES {
        let (access, ambient) = (access.clone(), ambient.clone());
        let (api, synced) = (api.named("kube-apiserver/access"), Arc::new(AtomicBool::default()));
        tasks.spawn(async move {
            let what = format!("following {}", source.resource.plural);
            let run =
                || follow(access.clone(), api.clone(), source, ambient.clone(), synced.clone());
            supervise(&what, run).await;
        });
    }
    access.synced().await;
    {
        let (access, api, ambient) = (access.clone(), api.clone(), ambient.clone());
        tasks.spawn(async move {
            supervise("the bootstrap policy", || ensure_policy(&access, &api, &ambient)).await;
        });
    }
    // The sender lives in `access`, so waiting cannot fail.
    let _ = access.policy_ensured.subscribe().wait_for(|ensured| *ensured).await;
    let aggregator = api.named("kube-controller-manager/clusterrole-aggregation-controller");
    let aggregated = access.clone();
    tasks.spawn(async move {
        let run = || aggregation::run(aggregated.clone(), aggregator.clone());
        supervise("the aggregation of ClusterRoles", run).await;
    });
    let tokens =
        (access.clone(), api.named("kube-controller-manager/tokens-controller"), ambient.clone());
    tasks.spawn(async move {
        let (access, api, ambient) = tokens;
        let run = || legacy_tokens::run(access.clone(), api.clone(), ambient.clone());
        supervise("the controller of token Secrets", run).await;
    });
    let repairer = (api.named("kube-apiserver/service-ip-repair"), ambient.clone());
    tasks.spawn(async move {
        let (api, ambient) = repairer;
        let run = || repair::run(api.clone(), ambient.clone());
        supervise("the repair of Services' addresses", run).await;
    });
    let ranges = access.settings.service_ranges.clone();
    let api = api.named("kube-controller-manager/service-cidrs-controller");
    tasks.spawn(async move {
        let run = || cidrs::run(ranges.clone(), api.clone(), ambient.clone());
        supervise("the controller of ServiceCIDRs", run).await;
    });
    // None of them ends.
    while tasks.join_next().await.is_some() {}
}

/// Writes the bootstrap policy and says when it is known here. Never returns.
async fn ensure_policy(access: &Access, api: &Api, ambient: &Ambient) {
    let mut failures = 0;
    while let Err(error) = bootstrap::ensure(access, api).await {
        tracing::warn!(%error, "the bootstrap policy could not be written; trying again");
        failures += 1;
        tokio::time::sleep(ambient.jittered(Backoff::CONNECT.delay(failures))).await;
    }
    // The watches tell of the writes a little later.
    let mut changed = access.policy_changed.subscribe();
    while bootstrap::is_missing(&access.state().policy) {
        // The sender lives in `access`, so waiting cannot fail.
        let _ = changed.changed().await;
    }
    access.policy_ensured.send_replace(true);
    std::future::pending().await
}

/// Follows one source for ever.
async fn follow(
    access: Arc<Access>,
    api: Api,
    source: &'static Source,
    ambient: Ambient,
    synced: Arc<AtomicBool>,
) {
    // Collects the initial state, to be put in place as a whole: a request in
    // between is judged by the state before.
    let mut initial: Option<BTreeMap<String, Object>> = None;
    let sink = |told| match (told, &mut initial) {
        (Reflected::Restart, _) => initial = Some(BTreeMap::new()),
        (Reflected::Upsert(object), Some(objects)) => {
            objects.insert(object.meta.key(), object);
        }
        (Reflected::Upsert(object), None) => {
            set(&access, source, &object);
            known(&access, source, &object.meta.resource_version);
        }
        (Reflected::Delete(object), Some(objects)) => {
            objects.remove(&object.meta.key());
        }
        (Reflected::Delete(object), None) => {
            remove(&access, source, &object);
            known(&access, source, &object.meta.resource_version);
        }
        (Reflected::Synced(version), _) => {
            replace(&access, source, initial.take().unwrap_or_default().into_values().collect());
            if !synced.swap(true, Ordering::Relaxed) {
                access.source_synced();
            }
            known(&access, source, &version);
        }
        (Reflected::Progress(version), _) => known(&access, source, &version),
    };
    reflect(&api, source.resource, "", &ListOptions::default(), &ambient, sink).await;
}

fn replace(access: &Access, source: &Source, objects: Vec<Object>) {
    if source.resource == SERVICES {
        let services: Vec<_> =
            objects.iter().filter_map(|object| Some((object, parse(object)?))).collect();
        access.allocators.replace(services.iter().map(|(object, value)| (&object.meta, value)));
    }
    access.change_state(|state| {
        (source.clear)(state);
        for object in &objects {
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

fn known(access: &Access, source: &Source, version: &str) {
    if source.resource == PODS
        && let Ok(version) = version.parse()
    {
        access.pods_known.send_replace(version);
    }
}

fn announce(access: &Access, source: &Source) {
    if source.resource == SERVICE_CIDRS {
        let own = &access.settings.service_ranges;
        let ranges = cidrs::usable(own, access.state().service_cidrs.values());
        access.allocators.take_from(ranges);
    }
    if source.resource == SERVICE_ACCOUNTS {
        access.accounts_changed.send_modify(|count| *count += 1);
    } else if source.resource.group == CLUSTER_ROLES.group {
        access.policy_changed.send_modify(|count| *count += 1);
    }
}

fn parse(object: &Object) -> Option<Value> {
    serde_json::from_slice(&object.bytes)
        .inspect_err(|error| tracing::error!(name = object.meta.key(), %error, "object unreadable"))
        .ok()
}

#[cfg(test)]
mod tests;

//! What others must know to believe this API server and its callers: the
//! ConfigMap by which extension API servers know whom to trust, the one by
//! which nodes know the cluster's networks, and the ClusterTrustBundle with the
//! server's CA.

use std::{collections::BTreeMap, sync::Arc};

use client::{
    Api, DeleteOptions, Error, Informer, MetaOnly, Outcome, PatchKind, Resource, Selection,
    WorkQueue, reconcile_loop,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Context, Settings,
    cached::{CONFIG_MAPS, NAMESPACES},
};

pub(crate) const TRUST_BUNDLES: Resource =
    Resource::cluster("certificates.k8s.io", "v1", "clustertrustbundles");
const SYSTEM: &str = "kube-system";
const AUTHENTICATION: &str = "extension-apiserver-authentication";
const CLUSTER: &str = "skiff-cluster";
const SIGNER: &str = "kubernetes.io/kube-apiserver-serving";
/// There is one thing to be brought about.
const KEY: &str = "trust";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Data {
    data: BTreeMap<String, String>,
}

/// The controller of `extension-apiserver-authentication`. Never returns.
pub(crate) async fn authentication(context: Context) {
    keep_map(context, AUTHENTICATION, |settings| &settings.authentication).await;
}

/// The controller of `skiff-cluster`. Never returns.
pub(crate) async fn cluster(context: Context) {
    keep_map(context, CLUSTER, |settings| &settings.cluster).await;
}

type Wanted = fn(&Settings) -> &BTreeMap<String, String>;

/// Keeps the wanted keys of a ConfigMap of the system's.
async fn keep_map(context: Context, name: &'static str, wanted: Wanted) {
    let only = format!("metadata.name={name}");
    let selection = Selection::all(CONFIG_MAPS).namespace(SYSTEM).fields(&only);
    let known: Informer<Data> = context.informers.get(selection);
    let namespaces: Informer<MetaOnly> = context.informers.get(Selection::all(NAMESPACES));
    let queue = Arc::new(WorkQueue::default());
    queue.add(KEY.to_owned());
    let keys = queue.clone();
    known.on_change(move |_| keys.add(KEY.to_owned()));
    let keys = queue.clone();
    namespaces.on_change(move |change| {
        if change.object().meta.name == SYSTEM {
            keys.add(KEY.to_owned());
        }
    });
    known.wait_synced().await;
    namespaces.wait_synced().await;
    reconcile_loop(name, queue, 1, move |_| {
        let (context, known) = (context.clone(), known.clone());
        // The namespace comes a moment later, and its change brings us here again.
        let there = namespaces.get(SYSTEM).is_some();
        async move { if there { keep(&context, &known, name, wanted).await } else { Ok(None) } }
    })
    .await;
}

async fn keep(context: &Context, known: &Informer<Data>, name: &str, wanted: Wanted) -> Outcome {
    let wanted = wanted(&context.settings);
    if wanted.is_empty() {
        return Ok(None);
    }
    let data = json!({ "data": wanted });
    match known.get(&format!("{SYSTEM}/{name}")) {
        None => {
            let mut map = json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": { "name": name, "namespace": SYSTEM },
            });
            map["data"] = data["data"].clone();
            created(context.api.create(CONFIG_MAPS, SYSTEM, &map).await.map(drop))?;
        }
        Some(map) if wanted.iter().any(|(key, value)| map.view.data.get(key) != Some(value)) => {
            let kind = PatchKind::Merge;
            context.api.patch(CONFIG_MAPS, SYSTEM, name, "", kind, &data).await?;
        }
        Some(_) => {}
    }
    Ok(None)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Bundle {
    spec: BundleSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct BundleSpec {
    trust_bundle: String,
}

/// The controller of the ClusterTrustBundle. Never returns.
pub(crate) async fn bundle(context: Context) {
    let of_signer = format!("spec.signerName={SIGNER}");
    let known: Informer<Bundle> =
        context.informers.get(Selection::all(TRUST_BUNDLES).fields(&of_signer));
    let queue = Arc::new(WorkQueue::default());
    queue.add(KEY.to_owned());
    let keys = queue.clone();
    known.on_change(move |_| keys.add(KEY.to_owned()));
    known.wait_synced().await;
    reconcile_loop("trust-bundle", queue, 1, move |_| {
        let (context, known) = (context.clone(), known.clone());
        async move { keep_bundle(&context.api, &context, &known).await }
    })
    .await;
}

async fn keep_bundle(api: &Api, context: &Context, known: &Informer<Bundle>) -> Outcome {
    let (pem, name) = (&context.settings.cluster_ca_pem, &context.settings.trust_bundle_name);
    if pem.is_empty() || name.is_empty() {
        return Ok(None);
    }
    if known.get(name).is_none_or(|bundle| bundle.view.spec.trust_bundle != *pem) {
        let spec = json!({ "signerName": SIGNER, "trustBundle": pem });
        match known.get(name) {
            None => {
                let bundle: Value = json!({
                    "apiVersion": "certificates.k8s.io/v1", "kind": "ClusterTrustBundle",
                    "metadata": { "name": name }, "spec": spec,
                });
                created(api.create(TRUST_BUNDLES, "", &bundle).await.map(drop))?;
            }
            Some(_) => {
                let patch = json!({ "spec": spec });
                api.patch(TRUST_BUNDLES, "", name, "", PatchKind::Merge, &patch).await?;
            }
        }
        // The older ones go once this one is seen.
        return Ok(None);
    }
    for old in known.list().iter().filter(|bundle| bundle.meta.name != *name) {
        let options = DeleteOptions::uid(&old.meta.uid);
        match api.delete(TRUST_BUNDLES, "", &old.meta.name, &options).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => return Err(error.into()),
            _ => {}
        }
    }
    Ok(None)
}

fn created(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(error) if error.is_conflict() => Ok(()),
        result => result,
    }
}

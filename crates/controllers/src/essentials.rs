//! What every namespace has: the `default` ServiceAccount and the
//! `kube-root-ca.crt` ConfigMap. Two controllers upstream, one rule here.

use std::sync::Arc;

use api_types::core::Namespace;
use client::{
    Api, Error, Informer, MetaOnly, Outcome, PatchKind, Resource, Selection, WorkQueue,
    reconcile_loop,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Context,
    cached::{CONFIG_MAPS, NAMESPACES, SERVICE_ACCOUNTS},
    owner,
};

const ROOT_CA: &str = "kube-root-ca.crt";
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RootCa {
    data: std::collections::BTreeMap<String, String>,
}

struct Essentials {
    api: Api,
    namespaces: Informer<Namespace>,
    accounts: Informer<MetaOnly>,
    root_cas: Informer<RootCa>,
    context: Context,
}

/// The controller. Never returns.
pub(crate) async fn run(context: Context) {
    let only =
        |resource, name: &str| Selection::all(resource).fields(&format!("metadata.name={name}"));
    let controller = Arc::new(Essentials {
        api: context.api.clone(),
        namespaces: context.informers.get(Selection::all(NAMESPACES)),
        accounts: context.informers.get(only(SERVICE_ACCOUNTS, "default")),
        root_cas: context.informers.get(only(CONFIG_MAPS, ROOT_CA)),
        context,
    });
    let queue = Arc::new(WorkQueue::default());
    let keys = queue.clone();
    controller.namespaces.on_change(move |change| {
        if let Some(namespace) = &change.new {
            keys.add(namespace.meta.name.clone());
        }
    });
    let keys = queue.clone();
    controller.accounts.on_change(move |change| {
        if change.new.is_none() {
            keys.add(change.object().meta.namespace.clone());
        }
    });
    let keys = queue.clone();
    controller.root_cas.on_change(move |change| keys.add(change.object().meta.namespace.clone()));
    controller.namespaces.wait_synced().await;
    controller.accounts.wait_synced().await;
    controller.root_cas.wait_synced().await;
    reconcile_loop("essentials", queue, 1, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    })
    .await;
}

impl Essentials {
    async fn reconcile(&self, name: &str) -> Outcome {
        let Some(namespace) = self.namespaces.get(name) else { return Ok(None) };
        if namespace.meta.deletion_timestamp.is_some() {
            return Ok(None);
        }
        if self.accounts.get(&format!("{name}/default")).is_none() {
            let account = json!({
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": "default", "namespace": name},
            });
            self.create(SERVICE_ACCOUNTS, name, &account).await?;
        }
        let pem = &self.context.settings.cluster_ca_pem;
        if pem.is_empty() {
            return Ok(None);
        }
        match self.root_cas.get(&format!("{name}/{ROOT_CA}")) {
            None => {
                let map = json!({
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "metadata": {
                        "name": ROOT_CA,
                        "namespace": name,
                        "annotations": {"kubernetes.io/description": DESCRIPTION},
                    },
                    "data": {"ca.crt": pem},
                });
                self.create(CONFIG_MAPS, name, &map).await?;
            }
            Some(known)
                if known.view.data.get("ca.crt") != Some(pem) || known.view.data.len() > 1 =>
            {
                let mut data = json!({"ca.crt": pem});
                for other in known.view.data.keys().filter(|key| *key != "ca.crt") {
                    data[other] = Value::Null;
                }
                let patch = json!({"data": data});
                self.api.patch(CONFIG_MAPS, name, ROOT_CA, "", PatchKind::Merge, &patch).await?;
            }
            Some(_) => {}
        }
        Ok(None)
    }

    async fn create(&self, resource: Resource, namespace: &str, body: &Value) -> Result<(), Error> {
        match self.api.create(resource, namespace, body).await {
            Ok(_) => Ok(()),
            // There already, or its namespace goes.
            Err(error) if error.is_conflict() || error.is_not_found() => Ok(()),
            Err(error) if owner::namespace_terminates(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

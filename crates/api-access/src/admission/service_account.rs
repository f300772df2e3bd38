//! Pods run as an account, and find its token, the cluster's CA and their
//! namespace in `/var/run/secrets/kubernetes.io/serviceaccount`.

use std::{sync::Arc, time::Duration};

use api_object::Status;
use api_registry::Attributes;
use api_schema::tree;
use client::Resource;
use serde_json::{Value, json};

use super::{denied, list_slot, suffix};
use crate::{
    Access,
    state::{Account, MIRROR, SERVICE_ACCOUNTS},
};

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
/// An hour and some seconds: upstream's mark of tokens that were mounted
/// without being asked for.
const TOKEN_SECONDS: i64 = 3607;
/// The default account of a new namespace is made by a controller; this long
/// is it waited for.
const DEFAULT_ACCOUNT_WAIT: Duration = Duration::from_secs(2);

pub(super) async fn mount(access: &Access, attributes: &mut Attributes) -> Result<(), Status> {
    let Some(pod) = &mut attributes.object else { return Ok(()) };
    if pod.pointer("/metadata/annotations").is_some_and(|all| all.get(MIRROR).is_some()) {
        return match tree::text(pod, "spec.serviceAccountName") {
            "" => Ok(()),
            _ => Err(denied(attributes, "a mirror pod may not reference service accounts")),
        };
    }
    let mut name = tree::text(pod, "spec.serviceAccountName").to_owned();
    if name.is_empty() {
        name = "default".into();
    }
    tree::set(pod, "spec.serviceAccountName", name.as_str());
    // The older name of the same field.
    tree::set(pod, "spec.serviceAccount", name.as_str());
    let account = match find(access, &attributes.namespace, &name).await {
        Ok(account) => account,
        Err(error) => {
            let namespace = &attributes.namespace;
            let why = format!("error looking up service account {namespace}/{name}: {error}");
            return Err(denied(attributes, &why));
        }
    };
    let random = access.random()?;
    if let Some(pod) = &mut attributes.object {
        fill(pod, &account, random);
    }
    Ok(())
}

async fn find(access: &Access, namespace: &str, name: &str) -> Result<Arc<Account>, String> {
    let known = || access.state().account(namespace, name).cloned();
    if let Some(account) = known() {
        return Ok(account);
    }
    let mut changed = access.accounts_changed.subscribe();
    let api = access.api.get().ok_or("access control is not running yet")?;
    // The memory may lag behind an account that was just made.
    match get(api, SERVICE_ACCOUNTS, namespace, name).await {
        Err(None) if name == "default" => {}
        Err(None) => return Err(missing(name)),
        Err(Some(error)) => return Err(error),
        Ok(account) => return Ok(account),
    }
    let wait = async {
        loop {
            if let Some(account) = known() {
                return account;
            }
            if changed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::time::timeout(DEFAULT_ACCOUNT_WAIT, wait).await.map_err(|_| missing(name))
}

fn missing(name: &str) -> String {
    format!("serviceaccount {name:?} not found")
}

/// `Err(None)` where there is none.
async fn get(
    api: &client::Api,
    resource: Resource,
    namespace: &str,
    name: &str,
) -> Result<Arc<Account>, Option<String>> {
    let object = match api.get(resource, namespace, name).await {
        Ok(object) => object,
        Err(error) if error.is_not_found() => return Err(None),
        Err(error) => return Err(Some(error.to_string())),
    };
    let value = serde_json::from_slice(&object.bytes).map_err(|error| Some(error.to_string()))?;
    Ok(Arc::new(Account::of(&object.meta, &value)))
}

/// A pure function from pod and account to the pod that is stored.
pub(super) fn fill(pod: &mut Value, account: &Account, random: u64) {
    if tree::list(pod, "spec.imagePullSecrets").is_empty() && !account.image_pull_secrets.is_empty()
    {
        tree::set(pod, "spec.imagePullSecrets", account.image_pull_secrets.clone());
    }
    let automount =
        tree::get(pod, "spec.automountServiceAccountToken").as_bool().or(account.automount);
    if automount == Some(false) {
        return;
    }
    // A retried request, or a manifest taken from a running pod, has it already.
    let there = (tree::list(pod, "spec.volumes").iter())
        .map(|volume| tree::text(volume, "name"))
        .find(|name| name.starts_with(VOLUME_PREFIX))
        .map(str::to_owned);
    let name = there.clone().unwrap_or_else(|| format!("{VOLUME_PREFIX}{}", suffix(random)));
    let mount = json!({ "name": name, "readOnly": true, "mountPath": MOUNT_PATH });
    let mut needed = false;
    for list in ["spec.initContainers", "spec.containers"] {
        for container in tree::list_mut(pod, list) {
            let mounted = (tree::list(container, "volumeMounts").iter())
                .any(|mount| tree::text(mount, "mountPath") == MOUNT_PATH);
            if !mounted {
                list_slot(container, "volumeMounts").push(mount.clone());
                needed = true;
            }
        }
    }
    if needed && there.is_none() {
        list_slot(pod, "spec.volumes").push(token_volume(&name));
    }
}

fn token_volume(name: &str) -> Value {
    json!({
        "name": name,
        "projected": {
            "sources": [
                { "serviceAccountToken": { "expirationSeconds": TOKEN_SECONDS, "path": "token" } },
                { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
                { "downwardAPI": { "items": [{
                    "path": "namespace",
                    "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" },
                }] } },
            ],
            "defaultMode": 420,
        },
    })
}

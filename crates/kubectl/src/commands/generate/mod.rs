//! Objects made from flags: `kubectl create TYPE`, and what `run`, `expose` and
//! `autoscale` share with it.
//!
//! A generator is a pure function from flags to an object.

pub(super) mod access;
pub(super) mod data;
mod key_pair;
pub(super) mod limits;
pub(super) mod network;
pub(super) mod workloads;

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    apply::last_applied,
    discovery::ApiResource,
    failure::{Failure, Outcome},
    flags::Parsed,
    session::{DryRun, Session},
    targets::Target,
};

use super::create::post;

/// The only word: the name of what is made.
fn name(flags: &Parsed) -> Result<&str, String> {
    match flags.before_dash() {
        [name] => Ok(name),
        [] => Err("exactly one NAME is required, got 0".into()),
        words => Err(format!("exactly one NAME is required, got {}", words.len())),
    }
}

pub(super) fn meta(name: &str) -> Value {
    json!({"name": name})
}

/// An object, or what is wrong with the flags.
pub(super) type Made = Result<Value, String>;

pub(super) fn namespace(flags: &Parsed) -> Made {
    Ok(
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": meta(name(flags)?), "spec": {}, "status": {}}),
    )
}

pub(super) fn service_account(flags: &Parsed) -> Made {
    Ok(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta(name(flags)?)}))
}

/// What a row of `create` runs.
pub(super) async fn create(session: &Session, made: Made) -> Outcome {
    let object = made.map_err(|why| match why.starts_with("exactly one NAME") {
        true => Failure::Arguments(why),
        false => Failure::Message(why),
    })?;
    let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
    let done = finish(session, object, "created", "kubectl-create").await;
    done.map(drop).map_err(|error| match kind.as_str() {
        // It was created, and not printed.
        _ if matches!(error, Failure::Halfway(_)) => error,
        // These say so themselves, upstream, in place of the server.
        "configmap" | "deployment" | "job" | "serviceaccount" => {
            Failure::Message(format!("failed to create {kind}: {}", error.message()))
        }
        "secret" => Failure::Message(format!("failed to create secret {}", error.message())),
        _ => error,
    })
}

/// The resource of an object of a kind that every server has.
fn built_in(object: &Value) -> Option<ApiResource> {
    let api_version = object["apiVersion"].as_str()?;
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let spec = api_kinds::catalogue().by_kind(group, version, object["kind"].as_str()?)?;
    Some(ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        plural: spec.plural.to_string(),
        singular: spec.singular.to_string(),
        kind: spec.kind.to_string(),
        namespaced: spec.namespaced,
        preferred: true,
        ..ApiResource::default()
    })
}

/// Sends an object that was made, and tells of it.
pub(super) async fn finish(
    session: &Session,
    mut object: Value,
    what: &str,
    manager: &str,
) -> Outcome<(Target, Value)> {
    let known = if session.dry_run() == DryRun::Client { built_in(&object) } else { None };
    let resource = match known {
        // What is only shown needs no server.
        Some(resource) => Arc::new(resource),
        None => session.discovery().await?.of_object(&object, "flags")?,
    };
    let resolved = session.resolved().await?;
    let namespace = if resource.namespaced { resolved.namespace.clone() } else { String::new() };
    // Shown only where it was said, as upstream does.
    if resource.namespaced && (resolved.namespace_given || session.dry_run() != DryRun::Client) {
        object["metadata"]["namespace"] = namespace.clone().into();
    }
    if session.flags.on("save-config") {
        last_applied::set(&mut object);
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let target = Target { resource, namespace, name, manifest: None };
    let created = match session.dry_run() {
        DryRun::Client => object,
        _ => post(session, &target, &object, manager).await?,
    };
    session.tell(&created, what)?;
    Ok((target, created))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_known_without_a_server() {
        for (api_version, kind, found) in [
            ("v1", "ConfigMap", Some(("configmaps", true))),
            ("v1", "Namespace", Some(("namespaces", false))),
            ("apps/v1", "Deployment", Some(("deployments", true))),
            ("batch/v1", "CronJob", Some(("cronjobs", true))),
            ("policy/v1", "PodDisruptionBudget", Some(("poddisruptionbudgets", true))),
            ("scheduling.k8s.io/v1", "PriorityClass", Some(("priorityclasses", false))),
            ("rbac.authorization.k8s.io/v1", "ClusterRole", Some(("clusterroles", false))),
            ("networking.k8s.io/v1", "Ingress", Some(("ingresses", true))),
            ("x.io/v1", "Foo", None),
        ] {
            let resource = built_in(&json!({"apiVersion": api_version, "kind": kind}));
            let resource = resource.as_ref();
            let said = resource.map(|resource| (resource.plural.as_str(), resource.namespaced));
            assert_eq!(said, found, "{kind}");
        }
    }
}

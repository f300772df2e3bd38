//! Pod Security Standards by namespace label (KEP-2579): `enforce` refuses
//! pods, `warn` warns about pods and about the templates that make them.
//! `audit` waits for the audit log.

mod checks;
mod labels;

use api_object::Status;
use api_registry::{Attributes, Operation};
use api_schema::tree;
use serde_json::Value;

use super::{denied, namespace};
use crate::Access;
use checks::{CHECKS, Level};

pub(super) const LOOKS_AT: &[&str] = &[
    "namespaces",
    "pods",
    "pods/ephemeralcontainers",
    "deployments.apps",
    "replicasets.apps",
    "statefulsets.apps",
    "daemonsets.apps",
    "jobs.batch",
    "cronjobs.batch",
    "replicationcontrollers",
];

/// What a namespace asks for in one mode.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ask {
    level: Level,
    /// The minor version of the standards.
    version: u32,
    /// `restricted:latest`.
    shown: String,
}

pub(super) async fn check(access: &Access, attributes: &mut Attributes) -> Result<(), Status> {
    if attributes.resource.resource == "namespaces" {
        return labels::check(access, attributes).await;
    }
    let namespace = namespace::find(access, &attributes.namespace).await?;
    let ask = |mode: &str| {
        let label = |suffix: &str| {
            let key = format!("pod-security.kubernetes.io/{mode}{suffix}");
            namespace.labels.get(&key).map_or("", String::as_str)
        };
        ask(label(""), label("-version"))
    };
    let (enforce, warn) = (ask("enforce"), ask("warn"));
    if enforce.is_none() && warn.is_none() {
        return Ok(());
    }
    let Some(object) = &attributes.object else { return Ok(()) };
    let is_pod = attributes.resource.resource == "pods";
    if let (true, Operation::Update, Some(old)) =
        (is_pod, attributes.operation, &attributes.old_object)
        && tree::get(old, "spec") == tree::get(object, "spec")
    {
        return Ok(());
    }
    let pod = match attributes.resource.resource.as_str() {
        "pods" => object,
        "cronjobs" => tree::get(object, "spec.jobTemplate.spec.template"),
        _ => tree::get(object, "spec.template"),
    };
    if let Some(enforce) = enforce.filter(|_| is_pod) {
        let faults = evaluate(pod, enforce.level, enforce.version);
        if !faults.is_empty() {
            let why = format!("violates PodSecurity {:?}: {}", enforce.shown, faults.join(", "));
            return Err(denied(attributes, &why));
        }
    }
    if let Some(warn) = warn {
        let faults = evaluate(pod, warn.level, warn.version);
        if !faults.is_empty() {
            let text = format!("would violate PodSecurity {:?}: {}", warn.shown, faults.join(", "));
            attributes.warnings.push(text);
        }
    }
    Ok(())
}

/// A word that is no level asks for the strictest one, as upstream.
fn ask(level: &str, version: &str) -> Option<Ask> {
    let (level, word) = match level {
        "" | "privileged" => return None,
        "baseline" => (Level::Baseline, "baseline"),
        _ => (Level::Restricted, "restricted"),
    };
    let shown = if version.is_empty() { "latest" } else { version };
    // Also of a word that is none, as upstream.
    let version = version.strip_prefix("v1.").and_then(|minor| minor.parse().ok());
    Some(Ask { level, version: version.unwrap_or(LATEST), shown: format!("{word}:{shown}") })
}

/// The minor version of standards that go with whatever version runs.
const LATEST: u32 = u32::MAX;

/// Every fault of a pod (or template), `reason (detail)` each.
fn evaluate(pod: &Value, level: Level, version: u32) -> Vec<String> {
    let shown = |(reason, detail)| format!("{reason} ({detail})");
    faults(pod, level, version).into_iter().map(shown).collect()
}

/// Reason and detail of every fault.
fn faults(pod: &Value, level: Level, version: u32) -> Vec<(&'static str, String)> {
    let spec = tree::get(pod, "spec");
    (CHECKS.iter().filter(|row| row.applies(spec, level, version)))
        .filter_map(|row| Some((row.reason, (row.detail)(spec)?)))
        .collect()
}

#[cfg(test)]
mod tests;

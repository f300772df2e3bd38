//! What may change in a pod that exists.

use api_schema::{Faults, Path, ResourceSpec, tree};
use serde_json::Value;

use crate::rules;

const SPEC: Path<'static> = Path::new("spec");

const FORBIDDEN: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Faults of an update of a pod: `(new, old)`.
pub(super) fn validate(new: &Value, old: &Value, faults: &mut Faults) {
    for list in ["containers", "initContainers"] {
        let path = format!("spec.{list}");
        if tree::list(new, &path).len() != tree::list(old, &path).len() {
            faults.forbidden(&Path::new(&path), "pod updates may not add or remove containers");
            return;
        }
    }
    deadline(new, old, faults);
    gates(new, old, faults);
    tolerations(new, old, faults);
    // What may differ is made the same; all else must be.
    let mut munged = tree::get(new, "spec").clone();
    let old = tree::get(old, "spec");
    for list in ["containers", "initContainers"] {
        let before = tree::list(old, list).to_vec();
        for (container, before) in tree::list_mut(&mut munged, list).iter_mut().zip(before) {
            tree::copy(&before, container, "image");
        }
    }
    for field in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        tree::copy(old, &mut munged, field);
    }
    let grace = "terminationGracePeriodSeconds";
    if tree::int(&munged, grace) == Some(1) && tree::int(old, grace).is_some_and(|n| n < 0) {
        tree::copy(old, &mut munged, grace);
    }
    if !tree::list(old, "schedulingGates").is_empty() {
        // A gated pod may still be told more about where it may run.
        let kept = tree::entries(old, "nodeSelector")
            .all(|(key, value)| tree::get(&munged, "nodeSelector").get(key) == Some(value));
        if kept {
            tree::copy(old, &mut munged, "nodeSelector");
        }
        tree::copy(old, &mut munged, "affinity.nodeAffinity");
        if !old.get("affinity").is_some_and(Value::is_object) {
            tree::remove(&mut munged, "affinity");
        }
    }
    if &munged != old {
        faults.forbidden(&SPEC, FORBIDDEN);
    }
}

fn deadline(new: &Value, old: &Value, faults: &mut Faults) {
    let field = "spec.activeDeadlineSeconds";
    let path = Path::new(field);
    match (tree::int(new, field), tree::int(old, field)) {
        (Some(new), Some(old)) if new > old => {
            faults.invalid(&path, new, "must be less than or equal to previous value");
        }
        (None, Some(_)) => {
            faults.invalid(
                &path,
                Value::Null,
                "must not update from a positive integer to nil value",
            );
        }
        _ => {}
    }
}

fn gates(new: &Value, old: &Value, faults: &mut Faults) {
    let field = "spec.schedulingGates";
    let before = tree::list(old, field);
    for (index, gate) in tree::list(new, field).iter().enumerate() {
        if !before.contains(gate) {
            let name = tree::text(gate, "name");
            faults.forbidden(
                &Path::new(field).index(index),
                &format!("only deletion is allowed, but found new scheduling gate '{name}'"),
            );
        }
    }
}

fn tolerations(new: &Value, old: &Value, faults: &mut Faults) {
    let without_seconds = |toleration: &Value| {
        let mut toleration = toleration.clone();
        tree::remove(&mut toleration, "tolerationSeconds");
        toleration
    };
    let field = "spec.tolerations";
    let after: Vec<Value> = tree::list(new, field).iter().map(without_seconds).collect();
    let kept = tree::list(old, field).iter().map(without_seconds).all(|old| after.contains(&old));
    if !kept {
        faults.forbidden(
            &Path::new(field),
            "existing toleration can not be modified except its tolerationSeconds",
        );
    }
}

/// Faults of an update of a pod's status.
pub(super) fn validate_status(new: &Value, old: &Value, faults: &mut Faults) {
    let path = Path::new("spec.nodeName");
    rules::immutable(
        &path,
        tree::get(new, "spec.nodeName"),
        tree::get(old, "spec.nodeName"),
        faults,
    );
    let list = Path::new("status.podIPs");
    for (index, ip) in tree::list(new, "status.podIPs").iter().enumerate() {
        let path = list.index(index);
        rules::ip(&path.child("ip"), tree::text(ip, "ip"), faults);
    }
    let ips = tree::list(new, "status.podIPs");
    if !rules::one_of_each_family(ips.iter().map(|ip| tree::text(ip, "ip"))) {
        let why = "may specify no more than one IP for each IP family";
        faults.invalid(&list, ips.to_vec(), why);
    }
    let restarts_never = tree::text(old, "spec.restartPolicy") == "Never";
    let list = Path::new("status.containerStatuses");
    let after = tree::list(new, "status.containerStatuses");
    for before in tree::list(old, "status.containerStatuses") {
        let name = tree::text(before, "name");
        let ended = !tree::get(before, "state.terminated").is_null();
        let at = after.iter().position(|status| tree::text(status, "name") == name);
        if let Some(at) = at.filter(|_| ended && restarts_never && !restarts_by_itself(old, name))
            && tree::get(&after[at], "state.terminated").is_null()
        {
            faults.forbidden(
                &list.index(at).child("state"),
                "may not be transitioned to non-terminated state",
            );
        }
    }
}

/// Whether a container of a pod that restarts nothing may run again all the same:
/// by a policy or rules of its own, or by a rule of another that restarts all.
fn restarts_by_itself(pod: &Value, name: &str) -> bool {
    let lists = ["spec.containers", "spec.initContainers"];
    lists.into_iter().flat_map(|list| tree::list(pod, list)).any(|container| {
        let rules = tree::list(container, "restartPolicyRules");
        let own = matches!(tree::text(container, "restartPolicy"), "Always" | "OnFailure");
        let is_it = tree::text(container, "name") == name;
        is_it && (own || !rules.is_empty())
            || rules.iter().any(|rule| tree::text(rule, "action") == "RestartAllContainers")
    })
}

/// `ephemeralcontainers`: only that list, and metadata as it was.
pub(super) fn prepare_ephemeral(spec: &ResourceSpec, new: &mut Value, old: &Value) {
    let list = tree::get(new, "spec.ephemeralContainers").clone();
    *new = old.clone();
    tree::set(new, "spec.ephemeralContainers", list);
    spec.bump_generation(new, old);
}

/// Ephemeral containers are added, never changed or removed.
pub(super) fn validate_ephemeral(_: &ResourceSpec, new: &Value, old: &Value, faults: &mut Faults) {
    let path = Path::new("spec.ephemeralContainers");
    let after = tree::list(new, "spec.ephemeralContainers");
    for before in tree::list(old, "spec.ephemeralContainers") {
        let name = tree::text(before, "name");
        match after.iter().position(|container| tree::text(container, "name") == name) {
            None => faults.forbidden(
                &path,
                &format!("existing ephemeral containers {name:?} may not be removed\n"),
            ),
            Some(at) if &after[at] != before => faults.forbidden(
                &path.index(at),
                &format!("existing ephemeral containers {name:?} may not be changed\n"),
            ),
            Some(_) => {}
        }
    }
}

/// `resize`: only how much the containers get, and what a change of it takes.
pub(super) fn prepare_resize(spec: &ResourceSpec, new: &mut Value, old: &Value) {
    let wanted = new.clone();
    *new = old.clone();
    for list in ["spec.containers", "spec.initContainers"] {
        let wanted = tree::list(&wanted, list);
        for container in tree::list_mut(new, list) {
            let name = tree::text(container, "name").to_owned();
            if let Some(wanted) = wanted.iter().find(|wanted| tree::text(wanted, "name") == name) {
                tree::copy(wanted, container, "resources");
                tree::copy(wanted, container, "resizePolicy");
            }
        }
    }
    spec.bump_generation(new, old);
}

/// What is asked of a node must be something that it can do: amounts of CPU and
/// memory change, the class of service does not.
pub(super) fn validate_resize(_: &ResourceSpec, new: &Value, old: &Value, faults: &mut Faults) {
    if is_static(old) {
        faults.forbidden(&Path::new("metadata"), "static pods cannot be resized");
    }
    if !node_can_resize(old) {
        faults.forbidden(&SPEC, "Pod running on node without support for resize");
    }
    if super::qos::class(new) != super::qos::class(old) {
        faults.invalid(
            &SPEC,
            tree::text(old, "status.qosClass"),
            "Pod QOS Class may not change as a result of resizing",
        );
    }
    for list in ["containers", "initContainers"] {
        let path = SPEC.child(list);
        let field = format!("spec.{list}");
        let before = tree::list(old, &field);
        for (at, (container, before)) in tree::list(new, &field).iter().zip(before).enumerate() {
            let path = path.index(at).child("resources").to_string();
            let path = Path::new(&path);
            let (after, was) = (tree::get(container, "resources"), tree::get(before, "resources"));
            let sidecar = tree::text(container, "restartPolicy") == "Always";
            if list == "initContainers" && !sidecar && after != was {
                let detail = "resources for non-sidecar init containers are immutable";
                faults.forbidden(&path, detail);
            }
            resized(&path, after, was, faults);
        }
    }
}

fn resized(path: &Path<'_>, after: &Value, before: &Value, faults: &mut Faults) {
    for kind in ["requests", "limits"] {
        let (after, before) = (tree::get(after, kind), tree::get(before, kind));
        let mut names: Vec<&String> = [after, before]
            .iter()
            .filter_map(|map| map.as_object())
            .flat_map(|map| map.keys())
            .collect();
        names.dedup();
        for name in names {
            let amount = |map: &Value| map.get(name).cloned();
            if !matches!(name.as_str(), "cpu" | "memory") && amount(after) != amount(before) {
                faults.forbidden(&SPEC, "only cpu and memory resources are mutable");
            } else if amount(before).is_some() && amount(after).is_none() {
                faults.forbidden(&path.child(kind), &format!("resource {kind} cannot be removed"));
            }
        }
    }
}

/// A pod that a node made of a file.
fn is_static(pod: &Value) -> bool {
    let annotations = tree::get(pod, "metadata.annotations");
    annotations.get("kubernetes.io/config.mirror").is_some()
}

/// A node that resizes containers tells how much each of them has: a running one
/// of which it does not is on a node that cannot.
fn node_can_resize(pod: &Value) -> bool {
    tree::list(pod, "status.containerStatuses").iter().all(|status| {
        tree::get(status, "state.running").is_null() || !tree::get(status, "resources").is_null()
    })
}

//! What is refused in a container.

use std::collections::BTreeSet;

use api_object::{Quantity, name};
use api_schema::{Faults, Path, tree};
use serde_json::{Value, json};

use super::{validate, volume};
use crate::{config_map::check_key, resource_names, rules};

/// Which list a container is in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// `containers`.
    Regular,
    /// `initContainers`.
    Init,
    /// `ephemeralContainers`.
    Ephemeral,
}

const PROBES: [&str; 3] = ["livenessProbe", "readinessProbe", "startupProbe"];

/// What others rely on, or what was promised before the container was there.
const NOT_EPHEMERAL: [&str; 8] = [
    "lifecycle",
    "livenessProbe",
    "ports",
    "readinessProbe",
    "resizePolicy",
    "resources",
    "restartPolicy",
    "startupProbe",
];

/// Fields that environment variables and volumes can be made from.
const FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

const RESOURCE_FIELDS: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// Faults of one container.
pub(super) fn validate(
    path: &Path<'_>,
    container: &Value,
    role: Role,
    volumes: &BTreeSet<&str>,
    faults: &mut Faults,
) {
    match tree::text(container, "name") {
        "" => faults.required(&path.child("name"), ""),
        text => faults.invalid_all(&path.child("name"), text, name::dns1123_label(text)),
    }
    match tree::text(container, "image") {
        "" => faults.required(&path.child("image"), ""),
        image if image.trim() != image => {
            let detail = "must not have leading or trailing whitespace";
            faults.invalid(&path.child("image"), image, detail);
        }
        _ => {}
    }
    if role == Role::Ephemeral {
        for field in NOT_EPHEMERAL {
            let value = tree::get(container, field);
            if !value.is_null() && value != &json!({}) && value != &json!([]) {
                faults.forbidden(&path.child(field), "cannot be set for an Ephemeral Container");
            }
        }
    }
    ports(&path.child("ports"), tree::list(container, "ports"), faults);
    environment(path, container, faults);
    mounts(&path.child("volumeMounts"), container, volumes, faults);
    resources(&path.child("resources"), tree::get(container, "resources"), faults);
    let sidecar = role == Role::Init && tree::text(container, "restartPolicy") == "Always";
    probes(path, container, role == Role::Regular || sidecar, role, faults);
    let security = path.child("securityContext");
    let context = tree::get(container, "securityContext");
    validate::ids(&security, context, &["runAsUser", "runAsGroup"], faults);
    validate::seccomp(&security, context, faults);
    if tree::flag(context, "privileged")
        && tree::get(context, "allowPrivilegeEscalation") == &Value::Bool(false)
    {
        faults.invalid(
            &security,
            context.clone(),
            "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
        );
    }
}

fn ports(path: &Path<'_>, ports: &[Value], faults: &mut Faults) {
    let mut names = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        let name = tree::text(port, "name");
        if !name.is_empty() {
            rules::port_name(&path.child("name"), name, faults);
            if !names.insert(name) {
                faults.duplicate(&path.child("name"), name);
            }
        }
        match tree::int(port, "containerPort").unwrap_or(0) {
            0 => faults.required(&path.child("containerPort"), ""),
            number => rules::port(&path.child("containerPort"), number, faults),
        }
        if let Some(number) = tree::int(port, "hostPort").filter(|&number| number != 0) {
            rules::port(&path.child("hostPort"), number, faults);
        }
        if tree::text(port, "protocol").is_empty() {
            faults.required(&path.child("protocol"), "");
        }
    }
}

fn environment(path: &Path<'_>, container: &Value, faults: &mut Faults) {
    let list = path.child("env");
    for (index, env) in tree::list(container, "env").iter().enumerate() {
        let path = list.index(index);
        let name = tree::text(env, "name");
        let printable = |c: char| c.is_ascii() && !c.is_ascii_control() && c != '=';
        if name.is_empty() {
            faults.required(&path.child("name"), "");
        } else if !name.chars().all(printable) {
            faults.invalid(&path.child("name"), name, "a valid environment variable name must consist only of printable ASCII characters other than '='");
        }
        let from = tree::get(env, "valueFrom");
        if from.is_null() {
            continue;
        }
        let at = path.child("valueFrom");
        value_from(&at, from, faults);
        if !tree::text(env, "value").is_empty() {
            faults.invalid(&at, "", "may not be specified when `value` is not empty");
        }
    }
    let list = path.child("envFrom");
    for (index, source) in tree::list(container, "envFrom").iter().enumerate() {
        let path = list.index(index);
        let set = ["configMapRef", "secretRef"]
            .into_iter()
            .filter(|field| source.get(field).is_some())
            .collect::<Vec<_>>();
        match set[..] {
            [] => faults.invalid(&path, "", "must specify one of: `configMapRef` or `secretRef`"),
            [field] => {
                if tree::text(tree::get(source, field), "name").is_empty() {
                    faults.required(&path.child(field).child("name"), "");
                }
            }
            _ => {
                faults.invalid(&path, "", "may not have more than one field specified at a time");
            }
        }
    }
}

fn value_from(path: &Path<'_>, from: &Value, faults: &mut Faults) {
    let kinds = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];
    let set: Vec<&str> = kinds.into_iter().filter(|kind| from.get(kind).is_some()).collect();
    match set.len() {
        0 => faults.invalid(path, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"),
        1 => {}
        _ => faults.invalid(path, "", "may not have more than one field specified at a time"),
    }
    for kind in set {
        let (path, source) = (path.child(kind), tree::get(from, kind));
        match kind {
            "fieldRef" => field_ref(&path, source, &[], faults),
            "resourceFieldRef" => resource_field_ref(&path, source, faults),
            "fileKeyRef" => {}
            _ => {
                if tree::text(source, "name").is_empty() {
                    faults.required(&path.child("name"), "");
                }
                match tree::text(source, "key") {
                    "" => faults.required(&path.child("key"), ""),
                    key => check_key(&path.child("key"), key, faults),
                }
            }
        }
    }
}

/// A reference to a field of the pod; `more` are fields only volumes can have.
pub(super) fn field_ref(path: &Path<'_>, source: &Value, more: &[&str], faults: &mut Faults) {
    let field = tree::text(source, "fieldPath");
    let path = path.child("fieldPath");
    let subscripted = field
        .strip_prefix("metadata.labels['")
        .or_else(|| field.strip_prefix("metadata.annotations['"))
        .and_then(|rest| rest.strip_suffix("']"));
    if field.is_empty() {
        faults.required(&path, "");
    } else if let Some(key) = subscripted {
        faults.invalid_all(&path, key, name::qualified_name(&key.to_lowercase()));
    } else if !FIELDS.contains(&field) && !more.contains(&field) {
        faults.unsupported(&path, field, FIELDS.iter().chain(more).copied());
    }
}

/// A reference to an amount of a container's resources.
pub(super) fn resource_field_ref(path: &Path<'_>, source: &Value, faults: &mut Faults) {
    let resource = tree::text(source, "resource");
    let huge =
        resource.starts_with("limits.hugepages-") || resource.starts_with("requests.hugepages-");
    if resource.is_empty() {
        faults.required(&path.child("resource"), "");
    } else if !RESOURCE_FIELDS.contains(&resource) && !huge {
        faults.unsupported(&path.child("resource"), resource, RESOURCE_FIELDS);
    }
}

fn mounts(path: &Path<'_>, container: &Value, volumes: &BTreeSet<&str>, faults: &mut Faults) {
    let mut seen = BTreeSet::new();
    for (index, mount) in tree::list(container, "volumeMounts").iter().enumerate() {
        let path = path.index(index);
        match tree::text(mount, "name") {
            "" => faults.required(&path.child("name"), ""),
            name if !volumes.contains(name) => faults.not_found(&path.child("name"), name),
            _ => {}
        }
        match tree::text(mount, "mountPath") {
            "" => faults.required(&path.child("mountPath"), ""),
            target if !seen.insert(target) => {
                faults.invalid(&path.child("mountPath"), target, "must be unique");
            }
            _ => {}
        }
        let (plain, expanded) = (tree::text(mount, "subPath"), tree::text(mount, "subPathExpr"));
        for (field, text) in [("subPath", plain), ("subPathExpr", expanded)] {
            if !text.is_empty() {
                volume::relative_path(&path.child(field), text, faults);
            }
        }
        if !plain.is_empty() && !expanded.is_empty() {
            faults.invalid(
                &path.child("subPathExpr"),
                expanded,
                "subPathExpr and subPath are mutually exclusive",
            );
        }
        let propagation = tree::text(mount, "mountPropagation");
        if propagation == "Bidirectional" && !tree::flag(container, "securityContext.privileged") {
            faults.forbidden(
                &path.child("mountPropagation"),
                "Bidirectional mount propagation is available only to privileged containers",
            );
        }
        recursive_read_only(&path.child("recursiveReadOnly"), mount, propagation, faults);
    }
}

fn recursive_read_only(path: &Path<'_>, mount: &Value, propagation: &str, faults: &mut Faults) {
    match tree::text(mount, "recursiveReadOnly") {
        "" | "Disabled" => {}
        "Enabled" | "IfPossible" => {
            if !tree::flag(mount, "readOnly") {
                faults.forbidden(path, "may only be specified when readOnly is true");
            }
            if !matches!(propagation, "" | "None") {
                faults.forbidden(
                    path,
                    "may only be specified when mountPropagation is None or not specified",
                );
            }
        }
        other => faults.unsupported(path, other, ["Disabled", "Enabled", "IfPossible"]),
    }
}

/// Faults of limits and requests.
pub(super) fn resources(path: &Path<'_>, resources: &Value, faults: &mut Faults) {
    for list in ["limits", "requests"] {
        let at = path.child(list);
        for (resource, amount) in tree::entries(resources, list) {
            let key = at.key(resource);
            resource_names::of_container(&key, resource, faults);
            rules::amount(&key, amount.as_str().unwrap_or_default(), faults);
        }
    }
    let at = path.child("requests");
    for (resource, amount) in tree::entries(resources, "requests") {
        let limit = tree::get(resources, "limits").get(resource).and_then(Value::as_str);
        let overcommitted = matches!(resource.as_str(), "cpu" | "memory" | "ephemeral-storage");
        let parse = |text: &str| Quantity::parse(text).ok();
        let (Some(text), limit) = (amount.as_str(), limit.and_then(parse)) else { continue };
        let Some(request) = parse(text) else { continue };
        match limit {
            Some(limit) if request > limit => faults.invalid(
                &at,
                text,
                format!("must be less than or equal to {resource} limit of {limit}"),
            ),
            Some(limit) if request != limit && !overcommitted && resource.contains('/') => {
                faults.invalid(&at, text, format!("must be equal to {resource} limit of {limit}"));
            }
            None if resource.contains('/') => {
                faults.required(
                    &path.child("limits"),
                    "Limit must be set for non overcommitable resources",
                );
            }
            _ => {}
        }
    }
}

fn probes(path: &Path<'_>, container: &Value, allowed: bool, role: Role, faults: &mut Faults) {
    let lifecycle = tree::get(container, "lifecycle");
    if role == Role::Ephemeral {
        return;
    }
    if !allowed {
        let detail = "may not be set for init containers without restartPolicy=Always";
        for field in PROBES.into_iter().chain(["lifecycle"]) {
            if container.get(field).is_some() {
                faults.forbidden(&path.child(field), detail);
            }
        }
        return;
    }
    for hook in ["postStart", "preStop"] {
        if let Some(hook_value) = lifecycle.get(hook) {
            let at = path.child("lifecycle");
            handler(&at.child(hook), hook_value, faults);
        }
    }
    for field in PROBES {
        let Some(probe) = container.get(field) else { continue };
        let path = path.child(field);
        handler(&path, probe, faults);
        for number in [
            "initialDelaySeconds",
            "timeoutSeconds",
            "periodSeconds",
            "successThreshold",
            "failureThreshold",
        ] {
            rules::not_negative(&path.child(number), tree::int(probe, number), faults);
        }
        let successes = tree::int(probe, "successThreshold").unwrap_or(1);
        if field != "readinessProbe" && successes != 1 {
            faults.invalid(&path.child("successThreshold"), successes, "must be 1");
        }
        let grace = "terminationGracePeriodSeconds";
        match tree::int(probe, grace) {
            Some(_) if field == "readinessProbe" => faults.invalid(
                &path.child(grace),
                tree::get(probe, grace).clone(),
                "must not be set for readinessProbes",
            ),
            Some(seconds) if seconds <= 0 => {
                faults.invalid(&path.child(grace), seconds, "must be greater than 0");
            }
            _ => {}
        }
    }
}

fn handler(path: &Path<'_>, handler: &Value, faults: &mut Faults) {
    let kinds = ["exec", "httpGet", "tcpSocket", "grpc", "sleep"];
    let set: Vec<&str> = kinds.into_iter().filter(|kind| handler.get(kind).is_some()).collect();
    if set.is_empty() {
        faults.required(path, "must specify a handler type");
    }
    for (index, kind) in set.into_iter().enumerate() {
        let (path, action) = (path.child(kind), tree::get(handler, kind));
        if index > 0 {
            faults.forbidden(&path, "may not specify more than 1 handler type");
            continue;
        }
        match kind {
            "exec" => {
                if tree::list(action, "command").is_empty() {
                    faults.required(&path.child("command"), "");
                }
            }
            "httpGet" => {
                if tree::text(action, "path").is_empty() {
                    faults.required(&path.child("path"), "");
                }
                rules::port_or_name(&path.child("port"), tree::get(action, "port"), faults);
            }
            "sleep" => {
                let seconds = tree::int(action, "seconds");
                rules::not_negative(&path.child("seconds"), seconds, faults);
            }
            _ => rules::port_or_name(&path.child("port"), tree::get(action, "port"), faults),
        }
    }
}

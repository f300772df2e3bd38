//! PersistentVolumeClaim: what a namespace asks of storage, and got.

use std::sync::Arc;

use api_object::{Quantity, name};
use api_schema::{Column, Faults, Hooks, Path, ResourceSpec, Schema, tree};
use serde_json::{Value, json};

use crate::{
    cells,
    row::{Build, row as new_row},
    rules,
};

/// Where the class stood before it was a field; still read everywhere.
pub(crate) const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    let mut row = ResourceSpec {
        short_names: vec!["pvc".into()],
        columns: columns(),
        hooks: Hooks {
            default: |_, claim| default(claim),
            prepare_create: |_, claim| {
                tree::set(claim, "status", json!({ "phase": "Pending" }));
                sources(claim);
            },
            prepare_update: |_, new, _| sources(new),
            validate: |_, claim, faults| {
                validate_spec(&Path::new("spec"), tree::get(claim, "spec"), faults);
            },
            validate_update,
            validate_status,
            warnings: |new, _| warnings_at("", new),
            ..Hooks::default()
        },
        ..new_row(
            schema,
            "",
            "v1",
            "persistentvolumeclaims",
            "PersistentVolumeClaim",
            "core/v1.PersistentVolumeClaim",
        )
    };
    row.with_status();
    row
}

fn columns() -> Vec<Column> {
    vec![
        Column::name(),
        Column::text(
            "Status",
            "phase represents the current phase of PersistentVolumeClaim.",
            |claim, _| phase(claim).into(),
        ),
        Column::text(
            "Volume",
            "volumeName is the binding reference to the PersistentVolume backing this claim.",
            |claim, _| tree::text(claim, "spec.volumeName").into(),
        ),
        Column::text(
            "Capacity",
            "capacity represents the actual resources of the underlying volume.",
            |claim, _| {
                bound(claim, || tree::text(claim, "status.capacity.storage").to_owned()).into()
            },
        ),
        Column::text(
            "Access Modes",
            "accessModes contains the actual access modes the volume backing the PVC has.",
            |claim, _| bound(claim, || modes(tree::list(claim, "status.accessModes"))).into(),
        ),
        Column::text("StorageClass", "StorageClass of the pvc", |claim, _| class(claim).into()),
        Column::text(
            "VolumeAttributesClass",
            "VolumeAttributesClass of the pvc",
            |claim, _| cells::unset(tree::text(claim, "spec.volumeAttributesClassName")).into(),
        ),
        Column::age(),
        Column::text(
            "VolumeMode",
            "volumeMode defines what type of volume is required by the claim. Value of Filesystem is implied when not included in claim spec.",
            |claim, _| cells::unset(tree::text(claim, "spec.volumeMode")).into(),
        )
        .wide(),
    ]
}

/// What a claim says of its volume once it has one.
fn bound(claim: &Value, text: impl Fn() -> String) -> String {
    if tree::text(claim, "spec.volumeName").is_empty() { String::new() } else { text() }
}

/// The phase; `Terminating` while a volume or claim is being deleted.
pub(crate) fn phase(object: &Value) -> &str {
    match tree::get(object, "metadata.deletionTimestamp") {
        Value::Null => tree::text(object, "status.phase"),
        _ => "Terminating",
    }
}

/// The storage class, wherever it is said.
pub(crate) fn class(object: &Value) -> &str {
    let annotation = tree::get(object, "metadata.annotations").get(CLASS_ANNOTATION);
    match annotation.and_then(Value::as_str) {
        Some(class) => class,
        None => tree::text(object, "spec.storageClassName"),
    }
}

/// `RWO,ROX`
pub(crate) fn modes(modes: &[Value]) -> String {
    const SHORT: [(&str, &str); 4] = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let shown: Vec<&str> =
        SHORT.iter().filter(|(mode, _)| modes.iter().any(|m| m == mode)).map(|(_, s)| *s).collect();
    shown.join(",")
}

/// The defaults of a claim, for the templates of claims too.
pub(crate) fn default(claim: &mut Value) {
    tree::set_if_unset(claim, "status.phase", "Pending");
    default_spec(tree::slot(claim, "spec"));
    if let Some(amounts) = tree::at_mut(claim, "status.capacity") {
        rules::round_amounts(amounts);
    }
}

/// The defaults of what a claim asks for.
pub(crate) fn default_spec(spec: &mut Value) {
    tree::set_if_unset(spec, "volumeMode", "Filesystem");
    for path in ["resources.requests", "resources.limits"] {
        if let Some(amounts) = tree::at_mut(spec, path) {
            rules::round_amounts(amounts);
        }
    }
}

/// Where the content comes from can be said in two fields, which agree; the
/// older cannot speak of other namespaces.
fn sources(claim: &mut Value) {
    let spec = tree::slot(claim, "spec");
    let (old, new) = (tree::get(spec, "dataSource"), tree::get(spec, "dataSourceRef"));
    if old.is_object() && new.is_null() {
        let source = old.clone();
        tree::set(spec, "dataSourceRef", source);
    } else if new.is_object() && old.is_null() && tree::text(new, "namespace").is_empty() {
        let source = new.clone();
        tree::set(spec, "dataSource", source);
    }
}

/// Faults of what a claim asks for, for templates of claims too.
pub(crate) fn validate_spec(path: &Path<'_>, spec: &Value, faults: &mut Faults) {
    rules::label_selector(&path.child("selector"), tree::get(spec, "selector"), faults);
    let modes = tree::list(spec, "accessModes");
    if modes.is_empty() {
        faults.required(&path.child("accessModes"), "at least 1 access mode is required");
    }
    one_pod_alone(&path.child("accessModes"), modes, faults);
    let requests = path.child("resources");
    match tree::get(spec, "resources.requests").get("storage").and_then(Value::as_str) {
        None => faults.required(&requests.key("storage"), ""),
        Some(text) => rules::positive_amount(&requests.key("storage"), text, faults),
    }
    for field in ["storageClassName", "volumeAttributesClassName"] {
        let text = tree::text(spec, field);
        rules::optional_name(&path.child(field), text, name::dns1123_subdomain, faults);
    }
    for field in ["dataSource", "dataSourceRef"] {
        let source = tree::get(spec, field);
        if source.is_object() {
            data_source(&path.child(field), source, faults);
        }
    }
    let (old, new) = (tree::get(spec, "dataSource"), tree::get(spec, "dataSourceRef"));
    if old.is_object() && new.is_object() {
        let same = |field| tree::text(old, field) == tree::text(new, field);
        let elsewhere = !tree::text(new, "namespace").is_empty();
        if elsewhere {
            let detail = "may not be specified when dataSourceRef.namespace is specified";
            faults.invalid(&path.child("dataSource"), old.clone(), detail);
        } else if !["apiGroup", "kind", "name"].into_iter().all(same) {
            faults.invalid(&path.child("dataSource"), old.clone(), "must match dataSourceRef");
        }
    }
}

/// `ReadWriteOncePod` promises what no other mode can keep.
pub(crate) fn one_pod_alone(path: &Path<'_>, modes: &[Value], faults: &mut Faults) {
    let alone = |mode: &Value| mode == "ReadWriteOncePod";
    if modes.iter().any(alone) && !modes.iter().all(alone) {
        faults.forbidden(path, "may not use ReadWriteOncePod with other access modes");
    }
}

fn data_source(path: &Path<'_>, source: &Value, faults: &mut Faults) {
    for field in ["name", "kind"] {
        if tree::text(source, field).is_empty() {
            faults.required(&path.child(field), "");
        }
    }
    let (group, kind) = (tree::text(source, "apiGroup"), tree::text(source, "kind"));
    if group.is_empty() && kind != "PersistentVolumeClaim" {
        let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        faults.invalid(path, kind, detail);
    }
    rules::optional_name(&path.child("apiGroup"), group, name::dns1123_subdomain, faults);
}

/// A claim is bound once and, while it is, can be asked to grow.
fn validate_update(_: &ResourceSpec, new: &Value, old: &Value, faults: &mut Faults) {
    let spec = Path::new("spec");
    let storage = "resources.requests.storage";
    let (after, before) = (tree::get(new, "spec"), tree::get(old, "spec"));
    let mut munged = after.clone();
    if tree::text(before, "volumeName").is_empty() {
        tree::copy(before, &mut munged, "volumeName");
    }
    let annotation = |claim: &Value| {
        tree::get(claim, "metadata.annotations").get(CLASS_ANNOTATION).cloned().unwrap_or_default()
    };
    if annotation(new) != annotation(old) {
        let path = Path::new("metadata.annotations");
        faults.invalid(&path.key(CLASS_ANNOTATION), annotation(new), "field is immutable");
    }
    // A claim of before there was a default class may be given one.
    if annotation(old).is_null() && tree::get(before, "storageClassName").is_null() {
        tree::copy(before, &mut munged, "storageClassName");
    }
    if tree::text(new, "status.phase") == "Bound"
        && tree::get(&munged, "resources.requests").is_object()
    {
        tree::copy(before, &mut munged, storage);
    }
    tree::copy(before, &mut munged, "volumeAttributesClassName");
    if &munged != before {
        faults.forbidden(
            &spec,
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
        );
    }
    let amount = |object, path| Quantity::parse(tree::text(object, path)).unwrap_or_default();
    let (size, size_before) = (amount(after, storage), amount(before, storage));
    if size < size_before && size <= amount(new, "status.capacity.storage") {
        faults.forbidden(&spec.child(storage), "field can not be less than status.capacity");
    }
    let mode = "volumeMode";
    rules::immutable(&Path::new(mode), tree::get(after, mode), tree::get(before, mode), faults);
    let class = "volumeAttributesClassName";
    let in_use = !tree::text(new, "status.currentVolumeAttributesClassName").is_empty();
    if in_use && !tree::text(before, class).is_empty() && tree::text(after, class).is_empty() {
        let what = if tree::get(after, class).is_null() { "nil" } else { "an empty string" };
        faults.forbidden(
            &spec.child(class),
            &format!("update to {what} is forbidden when status.currentVolumeAttributesClassName is not nil"),
        );
    }
}

fn validate_status(_: &ResourceSpec, new: &Value, _: &Value, faults: &mut Faults) {
    for field in ["status.capacity", "status.allocatedResources"] {
        let path = Path::new(field);
        for (resource, amount) in tree::entries(new, field) {
            let text = amount.as_str().unwrap_or_default();
            if Quantity::parse(text).is_ok_and(Quantity::is_negative) {
                let path = path.key(resource);
                faults.invalid(&path, text, "must be a valid resource quantity");
            }
        }
    }
}

/// Warnings about a claim, or about a template of claims at a path with a dot
/// at its end.
pub(crate) fn warnings_at(at: &str, claim: &Value) -> Vec<String> {
    let mut out = class_warning(at, claim);
    let text = tree::text(claim, "spec.resources.requests.storage");
    if Quantity::parse(text).is_ok_and(|amount| amount.millis() % 1000 != 0) {
        out.push(format!(
            "{at}spec.resources.requests[storage]: fractional byte value {text:?} is invalid, must be an integer"
        ));
    }
    out
}

/// The word about a class that is said by an annotation.
pub(crate) fn class_warning(at: &str, object: &Value) -> Vec<String> {
    let annotation = tree::get(object, "metadata.annotations").get(CLASS_ANNOTATION);
    let word = format!(
        "{at}metadata.annotations[{CLASS_ANNOTATION}]: deprecated since v1.8; use \"storageClassName\" attribute instead"
    );
    annotation.map(|_| word).into_iter().collect()
}

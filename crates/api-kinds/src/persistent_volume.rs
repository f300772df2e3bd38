//! PersistentVolume: storage that outlives the pods that use it.

use std::sync::Arc;

use api_object::{Quantity, name, time};
use api_schema::{Column, Faults, Hooks, Path, ResourceSpec, Schema, tree};
use serde_json::{Value, json};

use crate::{
    cells, persistent_volume_claim as claim, pod,
    row::{Build, row as new_row},
    rules,
};

/// Every field of the spec that is not a source of storage.
const NO_SOURCES: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    let mut row = ResourceSpec {
        short_names: vec!["pv".into()],
        columns: columns(),
        hooks: Hooks {
            default,
            prepare_create: |_, volume| tree::set(volume, "status", json!({ "phase": "Pending" })),
            stamp: |new, old, now| {
                let phase = |volume| tree::text(volume, "status.phase");
                let at = "status.lastPhaseTransitionTime";
                let told = old.is_some_and(|old| tree::get(old, at) != tree::get(new, at));
                if old.is_none_or(|old| phase(old) != phase(new)) && !told {
                    tree::set(new, at, time::format_seconds(now));
                }
            },
            validate,
            validate_update,
            warnings: |new, _| warnings(new),
            ..Hooks::default()
        },
        ..new_row(
            schema,
            "",
            "v1",
            "persistentvolumes",
            "PersistentVolume",
            "core/v1.PersistentVolume",
        )
    };
    row.cluster_scoped().with_status();
    row
}

fn columns() -> Vec<Column> {
    vec![
        Column::name(),
        Column::text(
            "Capacity",
            "capacity is the description of the persistent volume's resources and capacity.",
            |volume, _| tree::text(volume, "spec.capacity.storage").into(),
        ),
        Column::text(
            "Access Modes",
            "accessModes contains all ways the volume can be mounted.",
            |volume, _| claim::modes(tree::list(volume, "spec.accessModes")).into(),
        ),
        Column::text(
            "Reclaim Policy",
            "persistentVolumeReclaimPolicy defines what happens to a persistent volume when released from its claim.",
            |volume, _| tree::text(volume, "spec.persistentVolumeReclaimPolicy").into(),
        ),
        Column::text(
            "Status",
            "phase indicates if a volume is available, bound to a claim, or released by a claim.",
            |volume, _| claim::phase(volume).into(),
        ),
        Column::text(
            "Claim",
            "claimRef is part of a bi-directional binding between PersistentVolume and PersistentVolumeClaim.",
            |volume, _| {
                let claim = tree::get(volume, "spec.claimRef");
                match claim.is_null() {
                    true => "".into(),
                    false => {
                        let namespace = tree::text(claim, "namespace");
                        format!("{namespace}/{}", tree::text(claim, "name")).into()
                    }
                }
            },
        ),
        Column::text("StorageClass", "StorageClass of the pv", |volume, _| {
            claim::class(volume).into()
        }),
        Column::text(
            "VolumeAttributesClass",
            "VolumeAttributesClass of the pv",
            |volume, _| cells::unset(tree::text(volume, "spec.volumeAttributesClassName")).into(),
        ),
        Column::text(
            "Reason",
            "reason is a brief CamelCase string that describes any failure and is meant for machine parsing and tidy display in the CLI.",
            |volume, _| tree::text(volume, "status.reason").into(),
        ),
        Column::age(),
        Column::text(
            "VolumeMode",
            "volumeMode defines if a volume is intended to be used with a formatted filesystem or to remain in raw block state.",
            |volume, _| cells::unset(tree::text(volume, "spec.volumeMode")).into(),
        )
        .wide(),
    ]
}

fn default(_: &ResourceSpec, volume: &mut Value) {
    tree::set_if_unset(volume, "status.phase", "Pending");
    let spec = tree::slot(volume, "spec");
    tree::set_if_unset(spec, "persistentVolumeReclaimPolicy", "Retain");
    tree::set_if_unset(spec, "volumeMode", "Filesystem");
    if let Some(amounts) = spec.get_mut("capacity") {
        rules::round_amounts(amounts);
    }
    if let Some(path) = spec.get_mut("hostPath").filter(|path| path.is_object()) {
        tree::set_if_unset(path, "type", "");
    }
}

/// The sources of storage that a volume names: one, if it is sound.
fn sources(spec: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let fields = spec.as_object().into_iter().flatten();
    fields.filter(|(field, _)| !NO_SOURCES.contains(&field.as_str()))
}

fn validate(_: &ResourceSpec, volume: &Value, faults: &mut Faults) {
    let (path, spec) = (Path::new("spec"), tree::get(volume, "spec"));
    let modes = tree::list(spec, "accessModes");
    if modes.is_empty() {
        faults.required(&path.child("accessModes"), "");
    }
    claim::one_pod_alone(&path.child("accessModes"), modes, faults);
    capacity(&path.child("capacity"), tree::get(spec, "capacity"), faults);
    let affinity = tree::get(spec, "nodeAffinity");
    let at = path.child("nodeAffinity.required");
    match tree::get(affinity, "required") {
        Value::Null if affinity.is_object() => {
            faults.required(&at, "must specify required node constraints");
        }
        Value::Null => {}
        required => pod::validate_node_selector(&at, required, faults),
    }
    let mut found = sources(spec);
    match found.next() {
        None => faults.required(&path, "must specify a volume type"),
        Some((kind, source)) => self::source(&path.child(kind), kind, source, faults),
    }
    for (kind, _) in found {
        faults.forbidden(&path.child(kind), "may not specify more than 1 volume type");
    }
    if spec.get("local").is_some() && affinity.is_null() {
        faults.required(&path.child("nodeAffinity"), "Local volume requires node affinity");
    }
    let policy = "persistentVolumeReclaimPolicy";
    let root = tree::text(spec, "hostPath.path").trim_end_matches('/').is_empty();
    if spec.get("hostPath").is_some() && root && tree::text(spec, policy) == "Recycle" {
        let detail = "may not be 'recycle' for a hostPath mount of '/'";
        faults.forbidden(&path.child(policy), detail);
    }
    for field in ["storageClassName", "volumeAttributesClassName"] {
        let text = tree::text(spec, field);
        rules::optional_name(&path.child(field), text, name::dns1123_subdomain, faults);
    }
    if spec.get("volumeAttributesClassName").is_some() && spec.get("csi").is_none() {
        let detail = "has to be specified when using volumeAttributesClassName";
        faults.required(&path.child("csi"), detail);
    }
}

fn capacity(path: &Path<'_>, capacity: &Value, faults: &mut Faults) {
    let resources: Vec<(&String, &Value)> = capacity.as_object().into_iter().flatten().collect();
    match resources[..] {
        [] => faults.required(path, ""),
        [(resource, _)] if resource == "storage" => {}
        _ => faults.unsupported(path, capacity.clone(), ["storage"]),
    }
    for (resource, amount) in resources {
        let text = amount.as_str().unwrap_or_default();
        let path = path.key(resource);
        if Quantity::parse(text).is_ok_and(Quantity::is_negative) {
            faults.invalid(&path, text, "must be a valid resource quantity");
        }
        rules::positive_amount(&path, text, faults);
    }
}

fn source(path: &Path<'_>, kind: &str, source: &Value, faults: &mut Faults) {
    let required: &[&str] = match kind {
        "hostPath" | "local" => &["path"],
        "csi" => &["driver", "volumeHandle"],
        "nfs" => &["server", "path"],
        _ => &[],
    };
    for field in required {
        if tree::text(source, field).is_empty() {
            faults.required(&path.child(field), "");
        }
    }
    let target = tree::text(source, "path");
    let at = path.child("path");
    match kind {
        "hostPath" | "local" if target.split('/').any(|part| part == "..") => {
            faults.invalid(&at, target, "must not contain '..'");
        }
        "nfs" if !target.is_empty() && !target.starts_with('/') => {
            faults.invalid(&at, target, "must be an absolute path");
        }
        "csi" => {
            let driver = tree::text(source, "driver");
            let rule: api_schema::NameRule = |text| name::dns1123_subdomain(&text.to_lowercase());
            rules::optional_name(&path.child("driver"), driver, rule, faults);
        }
        _ => {}
    }
}

fn validate_update(_: &ResourceSpec, new: &Value, old: &Value, faults: &mut Faults) {
    let (after, before) = (tree::get(new, "spec"), tree::get(old, "spec"));
    let mut munged = after.clone();
    for secret in ["csi.controllerExpandSecretRef", "csi.nodeExpandSecretRef"] {
        // Volumes of before these existed may be told them.
        if tree::get(before, "csi").is_object() && tree::get(before, secret).is_null() {
            tree::remove(&mut munged, secret);
        }
    }
    if sources(&munged).ne(sources(before)) {
        faults.forbidden(
            &Path::new("spec.persistentvolumesource"),
            "spec.persistentvolumesource is immutable after creation",
        );
    }
    let mode = "volumeMode";
    rules::immutable(&Path::new(mode), tree::get(after, mode), tree::get(before, mode), faults);
    let affinity = "nodeAffinity";
    if !tree::get(before, affinity).is_null() {
        let (after, before) = (tree::get(after, affinity), tree::get(before, affinity));
        rules::immutable(&Path::new(affinity), after, before, faults);
    }
    let class = "volumeAttributesClassName";
    if !tree::get(before, class).is_null() && tree::get(after, class).is_null() {
        let detail = "update from non-nil value to nil is forbidden";
        faults.forbidden(&Path::new("spec.volumeAttributesClassName"), detail);
    }
}

/// (source, since when it is deprecated, since when it does nothing).
const OLD_SOURCES: [(&str, &str); 6] = [
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
];

fn warnings(volume: &Value) -> Vec<String> {
    let mut out = claim::class_warning("", volume);
    let spec = tree::get(volume, "spec");
    if tree::text(spec, "persistentVolumeReclaimPolicy") == "Recycle" {
        out.push("spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.".into());
    }
    for (source, word) in OLD_SOURCES {
        if spec.get(source).is_some() {
            out.push(format!("spec.{source}: {word}"));
        }
    }
    let text = tree::text(spec, "capacity.storage");
    if Quantity::parse(text).is_ok_and(|amount| amount.millis() % 1000 != 0) {
        out.push(format!(
            "spec.capacity[storage]: fractional byte value {text:?} is invalid, must be an integer"
        ));
    }
    out
}

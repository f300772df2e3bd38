//! VolumeAttachment: a volume that is to be attached to a node.

use std::sync::Arc;

use api_object::name;
use api_schema::{Cell, Column, Faults, Hooks, Path, ResourceSpec, Schema, tree};
use serde_json::Value;

use super::{GROUP, driver_name};
use crate::{
    row::{Build, row as new_row},
    rules,
};

const METADATA_BYTES_MAX: usize = 256 * 1024;
const MESSAGE_LEN_MAX: usize = 1024;

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    let mut row = ResourceSpec {
        columns: vec![
            Column::name(),
            Column {
                format: "name".into(),
                ..Column::text(
                    "Attacher",
                    "attacher indicates the name of the CSI volume driver that MUST handle this request. This is the name returned by GetPluginName().",
                    |object, _| tree::text(object, "spec.attacher").into(),
                )
            },
            Column::text(
                "PV",
                "persistentVolumeName represents the name of the persistent volume to attach.",
                |object, _| tree::text(object, "spec.source.persistentVolumeName").into(),
            ),
            Column::text(
                "Node",
                "nodeName represents the node that the volume should be attached to.",
                |object, _| tree::text(object, "spec.nodeName").into(),
            ),
            Column::new(
                "Attached",
                "boolean",
                "attached indicates the volume is successfully attached. This field must only be set by the entity completing the attach operation, i.e. the external-attacher.",
                Cell::With(|object, _| tree::flag(object, "status.attached").into()),
            ),
            Column::age(),
        ],
        allow_unconditional_update: false,
        hooks: Hooks {
            prepare_status: |_, new, old| keep_metadata(new, old),
            reset: &[("status", "metadata")],
            validate,
            validate_update,
            validate_status: |_, new, _, faults| status(new, faults),
            ..Hooks::default()
        },
        ..new_row(
            schema,
            GROUP,
            "v1",
            "volumeattachments",
            "VolumeAttachment",
            "storage/v1.VolumeAttachment",
        )
    };
    row.cluster_scoped().with_status();
    row
}

/// An update of status changes no metadata, but for the version it is about.
fn keep_metadata(new: &mut Value, old: &Value) {
    let version = tree::get(new, "metadata.resourceVersion").clone();
    tree::copy(old, new, "metadata");
    if !version.is_null() {
        tree::set(new, "metadata.resourceVersion", version);
    }
}

fn validate(_: &ResourceSpec, object: &Value, faults: &mut Faults) {
    let spec = Path::new("spec");
    driver_name(&spec.child("attacher"), tree::text(object, "spec.attacher"), faults);
    let (path, source) = (spec.child("source"), tree::get(object, "spec.source"));
    let by_name = tree::get(source, "persistentVolumeName").as_str();
    let inline = !tree::get(source, "inlineVolumeSpec").is_null();
    const ONE: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (by_name, inline) {
        (None, false) => faults.required(&path, ONE),
        (Some(_), true) => faults.forbidden(&path, ONE),
        (Some(""), false) => faults.required(
            &path.child("persistentVolumeName"),
            "must specify non empty persistentVolumeName",
        ),
        (Some(volume), false) => {
            let wrong = name::dns1123_subdomain(volume);
            faults.invalid_all(&path.child("persistentVolumeName"), volume, wrong);
        }
        (None, true) => {}
    }
    let node = tree::text(object, "spec.nodeName");
    faults.invalid_all(&spec.child("nodeName"), node, name::dns1123_subdomain(node));
    status(object, faults);
}

fn status(object: &Value, faults: &mut Faults) {
    let path = Path::new("status");
    let metadata = path.child("attachmentMetadata");
    let mut bytes = 0;
    for (key, value) in tree::entries(object, "status.attachmentMetadata") {
        if key.is_empty() {
            faults.invalid(&metadata, "", "field can not be empty.");
        }
        bytes += key.len() + value.as_str().unwrap_or_default().len();
    }
    if bytes > METADATA_BYTES_MAX {
        faults.too_long(&metadata, METADATA_BYTES_MAX);
    }
    for field in ["attachError", "detachError"] {
        let message = tree::text(tree::get(tree::get(object, "status"), field), "message");
        if message.len() > MESSAGE_LEN_MAX {
            faults.too_long(&path.child(field).child("message"), MESSAGE_LEN_MAX);
        }
    }
}

fn validate_update(_: &ResourceSpec, new: &Value, old: &Value, faults: &mut Faults) {
    rules::immutable(&Path::new("spec"), tree::get(new, "spec"), tree::get(old, "spec"), faults);
}

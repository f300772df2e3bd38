//! CSIDriver: what a storage driver in the cluster can do and wants.

use std::sync::Arc;

use api_schema::{Column, Faults, Hooks, Path, ResourceSpec, Schema, tree};
use serde_json::{Value, json};

use super::GROUP;
use crate::{
    row::{Build, row as new_row},
    rules,
};

const FLAGS: [(&str, bool); 5] = [
    ("attachRequired", true),
    ("podInfoOnMount", false),
    ("storageCapacity", false),
    ("requiresRepublish", false),
    ("seLinuxMount", false),
];
const GROUP_POLICIES: [&str; 3] = ["ReadWriteOnceWithFSType", "File", "None"];
const MODES: [&str; 2] = ["Persistent", "Ephemeral"];
const TOKEN_SECONDS_MIN: i64 = 600;
const TOKEN_SECONDS_MAX: i64 = 1 << 32;
const UPDATE_PERIOD_SECONDS_MIN: i64 = 10;

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    let flag = |name, description, cell| {
        Column::new(name, "boolean", description, api_schema::Cell::With(cell))
    };
    let mut row = ResourceSpec {
        columns: vec![
            Column::name(),
            flag(
                "AttachRequired",
                "attachRequired indicates this CSI volume driver requires an attach operation, and that the attach detach controller should wait until it is complete before proceeding to mounting.",
                // Absent means yes.
                |driver, _| (tree::get(driver, "spec.attachRequired") != false).into(),
            ),
            flag(
                "PodInfoOnMount",
                "podInfoOnMount indicates this CSI volume driver requires additional pod information (like podName, podUID, etc.) during mount operations, if set to true.",
                |driver, _| tree::flag(driver, "spec.podInfoOnMount").into(),
            ),
            flag(
                "StorageCapacity",
                "storageCapacity indicates that the CSI volume driver wants pod scheduling to consider the storage capacity that the driver deployment will report by creating CSIStorageCapacity objects with capacity information, if set to true.",
                |driver, _| tree::flag(driver, "spec.storageCapacity").into(),
            ),
            Column::text(
                "TokenRequests",
                "tokenRequests indicates the CSI driver needs pods' service account tokens it is mounting volume for to do necessary authentication.",
                |driver, _| audiences(driver).into(),
            ),
            flag(
                "RequiresRepublish",
                "requiresRepublish indicates the CSI driver wants `NodePublishVolume` being periodically called to reflect any possible change in the mounted volume.",
                |driver, _| tree::flag(driver, "spec.requiresRepublish").into(),
            ),
            Column::text(
                "Modes",
                "volumeLifecycleModes defines what kind of volumes this CSI volume driver supports.",
                |driver, _| modes(driver).into(),
            ),
            Column::age(),
        ],
        allow_unconditional_update: false,
        hooks: Hooks { default, prepare_update, validate, validate_update, ..Hooks::default() },
        ..new_row(schema, GROUP, "v1", "csidrivers", "CSIDriver", "storage/v1.CSIDriver")
    };
    row.cluster_scoped();
    row
}

fn audiences(driver: &Value) -> String {
    if tree::get(driver, "spec.tokenRequests").is_null() {
        return "<unset>".into();
    }
    let requests = tree::list(driver, "spec.tokenRequests").iter();
    requests.map(|request| tree::text(request, "audience")).collect::<Vec<_>>().join(",")
}

fn modes(driver: &Value) -> String {
    let modes = tree::list(driver, "spec.volumeLifecycleModes").iter().filter_map(Value::as_str);
    let modes = modes.collect::<Vec<_>>().join(",");
    if modes.is_empty() { "<none>".into() } else { modes }
}

fn default(_: &ResourceSpec, driver: &mut Value) {
    let spec = tree::slot(driver, "spec");
    for (field, value) in FLAGS {
        tree::set_if_unset(spec, field, value);
    }
    tree::set_if_unset(spec, "fsGroupPolicy", GROUP_POLICIES[0]);
    if tree::list(spec, "volumeLifecycleModes").is_empty() {
        tree::set(spec, "volumeLifecycleModes", json!(MODES[..1]));
    }
}

fn prepare_update(_: &ResourceSpec, new: &mut Value, old: &Value) {
    // Drivers are created without a generation; only what may change counts it up.
    let changed = ["requiresRepublish", "seLinuxMount", "tokenRequests"]
        .map(|field| format!("spec.{field}"))
        .iter()
        .any(|path| tree::get(new, path) != tree::get(old, path));
    if changed {
        let generation = tree::int(old, "metadata.generation").unwrap_or(0);
        tree::set(new, "metadata.generation", generation + 1);
    }
}

fn validate(_: &ResourceSpec, driver: &Value, faults: &mut Faults) {
    let (path, spec) = (Path::new("spec"), tree::get(driver, "spec"));
    let policy = tree::text(spec, "fsGroupPolicy");
    if !GROUP_POLICIES.contains(&policy) {
        faults.unsupported(&path.child("fsGroupPolicy"), policy, GROUP_POLICIES);
    }
    token_requests(&path.child("tokenRequests"), tree::list(spec, "tokenRequests"), faults);
    let list = path.child("volumeLifecycleModes");
    for mode in tree::list(spec, "volumeLifecycleModes").iter().filter_map(Value::as_str) {
        if !MODES.contains(&mode) {
            faults.unsupported(&list, mode, MODES);
        }
    }
    if let Some(seconds) = tree::int(spec, "nodeAllocatableUpdatePeriodSeconds")
        && seconds < UPDATE_PERIOD_SECONDS_MIN
    {
        faults.invalid(
            &path.child("nodeAllocatableUpdatePeriodSeconds"),
            seconds,
            format!("must be greater than or equal to {UPDATE_PERIOD_SECONDS_MIN} seconds"),
        );
    }
}

fn token_requests(path: &Path<'_>, requests: &[Value], faults: &mut Faults) {
    for (index, request) in requests.iter().enumerate() {
        let path = path.index(index);
        let audience = tree::text(request, "audience");
        if requests[..index].iter().any(|earlier| tree::text(earlier, "audience") == audience) {
            faults.duplicate(&path.child("audience"), audience);
        }
        let at = path.child("expirationSeconds");
        match tree::int(request, "expirationSeconds") {
            Some(seconds) if seconds < TOKEN_SECONDS_MIN => {
                faults.invalid(&at, seconds, "may not specify a duration less than 10 minutes");
            }
            Some(seconds) if seconds > TOKEN_SECONDS_MAX => {
                faults.invalid(&at, seconds, "may not specify a duration larger than 2^32 seconds");
            }
            _ => {}
        }
    }
}

fn validate_update(_: &ResourceSpec, new: &Value, old: &Value, faults: &mut Faults) {
    // Upstream spells the first of the two paths so.
    for (field, path) in [
        ("attachRequired", "spec.attachedRequired"),
        ("volumeLifecycleModes", "spec.volumeLifecycleModes"),
    ] {
        let field = format!("spec.{field}");
        rules::immutable(&Path::new(path), tree::get(new, &field), tree::get(old, &field), faults);
    }
}

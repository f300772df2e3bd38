//! ResourceSlice: some of the devices of a driver's pool.

use std::sync::Arc;

use api_object::name;
use api_schema::{Column, Faults, Generation, Hooks, Path, ResourceSpec, Schema, tree};
use serde_json::Value;

use super::{GROUP, device, names, taint};
use crate::{
    pod,
    row::{Build, row as new_row},
    rules,
};

const DEVICES_MAX: usize = 128;
/// Taints and counters make devices larger.
const DEVICES_MAX_WITH_MORE: usize = 64;
const COUNTER_SETS_MAX: usize = 8;

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    let mut row = ResourceSpec {
        columns: vec![
            Column::name(),
            Column::text(
                "Node",
                "NodeName identifies the node which provides the resources in this pool.",
                |slice, _| tree::text(slice, "spec.nodeName").into(),
            ),
            Column::text(
                "Driver",
                "Driver identifies the DRA driver providing the capacity information.",
                |slice, _| tree::text(slice, "spec.driver").into(),
            ),
            Column::text("Pool", "Name is used to identify the pool.", |slice, _| {
                tree::text(slice, "spec.pool.name").into()
            }),
            Column::age(),
        ],
        generation: Generation::Spec,
        hooks: Hooks {
            stamp: |new, _, now| {
                for device in tree::list_mut(new, "spec.devices") {
                    for taint in tree::list_mut(device, "taints") {
                        taint::stamp(taint, now);
                    }
                }
            },
            validate,
            validate_update,
            ..Hooks::default()
        },
        ..new_row(
            schema,
            GROUP,
            "v1",
            "resourceslices",
            "ResourceSlice",
            "resource/v1.ResourceSlice",
        )
    };
    row.cluster_scoped().with_field("spec.nodeName").with_field("spec.driver");
    row
}

fn validate(_: &ResourceSpec, slice: &Value, faults: &mut Faults) {
    let (path, spec) = (Path::new("spec"), tree::get(slice, "spec"));
    names::driver(&path.child("driver"), tree::text(spec, "driver"), faults);
    let at = path.child("pool");
    names::pool(&at.child("name"), tree::text(spec, "pool.name"), faults);
    let count = tree::int(spec, "pool.resourceSliceCount").unwrap_or(0);
    if count <= 0 {
        faults.invalid(&at.child("resourceSliceCount"), count, "must be greater than zero");
    }
    let generation = tree::int(spec, "pool.generation").unwrap_or(0);
    if generation < 0 {
        let detail = "must be greater than or equal to zero";
        faults.invalid(&at.child("generation"), generation, detail);
    }
    where_usable(&path, spec, faults);
    let given = |field| !tree::get(spec, field).is_null();
    if given("sharedCounters") && given("devices") {
        faults.invalid(&path, "", "only one of `sharedCounters` or `devices` is allowed");
    }
    let devices = tree::list(spec, "devices");
    let more = devices.iter().any(|device| {
        ["taints", "consumesCounters"].iter().any(|field| !tree::list(device, field).is_empty())
    });
    let devices_max = if more { DEVICES_MAX_WITH_MORE } else { DEVICES_MAX };
    let by_device = tree::flag(spec, "perDeviceNodeSelection");
    let name = |item: &Value| tree::text(item, "name").to_owned();
    let at = path.child("devices");
    names::set(&at, devices, devices_max, name, faults, |path, device, faults| {
        device::validate(path, device, by_device, faults);
    });
    let sets = tree::list(spec, "sharedCounters");
    let at = path.child("sharedCounters");
    names::set(&at, sets, COUNTER_SETS_MAX, name, faults, |path, set, faults| {
        match tree::text(set, "name") {
            "" => faults.required(&path.child("name"), ""),
            name => names::label(&path.child("name"), name, faults),
        }
        device::counters(path, set, faults);
    });
}

/// One way of saying which nodes can use the devices.
fn where_usable(path: &Path<'_>, spec: &Value, faults: &mut Faults) {
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    let mut set = Vec::new();
    match tree::get(spec, "nodeName").as_str() {
        None => {}
        Some("") => faults.invalid(
            &path.child("nodeName"),
            "",
            "must be either unset or set to a non-empty string",
        ),
        Some(node) => {
            set.push("`nodeName`");
            faults.invalid_all(&path.child("nodeName"), node, name::dns1123_subdomain(node));
        }
    }
    let selector = tree::get(spec, "nodeSelector");
    if !selector.is_null() {
        set.push("`nodeSelector`");
        let at = path.child("nodeSelector");
        pod::validate_node_selector(&at, selector, faults);
        let terms = tree::get(selector, "nodeSelectorTerms");
        if tree::list(selector, "nodeSelectorTerms").len() != 1 {
            faults.invalid(
                &at.child("nodeSelectorTerms"),
                terms.clone(),
                "must have exactly one node selector term",
            );
        }
    }
    for (field, shown) in
        [("allNodes", "`allNodes`"), ("perDeviceNodeSelection", "`perDeviceNodeSelection`")]
    {
        match tree::get(spec, field).as_bool() {
            None => {}
            Some(true) => set.push(shown),
            Some(false) => {
                faults.invalid(&path.child(field), false, "must be either unset or set to true");
            }
        }
    }
    match set.len() {
        0 => faults.required(path, ONE),
        1 => {}
        _ => faults.invalid(
            path,
            format!("{{{}}}", set.join(", ")),
            format!("{ONE}, but multiple fields are set"),
        ),
    }
}

fn validate_update(_: &ResourceSpec, new: &Value, old: &Value, faults: &mut Faults) {
    for path in ["spec.pool.name", "spec.driver", "spec.nodeName"] {
        rules::immutable(&Path::new(path), tree::get(new, path), tree::get(old, path), faults);
    }
}

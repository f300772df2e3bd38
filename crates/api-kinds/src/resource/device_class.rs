//! DeviceClass: a kind of device that claims can name.

use std::sync::Arc;

use api_object::name;
use api_schema::{Column, Faults, Generation, Hooks, Path, ResourceSpec, Schema, tree};
use serde_json::Value;

use super::{
    GROUP, names,
    request::{configuration, selectors},
};
use crate::row::{Build, row as new_row};

const CONFIGS_MAX: usize = 32;

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    let mut row = ResourceSpec {
        columns: vec![Column::name(), Column::age()],
        generation: Generation::Spec,
        hooks: Hooks { validate, ..Hooks::default() },
        ..new_row(schema, GROUP, "v1", "deviceclasses", "DeviceClass", "resource/v1.DeviceClass")
    };
    row.cluster_scoped();
    row
}

fn validate(_: &ResourceSpec, class: &Value, faults: &mut Faults) {
    let spec = Path::new("spec");
    selectors(&spec.child("selectors"), tree::list(class, "spec.selectors"), faults);
    let list = tree::list(class, "spec.config");
    names::list(&spec.child("config"), list, CONFIGS_MAX, faults, configuration);
    if let Some(resource) = tree::get(class, "spec.extendedResourceName").as_str()
        && !is_extended_resource(resource)
    {
        faults.invalid(
            &spec.child("extendedResourceName"),
            resource,
            "must be a valid extended resource name",
        );
    }
}

/// A qualified name outside of Kubernetes' own domains, which is not one that
/// quotas use.
fn is_extended_resource(text: &str) -> bool {
    text.contains('/')
        && !text.contains("kubernetes.io/")
        && !text.starts_with("requests.")
        && name::qualified_name(&format!("requests.{text}")).is_empty()
}

//! APIService: who serves a version of an API group, this server or another.

use std::sync::Arc;

use api_object::name;
use api_schema::{Column, Faults, Hooks, Path, ResourceSpec, Schema, tree};
use serde_json::Value;

use crate::row::{Build, row as new_row};

const GROUP_PRIORITY_MAX: i64 = 20_000;
const VERSION_PRIORITY_MAX: i64 = 1_000;
const STATUSES: [&str; 3] = ["True", "False", "Unknown"];

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    let mut row = ResourceSpec {
        categories: vec!["api-extensions".into()],
        columns: vec![
            Column::name(),
            Column::text(
                "Service",
                "The reference to the service that hosts this API endpoint.",
                |object, _| service(object).into(),
            ),
            Column::text("Available", "Whether this service is available.", |object, _| {
                available(object).into()
            }),
            Column::age(),
        ],
        hooks: Hooks {
            // What a name has to be follows from the spec.
            name: name::path_segment,
            default,
            validate,
            validate_status: |_, new, _, faults| status(new, faults),
            ..Hooks::default()
        },
        ..new_row(
            schema,
            "apiregistration.k8s.io",
            "v1",
            "apiservices",
            "APIService",
            "apiregistration/v1.APIService",
        )
    };
    row.cluster_scoped().with_status();
    row
}

fn service(object: &Value) -> String {
    match tree::get(object, "spec.service") {
        Value::Null => "Local".into(),
        service => {
            format!("{}/{}", tree::text(service, "namespace"), tree::text(service, "name"))
        }
    }
}

fn available(object: &Value) -> String {
    let condition = tree::list(object, "status.conditions")
        .iter()
        .find(|condition| tree::text(condition, "type") == "Available");
    match condition.map(|condition| (tree::text(condition, "status"), condition)) {
        None => "Unknown".into(),
        Some(("True", _)) => "True".into(),
        Some((status, condition)) => format!("{status} ({})", tree::text(condition, "reason")),
    }
}

fn default(_: &ResourceSpec, object: &mut Value) {
    if !tree::get(object, "spec.service").is_null() {
        tree::set_if_unset(object, "spec.service.port", 443);
    }
}

fn validate(_: &ResourceSpec, object: &Value, faults: &mut Faults) {
    let (path, spec) = (Path::new("spec"), tree::get(object, "spec"));
    let (group, version) = (tree::text(spec, "group"), tree::text(spec, "version"));
    let own_name = tree::text(object, "metadata.name");
    let wanted = format!("{version}.{group}");
    if !own_name.is_empty() && own_name != wanted {
        let detail = format!("must be `spec.version+\".\"+spec.group`: {wanted:?}");
        faults.invalid(&Path::new("metadata.name"), own_name, detail);
    }
    if group.is_empty() && version != "v1" {
        faults.required(
            &path.child("group"),
            "only v1 may have an empty group and it better be legacy kube",
        );
    }
    if !group.is_empty() {
        faults.invalid_all(&path.child("group"), group, name::dns1123_subdomain(group));
    }
    faults.invalid_all(&path.child("version"), version, name::dns1035_label(version));
    for (field, number_max) in
        [("groupPriorityMinimum", GROUP_PRIORITY_MAX), ("versionPriority", VERSION_PRIORITY_MAX)]
    {
        let number = tree::int(spec, field).unwrap_or(0);
        if !(1..=number_max).contains(&number) {
            let detail = format!("must be positive and less than {number_max}");
            faults.invalid(&path.child(field), number, detail);
        }
    }
    let insecure = tree::flag(spec, "insecureSkipTLSVerify");
    let at_insecure = path.child("insecureSkipTLSVerify");
    let bundle = crate::config_map::decoded_len(tree::text(spec, "caBundle"));
    let service = tree::get(spec, "service");
    if service.is_null() {
        if bundle > 0 {
            let detail = "local APIServices may not have a caBundle";
            faults.invalid(&path.child("caBundle"), format!("{bundle} bytes"), detail);
        }
        if insecure {
            let detail = "local APIServices may not have insecureSkipTLSVerify";
            faults.invalid(&at_insecure, true, detail);
        }
        return;
    }
    let at = path.child("service");
    for field in ["namespace", "name"] {
        if tree::text(service, field).is_empty() {
            faults.required(&at.child(field), "");
        }
    }
    let port = tree::int(service, "port").unwrap_or(0);
    if !(1..=65535).contains(&port) {
        let detail = "port is not valid: must be between 1 and 65535, inclusive";
        faults.invalid(&at.child("port"), port, detail);
    }
    if insecure && bundle > 0 {
        faults.invalid(&at_insecure, true, "may not be true if caBundle is present");
    }
}

fn status(object: &Value, faults: &mut Faults) {
    let path = Path::new("status.conditions");
    for (index, condition) in tree::list(object, "status.conditions").iter().enumerate() {
        let status = tree::text(condition, "status");
        if !STATUSES.contains(&status) {
            faults.unsupported(&path.index(index).child("status"), status, STATUSES);
        }
    }
}

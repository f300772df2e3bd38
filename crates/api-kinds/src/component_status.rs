//! ComponentStatus: whether the parts of the control plane are well, as the server
//! that is asked sees them. Read only, and from before parts were watched.

use std::sync::Arc;

use api_schema::{Column, ResourceSpec, Schema, tree};
use serde_json::Value;

use crate::row::{Build, row as new_row};

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    let mut row = ResourceSpec {
        short_names: vec!["cs".into()],
        deprecation: Some("v1 ComponentStatus is deprecated in v1.19+".into()),
        columns: vec![
            Column::name(),
            Column::text("Status", "Status of the component conditions", |component, _| {
                match tree::text(healthy(component), "status") {
                    "" => "Unknown".into(),
                    "True" => "Healthy".into(),
                    _ => "Unhealthy".into(),
                }
            }),
            Column::text("Message", "Message of the component conditions", |component, _| {
                tree::text(healthy(component), "message").into()
            }),
            Column::text("Error", "Error of the component conditions", |component, _| {
                tree::text(healthy(component), "error").into()
            }),
        ],
        ..new_row(
            schema,
            "",
            "v1",
            "componentstatuses",
            "ComponentStatus",
            "core/v1.ComponentStatus",
        )
    };
    row.verbs = vec!["get".into(), "list".into()];
    row.cluster_scoped();
    row
}

fn healthy(component: &Value) -> &Value {
    let mut conditions = tree::list(component, "conditions").iter();
    conditions.find(|condition| tree::text(condition, "type") == "Healthy").unwrap_or(&Value::Null)
}

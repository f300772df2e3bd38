//! Binding: the old way of posting `pods/binding`, kept in discovery.

use std::sync::Arc;

use api_schema::{ResourceSpec, Schema};

use crate::row::row as new_row;

/// Served as a kind that is created but not stored; the work is in `pods/binding`.
pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    ResourceSpec {
        stored: false,
        verbs: vec!["create".into()],
        list_kind: "".into(),
        selectable: Vec::new(),
        ..new_row(schema, "", "v1", "bindings", "Binding", "core/v1.Binding")
    }
}

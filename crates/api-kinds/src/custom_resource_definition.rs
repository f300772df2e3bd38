//! CustomResourceDefinition: there are none yet, and none can be made. Clients
//! that meet a kind they do not know ask for the list before they say so.

use std::sync::Arc;

use api_schema::{Column, ResourceSpec, Schema, tree};

use crate::row::row as new_row;

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    ResourceSpec {
        short_names: vec!["crd".into(), "crds".into()],
        categories: vec!["api-extensions".into()],
        namespaced: false,
        verbs: vec!["get".into(), "list".into(), "watch".into()],
        columns: vec![
            Column::name(),
            Column::text(
                "Created At",
                "CreationTimestamp is a timestamp representing the server time when this object was created.",
                |object, _| tree::text(object, "metadata.creationTimestamp").into(),
            ),
        ],
        ..new_row(
            schema,
            "apiextensions.k8s.io",
            "v1",
            "customresourcedefinitions",
            "CustomResourceDefinition",
            "apiextensions/v1.CustomResourceDefinition",
        )
    }
}

//! ServiceAccount: an identity for pods; its tokens are asked for at `token`.

use std::sync::Arc;

use api_schema::{Column, ResourceSpec, Role, Schema, tree};

use crate::row::{Build, row as new_row};

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    let mut row = ResourceSpec {
        short_names: vec!["sa".into()],
        columns: vec![
            Column::name(),
            Column::text(
                "Secrets",
                "Secrets is a list of the secrets in the same namespace that pods running using this ServiceAccount are allowed to use.",
                |object, _| tree::list(object, "secrets").len().into(),
            ),
            Column::age(),
        ],
        ..new_row(schema, "", "v1", "serviceaccounts", "ServiceAccount", "core/v1.ServiceAccount")
    };
    row.with_body(
        "token",
        ("authentication.k8s.io", "v1", "TokenRequest"),
        "authentication/v1.TokenRequest",
        Role::Answered,
    );
    row
}

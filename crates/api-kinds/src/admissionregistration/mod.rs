//! admissionregistration.k8s.io: who else is asked before something is stored.
//! Webhooks first, then policies and what binds them to objects. `api-access` asks
//! them.

mod matching;
pub(crate) mod mutating_policy;
mod policy;
pub(crate) mod policy_binding;
pub(crate) mod validating_policy;
pub(crate) mod webhook;

use std::sync::Arc;

use api_schema::{ResourceSpec, Schema};

use crate::row::{Build, row as new_row};

const GROUP: &str = "admissionregistration.k8s.io";

/// What all rows of the group have in common.
fn any_row(schema: &Arc<Schema>, plural: &'static str, kind: &'static str) -> ResourceSpec {
    let shape = format!("admissionregistration/v1.{kind}");
    let mut row = ResourceSpec {
        categories: vec!["api-extensions".into()],
        allow_unconditional_update: false,
        ..new_row(schema, GROUP, "v1", plural, kind, &shape)
    };
    row.cluster_scoped();
    row
}

//! flowcontrol.apiserver.k8s.io: which requests are served first when there are
//! too many. This server keeps the objects; it does not queue by them yet.

pub mod bootstrap;
pub(crate) mod flow_schema;
pub(crate) mod priority_level;
mod subject;

use std::collections::BTreeSet;

use api_schema::{Faults, Path, tree};
use serde_json::Value;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";

/// Faults of the conditions of either kind.
fn conditions(object: &Value, faults: &mut Faults) {
    let path = Path::new("status.conditions");
    let mut seen = BTreeSet::new();
    for (index, condition) in tree::list(object, "status.conditions").iter().enumerate() {
        let path = path.index(index);
        let kind = tree::text(condition, "type");
        if !seen.insert(kind) {
            faults.duplicate(&path.child("type"), kind);
        }
        if kind.is_empty() {
            faults.required(&path.child("type"), "must not be empty");
        }
    }
}

//! What a write through a subresource cannot change, nobody manages for having
//! sent it: the rows say so of all that their preparation undoes.

use api_schema::{ResourceSpec, Role, Subresource, apply::FieldSet, tree};
use serde_json::{Value, json};

use crate::{catalogue, suite};

/// What is written, and how.
fn prepared(
    spec: &ResourceSpec,
    sub: &Subresource,
    old: &Value,
    path: &str,
    value: Value,
) -> Value {
    let mut new = old.clone();
    tree::set(&mut new, path, value);
    match &sub.role {
        Role::Status => spec.prepare_status(&mut new, old),
        Role::Part { prepare, .. } => prepare(spec, &mut new, old),
        _ => unreachable!("only these are asked"),
    }
    new
}

#[test]
fn what_is_undone_is_managed_by_nobody() {
    let owner = json!([{ "apiVersion": "v1", "kind": "A", "name": "a", "uid": "b" }]);
    for spec in catalogue().all().into_iter().filter(|spec| spec.stored) {
        let old = suite::created(&spec, &suite::sample(&spec));
        for sub in &spec.subresources {
            if !matches!(sub.role, Role::Status | Role::Part { .. }) {
                continue;
            }
            let reset = spec.reset_fields(Some(sub));
            for (path, value) in [
                ("metadata.labels", json!({ "reset": "1" })),
                ("metadata.annotations", json!({ "reset": "1" })),
                ("metadata.finalizers", json!(["a/reset"])),
                ("metadata.ownerReferences", owner.clone()),
            ] {
                let new = prepared(&spec, sub, &old, path, value.clone());
                let undone = *tree::get(&new, path) != value;
                let named = FieldSet::of_paths(&[path]).recursive_difference(&reset).is_empty();
                assert_eq!(undone, named, "{}/{} {path}", spec.plural, sub.name);
            }
        }
    }
}

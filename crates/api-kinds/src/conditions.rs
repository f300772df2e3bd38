//! `metav1.Condition`, which newer kinds have in their status.

use std::collections::BTreeSet;

use api_object::name;
use api_schema::{Faults, Path, tree};
use serde_json::Value;

const REASON_LEN_MAX: usize = 1024;
const STATUSES: [&str; 3] = ["True", "False", "Unknown"];
const MESSAGE_LEN_MAX: usize = 32 * 1024;

/// Faults of a list of conditions.
pub(crate) fn validate(path: &Path<'_>, conditions: &[Value], faults: &mut Faults) {
    let mut seen = BTreeSet::new();
    for (index, condition) in conditions.iter().enumerate() {
        let path = path.index(index);
        let kind = tree::text(condition, "type");
        faults.invalid_all(&path.child("type"), kind, name::qualified_name(kind));
        if !seen.insert(kind) {
            faults.duplicate(&path.child("type"), kind);
        }
        let status = tree::text(condition, "status");
        if !STATUSES.contains(&status) {
            faults.unsupported(&path.child("status"), status, STATUSES);
        }
        rules_of_generation(&path, condition, faults);
        if tree::get(condition, "lastTransitionTime").is_null() {
            faults.required(&path.child("lastTransitionTime"), "must be set");
        }
        reason(&path.child("reason"), tree::text(condition, "reason"), faults);
        if tree::text(condition, "message").len() > MESSAGE_LEN_MAX {
            faults.too_long(&path.child("message"), MESSAGE_LEN_MAX);
        }
    }
}

/// Whether the condition of a type is `True`.
pub(crate) fn is_true(conditions: &[Value], kind: &str) -> bool {
    conditions
        .iter()
        .find(|condition| tree::text(condition, "type") == kind)
        .is_some_and(|condition| tree::text(condition, "status") == "True")
}

fn rules_of_generation(path: &Path<'_>, condition: &Value, faults: &mut Faults) {
    let field = "observedGeneration";
    if let Some(generation) = tree::int(condition, field).filter(|&generation| generation < 0) {
        let path = path.child(field);
        faults.invalid(&path, generation, "must be greater than or equal to zero");
    }
}

fn reason(path: &Path<'_>, text: &str, faults: &mut Faults) {
    if text.is_empty() {
        faults.required(path, "must be set");
        return;
    }
    let good = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"_,:".contains(&c));
    if !good {
        faults.invalid(
            path,
            text,
            "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')",
        );
    }
    if text.len() > REASON_LEN_MAX {
        faults.too_long(path, REASON_LEN_MAX);
    }
}

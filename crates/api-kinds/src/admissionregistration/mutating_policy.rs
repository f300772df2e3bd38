//! MutatingAdmissionPolicy: how objects are changed, as expressions.

use std::sync::Arc;

use api_schema::{Cell, Column, Faults, Generation, Hooks, Path, ResourceSpec, Schema, tree};
use serde_json::Value;

use super::{any_row, matching, policy};
use crate::expression::{Admission, Gives, Has};

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    ResourceSpec {
        columns: vec![
            Column::name(),
            Column::new(
                "Mutations",
                "integer",
                "Mutation indicates the number of mutations rules defined in this configuration",
                Cell::With(|policy, _| tree::list(policy, "spec.mutations").len().into()),
            ),
            policy::param_kind_column(),
            Column::age(),
        ],
        generation: Generation::Spec,
        hooks: Hooks { default: |_, object| policy::default(object), validate, ..Hooks::default() },
        ..any_row(schema, "mutatingadmissionpolicies", "MutatingAdmissionPolicy")
    }
}

fn validate(_: &ResourceSpec, object: &Value, faults: &mut Faults) {
    let (admission, has) = policy::validate(object, faults);
    let has = Has { patches: true, ..has };
    let rules = tree::list(object, "spec.matchConstraints.resourceRules");
    matching::not_deleted(
        &Path::new("spec.matchConstraints.resourceRules.operations"),
        rules,
        faults,
    );
    let path = Path::new("spec");
    let at = path.child("mutations");
    let mutations = tree::list(object, "spec.mutations");
    if mutations.is_empty() {
        faults.required(&at, "mutations must contain at least one item");
    }
    for (index, each) in mutations.iter().enumerate() {
        mutation(&at.index(index), each, (&admission, has), faults);
    }
    if tree::text(object, "spec.reinvocationPolicy").is_empty() {
        faults.required(&path.child("reinvocationPolicy"), "");
    }
}

/// One of two ways, named by the type.
fn mutation(
    path: &Path<'_>,
    mutation: &Value,
    (admission, has): (&Admission, Has),
    faults: &mut Faults,
) {
    let kind = tree::text(mutation, "patchType");
    if kind.is_empty() {
        faults.required(&path.child("patchType"), "");
        return;
    }
    let ways = [
        ("ApplyConfiguration", "applyConfiguration", Gives::Object),
        ("JSONPatch", "jsonPatch", Gives::Patches),
    ];
    // The shape has told of a type that is none of these.
    if !ways.iter().any(|(own_kind, ..)| *own_kind == kind) {
        return;
    }
    for (own_kind, field, gives) in ways {
        let way = tree::get(mutation, field);
        let at = path.child(field);
        match (kind == own_kind, way.is_null()) {
            (true, true) => {
                faults.required(&at, &format!("must be specified when patchType is {kind}"));
            }
            (true, false) => {
                let at = at.child("expression");
                match tree::text(way, "expression") {
                    text if text.trim().is_empty() => faults.required(&at, ""),
                    text => {
                        admission.check(&at, text, has, gives, faults);
                    }
                }
            }
            (false, false) => {
                let detail = format!("must not be specified when patchType is {kind}");
                faults.invalid(&at, format!("{{{field}}}"), detail);
            }
            (false, true) => {}
        }
    }
}

//! ValidatingAdmissionPolicy: what must be true of objects, as expressions.

use std::sync::Arc;

use api_object::name;
use api_schema::{Cell, Column, Faults, Generation, Hooks, Path, ResourceSpec, Schema, tree};
use serde_json::Value;

use super::{any_row, policy};
use crate::{
    conditions,
    expression::{Admission, Gives, Has},
    row::Build,
};

const ANNOTATIONS_MAX: usize = 20;
const VALUE_EXPRESSION_BYTES_MAX: usize = 5 * 1024;
/// `Unauthorized` is in the type and refused all the same.
const REASONS: [&str; 3] = ["Forbidden", "Invalid", "RequestEntityTooLarge"];

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    let mut row = ResourceSpec {
        columns: vec![
            Column::name(),
            Column::new(
                "Validations",
                "integer",
                "Validations indicates the number of validation rules defined in this configuration",
                Cell::With(|policy, _| tree::list(policy, "spec.validations").len().into()),
            ),
            policy::param_kind_column(),
            Column::age(),
        ],
        generation: Generation::Spec,
        hooks: Hooks {
            default: |_, object| policy::default(object),
            validate,
            validate_status: |_, new, _, faults| status(new, faults),
            ..Hooks::default()
        },
        ..any_row(schema, "validatingadmissionpolicies", "ValidatingAdmissionPolicy")
    };
    row.with_status();
    row
}

fn validate(_: &ResourceSpec, object: &Value, faults: &mut Faults) {
    let (admission, has) = policy::validate(object, faults);
    let path = Path::new("spec");
    let (validations, annotations) =
        (tree::list(object, "spec.validations"), tree::list(object, "spec.auditAnnotations"));
    let (at, at_annotations) = (path.child("validations"), path.child("auditAnnotations"));
    if validations.is_empty() && annotations.is_empty() {
        const ONE: &str = "validations or auditAnnotations must contain at least one item";
        faults.required(&at, ONE);
        faults.required(&at_annotations, ONE);
        return;
    }
    for (index, each) in validations.iter().enumerate() {
        validation(&at.index(index), each, (&admission, has), faults);
    }
    if annotations.len() > ANNOTATIONS_MAX {
        let detail = format!("must not have more than {ANNOTATIONS_MAX} auditAnnotations");
        faults.invalid(&at_annotations, Value::from(annotations), detail);
    }
    let own_name = tree::text(object, "metadata.name");
    for (index, each) in annotations.iter().enumerate() {
        let path = at_annotations.index(index);
        annotation(&path, own_name, each, (&admission, has), faults);
        let key = tree::text(each, "key");
        if annotations[..index].iter().any(|earlier| tree::text(earlier, "key") == key) {
            faults.duplicate(&path.child("key"), key);
        }
    }
}

fn validation(
    path: &Path<'_>,
    validation: &Value,
    (admission, has): (&Admission, Has),
    faults: &mut Faults,
) {
    let at = path.child("expression");
    match tree::text(validation, "expression") {
        text if text.trim().is_empty() => faults.required(&at, "expression is not specified"),
        text => {
            admission.check(&at, text, has, Gives::Bool, faults);
        }
    }
    let at = path.child("messageExpression");
    match tree::text(validation, "messageExpression") {
        "" => {}
        text if text.trim().is_empty() => {
            faults.invalid(&at, text, "must be non-empty if specified");
        }
        // A message is not worth a decision by the authorizer.
        text => {
            let has = Has { authorizer: false, ..has };
            admission.check(&at, text, has, Gives::Text, faults);
        }
    }
    let at = path.child("message");
    match tree::text(validation, "message") {
        "" => {}
        text if text.trim().is_empty() => {
            faults.invalid(&at, text, "message must be non-empty if specified");
        }
        text if text.trim().contains(['\n', '\r']) => {
            faults.invalid(&at, text, "message must not contain line breaks");
        }
        _ => {}
    }
    let reason = tree::text(validation, "reason");
    if !reason.is_empty() && !REASONS.contains(&reason) {
        faults.unsupported(&path.child("reason"), reason, REASONS);
    }
}

fn annotation(
    path: &Path<'_>,
    own_name: &str,
    annotation: &Value,
    (admission, has): (&Admission, Has),
    faults: &mut Faults,
) {
    let at = path.child("key");
    let key = tree::text(annotation, "key");
    if own_name.is_empty() {
        faults.invalid(&at, key, "requires metadata.name be non-empty");
    } else {
        let whole = format!("{own_name}/{key}");
        faults.invalid_all(&at, &whole, name::qualified_name(&whole));
    }
    let at = path.child("valueExpression");
    match tree::text(annotation, "valueExpression") {
        text if text.trim().is_empty() => {
            faults.required(&at, "valueExpression is not specified");
        }
        text if text.trim().len() > VALUE_EXPRESSION_BYTES_MAX => {
            let detail = format!("must not exceed {VALUE_EXPRESSION_BYTES_MAX} bytes in length");
            faults.required(&at, &detail);
        }
        text => {
            admission.check(&at, text, has, Gives::TextOrNull, faults);
        }
    }
}

fn status(policy: &Value, faults: &mut Faults) {
    let list = tree::list(policy, "status.typeChecking.expressionWarnings");
    let path = Path::new("status.typeChecking.expressionWarnings");
    for (index, warning) in list.iter().enumerate() {
        for field in ["warning", "fieldRef"] {
            if tree::text(warning, field).trim().is_empty() {
                faults.required(&path.index(index).child(field), "");
            }
        }
    }
    let list = tree::list(policy, "status.conditions");
    conditions::validate(&Path::new("status.conditions"), list, faults);
}

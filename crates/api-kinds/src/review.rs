//! Questions about identities and permissions: kinds that are created and
//! answered, and never stored.

use std::sync::Arc;

use api_schema::{Faults, Hooks, Path, ResourceSpec, Schema, tree};
use serde_json::Value;

use crate::row::{Build, row};

const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";

fn review(
    schema: &Arc<Schema>,
    group: &'static str,
    plural: &'static str,
    kind: &'static str,
    validate: fn(&ResourceSpec, &Value, &mut Faults),
) -> ResourceSpec {
    let package = group.split('.').next().unwrap_or(group);
    let mut row = ResourceSpec {
        stored: false,
        verbs: vec!["create".into()],
        list_kind: "".into(),
        hooks: Hooks { validate, ..Hooks::default() },
        ..row(schema, group, "v1", plural, kind, &format!("{package}/v1.{kind}"))
    };
    row.selectable.clear();
    row.cluster_scoped();
    row
}

pub(crate) fn token_review(schema: &Arc<Schema>) -> ResourceSpec {
    // One without a token is refused by whoever answers, with 400 as upstream.
    review(schema, AUTHENTICATION, "tokenreviews", "TokenReview", |_, _, _| {})
}

pub(crate) fn self_subject_review(schema: &Arc<Schema>) -> ResourceSpec {
    review(schema, AUTHENTICATION, "selfsubjectreviews", "SelfSubjectReview", |_, _, _| {})
}

pub(crate) fn self_subject_access_review(schema: &Arc<Schema>) -> ResourceSpec {
    let (plural, kind) = ("selfsubjectaccessreviews", "SelfSubjectAccessReview");
    review(schema, AUTHORIZATION, plural, kind, |_, object, faults| one_of(object, faults))
}

pub(crate) fn subject_access_review(schema: &Arc<Schema>) -> ResourceSpec {
    let (plural, kind) = ("subjectaccessreviews", "SubjectAccessReview");
    review(schema, AUTHORIZATION, plural, kind, |_, object, faults| {
        one_of(object, faults);
        somebody(object, faults);
    })
}

pub(crate) fn local_subject_access_review(schema: &Arc<Schema>) -> ResourceSpec {
    let (plural, kind) = ("localsubjectaccessreviews", "LocalSubjectAccessReview");
    let mut row = review(schema, AUTHORIZATION, plural, kind, |_, object, faults| {
        one_of(object, faults);
        somebody(object, faults);
        let path = Path::new("spec.resourceAttributes.namespace");
        let asked = tree::text(object, "spec.resourceAttributes.namespace");
        if asked != tree::text(object, "metadata.namespace") {
            faults.invalid(&path, asked, "must match metadata.namespace");
        }
    });
    row.namespaced = true;
    row
}

pub(crate) fn self_subject_rules_review(schema: &Arc<Schema>) -> ResourceSpec {
    let (plural, kind) = ("selfsubjectrulesreviews", "SelfSubjectRulesReview");
    // One without a namespace is refused by whoever answers, with 400 as upstream.
    review(schema, AUTHORIZATION, plural, kind, |_, _, _| {})
}

/// One thing is asked about, and its selectors make sense.
fn one_of(object: &Value, faults: &mut Faults) {
    let asked = |field| !tree::get(object, field).is_null();
    let path = Path::new("spec.resourceAttributes");
    match (asked("spec.resourceAttributes"), asked("spec.nonResourceAttributes")) {
        (true, true) => faults.invalid(
            &Path::new("spec.nonResourceAttributes"),
            tree::get(object, "spec.nonResourceAttributes").clone(),
            "cannot be specified in combination with resourceAttributes",
        ),
        (false, false) => faults.invalid(
            &path,
            Value::Null,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        ),
        _ => {}
    }
    for field in ["fieldSelector", "labelSelector"] {
        let at = tree::get(object, "spec.resourceAttributes").get(field).filter(|s| !s.is_null());
        if let Some(selector) = at {
            check_selector(&path.child(field), field, selector, faults);
        }
    }
}

fn check_selector(path: &Path<'_>, field: &str, selector: &Value, faults: &mut Faults) {
    let (raw, requirements) =
        (tree::text(selector, "rawSelector"), tree::list(selector, "requirements"));
    match (raw.is_empty(), requirements.is_empty()) {
        (false, false) => {
            let why = "may not specified at the same time as requirements";
            faults.invalid(&path.child("rawSelector"), raw, why);
        }
        (true, true) => {
            let why = format!("when {field} is specified, requirements or rawSelector is required");
            faults.required(&path.child("requirements"), &why);
        }
        _ => {}
    }
    let all = path.child("requirements");
    for (index, requirement) in requirements.iter().enumerate() {
        let path = all.index(index);
        if tree::text(requirement, "key").is_empty() {
            faults.required(&path.child("key"), "must be specified");
        }
        let none = tree::list(requirement, "values").is_empty();
        match tree::text(requirement, "operator") {
            "In" | "NotIn" if none => faults.required(
                &path.child("values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            ),
            "Exists" | "DoesNotExist" if !none => faults.forbidden(
                &path.child("values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            ),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                faults.invalid(&path.child("operator"), other, "not a valid selector operator");
            }
        }
    }
}

fn somebody(object: &Value, faults: &mut Faults) {
    if tree::text(object, "spec.user").is_empty() && tree::list(object, "spec.groups").is_empty() {
        faults.invalid(
            &Path::new("spec.user"),
            "",
            "at least one of user or group must be specified",
        );
    }
}

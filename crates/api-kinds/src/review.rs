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
    review(schema, AUTHENTICATION, "tokenreviews", "TokenReview", |_, object, faults| {
        if tree::text(object, "spec.token").is_empty() {
            faults.required(&Path::new("spec.token"), "");
        }
    })
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
    review(schema, AUTHORIZATION, plural, kind, |_, object, faults| {
        if tree::text(object, "spec.namespace").is_empty() {
            faults.required(&Path::new("spec.namespace"), "");
        }
    })
}

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

//! FlowSchema: which requests belong to which priority level.

use std::sync::Arc;

use api_object::name;
use api_schema::{Cell, Column, Faults, Generation, Hooks, Path, ResourceSpec, Schema, tree};
use serde_json::Value;

use super::{GROUP, bootstrap, conditions, subject};
use crate::row::{Build, row as new_row};

const PRECEDENCE_MAX: i64 = 10_000;
const PRECEDENCE_DEFAULT: i64 = 1_000;
const METHODS: [&str; 2] = ["ByNamespace", "ByUser"];
const VERBS: [&str; 9] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    let mut row = ResourceSpec {
        columns: vec![
            Column::name(),
            Column::text(
                "PriorityLevel",
                "`name` is the name of the priority level configuration being referenced Required.",
                |object, _| tree::text(object, "spec.priorityLevelConfiguration.name").into(),
            ),
            Column::new(
                "MatchingPrecedence",
                "string",
                "`matchingPrecedence` is used to choose among the FlowSchemas that match a given request. The chosen FlowSchema is among those with the numerically lowest (which we take to be logically highest) MatchingPrecedence.  Each MatchingPrecedence value must be ranged in [1,10000]. Note that if the precedence is not specified, it will be set to 1000 as default.",
                Cell::With(|object, _| {
                    tree::int(object, "spec.matchingPrecedence").unwrap_or(0).into()
                }),
            ),
            Column::text(
                "DistinguisherMethod",
                "`distinguisherMethod` defines how to compute the flow distinguisher for requests that match this schema. `nil` specifies that the distinguisher is disabled and thus will always be the empty string.",
                |object, _| match tree::text(object, "spec.distinguisherMethod.type") {
                    "" => "<none>".into(),
                    method => method.into(),
                },
            ),
            Column::age(),
            Column::text(
                "MissingPL",
                "references a broken or non-existent PriorityLevelConfiguration",
                |object, _| dangling(object).into(),
            ),
        ],
        generation: Generation::Spec,
        hooks: Hooks {
            default: |_, object| {
                if tree::int(object, "spec.matchingPrecedence").unwrap_or(0) == 0 {
                    tree::set(object, "spec.matchingPrecedence", PRECEDENCE_DEFAULT);
                }
            },
            validate,
            validate_status: |_, new, _, faults| conditions(new, faults),
            ..Hooks::default()
        },
        ..new_row(schema, GROUP, "v1", "flowschemas", "FlowSchema", "flowcontrol/v1.FlowSchema")
    };
    row.cluster_scoped().with_status();
    row
}

fn dangling(object: &Value) -> &str {
    tree::list(object, "status.conditions")
        .iter()
        .find(|condition| tree::text(condition, "type") == "Dangling")
        .map_or("?", |condition| tree::text(condition, "status"))
}

fn validate(row: &ResourceSpec, object: &Value, faults: &mut Faults) {
    let (path, spec) = (Path::new("spec"), tree::get(object, "spec"));
    let own_name = tree::text(object, "metadata.name");
    let at = path.child("matchingPrecedence");
    let precedence = tree::int(spec, "matchingPrecedence").unwrap_or(0);
    if precedence <= 0 {
        faults.invalid(&at, precedence, "must be a positive value");
    }
    if precedence > PRECEDENCE_MAX {
        let detail = format!("must not be greater than {PRECEDENCE_MAX}");
        faults.invalid(&at, precedence, detail);
    }
    if precedence == 1 && own_name != "exempt" {
        let detail = "only the schema named 'exempt' may have matchingPrecedence 1";
        faults.invalid(&at, precedence, detail);
    }
    let method = tree::get(spec, "distinguisherMethod");
    let kind = tree::text(method, "type");
    if !method.is_null() && !METHODS.contains(&kind) {
        faults.unsupported(&path.child("distinguisherMethod").child("type"), kind, METHODS);
    }
    let at = path.child("priorityLevelConfiguration.name");
    match tree::text(spec, "priorityLevelConfiguration.name") {
        "" => faults.required(&at, "must reference a priority level"),
        level => faults.invalid_all(&at, level, name::dns1123_subdomain(level)),
    }
    let at = path.child("rules");
    for (index, rule) in tree::list(spec, "rules").iter().enumerate() {
        check_rule(&at.index(index), rule, faults);
    }
    bootstrap::must_stay(row, object, faults);
}

fn check_rule(path: &Path<'_>, rule: &Value, faults: &mut Faults) {
    let subjects = tree::list(rule, "subjects");
    let at = path.child("subjects");
    if subjects.is_empty() {
        faults.required(&at, "subjects must contain at least one value");
    }
    for (index, each) in subjects.iter().enumerate() {
        subject::validate(&at.index(index), each, faults);
    }
    let (resources, urls) =
        (tree::list(rule, "resourceRules"), tree::list(rule, "nonResourceRules"));
    if resources.is_empty() && urls.is_empty() {
        faults.required(
            path,
            "at least one of resourceRules and nonResourceRules has to be non-empty",
        );
    }
    let at = path.child("resourceRules");
    for (index, rule) in resources.iter().enumerate() {
        resource_rule(&at.index(index), rule, faults);
    }
    let at = path.child("nonResourceRules");
    for (index, rule) in urls.iter().enumerate() {
        let path = at.index(index);
        verbs(&path.child("verbs"), rule, faults);
        non_resource_urls(&path.child("nonResourceURLs"), rule, faults);
    }
}

/// Whether a list holds `*`; told where it holds more.
fn wildcard(path: &Path<'_>, list: &[Value], others: &str, faults: &mut Faults) -> bool {
    let has = list.iter().any(|item| item == "*");
    if has && list.len() > 1 {
        let detail = format!("if '*' is present, must not specify other {others}");
        faults.invalid(path, Value::from(list), detail);
    }
    has
}

fn verbs(path: &Path<'_>, rule: &Value, faults: &mut Faults) {
    let list = tree::list(rule, "verbs");
    if list.is_empty() {
        faults.required(path, "verbs must contain at least one value");
    } else if !wildcard(path, list, "verbs", faults)
        && list.iter().any(|verb| !VERBS.contains(&verb.as_str().unwrap_or_default()))
    {
        faults.unsupported(path, Value::from(list), VERBS);
    }
}

fn resource_rule(path: &Path<'_>, rule: &Value, faults: &mut Faults) {
    verbs(&path.child("verbs"), rule, faults);
    for (field, one, others) in
        [("apiGroups", "api group", "api groups"), ("resources", "resource", "resources")]
    {
        let list = tree::list(rule, field);
        let at = path.child(field);
        if list.is_empty() {
            let detail = format!("resource rules must supply at least one {one}");
            faults.required(&at, &detail);
        }
        wildcard(&at, list, others, faults);
    }
    let namespaces = tree::list(rule, "namespaces");
    let at = path.child("namespaces");
    if namespaces.is_empty() && !tree::flag(rule, "clusterScope") {
        faults.required(
            &at,
            "resource rules that are not cluster scoped must supply at least one namespace",
        );
    } else if !wildcard(&at, namespaces, "namespaces", faults) {
        for (index, namespace) in namespaces.iter().enumerate() {
            let text = namespace.as_str().unwrap_or_default();
            for wrong in name::dns1123_label(text) {
                let detail =
                    format!("each member of this list must be '*' or a DNS-1123 label; {wrong}");
                faults.invalid(&at.index(index), text, detail);
            }
        }
    }
}

fn non_resource_urls(path: &Path<'_>, rule: &Value, faults: &mut Faults) {
    let urls = tree::list(rule, "nonResourceURLs");
    if urls.is_empty() {
        faults.required(path, "nonResourceURLs must contain at least one value");
        return;
    }
    if wildcard(path, urls, "non-resource URLs", faults) {
        return;
    }
    for (index, url) in urls.iter().enumerate() {
        let text = url.as_str().unwrap_or_default();
        let stars = text.matches('*').count();
        let wrong = if text.is_empty() {
            "must not be empty"
        } else if text == "/" {
            continue;
        } else if !text.starts_with('/') {
            "must start with slash"
        } else if text.contains(' ') {
            "must not contain white-space"
        } else if text.contains("//") {
            "must not contain double slash"
        } else if stars > 1 || (stars == 1 && !text.ends_with("/*")) {
            "wildcard can only do suffix matching"
        } else {
            continue;
        };
        faults.invalid(&path.index(index), text, wrong);
    }
}

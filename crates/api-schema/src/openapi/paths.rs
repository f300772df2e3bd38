//! The paths of resources and what may be asked of them.

use serde_json::{Map, Value, json};

use super::{Dialect, definitions, gvk, object};
use crate::{ResourceSpec, Role, Subresource};

/// (name, type, description) of what lists and watches take.
const LIST: [(&str, &str, &str); 10] = [
    ("allowWatchBookmarks", "boolean", "Send bookmarks on this watch."),
    ("continue", "string", "Where the next page of a list begins."),
    ("fieldSelector", "string", "Restricts the objects by their fields."),
    ("labelSelector", "string", "Restricts the objects by their labels."),
    ("limit", "integer", "The size of a page."),
    ("resourceVersion", "string", "Which version of the data to serve."),
    ("resourceVersionMatch", "string", "How resourceVersion is meant."),
    ("sendInitialEvents", "boolean", "Begin the watch with the current objects."),
    ("timeoutSeconds", "integer", "How long the call may last."),
    ("watch", "boolean", "Send changes as they happen."),
];

const DRY_RUN: (&str, &str, &str) =
    ("dryRun", "string", "`All`: go all the way but store nothing.");
const FIELD_MANAGER: (&str, &str, &str) = ("fieldManager", "string", "Who makes the change.");
const FIELD_VALIDATION: (&str, &str, &str) = (
    "fieldValidation",
    "string",
    "What to do with unknown and duplicate fields: Ignore, Warn or Strict.",
);
const FORCE: (&str, &str, &str) = ("force", "boolean", "Take fields from other managers.");

const DELETE: [(&str, &str, &str); 4] = [
    DRY_RUN,
    ("gracePeriodSeconds", "integer", "How long the object has to end."),
    ("orphanDependents", "boolean", "Deprecated: use propagationPolicy."),
    (
        "propagationPolicy",
        "string",
        "What happens to dependents: Orphan, Background or Foreground.",
    ),
];

/// The last only where lists have merge keys, so not for custom kinds: kubectl
/// sends the kind of patch that it finds here.
const PATCH_TYPES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/apply-patch+yaml",
    "application/strategic-merge-patch+json",
];

/// `/api/v1`, `/apis/apps/v1`.
pub(super) fn prefix(row: &ResourceSpec) -> String {
    match &*row.group {
        "" => format!("/api/{}", row.version),
        group => format!("/apis/{group}/{}", row.version),
    }
}

/// Every path of the rows.
pub(super) fn all(rows: &[&ResourceSpec], dialect: Dialect) -> Value {
    let mut out = Map::new();
    for row in rows {
        let scope = if row.namespaced { "/namespaces/{namespace}" } else { "" };
        let collection = format!("{}{scope}/{}", prefix(row), row.plural);
        let item = format!("{collection}/{{name}}");
        let body = definitions::name(row.shape.schema.name(row.shape.id));
        let list = definitions::list_name(row);
        let writer = Operations {
            row,
            kind: gvk(&row.group, &row.version, &row.kind),
            subresource: "",
            dialect,
        };
        let mut at_collection = Vec::new();
        let mut at_item = Vec::new();
        for (verb, method) in [("list", "get"), ("create", "post"), ("deletecollection", "delete")]
        {
            if row.allows(verb) {
                let answer = match verb {
                    "list" => &list,
                    "create" => &body,
                    _ => STATUS,
                };
                at_collection.push((method, writer.operation(verb, &body, answer)));
            }
        }
        for (verb, method) in
            [("get", "get"), ("update", "put"), ("patch", "patch"), ("delete", "delete")]
        {
            if row.allows(verb) {
                let answer = if verb == "delete" { STATUS } else { &body };
                at_item.push((method, writer.operation(verb, &body, answer)));
            }
        }
        let namespace = row.namespaced.then_some("namespace");
        add(&mut out, collection, at_collection, &[namespace], dialect);
        add(&mut out, item.clone(), at_item, &[Some("name"), namespace], dialect);
        if row.namespaced && row.allows("list") {
            let everywhere = vec![("get", writer.operation("list", &body, &list))];
            add(&mut out, format!("{}/{}", prefix(row), row.plural), everywhere, &[], dialect);
        }
        for sub in &row.subresources {
            let operations = subresource(row, sub, dialect);
            let path = format!("{item}/{}", sub.name);
            add(&mut out, path, operations, &[Some("name"), namespace], dialect);
        }
    }
    Value::Object(out)
}

const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";

fn subresource(
    row: &ResourceSpec,
    sub: &Subresource,
    dialect: Dialect,
) -> Vec<(&'static str, Value)> {
    let writer = Operations {
        row,
        kind: gvk(&sub.kind.group, &sub.kind.version, &sub.kind.kind),
        subresource: &sub.name,
        dialect,
    };
    let body = match &sub.shape {
        Some(shape) => definitions::name(shape.schema.name(shape.id)),
        None => String::new(),
    };
    let verbs = [
        ("get", "get"),
        ("create", "post"),
        ("update", "put"),
        ("patch", "patch"),
        ("delete", "delete"),
    ];
    verbs
        .into_iter()
        .filter(|(verb, _)| sub.verbs.iter().any(|served| served == verb))
        .map(|(verb, method)| {
            let verb = if matches!(sub.role, Role::Connect { .. }) { "connect" } else { verb };
            (method, writer.operation(verb, &body, &body))
        })
        .collect()
}

fn add(
    out: &mut Map<String, Value>,
    path: String,
    operations: Vec<(&str, Value)>,
    parameters: &[Option<&str>],
    dialect: Dialect,
) {
    if operations.is_empty() {
        return;
    }
    let mut item = object(operations);
    let parameters: Vec<Value> = parameters
        .iter()
        .flatten()
        .map(|name| match dialect {
            Dialect::V2 => json!({
                "name": name, "in": "path", "required": true, "type": "string", "uniqueItems": true,
            }),
            Dialect::V3 => json!({
                "name": name, "in": "path", "required": true,
                "schema": { "type": "string", "uniqueItems": true },
            }),
        })
        .collect();
    if let (Value::Object(item), false) = (&mut item, parameters.is_empty()) {
        item.insert("parameters".into(), parameters.into());
    }
    out.insert(path, item);
}

struct Operations<'a> {
    row: &'a ResourceSpec,
    kind: Value,
    subresource: &'a str,
    dialect: Dialect,
}

impl Operations<'_> {
    /// What a request's body may be.
    fn media_types(&self, verb: &str) -> &'static [&'static str] {
        match (verb, &self.row.custom) {
            ("patch", None) => &PATCH_TYPES,
            ("patch", Some(_)) => &PATCH_TYPES[..3],
            _ => &["*/*"],
        }
    }

    fn operation(&self, verb: &str, body: &str, answer: &str) -> Value {
        let mut parameters: Vec<(&str, &str, &str)> = Vec::new();
        match verb {
            "list" => parameters.extend(LIST),
            "create" | "update" => parameters.extend([DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION]),
            "patch" => parameters.extend([DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION, FORCE]),
            "delete" => parameters.extend(DELETE),
            "deletecollection" => {
                parameters.extend(DELETE);
                let filters = LIST
                    .iter()
                    .filter(|(name, ..)| !matches!(*name, "allowWatchBookmarks" | "watch"));
                parameters.extend(filters);
            }
            _ => {}
        }
        let action = match verb {
            "create" => "post",
            "update" => "put",
            verb => verb,
        };
        let group = match self.row.group.split('.').next() {
            Some("") | None => "core",
            Some(group) => group,
        };
        let mut operation = Map::new();
        operation.insert(
            "operationId".into(),
            format!(
                "{verb}{}{}{}{}{}",
                title(group),
                title(&self.row.version),
                if self.row.namespaced { "Namespaced" } else { "" },
                self.row.kind,
                title(self.subresource),
            )
            .into(),
        );
        operation.insert("tags".into(), json!([format!("{group}_{}", self.row.version)]));
        operation.insert("x-kubernetes-action".into(), action.into());
        operation.insert("x-kubernetes-group-version-kind".into(), self.kind.clone());
        let body = match verb {
            "create" | "update" => body,
            "patch" => "io.k8s.apimachinery.pkg.apis.meta.v1.Patch",
            "delete" | "deletecollection" => DELETE_OPTIONS,
            _ => "",
        };
        match self.dialect {
            Dialect::V2 => self.v2(&mut operation, verb, &parameters, body, answer),
            Dialect::V3 => self.v3(&mut operation, verb, &parameters, body, answer),
        }
        Value::Object(operation)
    }

    /// What a body is: patches are any object, since each form has its own.
    fn body(&self, verb: &str, body: &str) -> Value {
        if verb == "patch" { json!({ "type": "object" }) } else { self.dialect.reference(body) }
    }

    fn v3(
        &self,
        operation: &mut Map<String, Value>,
        verb: &str,
        parameters: &[(&str, &str, &str)],
        body: &str,
        answer: &str,
    ) {
        let parameters: Vec<Value> = parameters
            .iter()
            .map(|(name, kind, description)| {
                json!({
                    "name": name, "in": "query", "description": description,
                    "schema": { "type": kind, "uniqueItems": true },
                })
            })
            .collect();
        if !parameters.is_empty() {
            operation.insert("parameters".into(), parameters.into());
        }
        if !body.is_empty() {
            let schema = json!({ "schema": self.body(verb, body) });
            let types = self.media_types(verb);
            let content: Map<String, Value> =
                types.iter().map(|&media| (media.to_owned(), schema.clone())).collect();
            operation.insert("requestBody".into(), json!({ "content": content }));
        }
        let answer = match answer {
            "" => json!({ "description": "OK" }),
            answer => json!({
                "description": "OK",
                "content": { "application/json": { "schema": self.dialect.reference(answer) } },
            }),
        };
        operation.insert(
            "responses".into(),
            json!({ "200": answer, "401": { "description": "Unauthorized" } }),
        );
    }

    fn v2(
        &self,
        operation: &mut Map<String, Value>,
        verb: &str,
        parameters: &[(&str, &str, &str)],
        body: &str,
        answer: &str,
    ) {
        let mut parameters: Vec<Value> = parameters
            .iter()
            .map(|(name, kind, description)| {
                json!({
                    "name": name, "in": "query", "description": description,
                    "type": kind, "uniqueItems": true,
                })
            })
            .collect();
        if !body.is_empty() {
            parameters.push(json!({
                "name": "body", "in": "body", "required": true, "schema": self.body(verb, body),
            }));
        }
        let types = self.media_types(verb);
        operation.insert("consumes".into(), json!(types));
        operation.insert("produces".into(), json!(["application/json"]));
        operation.insert("schemes".into(), json!(["https"]));
        if !parameters.is_empty() {
            operation.insert("parameters".into(), parameters.into());
        }
        let answer = match answer {
            "" => json!({ "description": "OK" }),
            answer => {
                json!({ "description": "OK", "schema": self.dialect.reference(answer) })
            }
        };
        operation.insert(
            "responses".into(),
            json!({ "200": answer, "401": { "description": "Unauthorized" } }),
        );
    }
}

/// `rbac` → `Rbac`.
fn title(word: &str) -> String {
    let mut letters = word.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => String::new(),
    }
}

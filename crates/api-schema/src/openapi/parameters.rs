//! What operations take in paths and queries.

use serde_json::{Value, json};

use super::{Descriptions, Dialect};
use crate::{Holds, ShapeRef, Type};

/// Name, type and description.
type Row = (&'static str, &'static str, &'static str);

/// What lists and watches take. `shardSelector` is not here: its gate is off.
const LIST: [Row; 10] = [
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
/// What of these a deletion of many has no use for.
const WATCHING: [&str; 2] = ["allowWatchBookmarks", "watch"];

const DRY_RUN: Row = ("dryRun", "string", "`All`: go all the way but store nothing.");
const WRITE: [Row; 3] = [
    DRY_RUN,
    ("fieldManager", "string", "Who makes the change."),
    (
        "fieldValidation",
        "string",
        "What to do with unknown and duplicate fields: Ignore, Warn or Strict.",
    ),
];
const FORCE: Row = ("force", "boolean", "Take fields from other managers.");

const DELETE: [Row; 5] = [
    DRY_RUN,
    ("gracePeriodSeconds", "integer", "How long the object has to end."),
    (
        "ignoreStoreReadErrorWithClusterBreakingPotential",
        "boolean",
        "Delete an object that cannot be read, without regard to its finalizers and to what depends on it.",
    ),
    ("orphanDependents", "boolean", "Deprecated: use propagationPolicy."),
    (
        "propagationPolicy",
        "string",
        "What happens to dependents: Orphan, Background or Foreground.",
    ),
];

const PRETTY: Row = ("pretty", "string", "`true`: with line breaks, for people.");

/// One parameter.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Parameter {
    name: String,
    kind: &'static str,
    description: String,
    /// It is a part of the path.
    in_path: bool,
}

impl Parameter {
    fn query((name, kind, description): Row) -> Self {
        Self { name: name.into(), kind, description: description.into(), in_path: false }
    }

    /// `{name}` in a path.
    pub(super) fn path(name: &str, description: String) -> Self {
        Self { name: name.into(), kind: "string", description, in_path: true }
    }

    pub(super) fn write(&self, dialect: Dialect) -> Value {
        let mut out = json!({ "name": self.name, "description": self.description });
        match self.in_path {
            true => {
                out["in"] = "path".into();
                out["required"] = true.into();
            }
            false => out["in"] = "query".into(),
        }
        match dialect {
            Dialect::V2 => {
                out["type"] = self.kind.into();
                out["uniqueItems"] = true.into();
            }
            Dialect::V3 => out["schema"] = json!({ "type": self.kind, "uniqueItems": true }),
        }
        out
    }
}

/// What a verb takes in the query; `watchlist` and `watch` are the forms with a path
/// of their own.
pub(super) fn of_verb(verb: &str, custom: bool) -> Vec<Parameter> {
    let mut rows = vec![PRETTY];
    match verb {
        "list" | "watchlist" | "watch" => rows.extend(LIST),
        "create" | "update" => rows.extend(WRITE),
        "patch" => rows.extend(WRITE.into_iter().chain([FORCE])),
        "delete" => rows.extend(DELETE),
        "deletecollection" => {
            rows.extend(DELETE);
            rows.extend(LIST.into_iter().filter(|(name, ..)| !WATCHING.contains(name)));
        }
        "get" if custom => rows.extend(LIST.into_iter().filter(|row| row.0 == "resourceVersion")),
        _ => {}
    }
    rows.into_iter().map(Parameter::query).collect()
}

/// The fields of options that travel in the query. Times are left out, as upstream
/// leaves them out.
pub(super) fn of_options(options: &ShapeRef, descriptions: &Descriptions) -> Vec<Parameter> {
    let schema = &options.schema;
    let fields = schema.fields(options.id).iter().filter_map(|field| {
        let name = schema.field_name(field);
        let kind = match field.ty {
            Type::String => "string",
            Type::Bool => "boolean",
            Type::Int32 | Type::Int64 => "integer",
            _ => return None,
        };
        let of_type = matches!(name, "kind" | "apiVersion") || field.holds == Holds::Map;
        let description = descriptions.of_field(schema, options.id, field).to_owned();
        (!of_type).then(|| Parameter { name: name.into(), kind, description, in_path: false })
    });
    fields.collect()
}

/// Takes out what every operation of a path takes, which stands beside them.
pub(super) fn common<'a>(lists: impl Iterator<Item = &'a mut Vec<Parameter>>) -> Vec<Parameter> {
    let mut lists: Vec<&mut Vec<Parameter>> = lists.collect();
    let Some((first, rest)) = lists.split_first() else { return Vec::new() };
    let shared = |parameter: &&Parameter| rest.iter().all(|list| list.contains(parameter));
    let common: Vec<Parameter> = first.iter().filter(shared).cloned().collect();
    lists.iter_mut().for_each(|list| list.retain(|parameter| !common.contains(parameter)));
    common
}

/// As JSON, in the order of names.
pub(super) fn write(mut parameters: Vec<Parameter>, dialect: Dialect) -> Vec<Value> {
    parameters.sort_by(|a, b| a.name.cmp(&b.name));
    parameters.iter().map(|parameter| parameter.write(dialect)).collect()
}

//! The paths of resources and what may be asked of them.

use serde_json::{Map, Value};

use super::{
    Descriptions, Dialect,
    definitions::{self, META},
    gvk,
    operation::{self, Answer, Body, Operation},
    parameters::{self, Parameter},
};
use crate::{ResourceSpec, Role, ShapeRef, Subresource};

/// What objects are written as.
pub(super) const OBJECTS: [&str; 3] =
    ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
/// What one event after the other is written as.
const EVENTS: [&str; 2] =
    ["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];
/// What custom objects are written as, having no numbers for protobuf.
const CUSTOM: [&str; 2] = ["application/json", "application/yaml"];
const ANY: [&str; 1] = ["*/*"];

/// The last only where lists have merge keys, so not for custom kinds: kubectl
/// sends the kind of patch that it finds here.
const PATCHES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/apply-patch+yaml",
    "application/strategic-merge-patch+json",
];

/// Verb, method, and what the answer is.
const AT_COLLECTION: [(&str, &str); 3] =
    [("list", "get"), ("create", "post"), ("deletecollection", "delete")];
const AT_ITEM: [(&str, &str); 4] =
    [("get", "get"), ("update", "put"), ("patch", "patch"), ("delete", "delete")];
/// The methods of what passes requests on, of which discovery names verbs only.
const PASSED_ON: [&str; 7] = ["delete", "get", "head", "options", "patch", "post", "put"];

/// `/api/v1`, `/apis/apps/v1`.
pub(super) fn prefix(row: &ResourceSpec) -> String {
    match &*row.group {
        "" => format!("/api/{}", row.version),
        group => format!("/apis/{group}/{}", row.version),
    }
}

/// Adds every path of the rows.
pub(super) fn add(
    out: &mut Map<String, Value>,
    rows: &[&ResourceSpec],
    dialect: Dialect,
    descriptions: &Descriptions,
) {
    for row in rows {
        let mut writer = Writer { row, dialect, descriptions, out };
        writer.resource();
        for sub in &row.subresources {
            writer.subresource(sub);
        }
        // Custom kinds are watched by parameter only.
        if row.custom.is_none() && row.allows("watch") {
            writer.watches();
        }
    }
}

struct Writer<'a> {
    row: &'a ResourceSpec,
    dialect: Dialect,
    descriptions: &'a Descriptions,
    out: &'a mut Map<String, Value>,
}

impl Writer<'_> {
    fn resource(&mut self) {
        let (row, collection) = (self.row, self.collection());
        let body = definitions::name(row.shape.schema.name(row.shape.id));
        let operation = |verb: &'static str, place: Place| {
            let answer = match verb {
                "list" => definitions::list_name(row),
                "delete" if row.answers_deleted => body.clone(),
                "delete" | "deletecollection" => format!("{META}.Status"),
                _ => body.clone(),
            };
            operation(row, verb, place, &gvk(&row.group, &row.version, &row.kind), &body, answer)
        };
        let of = |verbs: &[(&'static str, &'static str)], place: Place| {
            let served = verbs.iter().filter(|(verb, _)| row.allows(verb));
            served.map(|(verb, method)| (*method, operation(verb, place))).collect()
        };
        let at_collection = of(&AT_COLLECTION, Place::Collection);
        let at_item = of(&AT_ITEM, Place::Item(""));
        let everywhere =
            if row.namespaced { of(&AT_COLLECTION[..1], Place::Everywhere) } else { Vec::new() };
        self.path(format!("{}/{}", prefix(row), row.plural), everywhere);
        self.path(format!("{collection}/{{name}}"), at_item);
        self.path(collection, at_collection);
    }

    fn subresource(&mut self, sub: &Subresource) {
        let row = self.row;
        let kind = gvk(&sub.kind.group, &sub.kind.version, &sub.kind.kind);
        let path = format!("{}/{{name}}/{}", self.collection(), sub.name);
        if let Role::Connect { path_suffix, options, .. } = &sub.role {
            let served = sub.verbs.iter().map(|verb| match &**verb {
                "create" => "post",
                "update" => "put",
                verb => PASSED_ON.iter().find(|method| **method == verb).copied().unwrap_or("get"),
            });
            let methods: Vec<&str> = match path_suffix {
                true => PASSED_ON.to_vec(),
                false => served.collect(),
            };
            // What has no kind of its own is a text of the object's: a log.
            let reads = sub.kind.kind == row.kind;
            let of = |end: &str| -> Vec<(&'static str, Operation)> {
                let operation = |&method: &&'static str| match reads {
                    true => read_text(row, sub, &kind, options, self.descriptions),
                    false => connect(row, sub, &kind, options, self.descriptions, method, end),
                };
                methods.iter().map(|method| (*method, operation(method))).collect()
            };
            let (plain, mut below) = (of(""), of("WithPath"));
            self.path(path.clone(), plain);
            if *path_suffix {
                for (_, operation) in &mut below {
                    let rest = Parameter::path("path", "What is asked of it.".into());
                    operation.parameters.push(rest);
                }
                self.path(format!("{path}/{{path}}"), below);
            }
            return;
        }
        let body = match &sub.shape {
            Some(shape) => definitions::name(shape.schema.name(shape.id)),
            None => String::new(),
        };
        let verbs = AT_COLLECTION[1..2].iter().chain(&AT_ITEM);
        let operations = verbs
            .filter(|(verb, _)| sub.verbs.iter().any(|served| served == verb))
            .map(|(verb, method)| {
                let place = Place::Item(&sub.name);
                (*method, operation(row, verb, place, &kind, &body, body.clone()))
            })
            .collect();
        self.path(path, operations);
    }

    /// The deprecated form of a watch, which says in its path that it is one.
    fn watches(&mut self) {
        let row = self.row;
        let kind = gvk(&row.group, &row.version, &row.kind);
        let watch = |verb, place| {
            let answer = format!("{META}.WatchEvent");
            vec![("get", operation(row, verb, place, &kind, "", answer))]
        };
        let below = format!("{}/watch", prefix(row));
        let collection = self.collection().replacen(&prefix(row), &below, 1);
        if row.allows("list") {
            if row.namespaced {
                let everywhere = format!("{below}/{}", row.plural);
                self.path(everywhere, watch("watchlist", Place::Everywhere));
            }
            self.path(collection.clone(), watch("watchlist", Place::Collection));
        }
        self.path(format!("{collection}/{{name}}"), watch("watch", Place::Item("")));
    }

    fn collection(&self) -> String {
        let scope = if self.row.namespaced { "/namespaces/{namespace}" } else { "" };
        format!("{}{scope}/{}", prefix(self.row), self.row.plural)
    }

    fn path(&mut self, path: String, mut operations: Vec<(&'static str, Operation)>) {
        if operations.is_empty() {
            return;
        }
        for (_, operation) in &mut operations {
            if path.contains("{name}") {
                let of = format!("The name of the {}.", self.row.kind);
                operation.parameters.push(Parameter::path("name", of));
            }
            if path.contains("{namespace}") {
                let of = "The namespace that it is in.".to_owned();
                operation.parameters.push(Parameter::path("namespace", of));
            }
        }
        self.out.insert(path, operation::path(operations, self.dialect));
    }
}

/// What an operation's path leads to.
#[derive(Clone, Copy)]
enum Place<'a> {
    /// The objects of all namespaces.
    Everywhere,
    /// The objects of a namespace, or of the cluster where they are in none.
    Collection,
    /// An object or a subresource of it.
    Item(&'a str),
}

fn operation(
    row: &ResourceSpec,
    verb: &'static str,
    place: Place<'_>,
    kind: &Value,
    body: &str,
    answer: String,
) -> Operation {
    let custom = row.custom.is_some();
    let body = match verb {
        "create" | "update" => Some((body.to_owned(), true)),
        "patch" => Some((format!("{META}.Patch"), true)),
        "delete" | "deletecollection" => Some((format!("{META}.DeleteOptions"), false)),
        _ => None,
    };
    let objects: &'static [&str] = if custom { &CUSTOM } else { &OBJECTS };
    let mut produces = objects.to_vec();
    if !custom && matches!(verb, "list" | "watchlist" | "watch") {
        produces.extend(EVENTS);
    }
    let (action, codes): (_, &'static [u16]) = match verb {
        "create" => ("post", &[200, 201, 202]),
        "update" => ("put", &[200, 201]),
        "patch" => ("patch", if custom { &[200] } else { &[200, 201] }),
        "delete" => ("delete", &[200, 202]),
        verb => (verb, &[200]),
    };
    Operation {
        id: id(row, verb, place),
        tag: tag(row),
        description: description(row, verb, place),
        action,
        kind: Some(kind.clone()),
        parameters: parameters::of_verb(verb, custom),
        body: body.map(|(name, required)| Body { name, required }),
        consumes: match (verb, custom) {
            ("patch", false) => &PATCHES,
            ("patch", true) => &PATCHES[..3],
            (_, false) => &ANY,
            (_, true) => &CUSTOM,
        },
        produces,
        codes,
        answer: Answer::Object(answer),
    }
}

/// What opens a stream, or passes a request on.
fn connect(
    row: &ResourceSpec,
    sub: &Subresource,
    kind: &Value,
    options: &ShapeRef,
    descriptions: &Descriptions,
    method: &str,
    end: &str,
) -> Operation {
    let verb = format!("connect {}", title(method));
    Operation {
        id: id(row, &verb, Place::Item(&sub.name)) + end,
        tag: tag(row),
        description: description(row, "connect", Place::Item(&sub.name)),
        action: "connect",
        kind: Some(kind.clone()),
        parameters: parameters::of_options(options, descriptions),
        body: None,
        consumes: &ANY,
        produces: ANY.to_vec(),
        codes: &[200],
        answer: Answer::Text,
    }
}

/// A text that belongs to an object: a log.
fn read_text(
    row: &ResourceSpec,
    sub: &Subresource,
    kind: &Value,
    options: &ShapeRef,
    descriptions: &Descriptions,
) -> Operation {
    let mut operation = operation(row, "get", Place::Item(&sub.name), kind, "", String::new());
    operation.parameters.extend(parameters::of_options(options, descriptions));
    operation.produces.push("text/plain");
    Operation { answer: Answer::Text, ..operation }
}

/// `readCoreV1NamespacedPodStatus`.
fn id(row: &ResourceSpec, verb: &str, place: Place<'_>) -> String {
    // The second word stands behind the version, the third behind the kind.
    let (verb, what, list) = match verb {
        "get" => ("read", "", ""),
        "update" => ("replace", "", ""),
        "deletecollection" => ("delete", "Collection", ""),
        "watchlist" => ("watch", "", "List"),
        verb => {
            let (verb, what) = verb.split_once(' ').unwrap_or((verb, ""));
            (verb, what, "")
        }
    };
    let (scope, sub, end) = match (row.namespaced, place) {
        (_, Place::Everywhere) => ("", "", "ForAllNamespaces"),
        (false, Place::Item(sub)) => ("", sub, ""),
        (true, Place::Item(sub)) => ("Namespaced", sub, ""),
        (false, Place::Collection) => ("", "", ""),
        (true, Place::Collection) => ("Namespaced", "", ""),
    };
    let (group, version) = (title(&group(&row.group)), title(&row.version));
    [verb, &group, &version, what, scope, &row.kind, &title(sub), list, end].concat()
}

fn tag(row: &ResourceSpec) -> String {
    format!("{}_{}", group(&row.group), row.version)
}

/// `rbac.authorization.k8s.io` → `rbacAuthorization`.
pub(super) fn group(group: &str) -> String {
    match group.trim_end_matches(".k8s.io") {
        "" => "core".into(),
        group => {
            let mut words = group.split(|c: char| !c.is_ascii_alphanumeric());
            let first = words.next().unwrap_or_default().to_owned();
            words.fold(first, |name, word| name + &title(word))
        }
    }
}

fn description(row: &ResourceSpec, verb: &str, place: Place<'_>) -> String {
    let kind = &row.kind;
    let what = match place {
        Place::Everywhere => format!("objects of kind {kind} in all namespaces"),
        Place::Collection if verb != "create" => format!("objects of kind {kind}"),
        Place::Collection | Place::Item("") => format!("one {kind}"),
        Place::Item(sub) => format!("{sub} of one {kind}"),
    };
    match verb {
        "list" => format!("List or watch {what}."),
        "get" => format!("Read {what}."),
        "create" => format!("Create {what}."),
        "update" => format!("Replace {what}."),
        "patch" => format!("Change a part of {what}."),
        "delete" | "deletecollection" => format!("Delete {what}."),
        "connect" => format!("Connect to {what}."),
        "watch" => format!(
            "Watch {what}. Deprecated: list with the watch parameter and a field selector of its name."
        ),
        _ => format!("Watch {what}. Deprecated: list with the watch parameter."),
    }
}

/// `rbac` → `Rbac`.
pub(super) fn title(word: &str) -> String {
    let mut letters = word.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => String::new(),
    }
}

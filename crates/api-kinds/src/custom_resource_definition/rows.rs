//! From a definition whose names are accepted to rows of the catalogue, one for
//! each served version.

use std::{collections::BTreeMap, sync::Arc};

use api_object::{GroupVersionKind, version_preference};
use api_schema::{
    Cell, Column, Conversion, Custom, Definition, Document, Generation, Hooks, JsonPath, Read,
    ResourceSpec, Role, ScalePaths, Schema, SelectableField, ShapeRef, Subresource,
    structural::{Node, rules::Rules},
    tree,
};
use serde_json::Value;

use super::storage_version;
use crate::client_config;

const VERBS: [&str; 8] =
    ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];
const READ_WRITE: [&str; 3] = ["get", "patch", "update"];

/// The rows of a definition, the version that clients should prefer first.
/// Names are those that `status.acceptedNames` has.
///
/// # Errors
/// What of the definition cannot be served; validation lets no such thing in.
pub fn rows(definition: &Value) -> Result<Vec<ResourceSpec>, String> {
    let builtin = crate::schema();
    let shared = Arc::new(shared(definition)?);
    let mut versions: Vec<&Value> = tree::list(definition, "spec.versions").iter().collect();
    versions.sort_by(|a, b| {
        version_preference(tree::text(a, "name")).cmp(&version_preference(tree::text(b, "name")))
    });
    let ends = super::is_true(definition, "Terminating");
    let any = versions.iter().any(|version| tree::flag(version, "served"));
    // Objects that nobody sees any more must go too.
    let for_cleanup = |version: &Value| ends && !any && tree::flag(version, "storage");
    let served =
        versions.iter().filter(|version| tree::flag(version, "served") || for_cleanup(version));
    served.map(|version| row(definition, version, &shared, &builtin)).collect()
}

/// What all versions share.
fn shared(definition: &Value) -> Result<Definition, String> {
    let mut versions = BTreeMap::new();
    for version in tree::list(definition, "spec.versions") {
        let node = Node::parse(tree::get(version, "schema.openAPIV3Schema"))?;
        versions.insert(tree::text(version, "name").to_owned(), Arc::new(node));
    }
    let storage = storage_version(definition);
    let schema = tree::list(definition, "spec.versions")
        .iter()
        .find(|version| tree::text(version, "name") == storage)
        .map(|version| tree::get(version, "schema").to_string())
        .unwrap_or_default();
    Ok(Definition {
        versions,
        storage_version: storage.to_owned(),
        conversion: conversion(definition)?,
        epoch: fingerprint(&[storage, &schema]),
    })
}

fn conversion(definition: &Value) -> Result<Conversion, String> {
    if tree::text(definition, "spec.conversion.strategy") != "Webhook" {
        return Ok(Conversion::None);
    }
    let webhook = tree::get(definition, "spec.conversion.webhook");
    let versions = tree::list(webhook, "conversionReviewVersions");
    client_config::read(tree::get(webhook, "clientConfig"), versions).map(Conversion::Webhook)
}

/// FNV-1a, folded: a number that differs where texts do.
fn fingerprint(texts: &[&str]) -> u32 {
    let bytes = texts.iter().flat_map(|text| text.bytes().chain([0]));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash ^ (hash >> 32)) as u32
}

fn row(
    definition: &Value,
    version: &Value,
    shared: &Arc<Definition>,
    builtin: &Arc<Schema>,
) -> Result<ResourceSpec, String> {
    let name =
        |field: &str| tree::text(definition, &format!("status.acceptedNames.{field}")).to_owned();
    let names = |field: &str| {
        let list = tree::list(definition, &format!("status.acceptedNames.{field}"));
        list.iter().filter_map(Value::as_str).map(|name| name.to_owned().into()).collect()
    };
    let group = tree::text(definition, "spec.group");
    let version_name = tree::text(version, "name");
    let kind = name("kind");
    let schema = shared.versions.get(version_name).ok_or("a version without a schema")?.clone();
    let shape_name = format!("{group}/{version_name}.{kind}");
    let shapes = Arc::new(Schema::structural(&shape_name, &schema, builtin)?);
    let shape = ShapeRef::find(&shapes, &shape_name).ok_or("the kind has no shape")?;
    let namespaced = tree::text(definition, "spec.scope") == "Namespaced";
    let mut spec = ResourceSpec {
        group: group.to_owned().into(),
        version: version_name.to_owned().into(),
        plural: name("plural").into(),
        singular: name("singular").into(),
        kind: kind.clone().into(),
        list_kind: name("listKind").into(),
        namespaced,
        stored: true,
        verbs: VERBS.map(Into::into).to_vec(),
        short_names: names("shortNames"),
        categories: names("categories"),
        subresources: Vec::new(),
        columns: columns(version)?,
        selectable: selectable(version, namespaced),
        shape,
        stored_as: None,
        allow_create_on_update: false,
        allow_unconditional_update: false,
        status_on_create: false,
        answers_deleted: false,
        generation: Generation::Content,
        hooks: Hooks::default(),
        deprecation: deprecation(definition, version, &kind),
        custom: Some(Custom {
            definition: shared.clone(),
            rules: Arc::new(Rules::of(schema.clone())),
            schema,
            terminating: super::is_true(definition, "Terminating"),
            document: Document::new(tree::get(version, "schema.openAPIV3Schema"))?,
        }),
    };
    spec.subresources = subresources(&spec, tree::get(version, "subresources"), builtin)?;
    Ok(spec)
}

fn subresources(
    spec: &ResourceSpec,
    given: &Value,
    builtin: &Arc<Schema>,
) -> Result<Vec<Subresource>, String> {
    let mut subresources = Vec::new();
    if !tree::get(given, "status").is_null() {
        subresources.push(Subresource {
            name: "status".into(),
            verbs: READ_WRITE.map(Into::into).to_vec(),
            kind: spec.gvk(),
            shape: Some(spec.shape.clone()),
            role: Role::Status,
        });
    }
    let scale = tree::get(given, "scale");
    if !scale.is_null() {
        let path = |field| tree::text(scale, field).trim_start_matches('.').to_owned().into();
        subresources.push(Subresource {
            name: "scale".into(),
            verbs: READ_WRITE.map(Into::into).to_vec(),
            kind: GroupVersionKind {
                group: "autoscaling".into(),
                version: "v1".into(),
                kind: "Scale".into(),
            },
            shape: Some(
                ShapeRef::find(builtin, "autoscaling/v1.Scale").ok_or("no shape of a Scale")?,
            ),
            role: Role::Scale(ScalePaths {
                replicas: path("specReplicasPath"),
                status_replicas: path("statusReplicasPath"),
                selector: path("labelSelectorPath"),
                absent: None,
            }),
        });
    }
    Ok(subresources)
}

fn columns(version: &Value) -> Result<Vec<Column>, String> {
    let mut columns = vec![Column::name()];
    let given = tree::list(version, "additionalPrinterColumns");
    for column in given {
        // What cannot be read is no fault of the definition; it ends the table.
        let Ok(path) = JsonPath::parse(tree::text(column, "jsonPath")) else { break };
        let text = |field| tree::text(column, field).to_owned();
        columns.push(Column {
            name: text("name").into(),
            kind: text("type").into(),
            format: text("format").into(),
            description: match text("description") {
                empty if empty.is_empty() => {
                    format!(
                        "Custom resource definition column (in JSONPath format): {}",
                        text("jsonPath")
                    )
                }
                description => description,
            }
            .into(),
            priority: tree::int(column, "priority").unwrap_or(0).try_into().unwrap_or(0),
            cell: Cell::JsonPath(path),
        });
    }
    if given.is_empty() {
        columns.push(Column {
            kind: "date".into(),
            cell: Cell::JsonPath(JsonPath::parse(".metadata.creationTimestamp")?),
            ..Column::age()
        });
    }
    Ok(columns)
}

fn selectable(version: &Value, namespaced: bool) -> Vec<SelectableField> {
    let own =
        if namespaced { &["metadata.name", "metadata.namespace"][..] } else { &["metadata.name"] };
    let given = tree::list(version, "selectableFields")
        .iter()
        .map(|field| tree::text(field, "jsonPath").trim_start_matches('.'));
    own.iter()
        .copied()
        .chain(given)
        .map(|name| SelectableField { name: name.to_owned().into(), read: Read::ItsName })
        .collect()
}

/// The text of the warning, which names a better version where there is one.
fn deprecation(definition: &Value, version: &Value, kind: &str) -> Option<String> {
    if !tree::flag(version, "deprecated") {
        return None;
    }
    if let Some(text) = version.get("deprecationWarning").and_then(Value::as_str) {
        return Some(text.to_owned());
    }
    let group = tree::text(definition, "spec.group");
    let name = tree::text(version, "name");
    let better = tree::list(definition, "spec.versions")
        .iter()
        .filter(|other| tree::flag(other, "served") && !tree::flag(other, "deprecated"))
        .map(|other| tree::text(other, "name"))
        .filter(|other| version_preference(other) < version_preference(name))
        .min_by_key(|other| version_preference(other));
    let instead = better.map(|better| format!("; use {group}/{better} {kind}")).unwrap_or_default();
    Some(format!("{group}/{name} {kind} is deprecated{instead}"))
}

//! Shapes as JSON schemas.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{Descriptions, Dialect, Root, custom, gvk, roots};
use crate::{Field, Holds, ListType, ResourceSpec, Schema, ShapeId, Type};

pub(super) const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const RAW: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";

pub(super) const API_VERSION: &str =
    "The group and version of the API that the object is written in.";
pub(super) const KIND: &str = "The kind of object.";

/// Shapes that every document has, since requests and answers of all kinds do.
pub(super) const SHARED: [&str; 4] =
    ["meta/v1.DeleteOptions", "meta/v1.ListMeta", "meta/v1.ObjectMeta", "meta/v1.Status"];

/// `core/v1.Pod` → `io.k8s.api.core.v1.Pod`.
pub(super) fn name(shape: &str) -> String {
    match shape.split_once('/') {
        Some(("meta", rest)) => {
            format!("{META}.{}", rest.strip_prefix("v1.").unwrap_or(rest))
        }
        Some((package @ "apiextensions", rest)) => {
            format!("io.k8s.apiextensions-apiserver.pkg.apis.{package}.{rest}")
        }
        Some((package @ "apiregistration", rest)) => {
            format!("io.k8s.kube-aggregator.pkg.apis.{package}.{rest}")
        }
        // The group of a custom kind is a domain: `com.example.v1.CronTab`.
        Some((group, rest)) if group.contains('.') => {
            let labels: Vec<&str> = group.rsplit('.').collect();
            format!("{}.{rest}", labels.join("."))
        }
        Some((package, rest)) => format!("io.k8s.api.{package}.{rest}"),
        None => shape.to_owned(),
    }
}

/// The name of the list of a kind.
pub(super) fn list_name(row: &ResourceSpec) -> String {
    format!("{}List", name(row.shape.schema.name(row.shape.id)))
}

/// Every schema that the paths of these documents need.
pub(super) fn all(
    rows: &[&ResourceSpec],
    documents: &[Root],
    dialect: Dialect,
    descriptions: &Descriptions,
) -> Value {
    let mut out = Map::new();
    let mut kinds: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let with_objects = documents.iter().any(|root| matches!(root, Root::Resources(..)));
    if let Some(row) = rows.iter().find(|row| row.custom.is_none()) {
        let schema = &row.shape.schema;
        let mut writer = Writer { schema, dialect, descriptions, out: &mut out, seen: &mut seen };
        let of_watches = with_objects.then_some("WatchEvent");
        for shape in documents.iter().filter_map(Root::shape).chain(of_watches) {
            if let Some(id) = schema.find(&format!("meta/v1.{shape}")) {
                writer.add(id);
                kinds.insert(format!("{META}.{shape}"), vec![gvk("", "v1", shape)]);
            }
        }
    }
    for row in rows.iter().filter(|_| with_objects) {
        let schema = &row.shape.schema;
        let of_row = name(schema.name(row.shape.id));
        kinds.entry(of_row.clone()).or_default().push(gvk(&row.group, &row.version, &row.kind));
        if let Some(custom) = &row.custom {
            match custom::schema(row, custom, dialect) {
                Ok(schema) => drop(out.insert(of_row.clone(), schema)),
                Err(error) => drop(out.insert(of_row.clone(), broken(&error))),
            }
        }
        let mut writer = Writer { schema, dialect, descriptions, out: &mut out, seen: &mut seen };
        if row.custom.is_none() {
            writer.add(row.shape.id);
        }
        SHARED.into_iter().filter_map(|name| schema.find(name)).for_each(|id| writer.add(id));
        for sub in &row.subresources {
            let Some(shape) = &sub.shape else { continue };
            if row.custom.is_some() && name(shape.schema.name(shape.id)) == of_row {
                continue;
            }
            Writer {
                schema: &shape.schema,
                dialect,
                descriptions,
                out: writer.out,
                seen: writer.seen,
            }
            .add(shape.id);
            let of_sub = kinds.entry(name(shape.schema.name(shape.id))).or_default();
            let kind = gvk(&sub.kind.group, &sub.kind.version, &sub.kind.kind);
            if !of_sub.contains(&kind) {
                of_sub.push(kind);
            }
        }
        if !row.list_kind.is_empty() {
            let list = list_of(row, &of_row, dialect);
            out.insert(list_name(row), list);
        }
    }
    kinds.insert(format!("{META}.Status"), vec![gvk("", "v1", "Status")]);
    kinds.insert(format!("{META}.DeleteOptions"), vec![gvk("", "v1", "DeleteOptions")]);
    for (name, kinds) in kinds {
        if let Some(Value::Object(schema)) = out.get_mut(&name) {
            schema.insert("x-kubernetes-group-version-kind".into(), kinds.into());
        }
    }
    out.extend(primitives(dialect).into_iter().filter(|_| with_objects));
    out.extend(roots::version().filter(|_| documents.contains(&Root::Version)));
    Value::Object(out)
}

/// A schema that cannot be had is one that allows everything and says why.
fn broken(error: &str) -> Value {
    json!({ "type": "object", "description": format!("The schema cannot be shown: {error}.") })
}

fn list_of(row: &ResourceSpec, element: &str, dialect: Dialect) -> Value {
    json!({
        "description": format!("A list of {} objects.", row.kind),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": { "type": "string", "description": API_VERSION },
            "kind": { "type": "string", "description": KIND },
            "metadata": dialect.reference(&format!("{META}.ListMeta")),
            "items": { "type": "array", "items": dialect.reference(element) },
        },
        "x-kubernetes-group-version-kind": [gvk(&row.group, &row.version, &row.list_kind)],
    })
}

fn primitives(dialect: Dialect) -> [(String, Value); 7] {
    let (quantity, int_or_string) = match dialect {
        Dialect::V2 => {
            (json!({ "type": "string" }), json!({ "type": "string", "format": "int-or-string" }))
        }
        Dialect::V3 => (
            json!({ "oneOf": [{ "type": "string" }, { "type": "number" }] }),
            json!({
                "format": "int-or-string",
                "oneOf": [{ "type": "integer" }, { "type": "string" }],
            }),
        ),
    };
    [
        (QUANTITY.into(), quantity),
        (INT_OR_STRING.into(), int_or_string),
        (RAW.into(), json!({ "type": "object" })),
        // Each form of a patch has its own, so it may be any.
        (format!("{META}.Patch"), json!({ "type": "object" })),
        (format!("{META}.Time"), json!({ "type": "string", "format": "date-time" })),
        (format!("{META}.MicroTime"), json!({ "type": "string", "format": "date-time" })),
        (format!("{META}.Duration"), json!({ "type": "string" })),
    ]
}

struct Writer<'a> {
    schema: &'a Schema,
    dialect: Dialect,
    descriptions: &'a Descriptions,
    out: &'a mut Map<String, Value>,
    seen: &'a mut BTreeSet<String>,
}

impl Writer<'_> {
    /// Writes a shape and all that it refers to.
    fn add(&mut self, id: ShapeId) {
        let mut open = vec![id];
        while let Some(id) = open.pop() {
            let name = name(self.schema.name(id));
            if !self.seen.insert(name.clone()) {
                continue;
            }
            let mut properties = Map::new();
            let mut required = Vec::new();
            for field in self.schema.fields(id) {
                let field_name = self.schema.field_name(field);
                properties.insert(field_name.into(), self.property(id, field));
                if field.required {
                    required.push(Value::from(field_name));
                }
                if let Type::Struct(inner) = field.ty {
                    open.push(inner);
                }
            }
            let mut schema = Map::new();
            let description = self.descriptions.of_type(self.schema, id);
            if !description.is_empty() {
                schema.insert("description".into(), description.into());
            }
            schema.insert("type".into(), "object".into());
            if !properties.is_empty() {
                schema.insert("properties".into(), properties.into());
            }
            if !required.is_empty() {
                schema.insert("required".into(), required.into());
            }
            if self.schema.shape(id).atomic {
                schema.insert("x-kubernetes-map-type".into(), "atomic".into());
            }
            if self.schema.shape(id).preserve_unknown {
                schema.insert("x-kubernetes-preserve-unknown-fields".into(), true.into());
            }
            self.out.insert(name, schema.into());
        }
    }

    fn property(&self, id: ShapeId, field: &Field) -> Value {
        let element = self.element(field);
        let mut property = match field.holds {
            Holds::List => json!({ "type": "array", "items": element }),
            Holds::Map => json!({ "type": "object", "additionalProperties": element }),
            Holds::One | Holds::Pointer => element,
        };
        let Value::Object(map) = &mut property else { return property };
        let mut extra = Map::new();
        let description = self.descriptions.of_field(self.schema, id, field);
        if !description.is_empty() {
            extra.insert("description".into(), description.into());
        }
        if let Ok(default) = serde_json::from_str::<Value>(self.schema.default_text(field)) {
            extra.insert("default".into(), default);
        }
        if field.holds == Holds::List {
            let list_type = match field.list_type {
                ListType::Unset => None,
                ListType::Atomic => Some("atomic"),
                ListType::Set => Some("set"),
                ListType::Map => Some("map"),
            };
            if let Some(list_type) = list_type {
                extra.insert("x-kubernetes-list-type".into(), list_type.into());
            }
            let keys: Vec<&str> = self.schema.keys(field).collect();
            if !keys.is_empty() {
                extra.insert("x-kubernetes-list-map-keys".into(), keys.into());
            }
        } else if field.list_type == ListType::Atomic {
            extra.insert("x-kubernetes-map-type".into(), "atomic".into());
        }
        let strategy = match (field.patch_merge, field.patch_retain_keys) {
            (true, true) => "merge,retainKeys",
            (true, false) => "merge",
            (false, true) => "retainKeys",
            (false, false) => "",
        };
        if !strategy.is_empty() {
            extra.insert("x-kubernetes-patch-strategy".into(), strategy.into());
        }
        let key = self.schema.merge_key(field);
        if !key.is_empty() {
            extra.insert("x-kubernetes-patch-merge-key".into(), key.into());
        }
        // Beside a reference nothing else counts in version 3.
        if self.dialect == Dialect::V3 && map.contains_key("$ref") && !extra.is_empty() {
            let reference = std::mem::take(map);
            map.insert("allOf".into(), vec![Value::Object(reference)].into());
        }
        map.append(&mut extra);
        property
    }

    fn element(&self, field: &Field) -> Value {
        let reference = |name: &str| self.dialect.reference(name);
        match field.ty {
            Type::String => {
                let mut values: Vec<&str> = self.schema.values(field).collect();
                values.sort_unstable();
                match values.is_empty() || self.dialect == Dialect::V2 {
                    true => json!({ "type": "string" }),
                    false => json!({ "type": "string", "enum": values }),
                }
            }
            Type::Bool => json!({ "type": "boolean" }),
            Type::Int32 => json!({ "type": "integer", "format": "int32" }),
            Type::Int64 => json!({ "type": "integer", "format": "int64" }),
            Type::Float64 => json!({ "type": "number", "format": "double" }),
            Type::Strings => json!({ "type": "array", "items": { "type": "string" } }),
            Type::Bytes => json!({ "type": "string", "format": "byte" }),
            Type::Any | Type::Nested(_) => json!({}),
            Type::Object => reference(RAW),
            Type::Quantity => reference(QUANTITY),
            Type::IntOrString => reference(INT_OR_STRING),
            Type::Time => reference(&format!("{META}.Time")),
            Type::MicroTime => reference(&format!("{META}.MicroTime")),
            Type::Duration => reference(&format!("{META}.Duration")),
            Type::Struct(id) => reference(&name(self.schema.name(id))),
        }
    }
}

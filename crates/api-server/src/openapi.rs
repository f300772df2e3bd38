//! `/openapi/v3`: one document a group and version, computed from the catalogue
//! and the shapes. What kubectl needs of it: which parameters a write takes
//! (`fieldValidation`), and the fields of each kind (`kubectl explain`).

use std::collections::BTreeSet;

use api_object::Status;
use api_schema::{Field, Holds, ListType, ResourceSpec, Schema, ShapeId, Type};
use bytes::Bytes;
use http::{HeaderValue, header};
use serde_json::{Map, Value, json};

use crate::{
    ApiServer,
    chain::Asked,
    openapi_v2,
    path::parameter,
    respond::{self, Reply},
};

/// A strong ETag of a document's bytes.
pub(crate) fn etag(bytes: &[u8]) -> HeaderValue {
    let text = format!("\"{}\"", hash(bytes));
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

/// FNV-1a (64 bits): to tell documents apart, not to protect them.
fn hash(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016X}")
}

/// Serves what follows `/openapi/`.
///
/// # Errors
/// None today; the chain's form.
pub(crate) fn serve(server: &ApiServer, path: &[&str], asked: &Asked) -> Result<Reply, Status> {
    let all = server.parts.catalogue.all();
    let of = |group: &str, version: &str| -> Option<Bytes> {
        let specs: Vec<&ResourceSpec> = all
            .iter()
            .map(AsRef::as_ref)
            .filter(|spec| (&*spec.group, &*spec.version) == (group, version))
            .collect();
        (!specs.is_empty()).then(|| document(&specs, &server.parts.version.git_version))
    };
    if path == ["v2"] {
        let specs = all.iter().map(AsRef::as_ref);
        let bytes = openapi_v2::document(specs, &server.parts.version.git_version);
        return Ok(respond::reply(200, openapi_v2::MEDIA_TYPE, bytes));
    }
    let bytes = match path {
        ["v3"] => {
            let mut paths = Map::new();
            for spec in &all {
                let root = root(spec);
                if !paths.contains_key(&root)
                    && let Some(bytes) = of(&spec.group, &spec.version)
                {
                    let url = format!("/openapi/v3/{root}?hash={}", hash(&bytes));
                    paths.insert(root, json!({"serverRelativeURL": url}));
                }
            }
            Some(json!({"paths": paths}).to_string().into())
        }
        ["v3", "api", version] => of("", version),
        ["v3", "apis", group, version] => of(group, version),
        _ => None,
    };
    let Some(bytes) = bytes else { return Ok(respond::no_such_path()) };
    let etag = etag(&bytes);
    let known = asked.head.headers.get(header::IF_NONE_MATCH);
    let mut reply = match known.is_some_and(|known| *known == etag) {
        true => respond::reply(304, "application/json", ""),
        false => respond::reply(200, "application/json", bytes),
    };
    let headers = reply.headers_mut();
    headers.insert(header::ETAG, etag);
    if !parameter(&asked.query, "hash").is_empty() {
        // The hash is in the address, so the answer never changes.
        let forever = HeaderValue::from_static("public, max-age=31536000, immutable");
        headers.insert(header::CACHE_CONTROL, forever);
    }
    Ok(reply)
}

/// `api/v1`, `apis/apps/v1`.
pub(crate) fn root(spec: &ResourceSpec) -> String {
    match &*spec.group {
        "" => format!("api/{}", spec.version),
        group => format!("apis/{group}/{}", spec.version),
    }
}

fn document(specs: &[&ResourceSpec], version: &str) -> Bytes {
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    for spec in specs {
        let namespace = if spec.namespaced { "/namespaces/{namespace}" } else { "" };
        let collection = format!("/{}{namespace}/{}", root(spec), spec.plural);
        let one = format!("{collection}/{{name}}");
        let kind = [&*spec.group, &*spec.version, &*spec.kind];
        let schema = &spec.shape.schema;
        let body = component(schema, spec.shape.id);
        let verbs: Vec<&str> = spec.verbs.iter().map(AsRef::as_ref).collect();
        paths.insert(collection, operations(spec, &verbs, false, kind, &body));
        if verbs.contains(&"get") {
            paths.insert(one.clone(), operations(spec, &verbs, true, kind, &body));
        }
        add(schema, spec.shape.id, Some(kind), &mut schemas);
        for sub in &spec.subresources {
            let kind = [&*sub.kind.group, &*sub.kind.version, &*sub.kind.kind];
            let Some(shape) = &sub.shape else { continue };
            let verbs: Vec<&str> = sub.verbs.iter().map(AsRef::as_ref).collect();
            let body = component(&shape.schema, shape.id);
            let path = format!("{one}/{}", sub.name);
            paths.insert(path, operations(spec, &verbs, true, kind, &body));
            let own = *kind[2] != *spec.kind;
            add(&shape.schema, shape.id, own.then_some(kind), &mut schemas);
        }
    }
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": version},
        "paths": paths,
        "components": {"schemas": schemas},
    })
    .to_string()
    .into()
}

fn operations(
    spec: &ResourceSpec,
    verbs: &[&str],
    one: bool,
    [group, version, kind]: [&str; 3],
    body: &str,
) -> Value {
    let gvk = json!({"group": group, "version": version, "kind": kind});
    let reference = json!({"$ref": format!("#/components/schemas/{body}")});
    let content = json!({"application/json": {"schema": reference}});
    let query = |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}});
    let mut out = Map::new();
    for (verb, method, of_one) in [
        ("get", "get", true),
        ("list", "get", false),
        ("create", "post", false),
        ("update", "put", true),
        ("patch", "patch", true),
        ("delete", "delete", true),
        ("deletecollection", "delete", false),
    ] {
        // A subresource that is posted to lies below one object.
        let here = of_one == one || (verb == "create" && one && !verbs.contains(&"get"));
        if !here || !verbs.contains(&verb) {
            continue;
        }
        let mut operation = json!({
            "x-kubernetes-action": if verb == "create" { "post" } else { verb },
            "x-kubernetes-group-version-kind": gvk,
            "responses": {"200": {"description": "OK", "content": content}},
        });
        if matches!(verb, "create" | "update" | "patch") {
            let names = ["dryRun", "fieldManager", "fieldValidation"];
            operation["parameters"] = names.map(query).into();
            operation["requestBody"] = match verb {
                "patch" => {
                    let patch = json!({"schema": {"type": "object"}});
                    json!({"content": api_registry::Patch::MEDIA_TYPES.map(|media_type| (media_type.to_owned(), patch.clone())).into_iter().collect::<Map<_, _>>()})
                }
                _ => json!({"content": content}),
            };
        }
        out.insert(method.into(), operation);
    }
    let mut parameters = vec![query("pretty")];
    for (name, there) in [("namespace", spec.namespaced), ("name", one)] {
        if there {
            parameters.push(json!({
                "name": name, "in": "path", "required": true,
                "schema": {"type": "string", "uniqueItems": true},
            }));
        }
    }
    out.insert("parameters".into(), parameters.into());
    out.into()
}

/// `io.k8s.api.apps.v1.Deployment` for `apps/v1.Deployment`.
fn component(schema: &Schema, id: ShapeId) -> String {
    let name = schema.name(id).replace('/', ".");
    match name.strip_prefix("meta.") {
        Some(meta) => format!("io.k8s.apimachinery.pkg.apis.meta.{meta}"),
        None => format!("io.k8s.api.{name}"),
    }
}

/// Adds a shape and every shape that it needs.
fn add(schema: &Schema, id: ShapeId, kind: Option<[&str; 3]>, out: &mut Map<String, Value>) {
    let mut waiting = vec![id];
    let mut seen = BTreeSet::from([id]);
    while let Some(id) = waiting.pop() {
        let name = component(schema, id);
        if !out.contains_key(&name) {
            out.insert(name, object(schema, id));
        }
        for field in schema.fields(id) {
            if let Type::Struct(inner) = field.ty
                && seen.insert(inner)
            {
                waiting.push(inner);
            }
        }
    }
    if let Some([group, version, kind]) = kind
        && let Some(root) = out.get_mut(&component(schema, id))
    {
        let gvk = json!([{"group": group, "version": version, "kind": kind}]);
        root["x-kubernetes-group-version-kind"] = gvk;
    }
}

fn object(schema: &Schema, id: ShapeId) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for field in schema.fields(id) {
        let name = schema.field_name(field);
        properties.insert(name.to_owned(), property(schema, field));
        if field.required {
            required.push(name);
        }
    }
    let mut out = json!({"type": "object"});
    if !properties.is_empty() {
        out["properties"] = properties.into();
    }
    if !required.is_empty() {
        out["required"] = json!(required);
    }
    if schema.shape(id).preserve_unknown {
        out["x-kubernetes-preserve-unknown-fields"] = true.into();
    }
    out
}

fn property(schema: &Schema, field: &Field) -> Value {
    let one = single(schema, field);
    let mut out = match field.holds {
        Holds::One | Holds::Pointer => one,
        Holds::List => json!({"type": "array", "items": one}),
        Holds::Map => json!({"type": "object", "additionalProperties": one}),
    };
    let description = schema.description(field);
    if !description.is_empty() {
        out["description"] = description.into();
    }
    if let Ok(default) = serde_json::from_str::<Value>(schema.default_text(field)) {
        out["default"] = default;
    }
    let list_type = match field.list_type {
        ListType::Unset => "",
        ListType::Atomic => "atomic",
        ListType::Set => "set",
        ListType::Map => "map",
    };
    if field.holds == Holds::List && !list_type.is_empty() {
        out["x-kubernetes-list-type"] = list_type.into();
        let keys: Vec<&str> = schema.keys(field).collect();
        if !keys.is_empty() {
            out["x-kubernetes-list-map-keys"] = json!(keys);
        }
    }
    let strategies: Vec<&str> =
        [(field.patch_merge, "merge"), (field.patch_retain_keys, "retainKeys")]
            .into_iter()
            .filter_map(|(there, word)| there.then_some(word))
            .collect();
    if !strategies.is_empty() {
        out["x-kubernetes-patch-strategy"] = strategies.join(",").into();
        if !schema.merge_key(field).is_empty() {
            out["x-kubernetes-patch-merge-key"] = schema.merge_key(field).into();
        }
    }
    out
}

fn single(schema: &Schema, field: &Field) -> Value {
    match field.ty {
        Type::String => {
            let values: Vec<&str> = schema.values(field).collect();
            match values.is_empty() {
                true => json!({"type": "string"}),
                false => json!({"type": "string", "enum": values}),
            }
        }
        Type::Bool => json!({"type": "boolean"}),
        Type::Int32 => json!({"type": "integer", "format": "int32"}),
        Type::Int64 => json!({"type": "integer", "format": "int64"}),
        Type::Float64 => json!({"type": "number", "format": "double"}),
        Type::Strings => json!({"type": "array", "items": {"type": "string"}}),
        Type::Bytes => json!({"type": "string", "format": "byte"}),
        Type::Any => json!({}),
        Type::Object => json!({"type": "object"}),
        Type::Quantity => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        Type::IntOrString => {
            json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
        }
        Type::Time | Type::MicroTime => json!({"type": "string", "format": "date-time"}),
        Type::Duration => json!({"type": "string"}),
        Type::Struct(id) => {
            json!({"allOf": [{"$ref": format!("#/components/schemas/{}", component(schema, id))}]})
        }
    }
}

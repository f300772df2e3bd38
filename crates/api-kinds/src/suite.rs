//! One suite over every row: what is true of all kinds.

use std::borrow::Cow;

use api_schema::{FieldValidation, Holds, ResourceSpec, Role, Schema, ShapeId, Type, tree};
use serde_json::{Value, json};

use crate::catalogue;

/// The least that a kind accepts, as `samples/deployments.v1.apps.json`: full
/// objects, so that a server can be tried with them too.
pub(crate) fn sample(spec: &ResourceSpec) -> Value {
    let path = format!("{SAMPLES}/{}", sample_name(spec));
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/samples");

fn sample_name(spec: &ResourceSpec) -> String {
    match &*spec.group {
        "" => format!("{}.{}.json", spec.plural, spec.version),
        group => format!("{}.{}.{group}.json", spec.plural, spec.version),
    }
}

/// Decoded, defaulted and prepared as for a create.
pub(crate) fn created(spec: &ResourceSpec, object: &Value) -> Value {
    let bytes = serde_json::to_vec(object).expect("a tree");
    let (mut object, warnings) =
        spec.decode(&bytes, FieldValidation::Strict).expect("a valid sample");
    assert_eq!(warnings, Vec::<String>::new(), "{}", spec.kind);
    spec.default(&mut object);
    tree::set(&mut object, "metadata.uid", "11111111-2222-3333-4444-555555555555");
    spec.prepare_create(&mut object);
    object
}

#[test]
fn every_sample_has_a_row() {
    let rows: Vec<String> = catalogue().all().iter().map(|spec| sample_name(spec)).collect();
    for entry in std::fs::read_dir(SAMPLES).expect("a folder") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        assert!(rows.contains(&name), "{name}");
    }
}

#[test]
fn every_sample_is_accepted_and_updated() {
    for spec in catalogue().all() {
        let object = created(&spec, &sample(&spec));
        assert_eq!(spec.validate_create(&object), [], "{}", spec.kind);
        let mut again = object.clone();
        spec.prepare_update(&mut again, &object);
        assert_eq!(again, object, "{}: an update without a change", spec.kind);
        assert_eq!(spec.validate_update(&again, &object), [], "{}", spec.kind);
        assert_eq!(spec.validate_status(&again, &object), [], "{}", spec.kind);
    }
}

/// Every field below a shape alone, with a value that few rules like.
fn hostile(schema: &Schema, id: ShapeId, depth: usize) -> Vec<Value> {
    let mut found = Vec::new();
    for field in schema.fields(id) {
        let values = match field.ty {
            Type::Struct(id) if depth > 0 => hostile(schema, id, depth - 1),
            Type::String => vec![json!("z z"), json!("")],
            Type::Quantity => vec![json!("-1")],
            Type::Int32 | Type::Int64 => vec![json!(-1)],
            Type::IntOrString => vec![json!(-1), json!("z z")],
            Type::Bool => vec![json!(true)],
            _ => Vec::new(),
        };
        found.extend(values.into_iter().map(|value| {
            let value = match field.holds {
                Holds::One | Holds::Pointer => value,
                Holds::List => json!([value]),
                Holds::Map => json!({ "z z": value }),
            };
            json!({ schema.field_name(field): value })
        }));
    }
    found
}

#[test]
fn a_status_that_is_taken_refuses_no_later_update() {
    let mut taken = 0;
    let mut refused = Vec::new();
    for spec in catalogue().all().into_iter().filter(|spec| spec.has_status()) {
        let schema = &spec.shape.schema;
        let status = schema.field(spec.shape.id, "status").map(|field| field.ty);
        let Some(Type::Struct(status)) = status else { panic!("{}", spec.kind) };
        let old = created(&spec, &sample(&spec));
        for status in hostile(schema, status, 4) {
            let mut new = old.clone();
            tree::set(&mut new, "status", status.clone());
            spec.default(&mut new);
            spec.prepare_status(&mut new, &old);
            spec.stamp(&mut new, Some(&old), jiff::Timestamp::UNIX_EPOCH);
            if !spec.validate_status(&new, &old).is_empty() {
                continue;
            }
            taken += 1;
            let mut later = new.clone();
            spec.prepare_update(&mut later, &new);
            let faults = spec.validate_update(&later, &new);
            if !faults.is_empty() {
                refused.push(format!("{} {status}: {faults:?}", spec.kind));
            }
        }
    }
    assert!(taken > 0);
    assert_eq!(refused, [""; 0]);
}

#[test]
fn defaults_and_the_canonical_form_are_stable() {
    for spec in catalogue().all() {
        let object = created(&spec, &sample(&spec));
        let mut again = object.clone();
        spec.default(&mut again);
        assert_eq!(again, object, "{}: defaults twice", spec.kind);
        let (conformed, warnings) =
            spec.conform(object.clone(), FieldValidation::Strict).expect("canonical");
        assert_eq!(conformed, object, "{}", spec.kind);
        assert_eq!(warnings, Vec::<String>::new());
    }
}

#[test]
fn unknown_and_duplicate_fields_are_refused() {
    for spec in catalogue().all() {
        let mut object = sample(&spec);
        tree::set(&mut object, "metadata.nonsense", 1);
        let text = object.to_string();
        let status = spec.decode(text.as_bytes(), FieldValidation::Strict).expect_err(&spec.kind);
        let (kind, version) = (&spec.kind, &spec.version);
        assert_eq!(
            status.message,
            format!(
                "{kind} in version {version:?} cannot be handled as a {kind}: strict decoding error: unknown field \"metadata.nonsense\""
            )
        );
        let (kept, warnings) =
            spec.decode(text.as_bytes(), FieldValidation::Warn).expect("a warning");
        assert!(kept["metadata"].get("nonsense").is_none());
        assert_eq!(warnings, ["unknown field \"metadata.nonsense\""]);
        let twice = text.replacen("\"nonsense\":1", "\"uid\":\"a\",\"uid\":\"b\"", 1);
        let status = spec.decode(twice.as_bytes(), FieldValidation::Strict).expect_err(&spec.kind);
        assert!(status.message.ends_with("duplicate field \"metadata.uid\""), "{status}");
    }
}

#[test]
fn wrong_types_and_names_are_refused() {
    for spec in catalogue().all() {
        let status = spec
            .decode(br#"{"metadata":{"labels":{"a":1}}}"#, FieldValidation::Ignore)
            .expect_err("a number is no label");
        assert!(
            status.message.ends_with("json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type map[string]string")
                || status.message.ends_with("json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string"),
            "{status}"
        );
        for bytes in [&b"[]"[..], b"1", b"{", b"", b"null1", b"{}{}"] {
            assert!(spec.decode(bytes, FieldValidation::Ignore).is_err(), "{bytes:?}");
        }
        let mut object = sample(&spec);
        tree::set(&mut object, "metadata.name", "..");
        let refused = spec.validate_create(&created(&spec, &object));
        let any_name = spec.kind == "Event";
        assert_eq!(refused.is_empty(), any_name, "{}", spec.kind);
    }
}

#[test]
fn columns_make_cells() {
    let now = jiff::Timestamp::UNIX_EPOCH;
    for spec in catalogue().all().into_iter().filter(|spec| spec.stored) {
        let object = created(&spec, &sample(&spec));
        let columns = spec.table_columns();
        let cells = spec.cells(&object, now);
        assert_eq!(cells.len(), columns.len());
        for (column, cell) in columns.iter().zip(&cells) {
            let fits = match &*column.kind {
                "string" => cell.is_string() || cell.is_number() || cell.is_boolean(),
                "boolean" => cell.is_boolean(),
                "integer" => cell.is_i64(),
                "date" => cell.is_string() || cell.is_null(),
                other => panic!("{other}"),
            };
            assert!(fits, "{} {}: {cell}", spec.kind, column.name);
        }
        assert_eq!(spec.cells(&json!({}), now).len(), columns.len(), "nothing to read");
    }
}

#[test]
fn status_is_written_apart() {
    for spec in catalogue().all().into_iter().filter(|spec| spec.has_status()) {
        let old = created(&spec, &sample(&spec));
        let mut new = old.clone();
        tree::set(&mut new, "status", json!({ "phase": "Nonsense" }));
        spec.prepare_update(&mut new, &old);
        assert_eq!(new["status"], old["status"], "{}", spec.kind);
        tree::set(&mut new, "spec", json!({}));
        tree::set(&mut new, "metadata.generation", 9);
        spec.prepare_status(&mut new, &old);
        assert_eq!(new["spec"], old["spec"], "{}", spec.kind);
        assert_eq!(new["metadata"], old["metadata"], "{}", spec.kind);
    }
}

#[test]
fn names_and_subresources_are_whole() {
    let catalogue = catalogue();
    for spec in catalogue.all() {
        let found = catalogue.find(&spec.group, &spec.version, &spec.plural).expect("by path");
        assert_eq!(found.kind, spec.kind);
        let found = catalogue.by_kind(&spec.group, &spec.version, &spec.kind).expect("by kind");
        assert_eq!(found.plural, spec.plural);
        assert_eq!(spec.stored, spec.allows("get"), "{}", spec.kind);
        for field in &spec.selectable {
            field.read(&json!({}));
        }
        for sub in &spec.subresources {
            let stream = matches!(sub.role, Role::Connect { .. });
            assert_eq!(stream, sub.shape.is_none(), "{}/{}", spec.plural, sub.name);
        }
    }
    assert!(catalogue.find("", "v1", "nonsense").is_none());
    assert!(catalogue.by_kind("zzz", "v1", "Pod").is_none());
}

#[test]
fn the_catalogue_is_what_a_stock_server_serves() {
    let ours: Vec<String> = catalogue().all().iter().map(|spec| served_lines(spec)).collect();
    let text = include_str!("served.txt");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let mut theirs: Vec<String> = Vec::new();
    for line in lines {
        match theirs.last_mut().filter(|_| line.starts_with(' ')) {
            Some(resource) => *resource += &format!("\n{line}"),
            None => theirs.push(line.to_owned()),
        }
    }
    let missing: Vec<_> = theirs.iter().filter(|line| !ours.contains(line)).collect();
    let unknown: Vec<_> = ours.iter().filter(|line| !theirs.contains(line)).collect();
    assert_eq!((missing, unknown), Default::default(), "missing, unknown");
    let moved = ours.iter().zip(&theirs).find(|(ours, theirs)| ours != theirs);
    assert_eq!(moved, None, "the order of discovery: ours, theirs");
}

/// A resource as `served.txt` has it.
fn served_lines(spec: &ResourceSpec) -> String {
    let join = |list: &[Cow<'static, str>]| list.join(",");
    let fields: Vec<Cow<'static, str>> =
        spec.selectable.iter().map(|field| field.name.clone()).collect();
    let scope = if spec.namespaced { "namespaced" } else { "cluster" };
    let mut text = format!(
        "{} {} {} {} {scope} {}",
        spec.api_version(),
        spec.plural,
        spec.singular,
        spec.kind,
        join(&spec.verbs)
    );
    for (name, list) in
        [("short", &spec.short_names), ("categories", &spec.categories), ("fields", &fields)]
    {
        if !list.is_empty() {
            text += &format!(" {name}={}", join(list));
        }
    }
    for sub in &spec.subresources {
        text += &format!("\n {} {} {}", sub.name, sub.kind.kind, join(&sub.verbs));
    }
    text
}

#[test]
fn the_table_is_what_the_facts_say() {
    let Ok(bytes) = std::fs::read("../../../shared/kubernetes-api/resources.json") else {
        println!("skipped: no ../shared/kubernetes-api beside the checkout");
        return;
    };
    let facts: Value = serde_json::from_slice(&bytes).expect("JSON");
    let served = include_str!("served.txt");
    let resources = facts["resources"].as_array().expect("a list");
    // Elsewhere metrics-server serves them.
    let is_served =
        |fact: &&Value| fact["served"] == "default" || fact["group"] == "metrics.k8s.io";
    let by_default: Vec<&Value> = resources.iter().filter(is_served).collect();
    let lines = served.lines().filter(|line| !line.starts_with(['#', ' ']));
    assert_eq!(lines.count(), by_default.len());
    for fact in by_default {
        let text = |field: &str| fact[field].as_str().unwrap_or_default();
        let api_version = match text("group") {
            "" => text("version").to_owned(),
            group => format!("{group}/{}", text("version")),
        };
        let start = [&api_version, text("plural"), text("singular"), text("kind")].join(" ") + " ";
        let line = served.lines().find(|line| line.starts_with(&start)).expect(&start);
        for field in ["verbs", "short", "categories", "fieldSelectors"] {
            let words = fact[field].as_array().into_iter().flatten();
            let words: Vec<&str> = words.filter_map(Value::as_str).collect();
            assert!(line.contains(&words.join(",")), "{start}{field}");
        }
    }
}

/// Upstream's own samples of every field: nothing is unknown, nothing changes.
#[test]
fn samples_keep_every_field() {
    use std::io::Read;
    let Ok(file) = std::fs::File::open("../../../shared/kubernetes-api/roundtrip.tar.zst") else {
        println!("skipped: no ../shared/kubernetes-api beside the checkout");
        return;
    };
    let stream = ruzstd::decoding::StreamingDecoder::new(file).expect("zstd");
    let mut tried = 0;
    for entry in tar::Archive::new(stream).entries().expect("tar") {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").to_string_lossy().into_owned();
        if !path.ends_with(".json") {
            continue;
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("bytes");
        let sample: Value = serde_json::from_slice(&bytes).expect("JSON");
        let Some(api_version) = sample["apiVersion"].as_str() else { continue };
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let kind = sample["kind"].as_str().expect("text");
        let Some(spec) = catalogue().by_kind(group, version, kind) else { continue };
        let (decoded, warnings) = spec.decode(&bytes, FieldValidation::Strict).expect(&path);
        assert_eq!(warnings, Vec::<String>::new(), "{path}");
        let mut differences = Vec::new();
        compare(&sample, &decoded, "", &mut differences);
        assert_eq!(differences, Vec::<String>::new(), "{path}");
        tried += 1;
    }
    assert!(tried >= 20, "only {tried} kinds were found");
}

fn compare(sample: &Value, decoded: &Value, path: &str, out: &mut Vec<String>) {
    match (sample, decoded) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                let (a, b) = (&sample[key], &decoded[key]);
                compare(a, b, &format!("{path}.{key}"), out);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                compare(a, b, &format!("{path}[{index}]"), out);
            }
        }
        (a, b) if a == b => {}
        (a, b) => out.push(format!("{path}: {a} became {b}")),
    }
}

#[test]
fn open_api_documents_refer_to_what_they_have() {
    use api_schema::openapi;
    fn references(value: &Value, out: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                out.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
                map.values().for_each(|value| references(value, out));
            }
            Value::Array(list) => list.iter().for_each(|value| references(value, out)),
            _ => {}
        }
    }
    let rows = catalogue().all();
    let descriptions = crate::descriptions();
    let mut documents =
        vec![("v2".to_owned(), openapi::v2(&rows, "v1.37.0", &descriptions), "/definitions/")];
    for root in openapi::v3_roots(&rows) {
        let document = openapi::v3(&rows, &root, "v1.37.0", &descriptions).expect("served");
        documents.push((root.path(), document, "/components/schemas/"));
    }
    for (path, document, prefix) in documents {
        let mut all = Vec::new();
        references(&document, &mut all);
        let of_objects = path.starts_with("api") && path.ends_with(char::is_numeric);
        assert!(all.len() > 10 || !of_objects, "{path}");
        for reference in all {
            let name = reference.strip_prefix('#').and_then(|rest| rest.strip_prefix(prefix));
            let pointer = format!("{prefix}{}", name.expect("a schema of this document"));
            assert!(document.pointer(&pointer).is_some(), "{path}: {reference}");
        }
    }
    // Clients are made from these, one function each.
    let v2 = openapi::v2(&rows, "v1.37.0", &descriptions);
    let paths = v2["paths"].as_object().expect("a map");
    let operations = paths.values().flat_map(|path| path.as_object().expect("a map").values());
    let ids: Vec<&str> =
        operations.filter_map(|operation| operation["operationId"].as_str()).collect();
    let unique: std::collections::BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(ids.len(), unique.len(), "two operations have one name");
    for id in [
        "readCoreV1NamespacedPod",
        "replaceCoreV1NamespacedPodStatus",
        "deleteCoreV1CollectionNamespacedPod",
        "listCoreV1NamespacedPod",
        "listCoreV1PodForAllNamespaces",
        "connectCoreV1GetNamespacedPodExec",
        "connectCoreV1PostNamespacedPodExec",
        "createCoreV1NamespacedPodBinding",
        "patchAppsV1NamespacedDeploymentScale",
        "listRbacAuthorizationV1ClusterRole",
        "readFlowcontrolApiserverV1FlowSchema",
    ] {
        assert!(unique.contains(id), "{id}");
    }
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    assert_eq!(v2["paths"][roles]["get"]["tags"][0], "rbacAuthorization_v1");
    // What kubectl looks for before it leaves validation to the server.
    let core = openapi::Root::Resources(String::new(), "v1".into());
    let core = openapi::v3(&rows, &core, "v1.37.0", &descriptions).expect("served");
    let patch = &core["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"];
    assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Pod");
    let names = patch["parameters"].as_array().expect("a list");
    assert!(names.iter().any(|parameter| parameter["name"] == "fieldValidation"));
    // And for making a strategic merge patch itself.
    let spec = &core["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"];
    assert_eq!(spec["containers"]["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(spec["volumes"]["x-kubernetes-patch-strategy"], "merge,retainKeys");
}

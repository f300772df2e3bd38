//! Names, versions, subresources, columns, and what may not change.

use std::collections::HashSet;

use api_object::name;
use api_schema::{Faults, Path, ResourceSpec, tree};
use serde_json::Value;

use super::{conversion, each_version, invalid_name, is_true, schema, storage_version};

const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: [&str; 8] =
    ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
const DEPRECATION_CHARS_MAX: usize = 256;
const SELECTABLE_MAX: usize = 8;
const APPROVED: &str = "api-approved.kubernetes.io";

/// Faults of a definition. Expressions of schemas that `old` has as well may be
/// as costly as they were.
pub(super) fn definition(definition: &Value, old: Option<&Value>, faults: &mut Faults) {
    let group = tree::text(definition, "spec.group");
    let wanted = format!("{}.{group}", tree::text(definition, "spec.names.plural"));
    let given = tree::text(definition, "metadata.name");
    if given != wanted {
        let path = Path::new("metadata.name");
        faults.invalid(&path, given, r#"must be spec.names.plural+"."+spec.group"#);
    }
    let path = Path::new("spec.group");
    match group {
        "" => faults.required(&path, ""),
        group if !name::dns1123_subdomain(group).is_empty() => {
            invalid_name(&path, group, &name::dns1123_subdomain(group), faults);
        }
        group if !group.contains('.') => {
            faults.invalid(&path, group, "should be a domain with at least one dot");
        }
        _ => {}
    }
    let path = Path::new("spec.scope");
    match tree::text(definition, "spec.scope") {
        "" => faults.required(&path, ""),
        "Cluster" | "Namespaced" => {}
        other => faults.unsupported(&path, other, ["Cluster", "Namespaced"]),
    }
    if tree::flag(definition, "spec.preserveUnknownFields") {
        faults.invalid(
            &Path::new("spec.preserveUnknownFields"),
            true,
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
        );
    }
    versions(definition, old, faults);
    names(definition, faults);
    conversion::validate(tree::get(definition, "spec.conversion"), faults);
    stored_versions(definition, faults);
    approval(definition, faults);
}

pub(super) fn update(_: &ResourceSpec, new: &Value, old: &Value, faults: &mut Faults) {
    definition(new, Some(old), faults);
    let mut fixed = vec!["spec.group", "spec.names.plural"];
    if is_true(old, "Established") {
        fixed.extend(["spec.scope", "spec.names.kind"]);
    }
    for path in fixed {
        let (new, old) = (tree::get(new, path), tree::get(old, path));
        if new != old {
            faults.invalid(&Path::new(path), new.clone(), "field is immutable");
        }
    }
}

fn versions(definition: &Value, old: Option<&Value>, faults: &mut Faults) {
    let all = tree::list(definition, "spec.versions");
    let path = Path::new("spec.versions");
    let mut names = HashSet::new();
    let alike = |field: &str| all.windows(2).all(|two| two[0].get(field) == two[1].get(field));
    let alike = Alike {
        schema: alike("schema"),
        subresources: alike("subresources"),
        columns: alike("additionalPrinterColumns"),
        selectable: alike("selectableFields"),
    };
    let mut first = true;
    each_version(definition, |version, path| {
        let name = tree::text(version, "name");
        invalid_name(&path.child("name"), name, &name::dns1035_label(name), faults);
        names.insert(name.to_owned());
        let old = old.map(|old| tree::list(old, "spec.versions")).unwrap_or_default();
        let old = old.iter().find(|old| tree::text(old, "name") == name);
        one_version(version, old, path, &alike, std::mem::take(&mut first), faults);
    });
    if names.len() < all.len() {
        faults.invalid(&path, all.to_vec(), "must contain unique version names");
    }
    if all.iter().filter(|version| tree::flag(version, "storage")).count() != 1 {
        let detail = "must have exactly one version marked as storage version";
        faults.invalid(&path, all.to_vec(), detail);
    }
}

/// What is the same in every version. Upstream looks at it once, under the name
/// that it has where it stands beside the versions.
struct Alike {
    schema: bool,
    subresources: bool,
    columns: bool,
    selectable: bool,
}

fn one_version(
    version: &Value,
    old: Option<&Value>,
    path: &Path<'_>,
    alike: &Alike,
    first: bool,
    faults: &mut Faults,
) {
    deprecation(version, path, faults);
    let top = Path::new("spec");
    let (schema_path, top_schema) = (path.child("schema"), top.child("validation"));
    let schema = tree::get(version, "schema.openAPIV3Schema");
    match schema {
        Value::Null => {
            faults.required(&schema_path.child("openAPIV3Schema"), "schemas are required");
        }
        _ if alike.schema && !first => {}
        schema => {
            let old = old.map(|old| tree::get(old, "schema.openAPIV3Schema"));
            let path = if alike.schema { &top_schema } else { &schema_path };
            schema::validate(schema, old, &path.child("openAPIV3Schema"), faults);
        }
    }
    let place = |alike: bool| (if alike { &top } else { path }, first || !alike);
    if let (path, true) = place(alike.subresources) {
        subresources(tree::get(version, "subresources"), &path.child("subresources"), faults);
    }
    if let (path, true) = place(alike.columns) {
        let columns = path.child("additionalPrinterColumns");
        for (index, column) in tree::list(version, "additionalPrinterColumns").iter().enumerate() {
            validate_column(column, &columns.index(index), faults);
        }
    }
    if let (path, true) = place(alike.selectable) {
        selectable_fields(version, schema, path, faults);
    }
}

fn selectable_fields(version: &Value, schema: &Value, path: &Path<'_>, faults: &mut Faults) {
    let selectable = path.child("selectableFields");
    let fields = tree::list(version, "selectableFields");
    if fields.len() > SELECTABLE_MAX {
        faults.too_many(&selectable, fields.len(), SELECTABLE_MAX);
    }
    let mut seen = HashSet::new();
    for (index, field) in fields.iter().enumerate() {
        let path = selectable.index(index);
        let path = path.child("jsonPath");
        let text = tree::text(field, "jsonPath");
        if text.is_empty() {
            faults.required(&path, "");
        } else if !seen.insert(text) {
            faults.duplicate(&path, text);
        } else {
            selectable_field(text, schema, &path, faults);
        }
    }
}

/// A simple path to a scalar that is no metadata.
fn selectable_field(text: &str, schema: &Value, path: &Path<'_>, faults: &mut Faults) {
    let Some(names) = text.strip_prefix('.').filter(|rest| !rest.contains(['[', '*'])) else {
        return faults.invalid(
            path,
            text,
            "is an invalid path: must be a simple json path starting with .",
        );
    };
    if names == "metadata" || names.starts_with("metadata.") {
        return faults.invalid(path, text, "must not point to fields in metadata");
    }
    let field = names.split('.').try_fold(schema, |at, name| at.get("properties")?.get(name));
    match field {
        None => faults.invalid(path, text, "is an invalid path: does not refer to a valid field"),
        Some(field) if !matches!(tree::text(field, "type"), "string" | "boolean" | "integer") => {
            faults.invalid(
                path,
                text,
                "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.",
            );
        }
        Some(_) => {}
    }
}

fn deprecation(version: &Value, path: &Path<'_>, faults: &mut Faults) {
    let Some(warning) = version.get("deprecationWarning").and_then(Value::as_str) else { return };
    let path = path.child("deprecationWarning");
    if !tree::flag(version, "deprecated") {
        faults.invalid(&path, warning, "can only be set for deprecated versions");
    }
    if warning.is_empty() {
        faults.invalid(&path, warning, "must not be empty");
    }
    if warning.chars().count() > DEPRECATION_CHARS_MAX {
        let detail = format!("must be <= {DEPRECATION_CHARS_MAX} characters long");
        faults.invalid(&path, warning, detail);
    }
    if let Some((at, _)) = warning.char_indices().find(|(_, c)| c.is_control()) {
        let detail = format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {at}"
        );
        faults.invalid(&path, warning, detail);
    }
}

fn subresources(subresources: &Value, path: &Path<'_>, faults: &mut Faults) {
    let scale = tree::get(subresources, "scale");
    if scale.is_null() {
        return;
    }
    let path = path.child("scale");
    for (field, below, detail) in [
        ("specReplicasPath", &[".spec."][..], "should be a json path under .spec"),
        ("statusReplicasPath", &[".status."], "should be a json path under .status"),
        (
            "labelSelectorPath",
            &[".spec.", ".status."],
            "should be a json path under either .spec or .status",
        ),
    ] {
        let text = tree::text(scale, field);
        let path = path.child(field);
        if text.is_empty() {
            if field != "labelSelectorPath" {
                faults.required(&path, "");
            }
        } else if !text.starts_with('.') {
            faults.invalid(&path, text, "must be a simple json path starting with .");
        } else if !below.iter().any(|prefix| text.starts_with(prefix)) {
            faults.invalid(&path, text, detail);
        }
    }
}

fn validate_column(column: &Value, path: &Path<'_>, faults: &mut Faults) {
    if tree::text(column, "name").is_empty() {
        faults.required(&path.child("name"), "");
    }
    let one_of = |words: &[&str]| format!("must be one of {}", words.join(","));
    match tree::text(column, "type") {
        "" => faults.required(&path.child("type"), &one_of(&COLUMN_TYPES)),
        kind if !COLUMN_TYPES.contains(&kind) => {
            faults.invalid(&path.child("type"), kind, one_of(&COLUMN_TYPES));
        }
        _ => {}
    }
    let format = tree::text(column, "format");
    if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
        faults.invalid(&path.child("format"), format, one_of(&COLUMN_FORMATS));
    }
    // Whether the rest of it can be read is seen where it is printed.
    let json_path = path.child("JSONPath");
    match tree::text(column, "jsonPath") {
        "" => faults.required(&json_path, ""),
        text if !text.starts_with('.') => {
            faults.invalid(&json_path, text, "must be a simple json path starting with .");
        }
        _ => {}
    }
}

fn names(definition: &Value, faults: &mut Faults) {
    let names = tree::get(definition, "spec.names");
    let path = Path::new("spec.names");
    for field in ["plural", "singular", "kind", "listKind"] {
        let name = tree::text(names, field);
        let path = path.child(field);
        if name.is_empty() {
            faults.required(&path, "");
            continue;
        }
        let mixed = field == "kind" || field == "listKind";
        let wrong = match mixed {
            true => name::dns1035_label(&name.to_lowercase()),
            false => name::dns1035_label(name),
        };
        if mixed && !wrong.is_empty() {
            let wrong = wrong.join(",");
            let detail = format!("may have mixed case, but should otherwise match: {wrong}");
            faults.invalid(&path, name, detail);
        } else {
            invalid_name(&path, name, &wrong, faults);
        }
    }
    for field in ["shortNames", "categories"] {
        let path = path.child(field);
        for (index, name) in tree::list(names, field).iter().enumerate() {
            let name = name.as_str().unwrap_or_default();
            invalid_name(&path.index(index), name, &name::dns1035_label(name), faults);
        }
    }
    let (kind, list_kind) = (tree::text(names, "kind"), tree::text(names, "listKind"));
    if !kind.is_empty() && kind == list_kind {
        faults.invalid(&path.child("listKind"), list_kind, "kind and listKind may not be the same");
    }
}

/// What was stored in a version must stay readable.
pub(super) fn stored_versions(definition: &Value, faults: &mut Faults) {
    let path = Path::new("status.storedVersions");
    let stored = tree::list(definition, "status.storedVersions");
    if stored.is_empty() {
        return faults.invalid(&path, Vec::<Value>::new(), "must have at least one stored version");
    }
    let versions = tree::list(definition, "spec.versions");
    for (index, version) in stored.iter().enumerate() {
        let version = version.as_str().unwrap_or_default();
        if !versions.iter().any(|known| tree::text(known, "name") == version) {
            let detail = format!(
                "missing from spec.versions; {version} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {version} and removes {version} from status.storedVersions"
            );
            faults.invalid(&path.index(index), version, detail);
        }
    }
    let storage = storage_version(definition);
    if !storage.is_empty() && !stored.iter().any(|version| version == storage) {
        let detail = format!("must have the storage version {storage}");
        faults.invalid(&path, stored.to_vec(), detail);
    }
}

/// Groups of Kubernetes itself are given out by its community.
fn approval(definition: &Value, faults: &mut Faults) {
    let group = tree::text(definition, "spec.group");
    if !is_protected(group) {
        return;
    }
    let annotations = tree::get(definition, "metadata.annotations");
    let path = Path::new("metadata.annotations");
    let path = path.key(APPROVED);
    match annotations.get(APPROVED).and_then(Value::as_str).unwrap_or_default() {
        "" => faults.required(
            &path,
            "protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111",
        ),
        text if text.starts_with("unapproved") || is_url(text) => {}
        text => faults.invalid(
            &path,
            text,
            "protected groups must have approval annotation \"api-approved.kubernetes.io\" with either a URL or a reason starting with \"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111",
        ),
    }
}

fn is_url(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty())
}

/// Whether a group belongs to Kubernetes' own domains.
pub fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|domain| group == *domain || group.ends_with(&format!(".{domain}")))
}

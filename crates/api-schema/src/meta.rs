//! Validation of `metadata`, the same for every kind.

use api_object::name;
use serde_json::Value;

use crate::{Faults, Path, ResourceSpec, tree};

/// Upstream's limit for all annotations of an object together.
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

const METADATA: Path<'static> = Path::new("metadata");

/// Faults of the metadata of an object.
pub(crate) fn validate(spec: &ResourceSpec, object: &Value, faults: &mut Faults) {
    let generate_name = tree::text(object, "metadata.generateName");
    let given = tree::text(object, "metadata.name");
    if !generate_name.is_empty() {
        // A prefix may end in a dash, since a suffix follows.
        let masked = match generate_name.strip_suffix('-') {
            Some(stem) if !stem.is_empty() => format!("{stem}a"),
            _ => generate_name.to_owned(),
        };
        let path = METADATA.child("generateName");
        faults.invalid_all(&path, generate_name, (spec.hooks.name)(&masked));
    }
    if given.is_empty() {
        // What is answered and forgotten needs no name.
        if generate_name.is_empty() && spec.stored {
            faults.required(&METADATA.child("name"), "name or generateName is required");
        }
    } else {
        faults.invalid_all(&METADATA.child("name"), given, (spec.hooks.name)(given));
    }
    let namespace = tree::text(object, "metadata.namespace");
    let path = METADATA.child("namespace");
    match (spec.namespaced, namespace) {
        (true, "") if spec.stored => faults.required(&path, ""),
        (true, "") => {}
        (true, namespace) => {
            faults.invalid_all(&path, namespace, name::dns1123_label(namespace));
        }
        (false, "") => {}
        (false, _) => faults.forbidden(&path, "not allowed on this type"),
    }
    common(object, has_known_finalizers(spec), faults);
}

/// Faults of a change of metadata.
pub(crate) fn validate_update(spec: &ResourceSpec, new: &Value, old: &Value, faults: &mut Faults) {
    common(new, has_known_finalizers(spec), faults);
    for field in ["name", "namespace", "uid", "creationTimestamp"] {
        let path = format!("metadata.{field}");
        let (new, old) = (tree::get(new, &path), tree::get(old, &path));
        if new != old {
            faults.invalid(&METADATA.child(field), new.clone(), "field is immutable");
        }
    }
    if !tree::get(old, "metadata.deletionTimestamp").is_null() {
        let before = tree::list(old, "metadata.finalizers");
        let added: Vec<&str> = tree::list(new, "metadata.finalizers")
            .iter()
            .filter(|finalizer| !before.contains(finalizer))
            .filter_map(Value::as_str)
            .collect();
        if !added.is_empty() {
            faults.forbidden(
                &METADATA.child("finalizers"),
                &format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                    added.iter().map(|f| format!("{f:?}")).collect::<Vec<_>>().join(", ")
                ),
            );
        }
    }
}

/// Faults of the metadata of an object inside of another: there, nobody needs
/// its own name.
pub(crate) fn validate_embedded(object: &Value, path: &Path<'_>, faults: &mut Faults) {
    let mut found = Faults::default();
    common(object, false, &mut found);
    faults.append_below(path, found);
}

/// Groups whose kinds upstream serves from libraries of their own, which take any
/// qualified name for a finalizer, with a path or not.
const ANY_FINALIZER: [&str; 3] =
    ["admissionregistration.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io"];

/// Finalizers without a path that Kubernetes gives a meaning.
const KNOWN_FINALIZERS: [&str; 3] = ["orphan", "foregroundDeletion", "kubernetes"];

/// Whether finalizers without a path have to be known ones. Custom kinds are
/// warned of others, see [`finalizer_warnings`].
fn has_known_finalizers(spec: &ResourceSpec) -> bool {
    spec.custom.is_none() && !ANY_FINALIZER.contains(&&*spec.group)
}

/// Warnings about finalizers that a custom object gains.
pub(crate) fn finalizer_warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let list = |object| tree::list(object, "metadata.finalizers");
    let before = old.map(list).unwrap_or_default();
    let mut gained: Vec<&str> = list(new)
        .iter()
        .filter(|finalizer| !before.contains(finalizer))
        .filter_map(Value::as_str)
        .filter(|text| !text.contains('/') && !KNOWN_FINALIZERS[..2].contains(text))
        .collect();
    gained.sort_unstable();
    gained.dedup();
    gained
        .into_iter()
        .map(|text| {
            format!(
                "metadata.finalizers: {text:?}: prefer a domain-qualified finalizer name including a path (/) to avoid accidental conflicts with other finalizer writers"
            )
        })
        .collect()
}

fn common(object: &Value, known_finalizers: bool, faults: &mut Faults) {
    labels(&METADATA.child("labels"), tree::get(object, "metadata.labels"), faults);
    let path = METADATA.child("annotations");
    annotations(&path, tree::get(object, "metadata.annotations"), faults);
    owners(object, faults);
    let path = METADATA.child("finalizers");
    for (index, finalizer) in tree::list(object, "metadata.finalizers").iter().enumerate() {
        let text = finalizer.as_str().unwrap_or_default();
        let path = path.index(index);
        let unqualified = !text.contains('/');
        let wrong = name::qualified_name(text);
        if known_finalizers && wrong.is_empty() && unqualified && !KNOWN_FINALIZERS.contains(&text)
        {
            faults.invalid(
                &path,
                text,
                "name is neither a standard finalizer name nor is it fully qualified",
            );
        }
        faults.invalid_all(&path, text, wrong);
    }
}

/// Faults of a map of labels: metadata, pod templates, `matchLabels`.
pub fn labels(path: &Path<'_>, labels: &Value, faults: &mut Faults) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        faults.invalid_all(path, key, name::qualified_name(key));
        let value = value.as_str().unwrap_or_default();
        faults.invalid_all(path, value, name::label_value(value));
    }
}

/// Faults of a map of annotations, `metadata.annotations` or one like it.
pub fn annotations(path: &Path<'_>, annotations: &Value, faults: &mut Faults) {
    let mut bytes = 0;
    for (key, value) in annotations.as_object().into_iter().flatten() {
        faults.invalid_all(path, key, name::qualified_name(&key.to_lowercase()));
        bytes += key.len() + value.as_str().unwrap_or_default().len();
    }
    if bytes > ANNOTATIONS_BYTES_MAX {
        faults.too_long(path, ANNOTATIONS_BYTES_MAX);
    }
}

fn owners(object: &Value, faults: &mut Faults) {
    let path = METADATA.child("ownerReferences");
    let mut controller: Option<&str> = None;
    for (index, owner) in tree::list(object, "metadata.ownerReferences").iter().enumerate() {
        let path = path.index(index);
        for (field, detail) in [
            ("apiVersion", "version must not be empty"),
            ("kind", "must not be empty"),
            ("name", "must not be empty"),
            ("uid", "must not be empty"),
        ] {
            if tree::text(owner, field).is_empty() {
                faults.invalid(&path.child(field), "", detail);
            }
        }
        if tree::flag(owner, "controller") {
            let name = tree::text(owner, "name");
            if let Some(first) = controller.replace(name) {
                faults.invalid(
                    &METADATA.child("ownerReferences"),
                    tree::get(object, "metadata.ownerReferences").clone(),
                    format!("Only one reference can have Controller set to true. Found \"true\" in references for {first} and {name}"),
                );
            }
        }
    }
}

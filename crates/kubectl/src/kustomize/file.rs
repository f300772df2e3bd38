//! `kustomization.yaml`, and the files beside it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{
    document,
    failure::{Failure, Outcome, failed},
    manifest::os_error,
};

/// What the file may be called.
const NAMES: &[&str] = &["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// Fields that are followed.
const KNOWN: &[&str] = &[
    "apiVersion",
    "kind",
    "metadata",
    "resources",
    "bases",
    "components",
    "namespace",
    "namePrefix",
    "nameSuffix",
    "labels",
    "commonLabels",
    "commonAnnotations",
    "images",
    "replicas",
    "configMapGenerator",
    "secretGenerator",
    "generatorOptions",
    "patches",
    "patchesStrategicMerge",
    "patchesJson6902",
];

/// Fields that there are and that are not followed.
const REFUSED: &[&str] = &[
    "buildMetadata",
    "configurations",
    "crds",
    "generators",
    "helmCharts",
    "helmChartInflationGenerator",
    "helmGlobals",
    "imageTags",
    "inventory",
    "openapi",
    "replacements",
    "sortOptions",
    "transformers",
    "validators",
    "vars",
];

/// Fields of before, and what stands for them now.
const DEPRECATED: &[(&str, &str)] = &[
    ("bases", "resources"),
    ("commonLabels", "labels"),
    ("patchesStrategicMerge", "patches"),
    ("patchesJson6902", "patches"),
];

/// What a folder asks for.
///
/// # Errors
/// Where there is no such file, or it asks for what is not known here.
pub(super) fn read(folder: &Path) -> Outcome<Value> {
    let shown = folder.display();
    let found: Vec<PathBuf> =
        NAMES.iter().map(|name| folder.join(name)).filter(|path| path.is_file()).collect();
    let path = match found.as_slice() {
        [one] => one,
        [] => {
            return failed(format!(
                "unable to find one of 'kustomization.yaml', 'kustomization.yml' or 'Kustomization' in directory '{shown}'"
            ));
        }
        _ => return failed(format!("Found multiple kustomization files under: {shown}")),
    };
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::Message(os_error("open", &name, &error)))?;
    let read = document::read(&text)
        .map_err(|why| Failure::Message(format!("invalid Kustomization: {name}: {why}")))?;
    if read.is_null() {
        return failed("kustomization.yaml is empty");
    }
    let kind = read["kind"].as_str().unwrap_or("Kustomization");
    if !matches!(kind, "Kustomization" | "Component") {
        return failed(format!(
            "Failed to read kustomization file under {shown}:\nkind should be Kustomization or Component"
        ));
    }
    let fields = read.as_object().ok_or_else(|| {
        Failure::Message(format!("invalid Kustomization: {name} holds no mapping"))
    })?;
    for (field, value) in fields {
        if REFUSED.contains(&field.as_str()) && !value.is_null() {
            return failed(format!(
                "{field} in {name} is not known to this kubectl: build the folder with kustomize and pipe it to `-f -`"
            ));
        }
        if !KNOWN.contains(&field.as_str()) && !REFUSED.contains(&field.as_str()) {
            return failed(format!("invalid Kustomization: json: unknown field {field:?}"));
        }
    }
    check(&read)?;
    for (field, now) in DEPRECATED.iter().filter(|(field, _)| fields.contains_key(*field)) {
        eprintln!(
            "# Warning: '{field}' is deprecated. Please use '{now}' instead. Run 'kustomize edit fix' to update your Kustomization automatically."
        );
    }
    Ok(read)
}

/// Whether values are of the kinds that they have to be.
fn check(read: &Value) -> Outcome {
    let wrong = |field: &str, what: &str| {
        failed(format!("invalid Kustomization: {field} has to be {what}"))
    };
    for field in ["namespace", "namePrefix", "nameSuffix"] {
        if !read[field].is_null() && !read[field].is_string() {
            return wrong(field, "a text");
        }
    }
    for field in ["commonLabels", "commonAnnotations"] {
        only_texts(&read[field], field)?;
    }
    let lists = ["resources", "bases", "components", "images", "replicas", "labels", "patches"];
    let more =
        ["configMapGenerator", "secretGenerator", "patchesStrategicMerge", "patchesJson6902"];
    for field in lists.iter().chain(&more) {
        if !read[*field].is_null() && !read[*field].is_array() {
            return wrong(field, "a list");
        }
    }
    for field in ["resources", "bases", "components"] {
        if items(&read[field]).any(|item| !item.is_string()) {
            return wrong(field, "a list of texts");
        }
    }
    only_texts(&read["generatorOptions"]["labels"], "generatorOptions.labels")?;
    only_texts(&read["generatorOptions"]["annotations"], "generatorOptions.annotations")
}

/// A mapping whose values are texts, or nothing.
pub(super) fn only_texts(map: &Value, field: &str) -> Outcome {
    let fits = match map {
        Value::Null => true,
        Value::Object(entries) => entries.values().all(Value::is_string),
        _ => false,
    };
    match fits {
        true => Ok(()),
        false => failed(format!("invalid Kustomization: values of {field} have to be texts")),
    }
}

/// Whether an entry has no other fields than these: what is not known is not passed over.
pub(super) fn only(entry: &Value, fields: &[&str], what: &str) -> Outcome {
    let unknown = |(field, _): &(&String, &Value)| !fields.contains(&field.as_str());
    match entry.as_object().into_iter().flatten().find(unknown) {
        None => Ok(()),
        Some((field, _)) => failed(format!("{field} of a {what} is not known to this kubectl")),
    }
}

pub(super) fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// The path of what a folder names: files have to be in it or below.
///
/// # Errors
/// Where there is nothing, or it is elsewhere.
pub(super) fn inside(folder: &Path, name: &str) -> Outcome<PathBuf> {
    let path = folder.join(name);
    let shown = path.display().to_string();
    let root = folder.canonicalize().map_err(|error| {
        Failure::Message(os_error("open", &folder.display().to_string(), &error))
    })?;
    let real = path.canonicalize().map_err(|error| {
        let why = os_error("lstat", &shown, &error);
        Failure::Message(format!("evalsymlink failure on '{shown}' : {why}"))
    })?;
    match real.starts_with(&root) || real.is_dir() {
        true => Ok(real),
        false => failed(format!(
            "security; file '{}' is not in or below '{}'",
            real.display(),
            root.display()
        )),
    }
}

/// What a file holds.
///
/// # Errors
/// Where it cannot be read.
pub(super) fn bytes(folder: &Path, name: &str, what: &str) -> Outcome<Vec<u8>> {
    let about =
        |why: String| Failure::Message(format!("loading KV pairs: {what}: [{name}]: {why}"));
    let path = inside(folder, name).map_err(|error| about(error.message()))?;
    std::fs::read(&path).map_err(|error| about(os_error("open", name, &error)))
}

/// The same of a text.
///
/// # Errors
/// Where it cannot be read.
pub(super) fn text(folder: &Path, name: &str) -> Outcome<String> {
    let path = inside(folder, name)?;
    std::fs::read_to_string(&path).map_err(|error| Failure::Message(os_error("open", name, &error)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_field_is_of_two_kinds() {
        for field in REFUSED {
            assert!(!KNOWN.contains(field), "{field}");
        }
        assert!(DEPRECATED.iter().all(|(field, now)| KNOWN.contains(field) && KNOWN.contains(now)));
    }

    #[test]
    fn values_of_another_kind_are_refused() {
        for read in [
            json!({"namePrefix": 5}),
            json!({"resources": "a"}),
            json!({"resources": [1]}),
            json!({"commonLabels": {"a": true}}),
        ] {
            assert!(check(&read).is_err(), "{read}");
        }
        assert!(check(&json!({"resources": ["a"], "commonLabels": {"a": "b"}})).is_ok());
        assert!(only(&json!({"name": "a", "x": 1}), &["name"], "replica").is_err());
    }
}

//! A folder's objects: those of the folders and files that it names, and what it does to them.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{
    file::{self, items, only},
    generate,
    patch::Patch,
    references,
    resource::Resource,
    transform,
};
use crate::{
    document,
    failure::{Failure, Outcome, failed},
    manifest,
};

/// Kinds that others need, in the order in which they are made.
const FIRST: &[&str] = &[
    "Namespace",
    "ResourceQuota",
    "StorageClass",
    "CustomResourceDefinition",
    "ServiceAccount",
    "PodSecurityPolicy",
    "Role",
    "ClusterRole",
    "RoleBinding",
    "ClusterRoleBinding",
    "ConfigMap",
    "Secret",
    "Endpoints",
    "Service",
    "LimitRange",
    "PriorityClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Deployment",
    "StatefulSet",
    "CronJob",
    "PodDisruptionBudget",
];
/// Kinds that would stop the others from being made.
const LAST: &[&str] = &["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"];

/// The objects that a folder makes, in order.
///
/// # Errors
/// Where a folder or file is not there, or asks for what is not known here.
pub(crate) fn build(folder: &Path) -> Outcome<Vec<Value>> {
    let shown = folder.display();
    let about = std::fs::metadata(folder).map_err(|error| {
        let whole = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        let why = manifest::os_error("lstat", &whole.display().to_string(), &error);
        Failure::Message(format!("must build at directory: not a valid directory: evalsymlink failure on '{shown}' : {why}"))
    })?;
    if !about.is_dir() {
        return failed(format!("must build at directory: '{shown}': file is not directory"));
    }
    let folder = folder.canonicalize().map_err(|error| {
        Failure::Message(manifest::os_error("open", &shown.to_string(), &error))
    })?;
    let mut resources = layer(&folder, Vec::new(), &mut Vec::new())?;
    for resource in resources.iter_mut().filter(|resource| resource.hashed) {
        generate::hash(resource)?;
    }
    references::fix(&mut resources)?;
    resources.sort_by_cached_key(place);
    Ok(resources.into_iter().map(|resource| resource.object).collect())
}

/// Where an object stands among the others.
fn place(resource: &Resource) -> (usize, [String; 3], String, String) {
    let kind = resource.kind();
    let first = FIRST.iter().position(|known| *known == kind);
    let last = LAST.iter().position(|known| *known == kind);
    let class = match (first, last) {
        (Some(at), _) => at,
        (None, Some(at)) => FIRST.len() + 1 + at,
        (None, None) => FIRST.len(),
    };
    let (group, version) = resource.group_version();
    // What is missing sorts last, as upstream's stand-ins do.
    let or =
        |text: &str, none: &str| if text.is_empty() { none.to_owned() } else { text.to_owned() };
    let kind = [or(group, "~G"), or(version, "~V"), kind.to_owned()];
    (class, kind, or(resource.namespace(), "~X"), resource.name().to_owned())
}

/// One folder, on top of `resources` where it is a component; `above` are the folders
/// that lead to it.
fn layer(
    folder: &Path,
    mut resources: Vec<Resource>,
    above: &mut Vec<PathBuf>,
) -> Outcome<Vec<Resource>> {
    if above.iter().any(|known| known == folder) {
        return failed(format!("cycle detected: '{}' leads to itself", folder.display()));
    }
    let read = file::read(folder)?;
    above.push(folder.to_owned());
    for name in items(&read["resources"]).chain(items(&read["bases"])).filter_map(Value::as_str) {
        let brought = accumulated(folder, name, above)?;
        add(&mut resources, brought, name, &folder.join(name))?;
    }
    for name in items(&read["components"]).filter_map(Value::as_str) {
        let path = local(folder, name)?;
        if file::read(&path)?["kind"] != "Component" {
            return failed(format!(
                "accumulating components: expected kind 'Component' for path '{name}'"
            ));
        }
        resources = layer(&path, resources, above)?;
    }
    above.pop();
    for (field, kind) in [("configMapGenerator", "ConfigMap"), ("secretGenerator", "Secret")] {
        for entry in items(&read[field]) {
            generate::run(kind, entry, &read["generatorOptions"], folder, &mut resources)?;
        }
    }
    transformed(folder, &read, &mut resources)?;
    Ok(resources)
}

/// Patches first, then names, labels and the rest, as upstream orders them.
fn transformed(folder: &Path, read: &Value, resources: &mut Vec<Resource>) -> Outcome {
    for patch in items(&read["patchesStrategicMerge"]).filter_map(Value::as_str) {
        // The text of a patch, or the name of its file.
        let text = if patch.contains('\n') { patch.to_owned() } else { file::text(folder, patch)? };
        Patch::read(&text, patch, &Value::Null)?.apply(resources)?;
    }
    for entry in items(&read["patches"]) {
        only(entry, &["patch", "path", "target", "options"], "patch")?;
        patch(folder, entry)?.apply(resources)?;
    }
    let text = |field: &str| read[field].as_str().unwrap_or_default();
    transform::namespace(resources, text("namespace"));
    transform::affixes(resources, text("namePrefix"), text("nameSuffix"));
    let pairs = |map: &Value| map.as_object().cloned().unwrap_or_default();
    for entry in items(&read["labels"]) {
        only(entry, &["pairs", "includeSelectors", "includeTemplates"], "label")?;
        file::only_texts(&entry["pairs"], "labels.pairs")?;
        let (selectors, templates) =
            (entry["includeSelectors"] == true, entry["includeTemplates"] == true);
        transform::labels(resources, &pairs(&entry["pairs"]), selectors, templates);
    }
    let common: Map<String, Value> = pairs(&read["commonLabels"]);
    if !common.is_empty() {
        transform::labels(resources, &common, true, true);
    }
    let annotations = pairs(&read["commonAnnotations"]);
    if !annotations.is_empty() {
        transform::annotations(resources, &annotations);
    }
    for entry in items(&read["patchesJson6902"]) {
        only(entry, &["patch", "path", "target"], "patch")?;
        patch(folder, entry)?.apply(resources)?;
    }
    for entry in items(&read["replicas"]) {
        only(entry, &["name", "count"], "replica")?;
        let name = entry["name"].as_str().unwrap_or_default();
        transform::replicas(resources, name, &entry["count"])?;
    }
    for entry in items(&read["images"]) {
        only(entry, &["name", "newName", "newTag", "digest", "tagSuffix"], "image")?;
        transform::image(resources, entry);
    }
    Ok(())
}

fn patch(folder: &Path, entry: &Value) -> Outcome<Patch> {
    match (entry["patch"].as_str(), entry["path"].as_str()) {
        (Some(text), None) => Patch::read(text, &format!("patch: {text:?}"), entry),
        (None, Some(path)) => {
            let text = file::text(folder, path).map_err(|error| {
                let why = error.message();
                Failure::Message(format!("failed to get the patch file from path({path}): {why}"))
            })?;
            Patch::read(&text, &format!("path: {path:?}"), entry)
        }
        _ => failed("must specify one of patch and path in a patch"),
    }
}

/// A file's or a folder's objects.
fn accumulated(folder: &Path, name: &str, above: &mut Vec<PathBuf>) -> Outcome<Vec<Resource>> {
    let path = local(folder, name)?;
    if path.is_dir() {
        return layer(&path, Vec::new(), above);
    }
    let text = file::text(folder, name).map_err(|error| no_resource(name, &path, &error))?;
    let (manifests, failures) =
        manifest::parse_by(document::read_plain, &path.display().to_string(), &text);
    if let Some(failure) = failures.first() {
        return Err(no_resource(name, &path, failure));
    }
    Ok(manifests.into_iter().map(|manifest| Resource::new(manifest.object)).collect())
}

/// The path of what a folder names, which is not fetched from anywhere.
fn local(folder: &Path, name: &str) -> Outcome<PathBuf> {
    let path = folder.join(name);
    let remote = name.contains("://") || name.starts_with("git@") || name.contains("github.com/");
    if remote && !path.exists() {
        return failed(format!(
            "{name} is elsewhere, and this kubectl's kustomize fetches nothing: build the folder with kustomize and pipe it to `-f -`"
        ));
    }
    file::inside(folder, name).map_err(|error| no_resource(name, &path, &error))
}

/// Why what a folder names brings nothing: upstream tries it as a file and as a folder.
fn no_resource(name: &str, path: &Path, error: &Failure) -> Failure {
    unaccumulated(path, &format!("accumulating resources from '{name}': {}", error.message()))
}

fn unaccumulated(path: &Path, why: &str) -> Failure {
    let shown = path.display();
    let no_folder = match path.exists() {
        true => {
            let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
            format!("'{}': file is not directory", real.display())
        }
        false => format!(
            "not a valid directory: evalsymlink failure on '{shown}' : lstat {shown}: no such file or directory"
        ),
    };
    Failure::Message(format!(
        "accumulating resources: accumulation err='{why}': must build at directory: {no_folder}"
    ))
}

/// Adds objects, none of which may be there already.
fn add(resources: &mut Vec<Resource>, brought: Vec<Resource>, name: &str, path: &Path) -> Outcome {
    for one in brought {
        let id = one.id();
        if resources.iter().any(|known| known.id() == id) {
            let why = format!(
                "merging resources from '{name}': may not add resource with an already registered id: {id}"
            );
            return Err(unaccumulated(path, &why));
        }
        resources.push(one);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_others_need_comes_first() {
        let object = |(version, kind): (&str, &str)| {
            Resource::new(json!({"apiVersion": version, "kind": kind, "metadata": {"name": "a"}}))
        };
        let mut all: Vec<Resource> = [
            ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"),
            ("networking.k8s.io/v1", "Ingress"),
            ("v1", "Pod"),
            ("autoscaling/v2", "HorizontalPodAutoscaler"),
            ("apps/v1", "Deployment"),
            ("v1", "Namespace"),
        ]
        .map(object)
        .into();
        all.sort_by_cached_key(place);
        let kinds: Vec<&str> = all.iter().map(Resource::kind).collect();
        let sorted = "Namespace Deployment HorizontalPodAutoscaler Ingress Pod ValidatingWebhookConfiguration";
        assert_eq!(kinds.join(" "), sorted);
    }

    #[test]
    fn an_object_is_brought_once() {
        let one = || {
            vec![Resource::new(
                json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}),
            )]
        };
        let mut all = one();
        let said = add(&mut all, one(), "f", Path::new("/no/f")).expect_err("twice").message();
        assert!(said.contains("registered id: Pod.v1.[noGrp]/a.[noNs]'"), "{said}");
        assert!(layer(Path::new("/"), Vec::new(), &mut vec!["/".into()]).is_err());
    }
}

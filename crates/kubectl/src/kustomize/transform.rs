//! What a layer does to all objects: names, namespaces, labels, annotations, images, replicas.

use serde_json::{Map, Value};

use super::{resource::Resource, walk};
use crate::failure::{Outcome, failed};

/// A path, the kinds that it is of (`*` is all), and whether it is made where it is not.
type Row = (&'static str, &'static str, bool);

const TEMPLATED: &str = "Deployment ReplicaSet DaemonSet StatefulSet Job ReplicationController";

/// Labels of pods to come.
const TEMPLATE_LABELS: &[Row] = &[
    ("spec/template/metadata/labels", TEMPLATED, true),
    ("spec/jobTemplate/metadata/labels", "CronJob", true),
    ("spec/jobTemplate/spec/template/metadata/labels", "CronJob", true),
    ("spec/volumeClaimTemplates/metadata/labels", "StatefulSet", true),
];

/// What finds objects by their labels.
const SELECTORS: &[Row] = &[
    ("spec/selector", "Service ReplicationController", true),
    ("spec/selector/matchLabels", "Deployment ReplicaSet DaemonSet StatefulSet", true),
    ("spec/selector/matchLabels", "Job PodDisruptionBudget", false),
    ("spec/jobTemplate/spec/selector/matchLabels", "CronJob", false),
    (
        "spec/template/spec/topologySpreadConstraints/labelSelector/matchLabels",
        "Deployment StatefulSet",
        false,
    ),
    (
        "spec/template/spec/affinity/podAffinity/preferredDuringSchedulingIgnoredDuringExecution/podAffinityTerm/labelSelector/matchLabels",
        "Deployment StatefulSet",
        false,
    ),
    (
        "spec/template/spec/affinity/podAffinity/requiredDuringSchedulingIgnoredDuringExecution/labelSelector/matchLabels",
        "Deployment StatefulSet",
        false,
    ),
    (
        "spec/template/spec/affinity/podAntiAffinity/preferredDuringSchedulingIgnoredDuringExecution/podAffinityTerm/labelSelector/matchLabels",
        "Deployment StatefulSet",
        false,
    ),
    (
        "spec/template/spec/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution/labelSelector/matchLabels",
        "Deployment StatefulSet",
        false,
    ),
    ("spec/podSelector/matchLabels", "NetworkPolicy", false),
    ("spec/ingress/from/podSelector/matchLabels", "NetworkPolicy", false),
    ("spec/egress/to/podSelector/matchLabels", "NetworkPolicy", false),
];

const ANNOTATIONS: &[Row] = &[
    ("metadata/annotations", "*", true),
    ("spec/template/metadata/annotations", TEMPLATED, true),
    ("spec/jobTemplate/metadata/annotations", "CronJob", true),
    ("spec/jobTemplate/spec/template/metadata/annotations", "CronJob", true),
];

/// Kinds whose names are not the layer's to choose.
const UNPREFIXED: &[&str] = &["Namespace", "CustomResourceDefinition", "APIService"];
const SCALED: [&str; 4] = ["Deployment", "StatefulSet", "ReplicaSet", "ReplicationController"];

fn set(resource: &mut Resource, rows: &[Row], entries: &Map<String, Value>) {
    let kind = resource.kind().to_owned();
    for (path, kinds, create) in rows {
        if *kinds == "*" || kinds.split(' ').any(|known| known == kind) {
            let path: Vec<&str> = path.split('/').collect();
            walk::add(&mut resource.object, &path, entries, *create);
        }
    }
}

/// Labels; of selectors too, or of pods to come, or of the objects alone.
pub(super) fn labels(
    resources: &mut [Resource],
    pairs: &Map<String, Value>,
    selectors: bool,
    templates: bool,
) {
    for resource in resources {
        set(resource, &[("metadata/labels", "*", true)], pairs);
        if selectors || templates {
            set(resource, TEMPLATE_LABELS, pairs);
        }
        if selectors {
            set(resource, SELECTORS, pairs);
        }
    }
}

/// Annotations, of pods to come too.
pub(super) fn annotations(resources: &mut [Resource], pairs: &Map<String, Value>) {
    resources.iter_mut().for_each(|resource| set(resource, ANNOTATIONS, pairs));
}

/// `prefix-name-suffix`.
pub(super) fn affixes(resources: &mut [Resource], prefix: &str, suffix: &str) {
    if prefix.is_empty() && suffix.is_empty() {
        return;
    }
    for resource in resources {
        resource.remember();
        if !UNPREFIXED.contains(&resource.kind()) {
            let name = format!("{prefix}{}{suffix}", resource.name());
            resource.object["metadata"]["name"] = name.into();
        }
        resource.affixes.extend([prefix.to_owned(), suffix.to_owned()]);
    }
}

/// Puts everything that is in a namespace into this one.
pub(super) fn namespace(resources: &mut [Resource], namespace: &str) {
    if namespace.is_empty() {
        return;
    }
    for resource in resources {
        resource.remember();
        let kind = resource.kind().to_owned();
        let object = &mut resource.object;
        let mut put = |path: &[&str]| {
            walk::each(object, path, &mut |value| *value = namespace.into());
        };
        match kind.as_str() {
            "Namespace" => put(&["metadata", "name"]),
            "APIService" => put(&["spec", "service", "namespace"]),
            "CustomResourceDefinition" => {
                put(&["spec", "conversion", "webhook", "clientConfig", "service", "namespace"]);
            }
            "RoleBinding" | "ClusterRoleBinding" => {
                walk::each(object, &["subjects"], &mut |subject| {
                    if subject["kind"] == "ServiceAccount" && subject["name"] == "default" {
                        subject["namespace"] = namespace.into();
                    }
                });
            }
            _ => {}
        }
        if resource.is_namespaced() {
            resource.object["metadata"]["namespace"] = namespace.into();
        }
    }
}

/// Sets how many of a workload there are.
///
/// # Errors
/// Where there is none of that name.
pub(super) fn replicas(resources: &mut [Resource], name: &str, count: &Value) -> Outcome {
    let mut found = false;
    for resource in resources.iter_mut().filter(|resource| SCALED.contains(&resource.kind())) {
        if resource.name() == name || resource.before.iter().any(|(_, known)| known == name) {
            resource.object["spec"]["replicas"] = count.clone();
            found = true;
        }
    }
    match found {
        true => Ok(()),
        false => failed(format!(
            "resource with name {name} does not match a config with the following GVK [{}]",
            SCALED.map(|kind| format!("{kind}.[noVer].[noGrp]")).join(" ")
        )),
    }
}

/// Another name, tag or digest for an image, in every container of every object.
pub(super) fn image(resources: &mut [Resource], image: &Value) {
    for resource in resources {
        if resource.kind() != "CustomResourceDefinition" {
            containers(&mut resource.object, image);
        }
    }
}

fn containers(value: &mut Value, image: &Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| containers(item, image)),
        Value::Object(fields) => {
            for (name, inner) in fields {
                if matches!(name.as_str(), "containers" | "initContainers") {
                    walk::each(inner, &["image"], &mut |value| {
                        if let Some(changed) = value.as_str().and_then(|text| renamed(text, image))
                        {
                            *value = changed.into();
                        }
                    });
                }
                containers(inner, image);
            }
        }
        _ => {}
    }
}

/// Name, tag and digest; a port is no tag.
fn image_parts(text: &str) -> (&str, &str, &str) {
    let (rest, digest) = text.split_once('@').unwrap_or((text, ""));
    let at = rest.rfind(':').filter(|at| !rest[*at..].contains('/'));
    match at {
        Some(at) => (&rest[..at], &rest[at + 1..], digest),
        None => (rest, "", digest),
    }
}

fn renamed(text: &str, image: &Value) -> Option<String> {
    let of = |key: &str| match &image[key] {
        Value::String(text) => text.clone(),
        _ => String::new(),
    };
    let (name, tag, digest) = image_parts(text);
    if name != of("name") {
        return None;
    }
    let (new_name, new_tag, new_digest) = (of("newName"), of("newTag"), of("digest"));
    let name = if new_name.is_empty() { name.to_owned() } else { new_name };
    // Either of the two takes the place of both.
    let (mut tag, mut digest) = match (new_tag.is_empty(), new_digest.is_empty()) {
        (true, true) => (tag.to_owned(), digest.to_owned()),
        _ => (new_tag, new_digest),
    };
    let suffix = of("tagSuffix");
    if !suffix.is_empty() {
        tag.push_str(&suffix);
        digest.clear();
    }
    let with = |sign: &str, part: &str| {
        if part.is_empty() { String::new() } else { format!("{sign}{part}") }
    };
    Some(format!("{name}{}{}", with(":", &tag), with("@", &digest)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn images_are_renamed_by_their_whole_name() {
        for (text, image, renamed_to) in [
            ("nginx", json!({"name": "nginx", "newTag": "9"}), Some("nginx:9")),
            ("nginx:1@sha256:a", json!({"name": "nginx", "newTag": "9"}), Some("nginx:9")),
            (
                "r:5000/a/b:1",
                json!({"name": "r:5000/a/b", "digest": "sha256:c"}),
                Some("r:5000/a/b@sha256:c"),
            ),
            ("a:1", json!({"name": "a", "newName": "b"}), Some("b:1")),
            ("a:1", json!({"name": "a", "tagSuffix": "-x"}), Some("a:1-x")),
            ("nginx-x", json!({"name": "nginx", "newTag": "9"}), None),
        ] {
            assert_eq!(renamed(text, &image).as_deref(), renamed_to, "{text}");
        }
    }

    #[test]
    fn a_layer_names_and_places_its_objects() {
        let object = |kind: &str| {
            Resource::new(json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "a"}}))
        };
        let mut all = ["ConfigMap", "Namespace", "Node"].map(object);
        namespace(&mut all, "prod");
        affixes(&mut all, "p-", "-s");
        let [config, namespace, node] = &all;
        assert_eq!((config.namespace(), config.name()), ("prod", "p-a-s"));
        assert_eq!((namespace.namespace(), namespace.name()), ("", "prod"));
        assert_eq!((node.namespace(), node.name()), ("", "p-a-s"));
        assert!(config.was("", "a") && config.was("prod", "a") && !config.was("x", "a"));
    }
}

//! What is served, told to clients: computed from the catalogue alone.

use api_schema::{Catalogue, ResourceSpec};
use bytes::Bytes;
use serde_json::{Value, json};

/// Versions of a group in order of preference, groups in the catalogue's order.
fn groups(catalogue: &Catalogue) -> Vec<(String, Vec<String>)> {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for spec in catalogue.all() {
        match groups.iter_mut().find(|(name, _)| *name == *spec.group) {
            Some((_, versions)) if versions.iter().any(|known| *known == *spec.version) => {}
            Some((_, versions)) => versions.push(spec.version.to_string()),
            None => groups.push((spec.group.to_string(), vec![spec.version.to_string()])),
        }
    }
    groups
}

fn bytes(value: &Value) -> Bytes {
    value.to_string().into()
}

/// `/api`: the versions of the core group.
pub(crate) fn core_versions(catalogue: &Catalogue, address: &str) -> Bytes {
    let versions = groups(catalogue)
        .into_iter()
        .find(|(group, _)| group.is_empty())
        .map(|(_, versions)| versions)
        .unwrap_or_default();
    bytes(&json!({
        "kind": "APIVersions",
        "versions": versions,
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    }))
}

fn api_group(name: &str, versions: &[String]) -> Value {
    let version =
        |version: &String| json!({"groupVersion": format!("{name}/{version}"), "version": version});
    json!({
        "name": name,
        "versions": versions.iter().map(version).collect::<Vec<_>>(),
        "preferredVersion": versions.first().map(version),
    })
}

/// `/apis`: every group but core.
pub(crate) fn group_list(catalogue: &Catalogue) -> Bytes {
    let groups: Vec<Value> = groups(catalogue)
        .iter()
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, versions)| api_group(name, versions))
        .collect();
    bytes(&json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
}

/// `/apis/{group}`.
pub(crate) fn group(catalogue: &Catalogue, name: &str) -> Option<Bytes> {
    let groups = groups(catalogue);
    let (_, versions) = groups.iter().find(|(known, _)| !name.is_empty() && known == name)?;
    let mut group = api_group(name, versions);
    group["kind"] = "APIGroup".into();
    group["apiVersion"] = "v1".into();
    Some(bytes(&group))
}

/// `/api/v1` and `/apis/{group}/{version}`.
pub(crate) fn resources(catalogue: &Catalogue, group: &str, version: &str) -> Option<Bytes> {
    let mut rows: Vec<Value> = Vec::new();
    for spec in catalogue.all() {
        if (&*spec.group, &*spec.version) != (group, version) {
            continue;
        }
        let mut row = json!({
            "name": spec.plural, "singularName": spec.singular, "namespaced": spec.namespaced,
            "kind": spec.kind, "verbs": spec.verbs,
        });
        if !spec.short_names.is_empty() {
            row["shortNames"] = json!(spec.short_names);
        }
        if !spec.categories.is_empty() {
            row["categories"] = json!(spec.categories);
        }
        rows.push(row);
        for sub in &spec.subresources {
            let mut row = json!({
                "name": format!("{}/{}", spec.plural, sub.name), "singularName": "",
                "namespaced": spec.namespaced, "kind": sub.kind.kind, "verbs": sub.verbs,
            });
            if (sub.kind.group.as_str(), sub.kind.version.as_str()) != (group, version) {
                row["group"] = sub.kind.group.as_str().into();
                row["version"] = sub.kind.version.as_str().into();
            }
            rows.push(row);
        }
    }
    if rows.is_empty() {
        return None;
    }
    let group_version =
        if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Some(bytes(&json!({
        "kind": "APIResourceList", "apiVersion": "v1",
        "groupVersion": group_version, "resources": rows,
    })))
}

/// Aggregated discovery (KEP-3352): everything below `/api` or `/apis` in one
/// document.
pub(crate) fn aggregated(catalogue: &Catalogue, core: bool, api_version: &str) -> Bytes {
    let all = catalogue.all();
    let items: Vec<Value> = groups(catalogue)
        .iter()
        .filter(|(name, _)| name.is_empty() == core)
        .map(|(name, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|version| {
                    let resources: Vec<Value> = all
                        .iter()
                        .filter(|spec| *spec.group == **name && *spec.version == **version)
                        .map(|spec| aggregated_resource(spec))
                        .collect();
                    json!({"version": version, "resources": resources, "freshness": "Current"})
                })
                .collect();
            let mut metadata = json!({"creationTimestamp": null});
            if !name.is_empty() {
                metadata["name"] = name.as_str().into();
            }
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    bytes(&json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{api_version}"),
        "metadata": {},
        "items": items,
    }))
}

fn aggregated_resource(spec: &ResourceSpec) -> Value {
    let kind = |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
    let mut row = json!({
        "resource": spec.plural,
        "responseKind": kind(&spec.group, &spec.version, &spec.kind),
        "scope": if spec.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": spec.singular,
        "verbs": spec.verbs,
    });
    if !spec.short_names.is_empty() {
        row["shortNames"] = json!(spec.short_names);
    }
    if !spec.categories.is_empty() {
        row["categories"] = json!(spec.categories);
    }
    if !spec.subresources.is_empty() {
        let subresources: Vec<Value> = spec
            .subresources
            .iter()
            .map(|sub| {
                json!({
                    "subresource": sub.name,
                    "responseKind": kind(&sub.kind.group, &sub.kind.version, &sub.kind.kind),
                    "verbs": sub.verbs,
                })
            })
            .collect();
        row["subresources"] = subresources.into();
    }
    row
}

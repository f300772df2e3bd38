//! What is served, told to clients: computed from the catalogue, and kept for as
//! long as it stays; what others serve is put in by `extension`.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use api_schema::{Catalogue, ResourceSpec, Subresource};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::extension::{self, learned::Told};

/// One of the documents. Each has a shape of its own for protobuf.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Document {
    /// `/api`: the versions of the core group.
    CoreVersions,
    /// `/apis`: every group but core.
    Groups,
    /// `/apis/{group}`.
    Group(String),
    /// `/api/v1` and `/apis/{group}/{version}`.
    Resources { group: String, version: String },
    /// Everything below `/api` or `/apis` in one (KEP-3352).
    Aggregated { core: bool, version: &'static str },
}

/// Documents that were asked for since the catalogue changed.
#[derive(Default)]
pub(crate) struct Documents(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    revision: u64,
    documents: BTreeMap<Document, Bytes>,
}

impl Documents {
    /// A document as JSON; `None` where nothing of the kind is served. `address`
    /// is what clients are told to use for this server.
    pub(crate) fn get(
        &self,
        catalogue: &Catalogue,
        address: &str,
        document: Document,
    ) -> Option<Bytes> {
        let revision = catalogue.revision();
        // Entries are replaced as a whole, so a poisoned lock holds good ones.
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.revision != revision {
            *kept = Kept { revision, documents: BTreeMap::new() };
        }
        if let Some(bytes) = kept.documents.get(&document) {
            return Some(bytes.clone());
        }
        let computed = document.compute(catalogue, address, &catalogue.groups(), &[])?;
        let bytes = Bytes::from(computed.to_string());
        kept.documents.insert(document, bytes.clone());
        Some(bytes)
    }
}

impl Document {
    /// The name of its shape.
    pub(crate) fn shape(&self) -> &'static str {
        match self {
            Self::CoreVersions => "meta/v1.APIVersions",
            Self::Groups => "meta/v1.APIGroupList",
            Self::Group(_) => "meta/v1.APIGroup",
            Self::Resources { .. } => "meta/v1.APIResourceList",
            Self::Aggregated { .. } => "apidiscovery/v2.APIGroupDiscoveryList",
        }
    }

    /// Whether it lists groups, of which others may have some.
    pub(crate) fn is_of_groups(&self) -> bool {
        match self {
            Self::Groups | Self::Group(_) | Self::Aggregated { core: false, .. } => true,
            Self::CoreVersions | Self::Resources { .. } | Self::Aggregated { core: true, .. } => {
                false
            }
        }
    }

    /// The document for these groups; what others told stands for their versions.
    pub(crate) fn compute(
        &self,
        catalogue: &Catalogue,
        address: &str,
        groups: &[(String, Vec<String>)],
        told: &[Told],
    ) -> Option<Value> {
        match self {
            Self::CoreVersions => {
                let (_, versions) = groups.iter().find(|(group, _)| group.is_empty())?;
                let by_client = json!([{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]);
                Some(json!({
                    "kind": "APIVersions", "versions": versions,
                    "serverAddressByClientCIDRs": by_client,
                }))
            }
            Self::Groups => {
                let groups: Vec<Value> = groups
                    .iter()
                    .filter(|(name, _)| !name.is_empty())
                    .map(|(name, versions)| group(name, versions))
                    .collect();
                Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
            }
            Self::Group(name) => {
                let (_, versions) =
                    groups.iter().find(|(known, _)| !name.is_empty() && known == name)?;
                let mut group = group(name, versions);
                group["kind"] = "APIGroup".into();
                group["apiVersion"] = "v1".into();
                Some(group)
            }
            Self::Resources { group, version } => resources(catalogue, group, version),
            Self::Aggregated { core, version } => {
                let items: Vec<Value> = groups
                    .iter()
                    .filter(|(name, _)| name.is_empty() == *core)
                    .map(|(name, versions)| aggregated_group(catalogue, name, versions, told))
                    .collect();
                Some(json!({
                    "kind": "APIGroupDiscoveryList",
                    "apiVersion": format!("apidiscovery.k8s.io/{version}"),
                    "metadata": {},
                    "items": items,
                }))
            }
        }
    }
}

fn group(name: &str, versions: &[String]) -> Value {
    let version =
        |version: &String| json!({"groupVersion": format!("{name}/{version}"), "version": version});
    json!({
        "name": name,
        "versions": versions.iter().map(version).collect::<Vec<_>>(),
        "preferredVersion": versions.first().map(version),
    })
}

/// The rows of one version by name, each with its subresources by name.
fn rows(
    catalogue: &Catalogue,
    group: &str,
    version: &str,
) -> Vec<(std::sync::Arc<ResourceSpec>, Vec<Subresource>)> {
    let mut rows: Vec<_> = catalogue
        .all()
        .into_iter()
        .filter(|spec| spec.group == *group && spec.version == *version)
        .map(|spec| {
            let mut subresources = spec.subresources.clone();
            subresources.sort_by(|a, b| a.name.cmp(&b.name));
            (spec, subresources)
        })
        .collect();
    rows.sort_by(|(a, _), (b, _)| a.plural.cmp(&b.plural));
    rows
}

fn resources(catalogue: &Catalogue, group: &str, version: &str) -> Option<Value> {
    let mut all: Vec<Value> = Vec::new();
    for (spec, subresources) in rows(catalogue, group, version) {
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
        // What nobody can write is made when it is read, not kept.
        if spec.stored && spec.allows("create") {
            row["storageVersionHash"] = storage_version_hash(&spec).into();
        }
        all.push(row);
        for sub in &subresources {
            let mut row = json!({
                "name": format!("{}/{}", spec.plural, sub.name), "singularName": "",
                "namespaced": spec.namespaced, "kind": sub.kind.kind, "verbs": sub.verbs,
            });
            if (sub.kind.group.as_str(), sub.kind.version.as_str()) != (group, version) {
                row["group"] = sub.kind.group.as_str().into();
                row["version"] = sub.kind.version.as_str().into();
            }
            all.push(row);
        }
    }
    if all.is_empty() {
        return None;
    }
    let group_version =
        if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Some(json!({
        "kind": "APIResourceList", "apiVersion": "v1",
        "groupVersion": group_version, "resources": all,
    }))
}

/// Tells in which form objects are kept, without saying which: clients compare it.
fn storage_version_hash(spec: &ResourceSpec) -> String {
    let (group, version) = match &spec.stored_as {
        Some(stored) => (stored.group, stored.version),
        None => (&*spec.group, &*spec.version),
    };
    let form = format!("{group}/{version}/{}", spec.kind);
    let digest = ring::digest::digest(&ring::digest::SHA256, form.as_bytes());
    STANDARD.encode(&digest.as_ref()[..8])
}

fn aggregated_group(
    catalogue: &Catalogue,
    name: &str,
    versions: &[String],
    told: &[Told],
) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| {
            let of = |told: &&Told| {
                told.of.priority.group == name && told.of.priority.version == *version
            };
            if let Some(told) = told.iter().find(of) {
                return extension::discovery::version(told);
            }
            let resources: Vec<Value> = rows(catalogue, name, version)
                .iter()
                .map(|(spec, subresources)| aggregated_resource(spec, subresources))
                .collect();
            json!({"version": version, "resources": resources, "freshness": "Current"})
        })
        .collect();
    let metadata = match name {
        "" => json!({}),
        name => json!({"name": name}),
    };
    json!({"metadata": metadata, "versions": versions})
}

fn aggregated_resource(spec: &ResourceSpec, subresources: &[Subresource]) -> Value {
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
    if !subresources.is_empty() {
        let subresources: Vec<Value> = subresources
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Hashes that a stock server has been seen to tell.
    #[test]
    fn storage_versions_have_upstreams_hashes() {
        let catalogue = api_kinds::catalogue();
        for (group, version, plural, hash) in [
            ("", "v1", "pods", "xPOwRZ+Yhw8="),
            ("", "v1", "configmaps", "qFsyl6wFWjQ="),
            ("", "v1", "events", "r2yiGXH7wu8="),
            ("events.k8s.io", "v1", "events", "r2yiGXH7wu8="),
            ("apps", "v1", "deployments", "8aSe+NMegvE="),
            ("apps", "v1", "replicasets", "P1RzHs8/mWQ="),
        ] {
            let spec = catalogue.find(group, version, plural).expect("served");
            assert_eq!(storage_version_hash(&spec), hash, "{group}/{version} {plural}");
        }
    }
}

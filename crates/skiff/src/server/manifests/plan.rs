//! What a file asks for, and what it asked for before: texts and records in,
//! objects out.

use std::{collections::BTreeMap, fmt, fs, io, path::Path};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One object of a file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Manifest {
    pub(super) api_version: String,
    pub(super) kind: String,
    /// As written; may be empty.
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) object: Value,
}

impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

impl Manifest {
    pub(super) fn group_version(&self) -> (&str, &str) {
        group_version(&self.api_version)
    }
}

fn group_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

/// An object that was applied.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Name {
    pub(super) api_version: String,
    pub(super) kind: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) namespace: String,
    pub(super) name: String,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = if self.namespace.is_empty() { "" } else { "/" };
        write!(f, "{} {}{slash}{}", self.kind, self.namespace, self.name)
    }
}

impl Name {
    pub(super) fn group_version(&self) -> (&str, &str) {
        group_version(&self.api_version)
    }

    /// Where the API has it.
    pub(super) fn path(&self, plural: &str) -> String {
        let root = match self.group_version() {
            ("", version) => format!("/api/{version}"),
            (group, version) => format!("/apis/{group}/{version}"),
        };
        match self.namespace.as_str() {
            "" => format!("{root}/{plural}/{}", self.name),
            namespace => format!("{root}/namespaces/{namespace}/{plural}/{}", self.name),
        }
    }

    /// The same object, whichever version of its group it was written in.
    fn is(&self, other: &Self) -> bool {
        self.group_version().0 == other.group_version().0
            && (&self.kind, &self.namespace, &self.name)
                == (&other.kind, &other.namespace, &other.name)
    }
}

/// What a server has applied, by file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Applied {
    #[serde(default)]
    pub(super) files: BTreeMap<String, Vec<Name>>,
}

/// Kinds that others of a file need, first.
const FIRST: [&str; 2] = ["Namespace", "CustomResourceDefinition"];

/// The objects of a file, in the order in which they are applied: lists opened,
/// and what others need first.
///
/// # Errors
/// What is wrong with the text, or with which of its documents.
pub(super) fn read(text: &str) -> Result<Vec<Manifest>, String> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| error.to_string())?;
    let mut found = Vec::new();
    for (at, document) in documents.into_iter().enumerate() {
        let told = |error: &str| format!("document {}: {error}", at + 1);
        if document.is_null() {
            continue;
        }
        let is_list = document["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
        match document["items"].as_array().filter(|_| is_list) {
            Some(items) => {
                for item in items {
                    found.push(manifest(item.clone()).map_err(|error| told(&error))?);
                }
            }
            None => found.push(manifest(document).map_err(|error| told(&error))?),
        }
    }
    // Stable: the rest stays as it was written.
    found.sort_by_key(|m| FIRST.iter().position(|kind| *kind == m.kind).unwrap_or(FIRST.len()));
    Ok(found)
}

fn manifest(object: Value) -> Result<Manifest, String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let need = |what: &str, value: &Value| match text(value) {
        found if found.is_empty() => Err(format!("it has no {what}")),
        found => Ok(found),
    };
    Ok(Manifest {
        api_version: need("apiVersion", &object["apiVersion"])?,
        kind: need("kind", &object["kind"])?,
        name: need("metadata.name", &object["metadata"]["name"])?,
        namespace: text(&object["metadata"]["namespace"]),
        object,
    })
}

/// What left a file and is in no other.
pub(super) fn gone(before: &[Name], now: &[Name], all: &Applied, file: &str) -> Vec<Name> {
    let elsewhere = |name: &Name| {
        all.files
            .iter()
            .any(|(other, names)| other != file && names.iter().any(|known| known.is(name)))
    };
    before
        .iter()
        .rev()
        .filter(|name| !now.iter().any(|kept| kept.is(name)) && !elsewhere(name))
        .cloned()
        .collect()
}

/// Both, each object once.
pub(super) fn union(mut before: Vec<Name>, now: Vec<Name>) -> Vec<Name> {
    before.retain(|name| !now.iter().any(|known| known.is(name)));
    before.extend(now);
    before
}

/// What was applied before; nothing where there is no record.
pub(super) fn read_record(path: &Path) -> io::Result<Applied> {
    match fs::read(path) {
        Ok(text) => Ok(serde_json::from_slice(&text)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Applied::default()),
        Err(error) => Err(error),
    }
}

/// Writes it whole or not at all.
pub(super) fn write_record(path: &Path, applied: &Applied) -> io::Result<()> {
    let new = path.with_extension("json.new");
    fs::write(&new, serde_json::to_vec(applied)?)?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        read(text).expect(text).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn documents_and_lists_are_opened_and_what_others_need_comes_first() {
        let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: shop}\n---\n# empty\n---\n\
                    apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Namespace, metadata: {name: shop}}\n\
                    - {apiVersion: v1, kind: Secret, metadata: {name: s}}\n";
        assert_eq!(names(text), ["Namespace shop", "ConfigMap a", "Secret s"]);
        assert_eq!(names(""), [""; 0]);
        for (bad, says) in [
            ("a: [", "while parsing"),
            ("apiVersion: v1\nkind: Pod\nmetadata: {}", "document 1: it has no metadata.name"),
            ("kind: Pod", "apiVersion"),
            ("- a", "apiVersion"),
        ] {
            let error = read(bad).expect_err(bad);
            assert!(bad == "a: [" || error.contains(says), "{bad}: {error}");
        }
    }

    fn name(kind: &str, name: &str) -> Name {
        let (api_version, namespace) = ("apps/v1".to_owned(), "default".to_owned());
        Name { api_version, kind: kind.into(), namespace, name: name.into() }
    }

    #[test]
    fn only_what_left_a_file_goes() {
        let (a, b, c) = (name("Deployment", "a"), name("Deployment", "b"), name("Deployment", "c"));
        let before = vec![a.clone(), b.clone(), c.clone()];
        let mut all = Applied::default();
        all.files.insert("x.yaml".into(), before.clone());
        let newer = Name { api_version: "apps/v2".into(), ..a.clone() };
        assert_eq!(
            gone(&before, std::slice::from_ref(&newer), &all, "x.yaml"),
            [c.clone(), b.clone()]
        );
        all.files.insert("y.yaml".into(), vec![b.clone()]);
        assert_eq!(
            gone(&before, &[newer], &all, "x.yaml"),
            std::slice::from_ref(&c),
            "b is in another file"
        );
        assert_eq!(union(before, vec![c, a]).len(), 3);
        assert_eq!(b.path("deployments"), "/apis/apps/v1/namespaces/default/deployments/b");
        let node = Name { api_version: "v1".into(), namespace: String::new(), ..b };
        assert_eq!(node.path("nodes"), "/api/v1/nodes/b");
    }

    #[test]
    fn the_record_is_read_back() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("manifests.json");
        assert_eq!(read_record(&path).expect("none yet"), Applied::default());
        let applied = Applied { files: [("x.yaml".to_owned(), vec![name("Pod", "a")])].into() };
        write_record(&path, &applied).expect("our own folder");
        assert_eq!(read_record(&path).expect("written"), applied);
        fs::write(&path, "{").expect("our own folder");
        assert!(read_record(&path).is_err());
    }
}

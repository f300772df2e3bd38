//! What the server serves: resources by name, short name, kind and category.

use std::sync::Arc;

use futures_util::future::join_all;
use http::Method;
use serde_json::Value;

use crate::{
    connection::Connection,
    failure::{Failure, Outcome, failed},
};

/// Everything in one answer (KEP-3352), or else the list of groups.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";

/// One resource in one version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ApiResource {
    /// Empty for the core group.
    pub(crate) group: String,
    /// `v1`
    pub(crate) version: String,
    /// `pods`
    pub(crate) plural: String,
    /// `pod`
    pub(crate) singular: String,
    /// `Pod`
    pub(crate) kind: String,
    /// Whether objects are in namespaces.
    pub(crate) namespaced: bool,
    /// `po`
    pub(crate) short_names: Vec<String>,
    /// `get`, …
    pub(crate) verbs: Vec<String>,
    /// `all`, …
    pub(crate) categories: Vec<String>,
    /// `status`, `log`, …
    pub(crate) subresources: Vec<String>,
    /// Whether this is the version that the server prefers.
    pub(crate) preferred: bool,
}

impl ApiResource {
    /// `apps/v1`
    pub(crate) fn api_version(&self) -> String {
        match self.group.as_str() {
            "" => self.version.clone(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// `deployments.apps`
    pub(crate) fn qualified(&self) -> String {
        match self.group.as_str() {
            "" => self.plural.clone(),
            group => format!("{}.{group}", self.plural),
        }
    }

    /// `deployment.apps`, as results are named.
    pub(crate) fn qualified_kind(&self) -> String {
        let kind = self.kind.to_lowercase();
        match self.group.as_str() {
            "" => kind,
            group => format!("{kind}.{group}"),
        }
    }

    /// `/apis/apps/v1/namespaces/default/deployments/web`; an empty name is the
    /// collection, an empty namespace all of them.
    pub(crate) fn path(&self, namespace: &str, name: &str) -> String {
        let mut path = match self.group.as_str() {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        };
        if self.namespaced && !namespace.is_empty() {
            path.push_str(&format!("/namespaces/{namespace}"));
        }
        path.push('/');
        path.push_str(&self.plural);
        if !name.is_empty() {
            path.push('/');
            path.push_str(&escaped(name));
        }
        path
    }

    /// Whether a verb can be used on it.
    pub(crate) fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|known| known == verb)
    }
}

/// A name as a segment of a path: RBAC's have colons, which may stay.
fn escaped(name: &str) -> String {
    let mut out = String::new();
    for byte in name.bytes() {
        match byte {
            b'/' | b'?' | b'#' | b'%' | b' ' => out.push_str(&format!("%{byte:02X}")),
            _ if byte.is_ascii_graphic() => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// All resources, in the server's order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Discovery {
    all: Vec<Arc<ApiResource>>,
}

impl Discovery {
    /// Asks the server.
    ///
    /// # Errors
    /// Where it is not reached or refuses.
    pub(crate) async fn fetch(connection: &Connection) -> Outcome<Self> {
        let one = |path| connection.request_as(Method::GET, path, AGGREGATED, None);
        let (core, groups) = tokio::join!(one("/api"), one("/apis"));
        let (core, groups) = (core?, groups?);
        let mut all = Vec::new();
        for document in [&core, &groups] {
            if document["kind"] == "APIGroupDiscoveryList" {
                all.extend(aggregated(document));
            } else {
                all.extend(each(connection, document).await);
            }
        }
        Ok(Self { all: all.into_iter().map(Arc::new).collect() })
    }

    /// Every resource in every version.
    pub(crate) fn all(&self) -> &[Arc<ApiResource>] {
        &self.all
    }

    /// What a person means by `po`, `deployments.apps`, `deployment.v1.apps`.
    pub(crate) fn find(&self, word: &str) -> Option<Arc<ApiResource>> {
        let word = word.to_lowercase();
        let (head, tail) = word.split_once('.').unwrap_or((&word, ""));
        let fits = |resource: &ApiResource| {
            let versioned = match resource.group.as_str() {
                "" => resource.version.clone(),
                group => format!("{}.{group}", resource.version),
            };
            tail.is_empty() || tail == resource.group || tail == versioned
        };
        // Resources of API servers in pods may have no name for one.
        if head.is_empty() {
            return None;
        }
        let named: [fn(&ApiResource, &str) -> bool; 2] = [
            |r, word| r.plural == word || r.singular == word || r.kind.to_lowercase() == word,
            |r, word| r.short_names.iter().any(|short| short == word),
        ];
        for named in named {
            let mut found = self.all.iter().filter(|r| named(r, head) && fits(r));
            let first = found.clone().find(|r| r.preferred).or_else(|| found.next());
            if let Some(first) = first {
                return Some(first.clone());
            }
        }
        None
    }

    /// Those that a word names: a resource, or all of a category.
    ///
    /// # Errors
    /// Where it names none.
    pub(crate) fn resolve(&self, word: &str) -> Outcome<Vec<Arc<ApiResource>>> {
        let of_category: Vec<Arc<ApiResource>> = self
            .all
            .iter()
            .filter(|r| r.preferred && r.categories.iter().any(|category| category == word))
            .cloned()
            .collect();
        if !of_category.is_empty() {
            return Ok(of_category);
        }
        match self.find(word) {
            Some(found) => Ok(vec![found]),
            None => failed(format!("the server doesn't have a resource type {word:?}")),
        }
    }

    /// The resource whose objects say this.
    pub(crate) fn by_kind(&self, api_version: &str, kind: &str) -> Option<Arc<ApiResource>> {
        self.all.iter().find(|r| r.kind == kind && r.api_version() == api_version).cloned()
    }

    /// The resource of an object in a file.
    ///
    /// # Errors
    /// Where the server does not know its kind.
    pub(crate) fn of_object(&self, object: &Value, source: &str) -> Outcome<Arc<ApiResource>> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
        self.by_kind(&version, &kind).ok_or_else(|| {
            let meta = &object["metadata"];
            Failure::Message(format!(
                "resource mapping not found for name: {:?} namespace: {:?} from {source:?}: no matches for kind {kind:?} in version {version:?}\nensure CRDs are installed first",
                text(&meta["name"]),
                text(&meta["namespace"]),
            ))
        })
    }
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn aggregated(document: &Value) -> Vec<ApiResource> {
    let mut all = Vec::new();
    for group in document["items"].as_array().into_iter().flatten() {
        let name = group["metadata"]["name"].as_str().unwrap_or_default();
        for (i, version) in group["versions"].as_array().into_iter().flatten().enumerate() {
            for resource in version["resources"].as_array().into_iter().flatten() {
                let text = |key: &str| resource[key].as_str().unwrap_or_default().to_owned();
                let subresources = resource["subresources"].as_array().into_iter().flatten();
                all.push(ApiResource {
                    group: name.to_owned(),
                    version: version["version"].as_str().unwrap_or_default().to_owned(),
                    plural: text("resource"),
                    singular: text("singularResource"),
                    kind: resource["responseKind"]["kind"].as_str().unwrap_or_default().to_owned(),
                    namespaced: resource["scope"] == "Namespaced",
                    short_names: texts(&resource["shortNames"]),
                    verbs: texts(&resource["verbs"]),
                    categories: texts(&resource["categories"]),
                    subresources: subresources
                        .filter_map(|sub| sub["subresource"].as_str().map(str::to_owned))
                        .collect(),
                    preferred: i == 0,
                });
            }
        }
    }
    mark_preferred(all)
}

/// A resource that is not in its group's first version is preferred in the first
/// that has it.
fn mark_preferred(mut all: Vec<ApiResource>) -> Vec<ApiResource> {
    for i in 0..all.len() {
        let first = !all[..i].iter().any(|r| r.group == all[i].group && r.plural == all[i].plural);
        all[i].preferred = first;
    }
    all
}

/// The form of servers before 1.26: a document for each version of each group.
async fn each(connection: &Connection, document: &Value) -> Vec<ApiResource> {
    let mut paths: Vec<(String, String)> = Vec::new();
    for version in texts(&document["versions"]) {
        paths.push((format!("/api/{version}"), version));
    }
    for group in document["groups"].as_array().into_iter().flatten() {
        let preferred = &group["preferredVersion"]["groupVersion"];
        let versions = group["versions"].as_array().into_iter().flatten();
        let others = versions.map(|v| &v["groupVersion"]).filter(|v| *v != preferred);
        for version in std::iter::once(preferred).chain(others).filter_map(Value::as_str) {
            paths.push((format!("/apis/{version}"), version.to_owned()));
        }
    }
    let answers = join_all(paths.iter().map(|(path, _)| connection.get(path))).await;
    let mut all = Vec::new();
    for ((_, api_version), answer) in paths.iter().zip(answers) {
        match answer {
            Ok(document) => all.extend(of_version(api_version, &document)),
            // One API that is away must not hide the others.
            Err(error) => eprintln!("Warning: {api_version}: {}", error.message()),
        }
    }
    mark_preferred(all)
}

fn of_version(api_version: &str, document: &Value) -> Vec<ApiResource> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let rows = document["resources"].as_array().cloned().unwrap_or_default();
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    rows.iter()
        .filter(|row| !text(row, "name").contains('/'))
        .map(|row| {
            let name = text(row, "name");
            let subs = rows.iter().filter_map(|sub| {
                text(sub, "name").strip_prefix(&format!("{name}/")).map(str::to_owned)
            });
            ApiResource {
                group: group.to_owned(),
                version: version.to_owned(),
                singular: match text(row, "singularName") {
                    empty if empty.is_empty() => text(row, "kind").to_lowercase(),
                    name => name,
                },
                kind: text(row, "kind"),
                namespaced: row["namespaced"] == true,
                short_names: texts(&row["shortNames"]),
                verbs: texts(&row["verbs"]),
                categories: texts(&row["categories"]),
                subresources: subs.collect(),
                preferred: true,
                plural: name,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn discovery() -> Discovery {
        let resource = |plural: &str, kind: &str, short: &str| {
            json!({
                "resource": plural, "responseKind": {"kind": kind}, "scope": "Namespaced",
                "singularResource": kind.to_lowercase(), "shortNames": [short], "verbs": ["get"],
                "categories": if plural == "pods" { vec!["all"] } else { vec![] },
                "subresources": [{"subresource": "status"}],
            })
        };
        let version = |version: &str, resources: Vec<Value>| json!({"version": version, "resources": resources});
        let document = json!({"kind": "APIGroupDiscoveryList", "items": [
            {"metadata": {}, "versions": [version("v1", vec![resource("pods", "Pod", "po"), resource("events", "Event", "ev")])]},
            {"metadata": {"name": "apps"}, "versions": [version("v1", vec![resource("deployments", "Deployment", "deploy")])]},
            {"metadata": {"name": "events.k8s.io"}, "versions": [version("v1", vec![resource("events", "Event", "ev")])]},
            {"metadata": {"name": "x.io"}, "versions": [
                version("v2", vec![resource("foos", "Foo", "f")]), version("v1", vec![resource("foos", "Foo", "f")]),
            ]},
        ]});
        Discovery { all: aggregated(&document).into_iter().map(Arc::new).collect() }
    }

    #[test]
    fn resources_are_found_by_every_name() {
        let discovery = discovery();
        for (word, found) in [
            ("pods", "/api/v1/pods"),
            ("po", "/api/v1/pods"),
            ("Pod", "/api/v1/pods"),
            ("pod.v1", "/api/v1/pods"),
            ("deploy", "/apis/apps/v1/deployments"),
            ("deployments.apps", "/apis/apps/v1/deployments"),
            ("deployment.v1.apps", "/apis/apps/v1/deployments"),
            ("events", "/api/v1/events"),
            ("events.events.k8s.io", "/apis/events.k8s.io/v1/events"),
            ("foo", "/apis/x.io/v2/foos"),
            ("foo.v1.x.io", "/apis/x.io/v1/foos"),
        ] {
            assert_eq!(discovery.find(word).expect(word).path("", ""), found, "{word}");
        }
        assert!(discovery.find("nope").is_none() && discovery.find("pods.apps").is_none());
        assert_eq!(discovery.resolve("all").expect("a category").len(), 1);
        let role = ApiResource {
            plural: "roles".into(),
            namespaced: true,
            version: "v1".into(),
            ..ApiResource::default()
        };
        assert_eq!(role.path("a", "system:x/y"), "/api/v1/namespaces/a/roles/system:x%2Fy");
    }

    #[test]
    fn the_old_form_is_read_too() {
        let document = json!({"resources": [
            {"name": "pods", "singularName": "", "kind": "Pod", "namespaced": true, "verbs": ["get"], "shortNames": ["po"]},
            {"name": "pods/log", "kind": "Pod", "namespaced": true, "verbs": ["get"]},
        ]});
        let all = of_version("v1", &document);
        assert_eq!((all.len(), all[0].singular.as_str()), (1, "pod"));
        assert_eq!(all[0].subresources, ["log"]);
    }
}

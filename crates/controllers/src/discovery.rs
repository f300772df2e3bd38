//! Which kinds the server has: what works on all of them learns it from the
//! API, and works on custom resources just the same.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use client::{Api, Error, Resource};
use http::Method;
use serde::{Deserialize, de::DeserializeOwned};

/// A resource that the server serves, in its preferred version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) resource: Resource,
    pub(crate) kind: String,
    pub(crate) verbs: Vec<String>,
}

impl Found {
    /// Whether all of these verbs are served.
    pub(crate) fn has(&self, verbs: &[&str]) -> bool {
        verbs.iter().all(|verb| self.verbs.iter().any(|known| known == verb))
    }
}

/// Names of resources, each kept for ever once seen: there are as many as
/// there are kinds, and [`Resource`] is copied everywhere.
#[derive(Debug, Default)]
pub(crate) struct Names(BTreeMap<String, &'static str>);

impl Names {
    fn keep(&mut self, text: &str) -> &'static str {
        if let Some(kept) = self.0.get(text) {
            return kept;
        }
        let kept: &'static str = Box::leak(text.to_owned().into_boxed_str());
        self.0.insert(text.to_owned(), kept);
        kept
    }
}

/// What could be learned. A group whose server is away is named, so that
/// nobody takes its kinds for absent.
#[derive(Debug, Default)]
pub(crate) struct Discovery {
    pub(crate) found: Vec<Found>,
    pub(crate) failed: Vec<(String, Error)>,
}

/// The groups whose servers were away when they were last asked for: that one is
/// away is told once, not each time.
#[derive(Debug, Default)]
pub(crate) struct Away(BTreeSet<String>);

/// What differs from the time before.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) left: BTreeSet<String>,
    pub(crate) back: BTreeSet<String>,
}

impl Away {
    /// These are away now.
    pub(crate) fn now<'a>(&mut self, groups: impl Iterator<Item = &'a str>) -> Change {
        let now: BTreeSet<String> = groups.map(str::to_owned).collect();
        let before = std::mem::replace(&mut self.0, now);
        Change { left: &self.0 - &before, back: &before - &self.0 }
    }
}

#[derive(Deserialize)]
struct GroupList {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    name: String,
    versions: Vec<Version>,
    #[serde(default)]
    preferred_version: Version,
}

#[derive(Clone, Default, Deserialize)]
struct Version {
    version: String,
}

#[derive(Deserialize)]
struct ResourceList {
    resources: Vec<ApiResource>,
}

#[derive(Deserialize)]
struct ApiResource {
    name: String,
    namespaced: bool,
    kind: String,
    #[serde(default)]
    verbs: Vec<String>,
}

/// Asks the server for all of its resources, subresources left out.
///
/// # Errors
/// Where the list of groups is not to be had; single groups that fail are
/// part of the answer.
pub(crate) async fn discover(api: &Api, names: &mut Names) -> Result<Discovery, Error> {
    let mut discovery = Discovery::default();
    add(api, names, &mut discovery, "", "v1").await;
    let groups: GroupList = get(api, "/apis").await?;
    for group in groups.groups {
        let preferred = group.preferred_version.version;
        let others = group.versions.into_iter().map(|version| version.version);
        let mut versions = vec![preferred.clone()];
        versions.extend(others.filter(|version| *version != preferred));
        for version in versions.iter().filter(|version| !version.is_empty()) {
            add(api, names, &mut discovery, &group.name, version).await;
        }
    }
    Ok(discovery)
}

async fn add(api: &Api, names: &mut Names, discovery: &mut Discovery, group: &str, version: &str) {
    let path = match group {
        "" => format!("/api/{version}"),
        group => format!("/apis/{group}/{version}"),
    };
    let list: ResourceList = match get(api, &path).await {
        Ok(list) => list,
        Err(error) => return discovery.failed.push((format!("{group}/{version}"), error)),
    };
    for found in list.resources.into_iter().filter(|found| !found.name.contains('/')) {
        let known = discovery
            .found
            .iter()
            .any(|known| known.resource.group == group && known.resource.plural == found.name);
        if !known {
            let resource = Resource {
                group: names.keep(group),
                version: names.keep(version),
                plural: names.keep(&found.name),
                namespaced: found.namespaced,
            };
            discovery.found.push(Found { resource, kind: found.kind, verbs: found.verbs });
        }
    }
}

async fn get<T: DeserializeOwned>(api: &Api, path: &str) -> Result<T, Error> {
    let bytes = api.request(Method::GET, path, None, Bytes::new()).await?;
    serde_json::from_slice(&bytes).map_err(|error| Error::Malformed(format!("{path}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_a_group_is_away_is_told_once() {
        let mut away = Away::default();
        let mut check = |now: &[&str], left: &[&str], back: &[&str]| {
            let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            let change = Change { left: set(left), back: set(back) };
            assert_eq!(away.now(now.iter().copied()), change);
        };
        check(&["a/v1"], &["a/v1"], &[]);
        check(&["a/v1"], &[], &[]);
        check(&["a/v1", "b/v1"], &["b/v1"], &[]);
        check(&["b/v1"], &[], &["a/v1"]);
        check(&["a/v1"], &["a/v1"], &["b/v1"]);
    }
}

//! Group, version, kind and resource: how the API names its types.

use std::fmt;

/// An API group and version. The core group is the empty string.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersion {
    /// `apps`, `rbac.authorization.k8s.io`; empty for core.
    pub group: String,
    /// `v1`, `v2beta1`.
    pub version: String,
}

impl GroupVersion {
    /// Reads `v1` or `apps/v1`, the form of an object's `apiVersion`.
    /// `None` where there is more than one slash or no version.
    pub fn parse(api_version: &str) -> Option<Self> {
        let (group, version) = match api_version.split_once('/') {
            Some((group, version)) if !group.is_empty() => (group, version),
            Some(_) => return None,
            None => ("", api_version),
        };
        (!version.is_empty() && !version.contains('/'))
            .then(|| Self { group: group.into(), version: version.into() })
    }
}

impl fmt::Display for GroupVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.group.as_str() {
            "" => f.write_str(&self.version),
            group => write!(f, "{group}/{}", self.version),
        }
    }
}

/// A type of object as written in manifests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersionKind {
    /// API group; empty for core.
    pub group: String,
    /// Version in the group.
    pub version: String,
    /// `Pod`, `Deployment`.
    pub kind: String,
}

/// A type of object as written in paths.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersionResource {
    /// API group; empty for core.
    pub group: String,
    /// Version in the group.
    pub version: String,
    /// Plural, lower case: `pods`.
    pub resource: String,
}

impl GroupVersionResource {
    /// `("apps", "v1", "deployments")`.
    pub fn new(group: &str, version: &str, resource: &str) -> Self {
        Self { group: group.into(), version: version.into(), resource: resource.into() }
    }
}

impl fmt::Display for GroupVersionResource {
    /// `deployments.apps` or `pods`: how upstream's messages name a resource.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.group.as_str() {
            "" => f.write_str(&self.resource),
            group => write!(f, "{}.{group}", self.resource),
        }
    }
}

/// What sorts the versions of a group by preference: stable ones before beta and
/// alpha, newer before older, and whatever else follows by name.
pub fn version_preference(version: &str) -> impl Ord + use<'_> {
    use std::cmp::Reverse;
    let numbers = || -> Option<(u8, u32, u32)> {
        let rest = version.strip_prefix('v')?;
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (major, stage) = rest.split_at(end);
        let major = major.parse().ok()?;
        let (stage, minor) = match stage {
            "" => return Some((3, major, 0)),
            stage => stage.split_at_checked(stage.find(|c: char| c.is_ascii_digit())?)?,
        };
        let stage = ["alpha", "beta"].iter().position(|known| *known == stage)?;
        Some((stage as u8 + 1, major, minor.parse().ok()?))
    };
    (Reverse(numbers().unwrap_or_default()), version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_version_reads_back() {
        for text in ["v1", "apps/v1", "rbac.authorization.k8s.io/v1"] {
            assert_eq!(GroupVersion::parse(text).expect(text).to_string(), text);
        }
        for text in ["", "/v1", "a/b/c", "apps/"] {
            assert_eq!(GroupVersion::parse(text), None, "{text}");
        }
    }

    #[test]
    fn versions_are_preferred_by_stage_and_age() {
        let mut versions = [
            "foo10",
            "v1",
            "v10beta3",
            "v11alpha2",
            "v3beta1",
            "v2",
            "foo1",
            "v10",
            "v1beta",
            "v11beta2",
        ];
        versions.sort_by_key(|version| version_preference(version));
        assert_eq!(
            versions,
            [
                "v10",
                "v2",
                "v1",
                "v11beta2",
                "v10beta3",
                "v3beta1",
                "v11alpha2",
                "foo1",
                "foo10",
                "v1beta"
            ]
        );
    }
}

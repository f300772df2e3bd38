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
}

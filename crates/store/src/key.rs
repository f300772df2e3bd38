//! Keys and their layout.

use std::{borrow::Borrow, fmt, sync::Arc};

/// `group/resource/namespace/name`, always with three slashes; cheap to clone.
///
/// The core group and the namespace of cluster-scoped objects are the empty
/// string: `/configmaps/default/web`, `apps/deployments/default/web`,
/// `/nodes//pi`. So no word is reserved, `group/resource/` lists a resource
/// and `group/resource/namespace/` a namespace of it, and neither prefix can
/// match into a longer name. Keys sort as bytes, which is also the order of
/// lists. The API version is not part of the key: all versions of an object
/// are one object. The layout is stored and cannot change.
///
/// The store itself only compares keys; nothing in it looks at the segments.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Arc<str>);

impl Key {
    /// A key from its segments, none of which may hold a slash (names that
    /// passed the API's validation never do).
    pub fn new(group: &str, resource: &str, namespace: &str, name: &str) -> Self {
        debug_assert!(![group, resource, namespace, name].iter().any(|part| part.contains('/')));
        Self(format!("{group}/{resource}/{namespace}/{name}").into())
    }

    /// The prefix of all objects of a resource, or of one namespace of it.
    pub fn prefix(group: &str, resource: &str, namespace: Option<&str>) -> String {
        match namespace {
            None => format!("{group}/{resource}/"),
            Some(namespace) => format!("{group}/{resource}/{namespace}/"),
        }
    }

    /// A key that was stored before.
    pub fn from_stored(text: &str) -> Self {
        Self(text.into())
    }

    /// The whole key.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Group, resource, namespace and name; missing segments are empty.
    pub fn segments(&self) -> [&str; 4] {
        let mut parts = self.0.splitn(4, '/');
        std::array::from_fn(|_| parts.next().unwrap_or(""))
    }

    /// The last segment.
    pub fn name(&self) -> &str {
        self.segments()[3]
    }

    /// The third segment; empty for cluster-scoped objects.
    pub fn namespace(&self) -> &str {
        self.segments()[2]
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_read_back() {
        for parts in [["apps", "deployments", "default", "web"], ["", "nodes", "", "pi"]] {
            assert_eq!(Key::new(parts[0], parts[1], parts[2], parts[3]).segments(), parts);
        }
    }

    #[test]
    fn a_prefix_never_matches_into_a_longer_name() {
        let key = Key::new("", "pods", "kube-system", "dns");
        assert!(key.as_str().starts_with(&Key::prefix("", "pods", None)));
        assert!(key.as_str().starts_with(&Key::prefix("", "pods", Some("kube-system"))));
        assert!(!key.as_str().starts_with(&Key::prefix("", "pods", Some("kube"))));
        assert!(!key.as_str().starts_with(&Key::prefix("", "pod", None)));
    }
}

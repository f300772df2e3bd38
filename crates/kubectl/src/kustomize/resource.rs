//! An object on its way through the layers, and what it was called in each.

use serde_json::Value;

/// One object.
#[derive(Clone, Debug)]
pub(super) struct Resource {
    /// As it is by now.
    pub(super) object: Value,
    /// Namespace and name in every layer before, the first one first.
    pub(super) before: Vec<(String, String)>,
    /// Prefixes and suffixes that it was given: objects of one layer have the same.
    pub(super) affixes: Vec<String>,
    /// Its name ends with a hash of its content.
    pub(super) hashed: bool,
}

impl Resource {
    /// As a file or a generator has it.
    pub(super) fn new(object: Value) -> Self {
        let mut resource = Self { object, before: Vec::new(), affixes: Vec::new(), hashed: false };
        resource.remember();
        resource
    }

    /// Keeps the names of now: they are about to change.
    pub(super) fn remember(&mut self) {
        let now = (self.namespace().to_owned(), self.name().to_owned());
        if self.before.last() != Some(&now) {
            self.before.push(now);
        }
    }

    pub(super) fn kind(&self) -> &str {
        self.object["kind"].as_str().unwrap_or_default()
    }

    pub(super) fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// Empty for none.
    pub(super) fn namespace(&self) -> &str {
        self.object["metadata"]["namespace"].as_str().unwrap_or_default()
    }

    /// Group and version; the group of core objects is empty.
    pub(super) fn group_version(&self) -> (&str, &str) {
        let version = self.object["apiVersion"].as_str().unwrap_or_default();
        version.split_once('/').unwrap_or(("", version))
    }

    /// Whether it is or was called so, in this namespace.
    pub(super) fn was(&self, namespace: &str, name: &str) -> bool {
        let same = |(ns, known): &(String, String)| same_namespace(ns, namespace) && known == name;
        self.before.iter().any(same)
            || (same_namespace(self.namespace(), namespace) && self.name() == name)
    }

    /// Whether objects of this kind are in namespaces; those of kinds that are not known are.
    pub(super) fn is_namespaced(&self) -> bool {
        let (group, version) = self.group_version();
        let known = api_kinds::catalogue().by_kind(group, version, self.kind());
        known.is_none_or(|spec| spec.namespaced)
    }

    /// `Service.v1.[noGrp]/web.[noNs]`, as messages call it.
    pub(super) fn id(&self) -> String {
        let (group, version) = self.group_version();
        let or = |text: &str, none: &str| {
            if text.is_empty() { none.to_owned() } else { text.to_owned() }
        };
        format!(
            "{}.{}.{}/{}.{}",
            or(self.kind(), "[noKind]"),
            or(version, "[noVer]"),
            or(group, "[noGrp]"),
            or(self.name(), "[noName]"),
            or(self.namespace(), "[noNs]")
        )
    }
}

/// No namespace is the default one.
pub(super) fn same_namespace(a: &str, b: &str) -> bool {
    let is_default = |name: &str| matches!(name, "" | "default");
    a == b || (is_default(a) && is_default(b))
}

//! Which objects a patch is for.

use api_object::LabelSelector;
use serde_json::Value;

use super::resource::Resource;
use crate::failure::{Failure, Outcome};

/// `target` of a patch.
#[derive(Debug)]
pub(super) struct Selector {
    /// `group`, `version`, `kind`, `name`, `namespace`: whole texts.
    patterns: Vec<(&'static str, regex::Regex)>,
    labels: LabelSelector,
    annotations: LabelSelector,
}

impl Selector {
    /// Reads it.
    ///
    /// # Errors
    /// Where a pattern or selector is malformed.
    pub(super) fn read(target: &Value) -> Outcome<Self> {
        let mut patterns = Vec::new();
        for key in ["group", "version", "kind", "name", "namespace"] {
            let Some(pattern) = target[key].as_str().filter(|pattern| !pattern.is_empty()) else {
                continue;
            };
            let pattern = regex::Regex::new(&format!("^(?:{pattern})$"))
                .map_err(|error| Failure::Message(format!("target {key}: {error}")))?;
            patterns.push((key, pattern));
        }
        let selector = |key: &str| {
            LabelSelector::parse(target[key].as_str().unwrap_or_default())
                .map_err(|error| Failure::Message(format!("target {key}: {error}")))
        };
        let (labels, annotations) = (selector("labelSelector")?, selector("annotationSelector")?);
        Ok(Self { patterns, labels, annotations })
    }

    /// Whether it is for this object, by any name that it had.
    pub(super) fn selects(&self, resource: &Resource) -> bool {
        let (group, version) = resource.group_version();
        let now = (resource.namespace().to_owned(), resource.name().to_owned());
        let names = || resource.before.iter().chain([&now]);
        let fits = |(key, pattern): &(&str, regex::Regex)| match *key {
            "group" => pattern.is_match(group),
            "version" => pattern.is_match(version),
            "kind" => pattern.is_match(resource.kind()),
            "name" => names().any(|(_, name)| pattern.is_match(name)),
            _ => names().any(|(namespace, _)| pattern.is_match(namespace)),
        };
        let meta = &resource.object["metadata"];
        let map = |key: &str| serde_json::from_value(meta[key].clone()).unwrap_or_default();
        self.patterns.iter().all(fits)
            && self.labels.matches(&map("labels"))
            && self.annotations.matches(&map("annotations"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn targets_are_whole_patterns() {
        let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"a": "b"}}});
        let resource = Resource::new(object);
        for (target, selects) in [
            (json!({}), true),
            (json!({"kind": "Deploy"}), false),
            (json!({"kind": "Deploy.*", "group": "apps"}), true),
            (json!({"name": "web|db", "version": "v1"}), true),
            (json!({"labelSelector": "a=b"}), true),
            (json!({"labelSelector": "a=c"}), false),
            (json!({"annotationSelector": "x"}), false),
        ] {
            let selector = Selector::read(&target).expect("valid");
            assert_eq!(selector.selects(&resource), selects, "{target}");
        }
        assert!(Selector::read(&json!({"name": "("})).is_err());
    }
}

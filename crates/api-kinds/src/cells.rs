//! What cells of several kinds say in the same way.

use api_object::LabelSelector;
use api_schema::tree;
use serde_json::Value;

/// `<none>` for nothing.
pub(crate) fn none(text: &str) -> &str {
    if text.is_empty() { "<none>" } else { text }
}

/// `<unset>` for nothing.
pub(crate) fn unset(text: &str) -> &str {
    if text.is_empty() { "<unset>" } else { text }
}

/// A map of labels: `a=b,c=d`.
pub(crate) fn labels(labels: &Value) -> String {
    let pairs: Vec<String> = labels
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    none(&pairs.join(",")).to_owned()
}

/// A selector of pods in either of its forms, as a query.
pub(crate) fn selector(selector: &Value) -> String {
    match LabelSelector::of_pods(selector) {
        Ok(selector) => none(&selector.to_string()).to_owned(),
        Err(_) => "<error>".into(),
    }
}

/// `True`, `False`, `<unset>`.
pub(crate) fn flag(value: &Value) -> &'static str {
    match value.as_bool() {
        Some(true) => "True",
        Some(false) => "False",
        None => "<unset>",
    }
}

/// The texts of a list, joined.
pub(crate) fn texts(list: &[Value], separator: &str) -> String {
    list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(separator)
}

/// One field of each container of a pod template.
pub(crate) fn containers(template: &Value, field: &str) -> String {
    let containers = tree::list(template, "spec.containers").iter();
    containers.map(|container| tree::text(container, field)).collect::<Vec<_>>().join(",")
}

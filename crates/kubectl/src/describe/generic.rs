//! Any object, field by field.

use serde_json::{Map, Value};

use super::{
    Related,
    text::{Text, plain, text},
};

/// What is told above, or is noise.
const LEFT_OUT: &[&str] =
    &["managedFields", "selfLink", "name", "namespace", "labels", "annotations"];

pub(crate) fn describe(out: &mut Text, object: &Value, related: &Related) {
    let meta = &object["metadata"];
    out.line(0, format!("Name:\t{}", text(&meta["name"])));
    out.line(0, format!("Namespace:\t{}", text(&meta["namespace"])));
    out.labels(0, "Labels", &meta["labels"]);
    out.annotations(0, &meta["annotations"]);
    let mut rest = object.as_object().cloned().unwrap_or_default();
    if let Some(meta) = rest.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.retain(|key, _| !LEFT_OUT.contains(&key.as_str()));
    }
    map(out, 0, &rest);
    super::events(out, related);
}

/// `lastTransitionTime` as `Last Transition Time`; what is no word stays.
fn words(key: &str) -> String {
    if key.contains(|c: char| !c.is_alphabetic() && c != '-') {
        return key.to_owned();
    }
    split(key).iter().map(|part| titled(part)).collect::<Vec<_>>().join(" ")
}

/// At every change of case. Of capitals and what follows them in small letters three and
/// more stay together (`URLs`), of two the first is a word (`I Ps`).
fn split(key: &str) -> Vec<String> {
    let kind = |c: char| (c.is_uppercase(), c == '-');
    let mut parts: Vec<String> = Vec::new();
    for c in key.chars() {
        match parts.last_mut() {
            Some(last) if last.chars().next_back().map(kind) == Some(kind(c)) => last.push(c),
            Some(last) if c.is_lowercase() && last.chars().all(char::is_uppercase) => {
                let two = last.chars().count() == 2;
                let second = two.then(|| last.pop()).flatten();
                match second {
                    Some(second) => parts.push(String::from_iter([second, c])),
                    None => last.push(c),
                }
            }
            _ => parts.push(c.into()),
        }
    }
    parts
}

fn titled(word: &str) -> String {
    const KNOWN: &[&str] = &["API", "URL", "UID", "GUID"];
    let upper = word.to_uppercase();
    if KNOWN.contains(&upper.as_str()) {
        return upper;
    }
    let mut chars = word.chars();
    let first = chars.next().into_iter().flat_map(char::to_uppercase);
    first.chain(chars).collect()
}

fn map(out: &mut Text, level: usize, fields: &Map<String, Value>) {
    let mut entries: Vec<(&String, &Value)> = fields.iter().collect();
    entries.sort_by_key(|(key, _)| *key);
    for (key, value) in entries {
        let name = words(key);
        match value {
            Value::Object(inner) => {
                out.line(level, format!("{name}:"));
                map(out, level + 1, inner);
            }
            Value::Array(items) => {
                out.line(level, format!("{name}:"));
                list(out, level + 1, items);
            }
            scalar => out.line(level, format!("{name}:\t{}", scalar_text(scalar))),
        }
    }
}

fn list(out: &mut Text, level: usize, items: &[Value]) {
    for item in items {
        match item {
            Value::Object(inner) => map(out, level, inner),
            Value::Array(inner) => {
                let parts: Vec<String> = inner.iter().map(scalar_text).collect();
                out.line(level, format!("[{}]", parts.join(" ")));
            }
            scalar => out.line(level, scalar_text(scalar)),
        }
    }
}

fn scalar_text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        other => plain(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_words() {
        for (key, name) in [
            ("apiVersion", "API Version"),
            ("lastTransitionTime", "Last Transition Time"),
            ("uid", "UID"),
            ("spec", "Spec"),
            ("podIPs", "Pod I Ps"),
            ("clusterIP", "Cluster IP"),
            ("nonResourceURLs", "Non Resource URLs"),
            ("HTTPServer", "HTTPServer"),
            ("APIsX", "APIs X"),
            ("aURLPath", "A URLPath"),
            ("foo-bar", "Foo - Bar"),
            ("x509Cert", "x509Cert"),
            ("a.b/c", "a.b/c"),
        ] {
            assert_eq!(words(key), name, "{key}");
        }
    }
}

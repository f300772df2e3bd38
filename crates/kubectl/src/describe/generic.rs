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
    if key.contains(['.', '/', '-', '_']) || key.is_empty() {
        return key.to_owned();
    }
    let key = match key {
        "apiVersion" => return "API Version".to_owned(),
        "uid" => return "UID".to_owned(),
        key => key,
    };
    let chars: Vec<char> = key.chars().collect();
    let mut out = String::new();
    for (i, &c) in chars.iter().enumerate() {
        let starts = c.is_uppercase()
            && i > 0
            && (!chars[i - 1].is_uppercase()
                || chars.get(i + 1).is_some_and(|next| next.is_lowercase()));
        if starts {
            out.push(' ');
        }
        match i {
            0 => out.extend(c.to_uppercase()),
            _ => out.push(c),
        }
    }
    out.split(' ').map(acronym).collect::<Vec<_>>().join(" ")
}

fn acronym(word: &str) -> String {
    const KNOWN: &[&str] = &["API", "URL", "UID", "OSB", "GUID"];
    let upper = word.to_uppercase();
    if KNOWN.contains(&upper.as_str()) { upper } else { word.to_owned() }
}

fn map(out: &mut Text, level: usize, fields: &Map<String, Value>) {
    let mut entries: Vec<(String, &Value)> =
        fields.iter().map(|(key, value)| (words(key), value)).collect();
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, value) in entries {
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
            Value::Array(inner) => list(out, level + 1, inner),
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
            ("a.b/c", "a.b/c"),
        ] {
            assert_eq!(words(key), name, "{key}");
        }
    }
}

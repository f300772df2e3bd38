//! Fields of an object by their paths: `spec/containers/image`, through every list on the way.

use serde_json::{Map, Value};

/// Calls with every value at the path, which may be none.
pub(super) fn each(value: &mut Value, path: &[&str], f: &mut dyn FnMut(&mut Value)) {
    if let Value::Array(items) = value {
        items.iter_mut().for_each(|item| each(item, path, f));
        return;
    }
    match path.split_first() {
        None => f(value),
        Some((name, rest)) => {
            if let Some(inner) = value.get_mut(*name) {
                each(inner, rest, f);
            }
        }
    }
}

/// Merges entries into the mapping at the path; one that is not there is made if `create`,
/// in every element of lists on the way.
pub(super) fn add(value: &mut Value, path: &[&str], entries: &Map<String, Value>, create: bool) {
    if let Value::Array(items) = value {
        items.iter_mut().for_each(|item| add(item, path, entries, create));
        return;
    }
    let Some((name, rest)) = path.split_first() else {
        if value.is_null() {
            *value = Value::Object(Map::new());
        }
        if let Value::Object(fields) = value {
            fields.extend(entries.clone());
        }
        return;
    };
    let Value::Object(fields) = value else { return };
    match fields.get_mut(*name) {
        Some(inner) if !inner.is_null() => add(inner, rest, entries, create),
        // A list is not made: its elements are others' business.
        _ if create => {
            let mut inner = if rest.is_empty() { Value::Null } else { Value::Object(Map::new()) };
            add(&mut inner, rest, entries, create);
            fields.insert((*name).to_owned(), inner);
        }
        _ => {}
    }
}

/// Where pods of a kind are described; empty for kinds without pods.
pub(super) fn pod_spec(kind: &str) -> &'static [&'static str] {
    match kind {
        "Pod" => &["spec"],
        "Deployment"
        | "ReplicaSet"
        | "DaemonSet"
        | "StatefulSet"
        | "Job"
        | "ReplicationController" => &["spec", "template", "spec"],
        "CronJob" => &["spec", "jobTemplate", "spec", "template", "spec"],
        "PodTemplate" => &["template", "spec"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_on_the_way_are_gone_through() {
        let mut object = json!({"a": [{"b": 1}, {"b": 2}, {"c": 3}]});
        let mut sum = 0;
        each(&mut object, &["a", "b"], &mut |value| sum += value.as_i64().unwrap_or(0));
        assert_eq!(sum, 3);
        let entries = json!({"x": "y"});
        let entries = entries.as_object().expect("it is one");
        add(&mut object, &["m", "labels"], entries, true);
        add(&mut object, &["n", "labels"], entries, false);
        add(&mut object, &["a", "l"], entries, true);
        assert_eq!(object["m"], json!({"labels": {"x": "y"}}));
        assert!(object.get("n").is_none() && object["a"][2]["l"]["x"] == "y");
    }
}

//! Others' parts of the one OpenAPI document of version 2.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::learned::Told;

/// Whether a path of the document is of the version at `own`: `apis/a.io/v1`.
fn is_below(path: &str, own: &str) -> bool {
    let rest = path.strip_prefix('/').and_then(|path| path.strip_prefix(own));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What another server's document says of its version: the paths, and the types
/// that they may speak of.
pub(super) fn part(mut document: Value, own: &str) -> Value {
    let mut object = |key: &str| match document.get_mut(key).map(Value::take) {
        Some(Value::Object(all)) => all,
        _ => Map::new(),
    };
    let mut paths = object("paths");
    paths.retain(|path, _| is_below(path, own));
    let mut definitions = object("definitions");
    let mut used = BTreeSet::new();
    let mut found = Vec::new();
    paths.values().for_each(|path| named(path, &mut found));
    while let Some(name) = found.pop() {
        if let Some(definition) = definitions.get(&name)
            && used.insert(name)
        {
            named(definition, &mut found);
        }
    }
    definitions.retain(|name, _| used.contains(name));
    json!({"paths": paths, "definitions": definitions})
}

const REFERENCE: &str = "#/definitions/";

/// The types that something speaks of.
fn named(value: &Value, names: &mut Vec<String>) {
    match value {
        Value::Array(list) => list.iter().for_each(|value| named(value, names)),
        Value::Object(map) => {
            for (key, value) in map {
                match value.as_str().and_then(|text| text.strip_prefix(REFERENCE)) {
                    Some(name) if key == "$ref" => names.push(name.to_owned()),
                    _ => named(value, names),
                }
            }
        }
        _ => {}
    }
}

/// Gives types their new names where they are spoken of.
fn rename(value: &mut Value, names: &BTreeMap<String, String>) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(|value| rename(value, names)),
        Value::Object(map) => {
            for (key, value) in map {
                let name = value.as_str().and_then(|text| text.strip_prefix(REFERENCE));
                match name.and_then(|name| names.get(name)) {
                    Some(name) if key == "$ref" => *value = format!("{REFERENCE}{name}").into(),
                    _ => rename(value, names),
                }
            }
        }
        _ => {}
    }
}

/// Whether two types are one. Which kinds they are is not part of what they are:
/// every server says so of its own.
fn is_same(a: &Value, b: &Value) -> bool {
    const KINDS: &str = "x-kubernetes-group-version-kind";
    let (Some(a), Some(b)) = (a.as_object(), b.as_object()) else { return a == b };
    let of = |map: &Map<String, Value>| map.keys().filter(|key| *key != KINDS).count();
    of(a) == of(b) && a.iter().all(|(key, value)| key == KINDS || b.get(key) == Some(value))
}

/// Our document with the others' parts in it. Another type under a name that is
/// taken gets a name of its own, as upstream gives it: `a.io.v1.Job_v2`.
pub(crate) fn merged(mut document: Value, others: &[Told]) -> Value {
    for told in others {
        let own = format!("apis/{}", told.of.group_version());
        if let Some(paths) = document["paths"].as_object_mut() {
            // It may have taken the place of a version of ours.
            paths.retain(|path, _| !is_below(path, &own));
        }
        let Some(part) = told.value.as_ref().filter(|part| part.is_object()) else { continue };
        let mut part = part.clone();
        let mut names = BTreeMap::new();
        if let (Some(all), Some(theirs)) =
            (document["definitions"].as_object(), part["definitions"].as_object())
        {
            for (name, value) in theirs {
                let fits = |name: &String| all.get(name).is_none_or(|ours| is_same(ours, value));
                if !fits(name) {
                    let mut tries = (2u32..).map(|n| format!("{name}_v{n}"));
                    let free = |new: &String| fits(new) && !theirs.contains_key(new);
                    names.extend(tries.find(free).map(|new| (name.clone(), new)));
                }
            }
        }
        if !names.is_empty() {
            rename(&mut part, &names);
        }
        for key in ["paths", "definitions"] {
            let (Some(all), Some(theirs)) =
                (document[key].as_object_mut(), part[key].as_object_mut())
            else {
                continue;
            };
            for (name, value) in std::mem::take(theirs) {
                let renamed = names.get(&name).filter(|_| key == "definitions").cloned();
                all.entry(renamed.unwrap_or(name)).or_insert(value);
            }
        }
    }
    document
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use api_registry::{Extension, Priority};

    use super::*;

    #[test]
    fn a_part_is_what_is_below_the_version() {
        let document = json!({
            "paths": {"/apis/a.io/v1/": 1, "/apis/a.io/v1": {"$ref": "#/definitions/a.A"},
                "/apis/a.io/v1beta1/b": {"$ref": "#/definitions/b.B"}, "/version": 4},
            "definitions": {
                "a.A": {"properties": {"a": {"$ref": "#/definitions/a.A"}, "c": {"$ref": "#/definitions/c.C"}}},
                "b.B": {}, "c.C": {},
            },
        });
        let part = part(document.clone(), "apis/a.io/v1");
        let of = |key: &str| -> Vec<&str> {
            part[key].as_object().expect("a map").keys().map(String::as_str).collect()
        };
        assert_eq!(of("paths"), ["/apis/a.io/v1", "/apis/a.io/v1/"]);
        assert_eq!(of("definitions"), ["a.A", "c.C"], "what it speaks of, and what that does");
        assert_eq!(super::part(Value::Null, "a"), json!({"paths": {}, "definitions": {}}));
    }

    #[test]
    fn parts_stand_beside_ours_and_in_the_place_of_what_was_taken_over() {
        let own = json!({
            "paths": {"/apis/a.io/v1/as": "ours", "/apis/b.io/v1/bs": "ours"},
            "definitions": {
                "meta": {"type": "object", "x-kubernetes-group-version-kind": ["b"]},
                "job": {"type": "string"}, "job_v2": {"type": "number"},
            },
        });
        let priority =
            Priority { group: "a.io".into(), version: "v1".into(), ..Default::default() };
        let of = Arc::new(Extension { priority, ..Extension::default() });
        let told = |value| [Told { of: of.clone(), value, current: true }];
        let theirs = json!({
            "paths": {"/apis/a.io/v1/cs": {"$ref": "#/definitions/job"}},
            "definitions": {
                "meta": {"type": "object", "x-kubernetes-group-version-kind": ["a"]},
                "job": {"items": {"$ref": "#/definitions/job"}},
                "a.A": {"$ref": "#/definitions/meta"},
            },
        });
        assert_eq!(
            merged(own.clone(), &told(Some(theirs))),
            json!({
                "paths": {
                    "/apis/b.io/v1/bs": "ours",
                    "/apis/a.io/v1/cs": {"$ref": "#/definitions/job_v3"},
                },
                "definitions": {
                    "meta": {"type": "object", "x-kubernetes-group-version-kind": ["b"]},
                    "job": {"type": "string"}, "job_v2": {"type": "number"},
                    "job_v3": {"items": {"$ref": "#/definitions/job_v3"}},
                    "a.A": {"$ref": "#/definitions/meta"},
                },
            })
        );
        let without = merged(own, &told(None));
        assert_eq!(without["paths"], json!({"/apis/b.io/v1/bs": "ours"}));
    }
}

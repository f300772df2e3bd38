//! Others' parts of the one OpenAPI document of version 2.

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
    json!({"paths": paths, "definitions": object("definitions")})
}

/// Our document with the others' parts in it. Of a type that two of them have,
/// ours or else the first is kept: what both build on is Kubernetes' own.
pub(crate) fn merged(mut document: Value, others: &[Told]) -> Value {
    for told in others {
        let own = format!("apis/{}", told.of.group_version());
        if let Some(paths) = document["paths"].as_object_mut() {
            // It may have taken the place of a version of ours.
            paths.retain(|path, _| !is_below(path, &own));
        }
        let Some(part) = told.value.as_ref().filter(|part| part.is_object()) else { continue };
        for key in ["paths", "definitions"] {
            let (Some(all), Some(theirs)) = (document[key].as_object_mut(), part[key].as_object())
            else {
                continue;
            };
            for (name, value) in theirs {
                if !all.contains_key(name) {
                    all.insert(name.clone(), value.clone());
                }
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
        let document = json!({"paths": {"/apis/a.io/v1/": 1, "/apis/a.io/v1": 2,
            "/apis/a.io/v1beta1/b": 3, "/version": 4}, "definitions": {"a.A": {}}});
        let part = part(document, "apis/a.io/v1");
        assert_eq!(
            part,
            json!({"paths": {"/apis/a.io/v1/": 1, "/apis/a.io/v1": 2}, "definitions": {"a.A": {}}})
        );
        assert_eq!(super::part(Value::Null, "a"), json!({"paths": {}, "definitions": {}}));
    }

    #[test]
    fn parts_stand_beside_ours_and_in_the_place_of_what_was_taken_over() {
        let own = json!({
            "paths": {"/apis/a.io/v1/as": "ours", "/apis/b.io/v1/bs": "ours"},
            "definitions": {"meta": "ours"},
        });
        let priority =
            Priority { group: "a.io".into(), version: "v1".into(), ..Default::default() };
        let of = Arc::new(Extension { priority, ..Extension::default() });
        let told = |value| [Told { of: of.clone(), value, current: true }];
        let theirs = json!({"paths": {"/apis/a.io/v1/cs": "theirs"},
            "definitions": {"meta": "theirs", "a.A": "theirs"}});
        assert_eq!(
            merged(own.clone(), &told(Some(theirs))),
            json!({
                "paths": {"/apis/b.io/v1/bs": "ours", "/apis/a.io/v1/cs": "theirs"},
                "definitions": {"meta": "ours", "a.A": "theirs"},
            })
        );
        let without = merged(own, &told(None));
        assert_eq!(without["paths"], json!({"/apis/b.io/v1/bs": "ours"}));
    }
}

//! The patch of client-side apply: what was applied last, what is applied now,
//! and what is there, made into a strategic merge patch where a shape says how
//! lists merge, and into a JSON merge patch elsewhere.

use api_schema::{Field, Holds, Schema, ShapeId, ShapeRef, Type};
use serde_json::{Map, Value, json};

type Tree = Map<String, Value>;

/// The patch; an empty object where nothing is to be done.
pub(crate) fn patch(
    original: &Value,
    modified: &Value,
    current: &Value,
    shape: Option<&ShapeRef>,
) -> Value {
    let diff = Diff { schema: shape.map(|shape| &*shape.schema) };
    let empty = Tree::new();
    let map = |value: &'_ Value| value.as_object().cloned().unwrap_or_default();
    let _ = &empty;
    let made = diff.maps(&map(original), &map(modified), &map(current), shape.map(|s| s.id));
    Value::Object(made)
}

struct Diff<'s> {
    schema: Option<&'s Schema>,
}

impl<'s> Diff<'s> {
    fn field(&self, shape: Option<ShapeId>, name: &str) -> Option<&'s Field> {
        self.schema?.field(shape?, name)
    }

    fn maps(
        &self,
        original: &Tree,
        modified: &Tree,
        current: &Tree,
        shape: Option<ShapeId>,
    ) -> Tree {
        let mut patch = Tree::new();
        for (name, wanted) in modified {
            let Some(there) = current.get(name) else {
                if !wanted.is_null() {
                    patch.insert(name.clone(), wanted.clone());
                }
                continue;
            };
            let field = self.field(shape, name);
            let inner = field.and_then(inner_shape);
            let before = original.get(name);
            match (wanted, there) {
                (Value::Object(wanted), Value::Object(there)) => {
                    let before = before.and_then(Value::as_object).cloned().unwrap_or_default();
                    let mut made = self.maps(&before, wanted, there, inner);
                    if made.is_empty() {
                        continue;
                    }
                    if field.is_some_and(|field| field.patch_retain_keys) {
                        made.insert("$retainKeys".into(), retained(wanted));
                    }
                    patch.insert(name.clone(), Value::Object(made));
                }
                (Value::Array(wanted), Value::Array(there)) => {
                    let before = before.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                    match field.filter(|field| field.patch_merge) {
                        Some(field) => self.lists(name, before, wanted, there, field, &mut patch),
                        None if wanted != there => {
                            patch.insert(name.clone(), Value::Array(wanted.clone()));
                        }
                        None => {}
                    }
                }
                (wanted, there) if wanted != there => {
                    patch.insert(name.clone(), wanted.clone());
                }
                _ => {}
            }
        }
        for name in original.keys().filter(|name| !modified.contains_key(*name)) {
            patch.insert(name.clone(), Value::Null);
        }
        patch
    }

    /// A list whose elements are merged, by a key or as a set.
    fn lists(
        &self,
        name: &str,
        original: &[Value],
        modified: &[Value],
        current: &[Value],
        field: &Field,
        patch: &mut Tree,
    ) {
        let key = self.schema.map_or("", |schema| schema.merge_key(field));
        if key.is_empty() {
            let added: Vec<Value> =
                modified.iter().filter(|item| !current.contains(item)).cloned().collect();
            let removed: Vec<Value> =
                original.iter().filter(|item| !modified.contains(item)).cloned().collect();
            if added.is_empty() && removed.is_empty() {
                return;
            }
            patch.insert(format!("$setElementOrder/{name}"), Value::Array(modified.to_vec()));
            if !added.is_empty() {
                patch.insert(name.to_owned(), Value::Array(added));
            }
            if !removed.is_empty() {
                patch.insert(format!("$deleteFromPrimitiveList/{name}"), Value::Array(removed));
            }
            return;
        }
        let inner = inner_shape(field);
        let find =
            |list: &'_ [Value], id: &Value| list.iter().find(|item| item[key] == *id).cloned();
        let mut items = Vec::new();
        for wanted in modified {
            let id = &wanted[key];
            let Some(there) = find(current, id) else {
                items.push(wanted.clone());
                continue;
            };
            let before = find(original, id).unwrap_or(Value::Null);
            let map = |value: &Value| value.as_object().cloned().unwrap_or_default();
            let mut made = self.maps(&map(&before), &map(wanted), &map(&there), inner);
            if !made.is_empty() {
                if field.patch_retain_keys {
                    made.insert("$retainKeys".into(), retained(&map(wanted)));
                }
                made.insert(key.to_owned(), id.clone());
                items.push(Value::Object(made));
            }
        }
        for before in original {
            let id = &before[key];
            if find(modified, id).is_none() {
                items.push(json!({"$patch": "delete", key: id}));
            }
        }
        let order = |list: &[Value]| -> Vec<Value> {
            let ids = list.iter().map(|item| item[key].clone());
            ids.filter(|id| find(modified, id).is_some()).collect()
        };
        let reordered = {
            let there = order(current);
            let wanted: Vec<Value> =
                order(modified).into_iter().filter(|id| there.contains(id)).collect();
            wanted != there
        };
        if items.is_empty() && !reordered {
            return;
        }
        let ids: Vec<Value> = modified.iter().map(|item| json!({key: item[key]})).collect();
        patch.insert(format!("$setElementOrder/{name}"), Value::Array(ids));
        if !items.is_empty() {
            patch.insert(name.to_owned(), Value::Array(items));
        }
    }
}

fn inner_shape(field: &Field) -> Option<ShapeId> {
    match field.ty {
        Type::Struct(id) if field.holds != Holds::Map => Some(id),
        _ => None,
    }
}

fn retained(wanted: &Tree) -> Value {
    Value::Array(wanted.keys().map(|key| Value::String(key.clone())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> ShapeRef {
        let catalogue = api_kinds::catalogue();
        catalogue.by_kind("", "v1", "Pod").expect("a pod").shape.clone()
    }

    /// What the server would make of the patch must hold what was wanted.
    #[test]
    fn fields_and_list_elements_come_and_go() {
        let original = json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"containers": [
            {"name": "c", "image": "x", "env": [{"name": "E", "value": "1"}]}, {"name": "gone", "image": "y"},
        ]}});
        let modified = json!({"metadata": {"labels": {"a": "1"}}, "spec": {"containers": [
            {"name": "c", "image": "z"}, {"name": "new", "image": "n"},
        ]}});
        let current = json!({"metadata": {"labels": {"a": "1", "b": "2", "other": "3"}}, "spec": {"containers": [
            {"name": "c", "image": "x", "env": [{"name": "E", "value": "1"}], "terminationMessagePath": "/d"},
            {"name": "gone", "image": "y"}, {"name": "injected", "image": "i"},
        ]}});
        assert_eq!(
            patch(&original, &modified, &current, Some(&pod())),
            json!({"metadata": {"labels": {"b": null}}, "spec": {
                "$setElementOrder/containers": [{"name": "c"}, {"name": "new"}],
                "containers": [
                    {"name": "c", "image": "z", "env": null}, {"name": "new", "image": "n"},
                    {"$patch": "delete", "name": "gone"},
                ],
            }})
        );
    }

    #[test]
    fn nothing_to_do_is_an_empty_patch() {
        let applied = json!({"spec": {"containers": [{"name": "c", "image": "x"}], "a": [1]}});
        let current = json!({"spec": {"containers": [{"name": "c", "image": "x", "more": 1}], "a": [1], "b": 2}});
        assert_eq!(patch(&applied, &applied, &current, Some(&pod())), json!({}));
        assert_eq!(
            patch(&applied, &applied, &current, None),
            json!({"spec": {"containers": [{"name": "c", "image": "x"}]}}),
            "without a shape a list is one value"
        );
    }

    #[test]
    fn volumes_keep_only_what_is_named() {
        let volume = |kind: &str| json!({"spec": {"volumes": [{"name": "v", kind: {}}]}});
        assert_eq!(
            patch(&volume("emptyDir"), &volume("hostPath"), &volume("emptyDir"), Some(&pod())),
            json!({"spec": {
                "$setElementOrder/volumes": [{"name": "v"}],
                "volumes": [{"name": "v", "hostPath": {}, "emptyDir": null, "$retainKeys": ["hostPath", "name"]}],
            }})
        );
    }

    #[test]
    fn sets_of_texts_are_merged() {
        let with = |finalizers: &[&str]| json!({"metadata": {"finalizers": finalizers}});
        assert_eq!(
            patch(&with(&["a", "b"]), &with(&["b", "c"]), &with(&["a", "b", "x"]), Some(&pod())),
            json!({"metadata": {
                "$setElementOrder/finalizers": ["b", "c"], "finalizers": ["c"],
                "$deleteFromPrimitiveList/finalizers": ["a"],
            }})
        );
    }
}

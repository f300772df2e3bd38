//! Strategic merge patch: a merge patch that knows which lists are keyed.
//!
//! Directives: `$patch: replace|delete|merge`, `$deleteFromPrimitiveList/field`,
//! `$setElementOrder/field`, `$retainKeys`. Semantics are those of apimachinery's
//! `strategicpatch` where it is applied on the server: nulls of the patch that
//! match nothing are dropped.

use api_object::Status;
use serde_json::{Map, Value};

use crate::{Field, Holds, ResourceSpec, Schema, ShapeId, Type};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const ELEMENT_ORDER: &str = "$setElementOrder/";

impl ResourceSpec {
    /// The object with a strategic merge patch applied.
    ///
    /// # Errors
    /// 400 where the patch is malformed: unknown directives, elements without
    /// their merge key.
    pub fn strategic_merge(&self, object: Value, patch: Value) -> Result<Value, Status> {
        let merge = Merge { schema: &self.shape.schema };
        match (object, patch) {
            (Value::Object(object), Value::Object(patch)) => {
                let merged = merge.map(object, patch, Some(self.shape.id));
                merged.map(Value::Object).map_err(Status::bad_request)
            }
            _ => Err(Status::bad_request("a strategic merge patch must be a JSON object")),
        }
    }
}

struct Merge<'s> {
    schema: &'s Schema,
}

/// How a field merges; for fields that no shape names, like plain JSON.
#[derive(Clone, Copy, Default)]
struct FieldRule<'s> {
    inner: Option<ShapeId>,
    merge_list: bool,
    key: &'s str,
}

type Tree = Map<String, Value>;

impl<'s> Merge<'s> {
    fn strategy(&self, shape: Option<ShapeId>, name: &str) -> FieldRule<'s> {
        let Some(field) = shape.and_then(|id| self.schema.field(id, name)) else {
            return FieldRule::default();
        };
        let inner = match field.ty {
            Type::Struct(id) if field.holds != Holds::Map => Some(id),
            _ => None,
        };
        let key = self.schema.merge_key(field);
        FieldRule { inner, merge_list: merges(field), key }
    }

    fn map(&self, mut into: Tree, mut patch: Tree, shape: Option<ShapeId>) -> Result<Tree, String> {
        match patch.remove(DIRECTIVE) {
            None => {}
            Some(Value::String(word)) if word == "merge" => {}
            Some(Value::String(word)) if word == "replace" => return self.plain(patch, shape),
            Some(Value::String(word)) if word == "delete" => return Ok(Tree::new()),
            Some(other) => return Err(format!("unknown patch type found: {other}")),
        }
        if let Some(keep) = patch.remove(RETAIN_KEYS) {
            retain_keys(&mut into, &patch, &keep)?;
        }
        let orders = take_prefixed(&mut patch, ELEMENT_ORDER)?;
        for (name, gone) in take_prefixed(&mut patch, DELETE_FROM)? {
            if let Some(Value::Array(list)) = into.get_mut(&name) {
                list.retain(|element| !gone.contains(element));
            }
        }
        for (name, value) in patch {
            let strategy = self.strategy(shape, &name);
            if value.is_null() {
                into.remove(&name);
                continue;
            }
            let before = into.remove(&name);
            let merged = match (before, value) {
                (Some(Value::Object(before)), Value::Object(value)) => {
                    self.map(before, value, strategy.inner)?.into()
                }
                (before, Value::Object(value)) => {
                    drop(before);
                    self.map(Tree::new(), value, strategy.inner)?.into()
                }
                (Some(Value::Array(before)), Value::Array(value)) if strategy.merge_list => {
                    let order = orders.iter().find(|(list, _)| *list == name);
                    self.list(before, value, strategy, order.map(|(_, order)| order))?.into()
                }
                (_, Value::Array(value)) if strategy.merge_list => {
                    let order = orders.iter().find(|(list, _)| *list == name);
                    self.list(Vec::new(), value, strategy, order.map(|(_, order)| order))?.into()
                }
                (_, Value::Array(value)) => {
                    let value = value.into_iter().map(without_nulls);
                    value.collect::<Vec<Value>>().into()
                }
                (_, value) => value,
            };
            into.insert(name, merged);
        }
        // An order may come without a change of the list's elements.
        for (name, order) in orders {
            if let Some(Value::Array(list)) = into.remove(&name) {
                let strategy = self.strategy(shape, &name);
                let server = list.clone();
                into.insert(name, in_order(list, &order, &server, strategy.key).into());
            }
        }
        Ok(into)
    }

    /// A tree without nulls and directives, as if merged into nothing.
    fn plain(&self, patch: Tree, shape: Option<ShapeId>) -> Result<Tree, String> {
        self.map(Tree::new(), patch, shape)
    }

    fn list(
        &self,
        before: Vec<Value>,
        mut patch: Vec<Value>,
        strategy: FieldRule<'_>,
        order: Option<&Vec<Value>>,
    ) -> Result<Vec<Value>, String> {
        let key = strategy.key;
        if key.is_empty() {
            let mut merged = before.clone();
            for element in &patch {
                if !merged.contains(element) {
                    merged.push(element.clone());
                }
            }
            return Ok(in_order(merged, order.unwrap_or(&patch), &before, key));
        }
        let server = before.clone();
        let mut merged = before;
        // With nothing to merge with the list is taken as it is, even if a key is
        // in it twice: a Node has an InternalIP of each family.
        let mut whole = merged.is_empty();
        // Directives first: whole-list replacement, then deletions.
        let directive = |element: &Value| element.get(DIRECTIVE).cloned();
        if patch.iter().any(|element| directive(element).is_some_and(|word| word == "replace")) {
            patch.retain(|element| directive(element).is_none());
            merged.clear();
            whole = true;
        }
        for element in patch.extract_if(.., |element| directive(element).is_some()) {
            match directive(&element) {
                Some(word) if word == "delete" => {
                    let wanted = key_of(&element, key)?.clone();
                    merged.retain(|element| element.get(key) != Some(&wanted));
                }
                Some(word) if word == "merge" => {
                    return Err(format!(
                        "merging lists cannot yet be specified in the patch: {word}"
                    ));
                }
                word => {
                    return Err(format!("unknown patch type found: {}", word.unwrap_or_default()));
                }
            }
        }
        let mut named = Vec::with_capacity(patch.len());
        for element in patch {
            let wanted = key_of(&element, key)?.clone();
            let Value::Object(element) = element else { continue };
            let same = |element: &Value| element.get(key) == Some(&wanted);
            let at = if whole { None } else { merged.iter().position(same) };
            match at {
                Some(at) => {
                    let before = match merged[at].take() {
                        Value::Object(map) => map,
                        _ => Tree::new(),
                    };
                    merged[at] = self.map(before, element, strategy.inner)?.into();
                }
                None => merged.push(self.plain(element, strategy.inner)?.into()),
            }
            named.push(Value::Object([(key.to_owned(), wanted)].into_iter().collect()));
        }
        Ok(in_order(merged, order.unwrap_or(&named), &server, key))
    }
}

fn merges(field: &Field) -> bool {
    field.holds == Holds::List && field.patch_merge
}

fn key_of<'v>(element: &'v Value, key: &str) -> Result<&'v Value, String> {
    element
        .get(key)
        .ok_or_else(|| format!("map: {element} does not contain declared merge key: {key}"))
}

fn retain_keys(into: &mut Tree, patch: &Tree, keep: &Value) -> Result<(), String> {
    let Value::Array(keep) = keep else {
        return Err(format!("{RETAIN_KEYS} must be a list of field names"));
    };
    let kept = |name: &str| keep.iter().any(|kept| kept == name);
    if let Some(name) = patch.keys().find(|name| !name.starts_with('$') && !kept(name)) {
        return Err(format!("{RETAIN_KEYS} does not contain {name:?}, which the patch sets"));
    }
    into.retain(|name, _| kept(name));
    Ok(())
}

/// Takes the entries of a directive that names a list in its key.
fn take_prefixed(patch: &mut Tree, prefix: &str) -> Result<Vec<(String, Vec<Value>)>, String> {
    let keys: Vec<String> = patch.keys().filter(|key| key.starts_with(prefix)).cloned().collect();
    let mut taken = Vec::with_capacity(keys.len());
    for key in keys {
        match patch.remove(&key) {
            Some(Value::Array(list)) => taken.push((key[prefix.len()..].to_owned(), list)),
            _ => return Err(format!("{key} must be a list")),
        }
    }
    Ok(taken)
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key, without_nulls(value)))
            .collect::<Tree>()
            .into(),
        value => value,
    }
}

/// Elements that `order` names come in its order; the others keep the server's.
/// Between one of each, the server's order decides where it knows both, and the
/// ordered one comes first otherwise.
fn in_order(merged: Vec<Value>, order: &[Value], server: &[Value], key: &str) -> Vec<Value> {
    let place = |list: &[Value], element: &Value| {
        list.iter().position(|other| match key {
            "" => other == element,
            key => other.get(key) == element.get(key),
        })
    };
    let (mut ordered, mut rest): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|element| place(order, element).is_some());
    ordered.sort_by_key(|element| place(order, element));
    rest.sort_by_key(|element| place(server, element));
    let mut out = Vec::with_capacity(ordered.len() + rest.len());
    let (mut ordered, mut rest) = (ordered.into_iter().peekable(), rest.into_iter().peekable());
    loop {
        let take_rest = match (rest.peek(), ordered.peek()) {
            (Some(left), Some(right)) => match (place(server, left), place(server, right)) {
                (Some(left), Some(right)) => left < right,
                _ => false,
            },
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => return out,
        };
        out.extend(if take_rest { rest.next() } else { ordered.next() });
    }
}

#[cfg(test)]
mod tests;

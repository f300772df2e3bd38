//! What is different between two objects, field by field.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    node::{Node, elements},
    path::{self, Step},
    set::FieldSet,
};
use crate::{Field, Holds, Schema, Type};

/// The fields in which an object differs from an older one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Added or with another value.
    pub changed: FieldSet,
    /// Not there any more.
    pub removed: FieldSet,
}

/// The same for one place: whether the place itself, and which parts.
#[derive(Default)]
struct Found {
    changed: bool,
    removed: bool,
    below: Difference,
}

/// Compares two values of one place.
pub(super) fn compare(schema: &Schema, node: Node, old: &Value, new: &Value) -> Difference {
    walk(schema, node, Some(old), Some(new)).below
}

fn walk(schema: &Schema, node: Node, old: Option<&Value>, new: Option<&Value>) -> Found {
    let (before, after) = (node.deduced(old), node.deduced(new));
    let mut found = match (before, after) {
        // One is a map and the other is not: its parts come or go, and the place has another value.
        (Node::Deduced, Node::Whole) if old.is_some() => {
            let mut found = parts(schema, before, old, None);
            found.changed = true;
            return found;
        }
        (Node::Whole, Node::Deduced) if new.is_some() => {
            let mut found = parts(schema, after, None, new);
            found.changed = true;
            return found;
        }
        (Node::Whole, _) | (_, Node::Whole) => return whole(old, new),
        (node, _) => {
            if is_nothing(old) && is_nothing(new) {
                return whole(old, new);
            }
            parts(schema, node, old, new)
        }
    };
    found.changed |= old.is_none();
    found.removed |= new.is_none();
    found
}

/// Null, absent and empty are leaves, so that they can be told apart.
fn is_nothing(value: Option<&Value>) -> bool {
    match value {
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Array(list)) => list.is_empty(),
        _ => true,
    }
}

fn whole(old: Option<&Value>, new: Option<&Value>) -> Found {
    let mut found = Found::default();
    match (old, new) {
        (Some(old), Some(new)) => found.changed = old != new && path::compare(old, new).is_ne(),
        (None, Some(_)) => found.changed = true,
        (Some(_), None) => found.removed = true,
        (None, None) => {}
    }
    found
}

fn parts(schema: &Schema, node: Node, old: Option<&Value>, new: Option<&Value>) -> Found {
    let mut found = Found::default();
    match node {
        Node::Set(_) | Node::Keyed(..) => list(schema, node, old, new, &mut found.below),
        _ => map(schema, node, old, new, &mut found.below),
    }
    found
}

fn add(out: &mut Difference, step: impl Fn() -> Step, found: Found) {
    if found.changed || !found.below.changed.is_empty() {
        out.changed.push(step(), found.changed, found.below.changed);
    }
    if found.removed || !found.below.removed.is_empty() {
        out.removed.push(step(), found.removed, found.below.removed);
    }
}

fn map(
    schema: &Schema,
    node: Node,
    old: Option<&Value>,
    new: Option<&Value>,
    out: &mut Difference,
) {
    let nothing = serde_json::Map::new();
    let (old, new) = (old.and_then(Value::as_object), new.and_then(Value::as_object));
    let (olds, news) = (old.unwrap_or(&nothing), new.unwrap_or(&nothing));
    let mut entry = |name: &str, before: Option<&Value>, after: Option<&Value>| {
        if before == after {
            return;
        }
        let Some((inner, _)) = node.entry(schema, name) else { return };
        // A field that Go's encoder always writes is null where nothing is said.
        let null = match node {
            Node::Struct(id) => schema.field(id, name).filter(|field| written_as_null(field)),
            _ => None,
        }
        .map(|_| &Value::Null);
        let before = before.or(null.filter(|_| old.is_some()));
        let after = after.or(null.filter(|_| new.is_some()));
        add(out, || Step::field(name), walk(schema, inner, before, after));
    };
    // Both are sorted by name: one walk visits each name once, in order.
    let (mut a, mut b) = (olds.iter().peekable(), news.iter().peekable());
    loop {
        let order = match (a.peek(), b.peek()) {
            (None, None) => return,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some((a, _)), Some((b, _))) => a.cmp(b),
        };
        let before = if order.is_le() { a.next() } else { None };
        let after = if order.is_ge() { b.next() } else { None };
        let name = before.or(after).map_or("", |(name, _)| name.as_str());
        entry(name, before.map(|(_, value)| value), after.map(|(_, value)| value));
    }
}

/// Whether Go's encoder writes null where the field is not set.
fn written_as_null(field: &Field) -> bool {
    let no_zero = matches!(field.ty, Type::Any | Type::Object | Type::Time | Type::MicroTime);
    !field.omit_empty && (field.holds != Holds::One || no_zero)
}

fn list(
    schema: &Schema,
    node: Node,
    old: Option<&Value>,
    new: Option<&Value>,
    out: &mut Difference,
) {
    type Elements<'v> = (Vec<&'v Value>, Vec<&'v Value>);
    let mut all: BTreeMap<Step, Elements<'_>> = BTreeMap::new();
    for (step, element) in elements(node, schema, old) {
        let Some(step) = step else { continue };
        all.entry(step).or_default().0.push(element);
    }
    for (step, element) in elements(node, schema, new) {
        let Some(step) = step else { continue };
        all.entry(step).or_default().1.push(element);
    }
    let inner = node.element(schema);
    for (step, (olds, news)) in all {
        // What is there twice cannot be told apart, so it is one whole.
        let found = match (olds.as_slice(), news.as_slice()) {
            ([], [new]) => walk(schema, inner, None, Some(new)),
            ([old], []) => walk(schema, inner, Some(old), None),
            ([old], [new]) => walk(schema, inner, Some(old), Some(new)),
            ([_, _, ..], [_, _, ..]) => Found { changed: olds != news, ..Found::default() },
            ([_, _, ..], news) => {
                let mut found = news
                    .first()
                    .map(|new| walk(schema, inner, None, Some(new)))
                    .unwrap_or_default();
                found.removed = true;
                found
            }
            (olds, _) => {
                let mut found = olds
                    .first()
                    .map(|old| walk(schema, inner, Some(old), None))
                    .unwrap_or_default();
                found.changed = true;
                found
            }
        };
        add(out, || step.clone(), found);
    }
}

//! Which fields a value sets, and what the shapes say of a set.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    node::{Node, elements},
    path::Step,
    set::{Entry, FieldSet},
};
use crate::Schema;

/// The fields that a value sets: whether the place itself, and which parts.
pub(super) fn extract(schema: &Schema, node: Node, value: &Value) -> (bool, FieldSet) {
    let mut set = FieldSet::default();
    match node.deduced(Some(value)) {
        Node::Whole => return (true, set),
        node @ (Node::Set(_) | Node::Keyed(..)) => {
            let mut seen: BTreeMap<Step, Option<&Value>> = BTreeMap::new();
            for (step, element) in elements(node, schema, Some(value)) {
                let Some(step) = step else { continue };
                // What is there twice is owned as a whole, since its parts cannot be told apart.
                seen.entry(step).and_modify(|only| *only = None).or_insert(Some(element));
            }
            for (step, element) in seen {
                let below = element.map(|element| extract(schema, node.element(schema), element).1);
                set.push(step, true, below.unwrap_or_default());
            }
        }
        node => {
            for (name, value) in value.as_object().into_iter().flatten() {
                let Some((inner, declared)) = node.entry(schema, name) else { continue };
                let (member, below) = extract(schema, inner, value);
                let nothing =
                    value.is_null() || value.as_object().is_some_and(|map| map.is_empty());
                set.push(Step::field(name), member || nothing || !declared, below);
            }
        }
    }
    (false, set)
}

/// The set with every declared field in it of which a part is: whoever lets go
/// of all parts of a struct lets go of the struct.
pub(super) fn with_named(schema: &Schema, node: Option<Node>, set: &FieldSet) -> FieldSet {
    let entries = set.entries.iter().map(|entry| {
        let (inner, declared) = descend(schema, node, &entry.step);
        Entry {
            step: entry.step.clone(),
            member: entry.member || (declared && !entry.below.is_empty()),
            below: with_named(schema, inner, &entry.below),
        }
    });
    FieldSet { entries: entries.collect() }
}

/// The set as it is where the shape has become atomic since it was recorded:
/// who owned parts owns the whole.
pub(super) fn reconciled(schema: &Schema, node: Option<Node>, set: &FieldSet) -> FieldSet {
    let entries = set.entries.iter().map(|entry| {
        let (inner, _) = descend(schema, node, &entry.step);
        match inner {
            Some(Node::Whole) if !entry.below.is_empty() => {
                Entry { step: entry.step.clone(), member: true, below: FieldSet::default() }
            }
            inner => Entry {
                step: entry.step.clone(),
                member: entry.member,
                below: reconciled(schema, inner, &entry.below),
            },
        }
    });
    FieldSet { entries: entries.collect() }
}

/// Whether [`reconciled`] would change nothing, which is nearly always so.
pub(super) fn is_reconciled(schema: &Schema, node: Option<Node>, set: &FieldSet) -> bool {
    set.entries.iter().filter(|entry| !entry.below.is_empty()).all(|entry| {
        let (inner, _) = descend(schema, node, &entry.step);
        !matches!(inner, Some(Node::Whole)) && is_reconciled(schema, inner, &entry.below)
    })
}

fn descend(schema: &Schema, node: Option<Node>, step: &Step) -> (Option<Node>, bool) {
    let Some(node) = node else { return (None, false) };
    match step {
        Step::Field(name) => match node.entry(schema, name) {
            Some((inner, declared)) => (Some(inner), declared),
            None => (None, false),
        },
        Step::Key(_) | Step::Value(_) => (Some(node.element(schema)), false),
        Step::Index(_) => (None, false),
    }
}

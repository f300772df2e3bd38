//! A configuration merged into an object: what it names is taken from it, all
//! else stays.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    node::{Node, elements},
    path::Step,
};
use crate::Schema;

/// The object with the configuration merged into it.
pub(super) fn merge(schema: &Schema, node: Node, live: Value, config: &Value) -> Value {
    let (before, after) = (node.deduced(Some(&live)), node.deduced(Some(config)));
    match (before, after) {
        (Node::Whole, _) | (_, Node::Whole) => config.clone(),
        (Node::Set(_) | Node::Keyed(..), _) => {
            let empty = |value: &Value| value.as_array().is_none_or(Vec::is_empty);
            match (empty(&live), empty(config)) {
                (true, _) => config.clone(),
                (false, true) => live,
                (false, false) => Value::Array(list(schema, node, &live, config)),
            }
        }
        _ => match (live, config) {
            (Value::Object(mut live), Value::Object(config)) if !live.is_empty() => {
                for (name, value) in config {
                    let merged = match (live.remove(name), node.entry(schema, name)) {
                        (Some(before), Some((inner, _))) => merge(schema, inner, before, value),
                        _ => value.clone(),
                    };
                    live.insert(name.clone(), merged);
                }
                Value::Object(live)
            }
            (live @ Value::Object(_), Value::Null)
                if live.as_object().is_some_and(|map| !map.is_empty()) =>
            {
                live
            }
            _ => config.clone(),
        },
    }
}

/// The elements of both. The configuration's order holds between its elements;
/// the others stay where they are, before what comes after them.
fn list(schema: &Schema, node: Node, live: &Value, config: &Value) -> Vec<Value> {
    let inner = node.element(schema);
    let live = elements(node, schema, Some(live));
    let config = elements(node, schema, Some(config));
    let mut in_config: BTreeMap<&Step, usize> = BTreeMap::new();
    for (place, (step, _)) in config.iter().enumerate() {
        in_config.extend(step.as_ref().map(|step| (step, place)));
    }
    let mut in_live: BTreeMap<&Step, Vec<&Value>> = BTreeMap::new();
    for (step, element) in &live {
        if let Some(step) = step {
            in_live.entry(step).or_default().push(element);
        }
    }
    let take = |place: usize| -> Value {
        let (step, element) = &config[place];
        let before =
            step.as_ref().and_then(|step| in_live.get(step)).map_or(&[][..], Vec::as_slice);
        match before {
            [before] => merge(schema, inner, (*before).clone(), element),
            // Several with one key are replaced by the one that is applied.
            _ => (*element).clone(),
        }
    };
    // The places, in the configuration, of what both have, in its order.
    let shared: Vec<usize> = (0..config.len())
        .filter(|&place| config[place].0.as_ref().is_some_and(|step| in_live.contains_key(step)))
        .collect();
    let mut out = Vec::with_capacity(live.len().max(config.len()));
    let (mut next, mut shared) = (0, shared.into_iter().peekable());
    for (step, element) in &live {
        match step.as_ref().and_then(|step| in_config.get(step)) {
            None => out.push((*element).clone()),
            // It was taken already, or comes later in the configuration's order.
            Some(place) if shared.peek() != Some(place) => {}
            Some(&place) => {
                out.extend((next..=place).map(&take));
                next = place + 1;
                shared.next();
            }
        }
    }
    out.extend((next..config.len()).map(&take));
    out
}

//! Pruning: what the schema does not name does not stay.

use serde_json::Value;

use super::{Additional, Node};

/// What every object has, named by its schema or not.
const META: [&str; 3] = ["apiVersion", "kind", "metadata"];

impl Node {
    /// Takes away what the schema of an object does not name, and gives the
    /// paths of it, sorted: `spec.a[0].b`. The object's own apiVersion, kind and
    /// metadata stay.
    pub fn prune(&self, object: &mut Value) -> Vec<String> {
        let mut gone = Vec::new();
        prune(Some(self), Place::Root, object, &mut String::new(), &mut gone);
        gone.sort();
        gone
    }

    /// The same for a part of an object, such as a default.
    pub fn prune_part(&self, value: &mut Value) -> Vec<String> {
        let mut gone = Vec::new();
        prune(Some(self), Place::Below, value, &mut String::new(), &mut gone);
        gone.sort();
        gone
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Root,
    Below,
    /// An element of a list in which nothing is pruned.
    Preserved,
}

fn prune(
    node: Option<&Node>,
    place: Place,
    value: &mut Value,
    path: &mut String,
    gone: &mut Vec<String>,
) {
    let preserves = node.is_some_and(|node| node.preserve_unknown || place == Place::Preserved);
    let here = path.len();
    match value {
        Value::Object(map) => map.retain(|name, value| {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(name);
            let has_meta = place == Place::Root || node.is_some_and(|node| node.embedded);
            let named = node.and_then(|node| node.property(name));
            let keep = if has_meta && META.contains(&name.as_str()) {
                true
            } else if named.is_some() {
                prune(named, Place::Below, value, path, gone);
                true
            } else {
                match node.map(|node| &node.additional) {
                    Some(Additional::Node(inner)) => {
                        prune(Some(inner), Place::Below, value, path, gone);
                        true
                    }
                    Some(Additional::Any) => {
                        if !preserves {
                            prune(None, Place::Below, value, path, gone);
                        }
                        true
                    }
                    _ => preserves,
                }
            };
            if !keep {
                gone.push(path.clone());
            }
            path.truncate(here);
            keep
        }),
        Value::Array(list) => {
            let items = node.and_then(|node| node.items.as_deref());
            // Whatever is preserved is so at every depth that nothing is said of.
            if items.is_none() && preserves {
                return;
            }
            let place = if preserves { Place::Preserved } else { Place::Below };
            for (index, value) in list.iter_mut().enumerate() {
                path.push_str(&format!("[{index}]"));
                prune(items, place, value, path, gone);
                path.truncate(here);
            }
        }
        _ => {}
    }
}

//! What kubectl's client-side apply remembers in an annotation, kept in step
//! while its server-side apply takes over.

use serde_json::Value;

use crate::tree;

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Upstream's limit for all annotations of an object together.
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

fn text_of(object: &Value) -> Option<&str> {
    let annotations = tree::get(object, "metadata.annotations");
    annotations.get(ANNOTATION)?.as_str().filter(|text| !text.is_empty())
}

/// The configuration that was applied last; `None` where none is remembered.
pub(super) fn read(object: &Value) -> Option<Value> {
    serde_json::from_str(text_of(object)?).ok()
}

/// Has an object that remembers a configuration remember this one.
pub(super) fn follow(object: &mut Value, config: &Value) {
    if text_of(object).is_none() {
        return;
    }
    let mut config = config.clone();
    tree::remove(&mut config, "metadata.managedFields");
    if let Some(annotations) = tree::at_mut(&mut config, "metadata.annotations")
        && let Some(annotations) = annotations.as_object_mut()
    {
        annotations.remove(ANNOTATION);
    }
    let Some(annotations) = tree::at_mut(object, "metadata.annotations") else { return };
    let Some(annotations) = annotations.as_object_mut() else { return };
    annotations.insert(ANNOTATION.into(), format!("{config}\n").into());
    let bytes = |(key, value): (&String, &Value)| key.len() + value.as_str().map_or(0, str::len);
    // Applying does not fail for the sake of a memory.
    if annotations.iter().map(bytes).sum::<usize>() > ANNOTATIONS_BYTES_MAX {
        annotations.remove(ANNOTATION);
    }
}

//! The annotation in which client-side apply keeps what was applied.

use serde_json::{Map, Value};

use crate::print::json;

pub(crate) const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What was applied last, as it stands there.
pub(crate) fn text(object: &Value) -> Option<&str> {
    object["metadata"]["annotations"][ANNOTATION].as_str()
}

/// The patch that says that this was applied last.
pub(crate) fn patch(applied: &Value) -> Value {
    serde_json::json!({"metadata": {"annotations": {ANNOTATION: json::compact(applied) + "\n"}}})
}

/// What was applied last; `None` where the object does not say.
pub(crate) fn of(object: &Value) -> Option<Value> {
    serde_json::from_str(text(object)?).ok()
}

/// Writes the object itself into its annotation.
pub(crate) fn set(object: &mut Value) {
    remove(object);
    let text = json::compact(object) + "\n";
    self::annotations(object).insert(ANNOTATION.to_owned(), text.into());
}

/// Takes the annotation away; that of its like which was applied has annotations, if
/// none, so this has them too.
pub(crate) fn remove(object: &mut Value) {
    annotations(object).remove(ANNOTATION);
}

fn annotations(object: &mut Value) -> &mut Map<String, Value> {
    let slot = &mut object["metadata"]["annotations"];
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    slot.as_object_mut().expect("it was just made one")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_holds_the_object_without_itself() {
        let mut object = json!({"kind": "A", "metadata": {"name": "<a>"}});
        set(&mut object);
        let first = object.clone();
        let text = object["metadata"]["annotations"][ANNOTATION].as_str().expect("set");
        assert_eq!(
            text,
            "{\"kind\":\"A\",\"metadata\":{\"annotations\":{},\"name\":\"\\u003ca\\u003e\"}}\n"
        );
        set(&mut object);
        assert_eq!(object, first);
        assert_eq!(of(&object).expect("there")["metadata"]["name"], "<a>");
    }
}

//! Trees as Go prints them: upstream's messages and kubectl's columns show values so.

use serde_json::Value;

/// A tree as Go's `%v` prints it: `map[spec:map[replicas:x]]`. Maps of serde_json are in
/// the order in which Go prints them.
pub fn go_shown(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(go_shown).collect::<Vec<_>>().join(" "))
        }
        Value::Object(map) => {
            let fields = map.iter().map(|(key, value)| format!("{key}:{}", go_shown(value)));
            format!("map[{}]", fields.collect::<Vec<_>>().join(" "))
        }
        scalar => scalar.to_string(),
    }
}

/// A tree as Go's `%#v` prints it: `map[string]interface {}{"spec":[]interface {}{"x"}}`.
pub(crate) fn go_syntax(value: &Value) -> String {
    let joined = |parts: Vec<String>| parts.join(", ");
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::String(text) => format!("{text:?}"),
        Value::Array(items) => {
            format!("[]interface {{}}{{{}}}", joined(items.iter().map(go_syntax).collect()))
        }
        Value::Object(map) => {
            let fields = map.iter().map(|(key, value)| format!("{key:?}:{}", go_syntax(value)));
            format!("map[string]interface {{}}{{{}}}", joined(fields.collect()))
        }
        scalar => scalar.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn trees_are_shown_as_go_does() {
        let tree = json!({"spec": {"b": [1, null, "x"], "a": true}});
        assert_eq!(go_shown(&tree), "map[spec:map[a:true b:[1 <nil> x]]]");
    }

    #[test]
    fn trees_are_shown_in_the_syntax_of_go() {
        let tree = json!({"b": ["X", null, 1], "a": {}});
        assert_eq!(
            go_syntax(&tree),
            r#"map[string]interface {}{"a":map[string]interface {}{}, "b":[]interface {}{"X", interface {}(nil), 1}}"#
        );
    }
}

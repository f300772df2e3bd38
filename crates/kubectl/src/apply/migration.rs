//! From client-side to server-side apply: what the former owned goes to the latter, so that a
//! field which is no longer applied is removed. As upstream's kubectl does it:
//! <https://kubernetes.io/docs/reference/using-api/server-side-apply/#upgrading-from-client-side-apply-to-server-side-apply>

use serde_json::{Map, Value};

/// Who client-side apply is in `managedFields`.
const BEFORE: &str = "kubectl-client-side-apply";
/// Who owns the annotation with what was applied last, for who goes back to client-side apply.
pub(super) const OF_ANNOTATION: &str = "kubectl-last-applied";

/// The `managedFields` of an object that client-side apply has none of any more; `None` where
/// it has none now.
pub(super) fn migrated(object: &Value, manager: &str) -> Option<Value> {
    let entries = object["metadata"]["managedFields"].as_array()?;
    let is_of = |entry: &Value, manager: &str, operation: &str| {
        entry["manager"] == manager
            && entry["operation"] == operation
            && entry["subresource"].as_str().unwrap_or_default().is_empty()
    };
    let (before, rest): (Vec<&Value>, Vec<&Value>) =
        entries.iter().partition(|entry| is_of(entry, BEFORE, "Update"));
    let first = *before.first()?;
    let mut rest: Vec<Value> = rest.into_iter().cloned().collect();
    let at = rest.iter().position(|entry| is_of(entry, manager, "Apply")).unwrap_or_else(|| {
        let mut entry = first.clone();
        entry["manager"] = manager.into();
        entry["operation"] = "Apply".into();
        rest.push(entry);
        rest.len() - 1
    });
    for entry in before {
        union(&mut rest[at]["fieldsV1"], &entry["fieldsV1"]);
    }
    Some(rest.into())
}

/// All fields of both sets.
fn union(into: &mut Value, from: &Value) {
    let Value::Object(from) = from else { return };
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    for (key, fields) in from {
        union(&mut into[key.as_str()], fields);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_client_side_apply_owned_goes_to_the_other() {
        let entry = |manager: &str, operation: &str, fields: Value| json!({"manager": manager, "operation": operation, "fieldsV1": fields});
        let of = |entries: &[Value]| json!({"metadata": {"managedFields": entries}});
        let before = entry(BEFORE, "Update", json!({"f:data": {"f:a": {}, "f:gone": {}}}));
        let applied = entry("kubectl", "Apply", json!({"f:data": {"f:a": {}, "f:b": {}}}));
        let scaler = entry("scaler", "Update", json!({"f:spec": {}}));
        let all =
            entry("kubectl", "Apply", json!({"f:data": {"f:a": {}, "f:b": {}, "f:gone": {}}}));
        assert_eq!(
            migrated(&of(&[before.clone(), scaler.clone(), applied.clone()]), "kubectl"),
            Some(json!([scaler, all]))
        );
        let alone = entry("kubectl", "Apply", json!({"f:data": {"f:a": {}, "f:gone": {}}}));
        assert_eq!(migrated(&of(std::slice::from_ref(&before)), "kubectl"), Some(json!([alone])));
        assert_eq!(migrated(&of(&[applied, scaler]), "kubectl"), None);
        let mut of_status = before;
        of_status["subresource"] = "status".into();
        assert_eq!(migrated(&of(&[of_status]), "kubectl"), None);
        assert_eq!(migrated(&json!({}), "kubectl"), None);
    }
}

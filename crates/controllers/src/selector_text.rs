//! A `metav1.LabelSelector` as upstream's events show it.

use serde_json::Value;

/// `&LabelSelector{MatchLabels:map[string]string{app: web,},MatchExpressions:[]LabelSelectorRequirement{},}`,
/// or `nil` where there is none.
pub(crate) fn selector_text(selector: &Value) -> String {
    if selector.is_null() {
        return "nil".into();
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    // A map of serde_json is sorted, as upstream sorts it.
    let labels = selector["matchLabels"].as_object().into_iter().flatten();
    let labels: String = labels.map(|(key, value)| format!("{key}: {},", text(value))).collect();
    let requirement = |one: &Value| {
        let values = one["values"].as_array().into_iter().flatten();
        let values: Vec<String> = values.map(text).collect();
        let (key, operator) = (text(&one["key"]), text(&one["operator"]));
        format!(
            "LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{}],}},",
            values.join(" ")
        )
    };
    let requirements = selector["matchExpressions"].as_array().into_iter().flatten();
    let requirements: String = requirements.map(requirement).collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{requirements}}},}}"
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors() {
        let selector = json!({
            "matchLabels": {"b": "2", "a": "1"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["web", "db"]},
                {"key": "old", "operator": "DoesNotExist"},
            ],
        });
        let table = [
            (json!(null), "nil"),
            (
                json!({}),
                "&LabelSelector{MatchLabels:map[string]string{},MatchExpressions:[]LabelSelectorRequirement{},}",
            ),
            (
                selector,
                "&LabelSelector{MatchLabels:map[string]string{a: 1,b: 2,},MatchExpressions:[]LabelSelectorRequirement{LabelSelectorRequirement{Key:tier,Operator:In,Values:[web db],},LabelSelectorRequirement{Key:old,Operator:DoesNotExist,Values:[],},},}",
            ),
        ];
        for (selector, expected) in table {
            assert_eq!(selector_text(&selector), expected);
        }
    }
}

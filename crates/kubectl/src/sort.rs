//! `--sort-by`: objects by what a JSONPath finds in them.

use std::cmp::Ordering;

use api_object::Quantity;
use serde_json::Value;

use crate::{
    failure::{Failure, Outcome, failed},
    print::{columns::relaxed, json_path::Template},
};

/// Sorts by a path; `object` gets the object out of an element. Stable.
///
/// # Errors
/// For malformed paths, and for those that lead nowhere in any object.
pub(crate) fn by<T>(items: &mut [T], path: &str, object: impl Fn(&T) -> &Value) -> Outcome {
    let malformed = |why| Failure::Message(format!("error parsing jsonpath {path}: {why}"));
    let field = relaxed(path).map_err(malformed)?;
    let template = Template::parse(&field).map_err(malformed)?;
    let mut keys = Vec::new();
    for item in items.iter() {
        let lists = template.lists(object(item)).map_err(Failure::Message)?;
        let first = lists.first().and_then(|found| found.first());
        keys.push(first.map(|value| (*value).clone()));
    }
    if !items.is_empty() && keys.iter().all(Option::is_none) {
        return failed(format!(
            "couldn't find any field with path {field:?} in the list of objects"
        ));
    }
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by(|a, b| compare(keys[*a].as_ref(), keys[*b].as_ref()));
    // Each element is swapped to its place, for it may be costly or impossible to copy.
    for place in 0..order.len() {
        let mut from = order[place];
        while from < place {
            from = order[from];
        }
        items.swap(place, from);
    }
    Ok(())
}

fn compare(a: Option<&Value>, b: Option<&Value>) -> Ordering {
    match (a, b) {
        (None | Some(Value::Null), None | Some(Value::Null)) => Ordering::Equal,
        (None | Some(Value::Null), _) => Ordering::Less,
        (_, None | Some(Value::Null)) => Ordering::Greater,
        (Some(Value::Number(a)), Some(Value::Number(b))) => {
            a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal)
        }
        (Some(Value::String(a)), Some(Value::String(b))) => {
            match (Quantity::parse(a), Quantity::parse(b)) {
                (Ok(a), Ok(b)) => a.approximate().total_cmp(&b.approximate()),
                _ => a.cmp(b),
            }
        }
        (Some(Value::Bool(a)), Some(Value::Bool(b))) => a.cmp(b),
        (Some(a), Some(b)) => a.to_string().cmp(&b.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn things_are_sorted_by_what_they_are() {
        let sorted = |path: &str, values: Vec<Value>| {
            let mut items: Vec<Value> = values.into_iter().map(|v| json!({"a": v})).collect();
            by(&mut items, path, |item| item).expect("a valid path");
            items.into_iter().map(|item| item["a"].clone()).collect::<Vec<_>>()
        };
        for (path, values, in_order) in [
            (".a", vec![json!(10), json!(9)], vec![json!(9), json!(10)]),
            // Text goes by its bytes, also where it has numbers in it.
            (
                "{.a}",
                vec![json!("nm2"), json!("nm10"), json!("nm1")],
                vec![json!("nm1"), json!("nm10"), json!("nm2")],
            ),
            (
                ".a",
                vec![json!("10.43.96.227"), json!("10.43.108.197")],
                vec![json!("10.43.108.197"), json!("10.43.96.227")],
            ),
            ("a", vec![json!("1Gi"), json!("200Mi")], vec![json!("200Mi"), json!("1Gi")]),
            (".a", vec![json!(true), json!(null)], vec![json!(null), json!(true)]),
            (
                ".a",
                vec![json!(4), json!(2), json!(5), json!(1), json!(3)],
                vec![json!(1), json!(2), json!(3), json!(4), json!(5)],
            ),
        ] {
            assert_eq!(sorted(path, values), in_order, "{path}");
        }
    }

    #[test]
    fn paths_that_lead_nowhere_are_refused() {
        let told = |path: &str, items: &mut [Value]| match by(items, path, |item| item) {
            Err(Failure::Message(why)) => why,
            other => panic!("{path}: {other:?}"),
        };
        assert_eq!(
            told(".nope", &mut [json!({"a": 1}), json!({})]),
            "couldn't find any field with path \"{.nope}\" in the list of objects"
        );
        assert!(told("{.a", &mut [json!({})]).starts_with("error parsing jsonpath {.a: "));
        assert!(by(&mut [] as &mut [Value], ".nope", |item| item).is_ok());
        assert!(by(&mut [json!({}), json!({"a": 1})], ".a", |item| item).is_ok());
    }
}

//! `--sort-by`: objects by what a JSONPath finds in them.

use std::cmp::Ordering;

use api_object::Quantity;
use serde_json::Value;

use crate::{
    failure::{Failure, Outcome},
    print::{columns::relaxed, json_path::Template},
};

/// Sorts by a path; `object` gets the object out of an element. Stable.
///
/// # Errors
/// For malformed paths.
pub(crate) fn by<T>(items: &mut [T], path: &str, object: impl Fn(&T) -> &Value) -> Outcome {
    let template = relaxed(path).and_then(|path| Template::parse(&path));
    let template = template
        .map_err(|why| Failure::Message(format!("error parsing jsonpath {path}: {why}")))?;
    let key = |item: &T| template.values(object(item)).ok().and_then(|v| v.into_iter().next());
    items.sort_by(|a, b| compare(key(a).as_ref(), key(b).as_ref()));
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
                _ => natural(a, b),
            }
        }
        (Some(Value::Bool(a)), Some(Value::Bool(b))) => a.cmp(b),
        (Some(a), Some(b)) => a.to_string().cmp(&b.to_string()),
    }
}

/// Text in which numbers count as numbers: `a9` before `a10`.
pub(crate) fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        match (digits(a), digits(b)) {
            (0, 0) | (0, _) | (_, 0) => match (a.first(), b.first()) {
                (Some(x), Some(y)) if x == y => (a, b) = (&a[1..], &b[1..]),
                (x, y) => return x.cmp(&y),
            },
            (m, n) => {
                let strip = |text: &[u8]| {
                    let text = std::str::from_utf8(text).unwrap_or_default();
                    text.trim_start_matches('0').to_owned()
                };
                let (x, y) = (strip(&a[..m]), strip(&b[..n]));
                let order = x.len().cmp(&y.len()).then(x.cmp(&y)).then(m.cmp(&n));
                if order.is_ne() {
                    return order;
                }
                (a, b) = (&a[m..], &b[n..]);
            }
        }
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
        assert_eq!(sorted(".a", vec![json!(10), json!(9)]), [json!(9), json!(10)]);
        assert_eq!(sorted("{.a}", vec![json!("a10"), json!("a9")]), [json!("a9"), json!("a10")]);
        assert_eq!(sorted("a", vec![json!("1Gi"), json!("200Mi")]), [json!("200Mi"), json!("1Gi")]);
        assert!(by(&mut [json!({})], "{.a", |item| item).is_err());
    }
}

//! The functions that templates may call.

use std::cmp::Ordering;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{
    go_text::{kind, shown},
    printf::{LONGEST, printf},
    run::truth,
};

/// Each with the least and the most arguments that it takes.
const FUNCTIONS: &[(&str, usize, usize)] = &[
    ("and", 1, usize::MAX),
    ("base64decode", 1, 1),
    ("eq", 1, usize::MAX),
    ("exists", 1, usize::MAX),
    ("ge", 2, 2),
    ("gt", 2, 2),
    ("html", 0, usize::MAX),
    ("index", 1, usize::MAX),
    ("js", 0, usize::MAX),
    ("le", 2, 2),
    ("len", 1, 1),
    ("lt", 2, 2),
    ("ne", 2, 2),
    ("not", 1, 1),
    ("or", 1, usize::MAX),
    ("print", 0, usize::MAX),
    ("printf", 1, usize::MAX),
    ("println", 0, usize::MAX),
    ("slice", 1, 4),
    ("urlquery", 0, usize::MAX),
];

pub(super) fn is_known(name: &str) -> bool {
    FUNCTIONS.iter().any(|(known, ..)| *known == name)
}

/// What a function makes of its arguments.
///
/// # Errors
/// Where they do not fit it.
pub(super) fn call(name: &str, arguments: &[Value]) -> Result<Value, String> {
    let found = FUNCTIONS.iter().find(|(known, ..)| *known == name);
    let (_, least, most) = found.ok_or_else(|| format!("function {name:?} not defined"))?;
    let given = arguments.len();
    if given < *least || given > *most {
        let want = if least == most { least.to_string() } else { format!("at least {least}") };
        return Err(format!("wrong number of args for {name}: want {want} got {given}"));
    }
    let told = |why: String| format!("error calling {name}: {why}");
    let Some((first, others)) = arguments.split_first() else {
        return Ok(Value::String(if name == "println" { "\n" } else { "" }.to_owned()));
    };
    let value = match name {
        "and" => arguments
            .iter()
            .find(|value| !truth(value))
            .or(arguments.last())
            .cloned()
            .unwrap_or_default(),
        "or" => arguments
            .iter()
            .find(|value| truth(value))
            .or(arguments.last())
            .cloned()
            .unwrap_or_default(),
        "not" => (!truth(first)).into(),
        "len" => match first {
            Value::String(text) => text.len().into(),
            Value::Array(items) => items.len().into(),
            Value::Object(map) => map.len().into(),
            Value::Null => return Err(told("len of nil pointer".to_owned())),
            other => return Err(told(format!("len of type {}", kind(other)))),
        },
        "eq" => {
            if others.is_empty() {
                return Err(told("missing argument for comparison".to_owned()));
            }
            let mut met = false;
            for other in others {
                met = met || equal(first, other).map_err(told)?;
            }
            met.into()
        }
        "ne" => (!equal(first, &others[0]).map_err(told)?).into(),
        "lt" => order(first, &others[0]).map_err(told)?.is_some_and(Ordering::is_lt).into(),
        "le" => order(first, &others[0]).map_err(told)?.is_some_and(Ordering::is_le).into(),
        "gt" => order(first, &others[0]).map_err(told)?.is_some_and(Ordering::is_gt).into(),
        "ge" => order(first, &others[0]).map_err(told)?.is_some_and(Ordering::is_ge).into(),
        "index" => index(first, others).map_err(told)?,
        "exists" => index(first, others).is_ok_and(|value| !value.is_null()).into(),
        "slice" => slice(first, others).map_err(told)?,
        "base64decode" => {
            let text =
                first.as_str().ok_or_else(|| format!("expected string; found {}", shown(first)))?;
            let bytes = STANDARD
                .decode(text)
                .map_err(|why| told(format!("base64 decode failed: {why}")))?;
            String::from_utf8_lossy(&bytes).into_owned().into()
        }
        "printf" => {
            let format =
                first.as_str().ok_or_else(|| format!("expected string; found {}", shown(first)))?;
            printf(format, others).map_err(told)?.into()
        }
        "print" => print(arguments).into(),
        "println" => (arguments.iter().map(shown).collect::<Vec<_>>().join(" ") + "\n").into(),
        "html" => escaped(arguments, &html).into(),
        "js" => escaped(arguments, &js).into(),
        _ => escaped(arguments, &url).into(),
    };
    match &value {
        Value::String(text) if text.len() > LONGEST => Err(told("the text is too long".to_owned())),
        _ => Ok(value),
    }
}

fn equal(a: &Value, b: &Value) -> Result<bool, String> {
    match (a, b) {
        (Value::Null, _) | (_, Value::Null) => Ok(a.is_null() && b.is_null()),
        (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
        _ => Ok(order(a, b)? == Some(Ordering::Equal)),
    }
}

fn order(a: &Value, b: &Value) -> Result<Option<Ordering>, String> {
    match (a, b) {
        (Value::String(a), Value::String(b)) => Ok(Some(a.cmp(b))),
        (Value::Number(x), Value::Number(y)) if x.is_f64() == y.is_f64() => {
            Ok(match (x.as_i64(), y.as_i64()) {
                (Some(x), Some(y)) => Some(x.cmp(&y)),
                _ => x.as_f64().zip(y.as_f64()).and_then(|(x, y)| x.partial_cmp(&y)),
            })
        }
        (Value::Null, _) | (_, Value::Null) => Err("invalid type for comparison".to_owned()),
        _ if kind(a) == kind(b) => Err("invalid type for comparison".to_owned()),
        _ => Err(format!("incompatible types for comparison: {} and {}", kind(a), kind(b))),
    }
}

fn index(value: &Value, keys: &[Value]) -> Result<Value, String> {
    let mut value = value.clone();
    for key in keys {
        let out = || format!("index out of range: {}", shown(key));
        let place = || key.as_u64().and_then(|at| usize::try_from(at).ok());
        let wanted = |want: &str| format!("value has type {}; should be {want}", kind(key));
        value = match (&value, key) {
            (Value::Object(map), Value::String(key)) => map.get(key).cloned().unwrap_or_default(),
            (Value::Object(_), _) => return Err(wanted("string")),
            (Value::Array(items), Value::Number(at)) if !at.is_f64() => {
                place().and_then(|at| items.get(at)).cloned().ok_or_else(out)?
            }
            (Value::String(text), Value::Number(at)) if !at.is_f64() => {
                let byte = place().and_then(|at| text.as_bytes().get(at).copied());
                byte.ok_or_else(out)?.into()
            }
            (Value::Array(_) | Value::String(_), _) => {
                return Err(format!("cannot index slice/array with type {}", kind(key)));
            }
            (Value::Null, _) => return Err("index of untyped nil".to_owned()),
            (other, _) => return Err(format!("can't index item of type {}", kind(other))),
        };
    }
    Ok(value)
}

fn slice(value: &Value, bounds: &[Value]) -> Result<Value, String> {
    let len = match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.len(),
        Value::Null => return Err("slice of untyped nil".to_owned()),
        other => return Err(format!("can't slice item of type {}", kind(other))),
    };
    let mut places = [0, len];
    if bounds.len() > places.len() {
        return Err("cannot 3-index slice a string".to_owned());
    }
    for (place, bound) in places.iter_mut().zip(bounds) {
        let at = bound.as_u64().and_then(|at| usize::try_from(at).ok()).filter(|at| *at <= len);
        *place = at.ok_or_else(|| format!("index out of range: {}", shown(bound)))?;
    }
    let [from, to] = places;
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    Ok(match value {
        Value::Array(items) => items[from..to].to_vec().into(),
        // A character may be cut in two.
        other => {
            let bytes = &other.as_str().unwrap_or_default().as_bytes()[from..to];
            String::from_utf8_lossy(bytes).into_owned().into()
        }
    })
}

/// Side by side, with a space between two of which none is text.
fn print(values: &[Value]) -> String {
    let mut out = String::new();
    let mut after_text = true;
    for value in values {
        if !after_text && !value.is_string() {
            out.push(' ');
        }
        after_text = value.is_string();
        out.push_str(&shown(value));
    }
    out
}

fn escaped(values: &[Value], escape: &dyn Fn(char) -> String) -> String {
    let text = match values {
        [Value::Null] => "<no value>".to_owned(),
        values => print(values),
    };
    text.chars().map(escape).collect()
}

fn html(c: char) -> String {
    match c {
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '&' => "&amp;".to_owned(),
        '"' => "&#34;".to_owned(),
        '\'' => "&#39;".to_owned(),
        '\0' => "\u{fffd}".to_owned(),
        c => c.to_string(),
    }
}

fn js(c: char) -> String {
    match c {
        '\\' | '\'' | '"' => format!("\\{c}"),
        '<' | '>' | '&' | '=' => format!("\\u{:04X}", u32::from(c)),
        c if c.is_control() => format!("\\u{:04X}", u32::from(c)),
        c => c.to_string(),
    }
}

fn url(c: char) -> String {
    match c {
        ' ' => "+".to_owned(),
        c if c.is_ascii_alphanumeric() || "-_.~".contains(c) => c.to_string(),
        c => c.encode_utf8(&mut [0; 4]).bytes().map(|byte| format!("%{byte:02X}")).collect(),
    }
}

//! The functions that templates may call.

use std::cmp::Ordering;

use serde_json::Value;

use super::{
    base64,
    given::Given,
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

/// Whether the first argument must be text.
pub(super) fn takes_text(name: &str) -> bool {
    matches!(name, "base64decode" | "printf")
}

/// Looks whether a function gets as many arguments as it takes, one of them perhaps from
/// the command before.
///
/// # Errors
/// Where it does not.
pub(super) fn counted(name: &str, given: usize, piped: bool) -> Result<(), String> {
    let found = FUNCTIONS.iter().find(|(known, ..)| *known == name);
    let (_, least, most) = found.ok_or_else(|| format!("function {name:?} not defined"))?;
    let all = given + usize::from(piped);
    match (least == most, all < *least, all > *most) {
        (_, false, false) => Ok(()),
        (true, ..) => Err(format!("wrong number of args for {name}: want {least} got {all}")),
        (false, true, _) => {
            Err(format!("wrong number of args for {name}: want at least {least} got {given}"))
        }
        (false, false, true) => Err(format!("error calling {name}: too many arguments")),
    }
}

/// What a function makes of its arguments.
///
/// # Errors
/// Where they do not fit it.
pub(super) fn call(name: &str, arguments: &[Given]) -> Result<Given, String> {
    let told = |why: String| format!("error calling {name}: {why}");
    let Some((first, others)) = arguments.split_first() else {
        let text = if name == "println" { "\n" } else { "" };
        return Ok(Given::own(text.into()));
    };
    let values = || arguments.iter().map(|given| given.value.clone()).collect::<Vec<_>>();
    let ordered = |fits: fn(Ordering) -> bool| {
        let order = order(first, &others[0]).map_err(told)?;
        Ok::<Value, String>(order.is_some_and(fits).into())
    };
    let value: Value = match name {
        "and" | "or" => {
            let decides = |given: &&Given| truth(&given.value) == (name == "or");
            let found = arguments.iter().find(decides).or(arguments.last());
            return Ok(found.cloned().unwrap_or_else(Given::missing));
        }
        "not" => (!truth(&first.value)).into(),
        "len" => match &first.value {
            Value::String(text) => text.len().into(),
            Value::Array(items) => items.len().into(),
            Value::Object(map) => map.len().into(),
            Value::Null if first.is_missing() => {
                return Err(told("reflect: call of reflect.Value.Type on zero Value".to_owned()));
            }
            Value::Null => return Err(told("len of nil pointer".to_owned())),
            _ => return Err(told(format!("len of type {}", first.kind()))),
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
        "lt" => ordered(Ordering::is_lt)?,
        "le" => ordered(Ordering::is_le)?,
        "gt" => ordered(Ordering::is_gt)?,
        "ge" => ordered(Ordering::is_ge)?,
        "index" => return index(&first.value, others).map(Given::plain).map_err(told),
        "exists" => index(&first.value, others).is_ok_and(|value| !value.is_null()).into(),
        "slice" => return slice(first, others).map(Given::plain).map_err(told),
        "base64decode" => {
            let bytes = base64::decode(first.value.as_str().unwrap_or_default()).map_err(|at| {
                told(format!("base64 decode failed: illegal base64 data at input byte {at}"))
            })?;
            String::from_utf8_lossy(&bytes).into_owned().into()
        }
        "printf" => printf(first.value.as_str().unwrap_or_default(), others).map_err(told)?.into(),
        "print" => print(&values()).into(),
        "println" => (values().iter().map(shown).collect::<Vec<_>>().join(" ") + "\n").into(),
        "html" => escaped(&values(), &html).into(),
        "js" => escaped(&values(), &js).into(),
        _ => escaped(&values(), &url).into(),
    };
    match &value {
        Value::String(text) if text.len() > LONGEST => Err(told("the text is too long".to_owned())),
        _ => Ok(Given::own(value)),
    }
}

fn equal(a: &Given, b: &Given) -> Result<bool, String> {
    match (&a.value, &b.value) {
        (Value::Null, _) | (_, Value::Null) => Ok(a.value.is_null() && b.value.is_null()),
        (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
        (Value::Array(_), Value::Array(_)) | (Value::Object(_), Value::Object(_)) => {
            Err(format!("non-comparable type {}: {}", shown(&b.value), b.kind()))
        }
        (Value::Array(_), Value::Object(_)) | (Value::Object(_), Value::Array(_)) => Err(format!(
            "non-comparable types {}: {}, {}: {}",
            shown(&a.value),
            a.kind(),
            b.kind(),
            shown(&b.value)
        )),
        _ if is_basic(&a.value) && is_basic(&b.value) => Ok(order(a, b)? == Some(Ordering::Equal)),
        _ => Err(incompatible(a, b)),
    }
}

/// Whether there are constants of its type.
fn is_basic(value: &Value) -> bool {
    matches!(value, Value::Bool(_) | Value::Number(_) | Value::String(_))
}

fn incompatible(a: &Given, b: &Given) -> String {
    format!("incompatible types for comparison: {} and {}", a.kind(), b.kind())
}

fn order(a: &Given, b: &Given) -> Result<Option<Ordering>, String> {
    match (&a.value, &b.value) {
        (Value::String(a), Value::String(b)) => Ok(Some(a.cmp(b))),
        (Value::Number(x), Value::Number(y)) if x.is_f64() == y.is_f64() => {
            Ok(match (x.as_i64(), y.as_i64()) {
                (Some(x), Some(y)) => Some(x.cmp(&y)),
                _ => x.as_f64().zip(y.as_f64()).and_then(|(x, y)| x.partial_cmp(&y)),
            })
        }
        (Value::Bool(_), Value::Bool(_)) => Err("invalid type for comparison".to_owned()),
        (x, y) if is_basic(x) && is_basic(y) => Err(incompatible(a, b)),
        _ => Err("invalid type for comparison".to_owned()),
    }
}

fn index(value: &Value, keys: &[Given]) -> Result<Value, String> {
    let mut value = value.clone();
    for given in keys {
        let key = &given.value;
        let place = |len: usize, of: &str| {
            let at = key.as_u64().and_then(|at| usize::try_from(at).ok());
            match at {
                Some(at) if at < len => Ok(at),
                // It is Go's own check that finds this one.
                Some(at) if at == len => Err(format!("reflect: {of} index out of range")),
                _ => Err(format!("index out of range: {}", shown(key))),
            }
        };
        value = match (&value, key) {
            (Value::Object(map), Value::String(key)) => map.get(key).cloned().unwrap_or_default(),
            (Value::Object(_), _) => {
                return Err(format!("value has type {}; should be string", given.kind()));
            }
            (Value::Array(items), Value::Number(at)) if !at.is_f64() => {
                items[place(items.len(), "slice")?].clone()
            }
            (Value::String(text), Value::Number(at)) if !at.is_f64() => {
                text.as_bytes()[place(text.len(), "string")?].into()
            }
            (Value::Array(_) | Value::String(_), _) => {
                return Err(format!("cannot index slice/array with type {}", given.kind()));
            }
            (Value::Null, _) => return Err("index of untyped nil".to_owned()),
            (other, _) => return Err(format!("can't index item of type {}", kind(other))),
        };
    }
    Ok(value)
}

fn slice(given: &Given, bounds: &[Given]) -> Result<Value, String> {
    let value = &given.value;
    let len = match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.len(),
        Value::Null => return Err("slice of untyped nil".to_owned()),
        _ => return Err(format!("can't slice item of type {}", given.kind())),
    };
    if bounds.len() > 2 && value.is_string() {
        return Err("cannot 3-index slice a string".to_owned());
    }
    let mut places = [0, len, len];
    for (place, bound) in places.iter_mut().zip(bounds) {
        if !bound.value.is_i64() || bound.is_boxed {
            return Err(format!("cannot index slice/array with type {}", bound.held()));
        }
        let at = bound.value.as_u64().and_then(|at| usize::try_from(at).ok());
        let at = at.filter(|at| *at <= len);
        *place = at.ok_or_else(|| format!("index out of range: {}", shown(&bound.value)))?;
    }
    let [from, to, end] = places;
    for (a, b) in [(from, to), (to, end)] {
        if a > b {
            return Err(format!("invalid slice index: {a} > {b}"));
        }
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

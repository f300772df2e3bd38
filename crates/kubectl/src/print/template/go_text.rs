//! Values and text as Go writes and reads them.

use serde_json::{Number, Value};

/// What stands between quotes, its escapes resolved; nothing where one is malformed.
pub(in crate::print) fn unquote(text: &str, quote: char) -> Option<String> {
    let mut bytes = Vec::new();
    let mut chars = text.chars();
    let push = |bytes: &mut Vec<u8>, c: char| {
        bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    };
    while let Some(c) = chars.next() {
        if c == quote || c == '\n' {
            return None;
        }
        if c != '\\' {
            push(&mut bytes, c);
            continue;
        }
        let escaped = chars.next()?;
        let mut number = |first: &str, more: usize, radix: u32| {
            let digits: String = chars.by_ref().take(more).collect();
            let digits = format!("{first}{digits}");
            let whole = digits.len() == first.len() + more && !digits.contains('+');
            u32::from_str_radix(&digits, radix).ok().filter(|_| whole)
        };
        match escaped {
            'a' => bytes.push(7),
            'b' => bytes.push(8),
            'f' => bytes.push(12),
            'n' => bytes.push(b'\n'),
            'r' => bytes.push(b'\r'),
            't' => bytes.push(b'\t'),
            'v' => bytes.push(11),
            '\\' => bytes.push(b'\\'),
            // These two are bytes, not characters.
            'x' => bytes.push(u8::try_from(number("", 2, 16)?).ok()?),
            '0'..='7' => {
                bytes.push(u8::try_from(number(&escaped.to_string(), 2, 8)?).ok()?);
            }
            'u' => push(&mut bytes, char::from_u32(number("", 4, 16)?)?),
            'U' => push(&mut bytes, char::from_u32(number("", 8, 16)?)?),
            c if c == quote => push(&mut bytes, c),
            _ => return None,
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Text in quotes: `%q`.
pub(in crate::print) fn quoted(text: &str, quote: char) -> String {
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => out.extend(['\\', c]),
            c if c < ' ' || c == '\u{7f}' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control() || (c != ' ' && c.is_whitespace()) => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

/// Numbers from this power of ten on are written with an exponent.
const EXPONENT_FROM: i32 = 6;

/// A number with a point as `%v` writes it.
pub(in crate::print) fn float(value: f64) -> String {
    let shortest = format!("{value:e}");
    let (digits, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    match exponent.parse::<i32>() {
        Ok(power) if !(-4..EXPONENT_FROM).contains(&power) => format!("{digits}e{}", signed(power)),
        _ => value.to_string(),
    }
}

/// An exponent: always a sign, and two digits at least.
pub(super) fn signed(power: i32) -> String {
    format!("{}{:02}", if power < 0 { '-' } else { '+' }, power.unsigned_abs())
}

fn number(value: &Number) -> String {
    match value.as_f64() {
        Some(value_as_float) if value.is_f64() => float(value_as_float),
        _ => value.to_string(),
    }
}

/// A value as `%v` writes it.
pub(in crate::print) fn shown(value: &Value) -> String {
    written(value, &str::to_owned)
}

/// A value as `%v` writes it, its text in a form of one's own.
pub(super) fn written(value: &Value, text: &dyn Fn(&str) -> String) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Bool(on) => on.to_string(),
        Value::Number(value) => number(value),
        Value::String(value) => text(value),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| written(item, text)).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(map) => {
            let fields =
                map.iter().map(|(key, item)| format!("{}:{}", text(key), written(item, text)));
            format!("map[{}]", fields.collect::<Vec<_>>().join(" "))
        }
    }
}

/// A value's type as `%T` writes it.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// A value as `%#v` writes it.
pub(in crate::print) fn syntax(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::String(text) => quoted(text, '"'),
        Value::Array(items) => {
            format!(
                "[]interface {{}}{{{}}}",
                items.iter().map(syntax).collect::<Vec<_>>().join(", ")
            )
        }
        Value::Object(map) => {
            let fields =
                map.iter().map(|(key, item)| format!("{}:{}", quoted(key, '"'), syntax(item)));
            format!("map[string]interface {{}}{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        scalar => shown(scalar),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn quotes_are_read_and_written() {
        for (text, plain) in [
            ("a\\x41\\u00e9\\101", Some("aA\u{e9}A")),
            ("\\\\ \\\" '", Some("\\ \" '")),
            ("\\q", None),
            ("\\'", None),
            ("\\x4", None),
            ("\\x+4", None),
            ("\\ud800", None),
            ("\\", None),
            ("a\"b", None),
        ] {
            assert_eq!(unquote(text, '"').as_deref(), plain, "{text}");
        }
        assert_eq!(quoted("a\"\n\u{1}\u{e9}\u{a0}", '"'), "\"a\\\"\\n\\x01\u{e9}\\u00a0\"");
    }

    #[test]
    fn values_are_written() {
        let value = json!({"a": [1, 1.5, null, "x"], "b": 1e21});
        assert_eq!(shown(&value), "map[a:[1 1.5 <nil> x] b:1e+21]");
        assert_eq!(
            syntax(&value),
            "map[string]interface {}{\"a\":[]interface {}{1, 1.5, interface {}(nil), \"x\"}, \"b\":1e+21}"
        );
        for (value, text) in [(100_000.0, "100000"), (1e-6, "1e-06"), (1_234_567.0, "1.234567e+06")]
        {
            assert_eq!(float(value), text);
        }
    }
}

//! A YAML document as kubectl reads it: YAML 1.1, made into JSON. Of a mapping's
//! keys too what is no text is first read as what it is: `yes` is `true`, `010` is 8.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};
use serde_saphyr::options::DuplicateKeyPolicy;

/// Reads one; of a key that comes twice the last value is meant.
///
/// # Errors
/// Why it is none.
pub(crate) fn read(text: &str) -> Result<Value, String> {
    let options = serde_saphyr::options! {
        legacy_octal_numbers: true, duplicate_keys: DuplicateKeyPolicy::LastWins
    };
    read_as(text, &options)
}

/// The same of YAML 1.2, where `yes` and `n` are texts.
///
/// # Errors
/// Why it is none.
pub(crate) fn read_plain(text: &str) -> Result<Value, String> {
    read_as(text, &serde_saphyr::options! { legacy_octal_numbers: true, strict_booleans: true })
}

/// So many of them in one text; each time it is read from its beginning.
const AGAIN_MAX: u32 = 100;

/// What looks like a number and is none that can be had, as the `12e3456` of a commit, is
/// read again as the text that it is.
fn read_as(text: &str, options: &serde_saphyr::Options) -> Result<Value, String> {
    let mut text = std::borrow::Cow::Borrowed(text);
    let mut rounds = 0;
    loop {
        let read: Result<Option<Node>, _> =
            serde_saphyr::from_str_with_options(&text, options.clone());
        let error = match read {
            Ok(read) => return Ok(read.map_or(Value::Null, |node| node.0)),
            Err(error) => error,
        };
        rounds += 1;
        let next = quoted(&text, &error).filter(|_| rounds <= AGAIN_MAX);
        text = next.ok_or_else(|| error.to_string())?.into();
    }
}

/// The text with the number in quotes that an error is about; `None` for other errors.
fn quoted(text: &str, error: &serde_saphyr::Error) -> Option<String> {
    let serde_saphyr::Error::NonFiniteFloat { value, location } = error.without_snippet() else {
        return None;
    };
    // Of `.inf` and `.nan` there is nothing that JSON could have.
    if !value.contains(|sign: char| sign.is_ascii_digit()) {
        return None;
    }
    let line = usize::try_from(location.line()).ok()?.checked_sub(1)?;
    let column = usize::try_from(location.column()).ok()?.checked_sub(1)?;
    let line_start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let (before, rest) = text.split_at_checked(line_start)?;
    let (at, _) = rest.char_indices().nth(column)?;
    let behind = rest[at..].strip_prefix(value.as_str())?;
    Some(format!("{before}{}\"{value}\"{behind}", &rest[..at]))
}

struct Node(Value);

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Nodes).map(Self)
    }
}

struct Nodes;

impl<'de> Visitor<'de> for Nodes {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Value, D::Error> {
        inner.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Node(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(Node(key)) = entries.next_key()? {
            let key = match key {
                Value::String(text) => text,
                Value::Bool(_) | Value::Number(_) => key_text(&key),
                other => return Err(A::Error::custom(format!("unsupported map key: {other}"))),
            };
            let Node(value) = entries.next_value()?;
            map.insert(key, value);
        }
        Ok(map.into())
    }
}

/// Whole numbers have no fraction, however they are written.
fn key_text(key: &Value) -> String {
    match key.as_f64().filter(|_| key.is_f64()) {
        Some(number) => number.to_string(),
        None => key.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_what_yaml_1_1_says() {
        for (text, expected) in [
            ("yes: a", json!({"true": "a"})),
            ("No: a", json!({"false": "a"})),
            ("on: a", json!({"true": "a"})),
            ("'off': a", json!({"off": "a"})),
            ("\"yes\": a", json!({"yes": "a"})),
            ("0x10: a", json!({"16": "a"})),
            ("010: a", json!({"8": "a"})),
            ("1e3: a", json!({"1000": "a"})),
            ("1.5: a", json!({"1.5": "a"})),
            ("a: {yes: no}", json!({"a": {"true": false}})),
            ("- {no: 1}", json!([{"false": 1}])),
            ("a: [~, 'x', 0644, -3]", json!({"a": [null, "x", 420, -3]})),
            ("a: 1\nb: 2\na: 3", json!({"a": 3, "b": 2})),
            ("~", json!(null)),
            ("a: 12e3456", json!({"a": "12e3456"})),
            (
                "a: {\u{e9}: -1e999, b: [1E400, 1e3]} # 1e999",
                json!({"a": {"\u{e9}": "-1e999", "b": ["1E400", 1000.0]}}),
            ),
            ("a: 1\nb:\n- 72e8541\n", json!({"a": 1, "b": ["72e8541"]})),
        ] {
            assert_eq!(read(text), Ok(expected), "{text}");
        }
        assert!(read("~: a").is_err() && read("{").is_err() && read("a: .inf").is_err());
    }
}

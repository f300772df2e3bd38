//! Bodies in YAML, and those of a server-side apply: YAML, or JSON, which most
//! clients send and which is read without the YAML reader.

use std::{collections::BTreeMap, fmt};

use api_object::Status;
use api_registry::Patch;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_saphyr::{DuplicateKeyPolicy, Spanned};

use crate::values;

/// Reads a configuration. The last of fields that are there twice counts.
///
/// # Errors
/// 400 for what is neither, and for what is no object.
pub(crate) fn read(bytes: &[u8]) -> Result<Patch, Status> {
    let bad = |why: String| Status::bad_request(format!("error decoding patch: {why}"));
    if bytes.trim_ascii_start().first() == Some(&b'{')
        && let Ok(Unique(config)) = serde_json::from_slice(bytes)
    {
        return Ok(Patch::Apply { config, duplicates: String::new() });
    }
    values::shallow(bytes)?;
    let lined = lined(bytes).map_err(bad)?;
    if !lined.value.is_object() {
        let why = "json: cannot unmarshal into Go value of type map[string]interface {}";
        return Err(bad(why.into()));
    }
    let duplicates = match lined.duplicates().as_slice() {
        [] => String::new(),
        told => {
            let told = told.join("\n  ");
            format!("error converting YAML to JSON: yaml: unmarshal errors:\n  {told}")
        }
    };
    Ok(Patch::Apply { config: lined.value, duplicates })
}

/// A tree of YAML, and what is told of fields that are there twice, of which the
/// last counts.
///
/// # Errors
/// Says what is no YAML, on one line.
pub(crate) fn yaml(bytes: &[u8]) -> Result<(Value, Vec<String>), String> {
    let lined = lined(bytes)?;
    let duplicates = lined.duplicates();
    Ok((lined.value, duplicates))
}

fn lined(bytes: &[u8]) -> Result<Lined, String> {
    let mut options = serde_saphyr::Options::default();
    options.duplicate_keys = DuplicateKeyPolicy::LastWins;
    serde_saphyr::from_slice_with_options(bytes, options).map_err(|error| {
        // Pictures of the place are for terminals.
        let error = error.to_string();
        let first = error.lines().next().unwrap_or_default();
        format!("error converting YAML to JSON: yaml: {}", first.trim_start_matches("error: "))
    })
}

/// A tree of JSON in which no field is there twice.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any JSON value")
            }

            fn visit_unit<E: Error>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }

            fn visit_bool<E: Error>(self, flag: bool) -> Result<Value, E> {
                Ok(flag.into())
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Value, E> {
                Ok(number.into())
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
                Ok(number.into())
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
                Ok(number.into())
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
                Ok(text.into())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
                let mut list = Vec::new();
                while let Some(Unique(value)) = seq.next_element()? {
                    list.push(value);
                }
                Ok(list.into())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
                let mut map = Map::new();
                while let Some((key, Unique(value))) = access.next_entry::<String, _>()? {
                    if map.insert(key, value).is_some() {
                        return Err(A::Error::custom("a field is there twice"));
                    }
                }
                Ok(map.into())
            }
        }
        deserializer.deserialize_any(Any).map(Self)
    }
}

/// A tree of YAML and the lines of fields that were there before.
struct Lined {
    value: Value,
    twice: Vec<(u64, String)>,
}

impl Lined {
    fn duplicates(&self) -> Vec<String> {
        let told =
            |(line, key): &(u64, String)| format!("line {line}: key {key:?} already set in map");
        self.twice.iter().map(told).collect()
    }
}

impl<'de> Deserialize<'de> for Lined {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Lined;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value that JSON has")
            }

            fn visit_unit<E: Error>(self) -> Result<Lined, E> {
                Ok(scalar(Value::Null))
            }

            fn visit_none<E: Error>(self) -> Result<Lined, E> {
                Ok(scalar(Value::Null))
            }

            fn visit_bool<E: Error>(self, flag: bool) -> Result<Lined, E> {
                Ok(scalar(flag))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Lined, E> {
                Ok(scalar(number))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Lined, E> {
                Ok(scalar(number))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Lined, E> {
                Ok(scalar(number))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Lined, E> {
                Ok(scalar(text))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Lined, A::Error> {
                let (mut list, mut twice) = (Vec::new(), Vec::new());
                while let Some(mut element) = seq.next_element::<Lined>()? {
                    list.push(element.value);
                    twice.append(&mut element.twice);
                }
                Ok(Lined { value: list.into(), twice })
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Lined, A::Error> {
                let (mut map, mut twice) = (BTreeMap::new(), Vec::new());
                while let Some(key) = access.next_key::<Spanned<String>>()? {
                    let line = key.referenced.line();
                    let mut inner: Lined = access.next_value()?;
                    if map.insert(key.value.clone(), inner.value).is_some() {
                        twice.push((line, key.value));
                    }
                    twice.append(&mut inner.twice);
                }
                let map: Map<String, Value> = map.into_iter().collect();
                Ok(Lined { value: map.into(), twice })
            }
        }
        deserializer.deserialize_any(Any)
    }
}

fn scalar(value: impl Into<Value>) -> Lined {
    Lined { value: value.into(), twice: Vec::new() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(text: &str, config: Value, duplicates: &[&str]) {
        let Ok(Patch::Apply { config: read, duplicates: told }) = read(text.as_bytes()) else {
            panic!("{text} is no configuration")
        };
        assert_eq!(read, config, "{text}");
        let told: Vec<&str> = told.lines().skip(1).map(str::trim).collect();
        assert_eq!(told, duplicates, "{text}");
    }

    #[test]
    fn yaml_and_json_are_read_and_duplicates_are_told_by_line() {
        check(
            "a: 1\nb:\n- c: \"1\"\n  d: null\n",
            json!({"a": 1, "b": [{"c": "1", "d": null}]}),
            &[],
        );
        check(r#" {"a": {"b": [true, 1.5, -1]}}"#, json!({"a": {"b": [true, 1.5, -1]}}), &[]);
        check(
            "a: 1\nb:\n  c: 1\n  c: 2\na: 3\n",
            json!({"a": 3, "b": {"c": 2}}),
            &["line 4: key \"c\" already set in map", "line 5: key \"a\" already set in map"],
        );
        check("{\"a\": 1,\n\"a\": 2}", json!({"a": 2}), &["line 2: key \"a\" already set in map"]);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["", "[]", "a", "{", "a: b: c", "- 1"] {
            assert_eq!(read(text.as_bytes()).expect_err(text).code, 400, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), text in "[ab:{}\\[\\],\"\\- \n&*!|>1]{0,40}") {
            let _ = read(&bytes);
            let _ = read(text.as_bytes());
        }
    }
}

//! JSON to a tree of anything, with duplicate fields found.

use std::fmt::{self, Write as _};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::parse::whole;

/// Upstream stops collecting after this many.
const FAULTS_MAX: usize = 100;

/// Reads JSON; the second part are strict faults: `duplicate field "spec.a"`.
/// The last value of a field counts.
///
/// # Errors
/// Where the bytes are no JSON.
pub(crate) fn duplicates(bytes: &[u8]) -> Result<(Value, Vec<String>), String> {
    let mut faults = Vec::new();
    let mut path = String::new();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Any { path: &mut path, faults: &mut faults }
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| error.to_string())?;
    Ok((value, faults))
}

struct Any<'a> {
    path: &'a mut String,
    faults: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Any<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Any<'_> {
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
        // As in Go, where what does not fit becomes a float.
        Ok(i64::try_from(number).map_or_else(|_| Value::from(number as f64), Value::from))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
        match whole(number) {
            Some(number) => Ok(number.into()),
            None => Number::from_f64(number)
                .map(Value::Number)
                .ok_or_else(|| E::custom("a number that JSON cannot write")),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let here = self.path.len();
        let mut list = Vec::new();
        loop {
            write!(self.path, "[{}]", list.len()).map_err(A::Error::custom)?;
            let seed = Any { path: &mut *self.path, faults: &mut *self.faults };
            let next = seq.next_element_seed(seed)?;
            self.path.truncate(here);
            match next {
                Some(value) => list.push(value),
                None => return Ok(list.into()),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let here = self.path.len();
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            if !self.path.is_empty() {
                self.path.push('.');
            }
            self.path.push_str(&key);
            if map.contains_key(&key) && self.faults.len() < FAULTS_MAX {
                let fault = format!("duplicate field {:?}", &*self.path);
                if !self.faults.contains(&fault) {
                    self.faults.push(fault);
                }
            }
            let seed = Any { path: &mut *self.path, faults: &mut *self.faults };
            let value = access.next_value_seed(seed)?;
            self.path.truncate(here);
            map.insert(key, value);
        }
        Ok(map.into())
    }
}

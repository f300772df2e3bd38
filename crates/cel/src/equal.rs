//! Which values are equal, and which comes first.

use std::{
    borrow::Cow,
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use serde_json::Value as Json;

use crate::{
    declaration::{Kind, Merge},
    fault::Fault,
    value::{Key, List, Map, Value},
};

/// `a == b`. Values of different types are not equal, except numbers.
///
/// # Errors
/// Something within them is not what its declaration says.
pub(crate) fn equal(a: &Value<'_>, b: &Value<'_>) -> Result<bool, Fault> {
    Ok(match (a, b) {
        (Value::List(a), Value::List(b)) => return lists(a, b),
        (Value::Map(a), Value::Map(b)) => return maps(a, b),
        (Value::Optional(a), Value::Optional(b)) => match (a, b) {
            (Some(a), Some(b)) => return equal(a, b),
            (a, b) => a.is_none() && b.is_none(),
        },
        (Value::Null, Value::Null) => true,
        (Value::Bytes(a), Value::Bytes(b)) => a == b,
        (Value::Type(a), Value::Type(b)) => {
            crate::value::type_name(a) == crate::value::type_name(b)
        }
        (Value::Ip(a), Value::Ip(b)) => a == b,
        (Value::Cidr(a), Value::Cidr(b)) => a == b,
        (Value::Quantity(a), Value::Quantity(b)) => a == b,
        (Value::Url(a), Value::Url(b)) => a == b,
        (Value::Semver(a), Value::Semver(b)) => a.precedence(b) == Ordering::Equal,
        (Value::Format(a), Value::Format(b)) => a.name == b.name,
        (a, b) => compare(a, b) == Some(Ordering::Equal),
    })
}

/// Which of two scalars comes first; `None` where they have no order.
pub(crate) fn compare(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::String(a), Value::String(b)) => Some(a[..].cmp(&b[..])),
        (Value::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
        (Value::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
        (Value::Timestamp(a), Value::Timestamp(b)) => Some(a.cmp(b)),
        _ => numbers(a, b),
    }
}

fn whole(value: &Value<'_>) -> Option<i128> {
    match value {
        Value::Int(number) => Some(i128::from(*number)),
        Value::Uint(number) => Some(i128::from(*number)),
        _ => None,
    }
}

fn numbers(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    match (a, b) {
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::Double(a), b) => Some(double_with_whole(*a, whole(b)?)?),
        (a, Value::Double(b)) => Some(double_with_whole(*b, whole(a)?)?.reverse()),
        (a, b) => Some(whole(a)?.cmp(&whole(b)?)),
    }
}

/// Exact, where converting the whole number would round it.
fn double_with_whole(double: f64, whole: i128) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    // Casts saturate, and every whole number here is within 2^64.
    let floor = double.floor();
    Some((floor as i128).cmp(&whole).then(match double > floor {
        true => Ordering::Greater,
        false => Ordering::Equal,
    }))
}

fn lists(a: &List<'_>, b: &List<'_>) -> Result<bool, Fault> {
    if a.len() != b.len() {
        return Ok(false);
    }
    match a.merge() {
        Merge::Atomic => {}
        Merge::Set => {
            if let (Some(a), Some(b)) = (set(a)?, set(b)?) {
                return Ok(a == b);
            }
        }
        Merge::Map(keys) => return map_lists(a, b, keys),
    }
    for (a, b) in a.iter().zip(b.iter()) {
        if !equal(&a?, &b?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The elements as keys; `None` where one of them is no scalar.
fn set<'a>(list: &List<'a>) -> Result<Option<BTreeSet<Key<'a>>>, Fault> {
    list.iter().map(|value| Ok(value?.key())).collect()
}

fn map_lists(a: &List<'_>, b: &List<'_>, keys: &[Box<str>]) -> Result<bool, Fault> {
    let mut by_key = BTreeMap::new();
    for value in b.iter() {
        let value = value?;
        by_key.insert(element_key(&value, keys)?, value);
    }
    let mut seen = BTreeSet::new();
    for value in a.iter() {
        let value = value?;
        let key = element_key(&value, keys)?;
        match by_key.get(&key) {
            Some(other) if equal(&value, other)? => {}
            _ => return Ok(false),
        }
        seen.insert(key);
    }
    Ok(seen.len() == by_key.len())
}

/// What tells an element of a list of objects from its like.
fn element_key<'a>(value: &Value<'a>, keys: &[Box<str>]) -> Result<Vec<Option<Key<'a>>>, Fault> {
    let Value::Map(map) = value else {
        return Err(Fault::new(format!(
            "unexpected data format for element of array with x-kubernetes-list-type=map: {}",
            value.type_name()
        )));
    };
    keys.iter()
        .map(|key| match map {
            Map::Json(entries, _) => {
                let any = &crate::Declaration::ANY;
                let value = entries.get(&**key).map(|json| Value::json(json, any)).transpose()?;
                Ok(value.and_then(|value| value.key()))
            }
            Map::Made(_) => Ok(map.field(key).transpose()?.and_then(|value| value.key())),
        })
        .collect()
}

/// `a + b` of lists: one after the other, a union, or a merge, as `a` says.
///
/// # Errors
/// An element is not what its declaration says.
pub(crate) fn add_lists<'a>(a: &List<'a>, b: &List<'a>) -> Result<List<'a>, Fault> {
    let merge = a.merge().clone();
    let keys = |value: &Value<'a>| match &merge {
        Merge::Atomic => Ok(None),
        Merge::Set => Ok(value.key().map(|key| vec![Some(key)])),
        Merge::Map(keys) => element_key(value, keys).map(Some),
    };
    if merge == Merge::Atomic {
        check_count(a.len() + b.len())?;
        return Ok(List::join(a.clone(), b.clone()));
    }
    let mut values = Vec::new();
    let mut places = BTreeMap::new();
    for value in a.iter().chain(b.iter()) {
        let value = value?;
        match keys(&value)? {
            Some(key) if places.contains_key(&key) => values[places[&key]] = value,
            Some(key) => {
                places.insert(key, values.len());
                values.push(value);
            }
            None => values.push(value),
        }
    }
    Ok(List::Made(values.into(), Cow::Owned(merge)))
}

/// What adding lists costs does not grow with them, so their length has a bound
/// of its own.
pub(crate) fn check_count(elements: usize) -> Result<(), Fault> {
    const ELEMENTS_MAX: usize = 1 << 24;
    match elements > ELEMENTS_MAX {
        true => Err(Fault::new(format!("list of more than {ELEMENTS_MAX} elements"))),
        false => Ok(()),
    }
}

fn maps(a: &Map<'_>, b: &Map<'_>) -> Result<bool, Fault> {
    if a.len() != b.len() {
        return Ok(false);
    }
    // Fields that the declaration does not name cannot be seen and count all the same.
    if let (Map::Json(left, declaration), Map::Json(right, _)) = (a, b)
        && let Kind::Object(object) = &declaration.kind
    {
        let named: BTreeSet<&str> = object.fields.values().map(|field| &*field.json).collect();
        let hidden = |(key, _): &(&String, &Json)| !named.contains(key.as_str());
        if left.iter().filter(hidden).any(|(key, value)| right.get(key) != Some(value)) {
            return Ok(false);
        }
    }
    for key in a.keys() {
        let Some(value) = lookup(a, &key).transpose()? else { continue };
        match lookup(b, &key).transpose()? {
            Some(other) if equal(&value, &other)? => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

fn lookup<'a>(map: &Map<'a>, key: &Value<'_>) -> Option<Result<Value<'a>, Fault>> {
    match (map, key) {
        (map, Value::String(text)) => map.field(text),
        (Map::Json(..), _) => None,
        (Map::Made(entries), key) => {
            let found = entries.iter().find(|(known, _)| key.key().as_ref() == Some(known));
            found.map(|(_, (_, value))| Ok(value.clone()))
        }
    }
}

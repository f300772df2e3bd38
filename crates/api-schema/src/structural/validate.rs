//! Value validation, with the words and the order of upstream's OpenAPI
//! validator: type, junctors, text, number, list, enumeration, object.

use serde_json::Value;

use super::{Additional, Checks, Kind, Node, format};
use crate::{Faults, ListType, Path};

impl Node {
    /// Faults of a value. What is the same in `old` and can be told to be the
    /// same thing is not looked at again (ratcheting).
    pub(crate) fn validate(
        &self,
        value: &Value,
        old: Option<&Value>,
        path: &Path<'_>,
        faults: &mut Faults,
    ) {
        if !self.check_type(value, path, faults) && value.is_null() {
            return;
        }
        if let Some(checks) = &self.checks {
            if value.is_null() {
                checks.enumeration(value, path, faults);
                return;
            }
            checks.junctors(value, old, path, faults);
            match value {
                Value::String(text) => checks.text(text, path, faults),
                Value::Number(number) => {
                    if let Some(number) = number.as_f64() {
                        checks.number(self.kind, number, path, faults);
                    }
                }
                Value::Array(list) => checks.list(list.len(), path, faults),
                _ => {}
            }
            checks.enumeration(value, path, faults);
            if let Value::Object(map) = value {
                checks.object(map, path, faults);
            }
        }
        self.descend(value, old, path, faults);
    }

    /// Whether the value is of the node's kind; a fault where not. A number or text
    /// is both, whatever its kind is said to be.
    fn check_type(&self, value: &Value, path: &Path<'_>, faults: &mut Faults) -> bool {
        let wanted = match (self.int_or_string, self.kind) {
            (true, _) => "integer,string",
            (false, Kind::Any) => return !value.is_null(),
            (false, kind) => kind.as_str(),
        };
        let is_whole = |value: &Value| match value.as_f64() {
            Some(number) if !value.is_i64() => number.fract() == 0.0,
            number => number.is_some(),
        };
        let fits = match (self.kind, value) {
            (_, Value::Null) => return self.nullable || self.wrong(wanted, value, path, faults),
            (_, Value::String(_)) if self.int_or_string => true,
            (_, Value::Number(_)) if self.int_or_string => is_whole(value),
            (_, _) if self.int_or_string => false,
            (Kind::Object, Value::Object(_))
            | (Kind::Array, Value::Array(_))
            | (Kind::String, Value::String(_))
            | (Kind::Number, Value::Number(_))
            | (Kind::Boolean, Value::Bool(_)) => true,
            (Kind::Integer, Value::Number(_)) => is_whole(value),
            _ => false,
        };
        fits || self.wrong(wanted, value, path, faults)
    }

    fn wrong(&self, wanted: &str, value: &Value, path: &Path<'_>, faults: &mut Faults) -> bool {
        let found = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let message = format!("{path} in body must be of type {wanted}: {found:?}");
        faults.wrong_type(path, found, &message);
        false
    }

    fn descend(&self, value: &Value, old: Option<&Value>, path: &Path<'_>, faults: &mut Faults) {
        let below = |node: &Self, value: &Value, old: Option<&Value>, path, faults: &mut _| {
            if old != Some(value) {
                node.validate(value, old, &path, faults);
            }
        };
        match value {
            Value::Object(map) => {
                for (name, node) in &self.properties {
                    let Some(value) = map.get(&**name) else { continue };
                    let old = old.and_then(|old| old.get(&**name));
                    below(node, value, old, path.child(name), faults);
                }
                let Additional::Node(node) = &self.additional else { return };
                for (name, value) in map {
                    if self.property(name).is_none() {
                        let old = old.and_then(|old| old.get(name));
                        below(node, value, old, path.child(name), faults);
                    }
                }
            }
            Value::Array(list) => {
                let Some(items) = &self.items else { return };
                for (index, value) in list.iter().enumerate() {
                    let old = old.and_then(|old| self.same_element(value, old));
                    below(items, value, old, path.index(index), faults);
                }
            }
            _ => {}
        }
    }

    /// The element of an old list that is known to be the same one by its keys.
    pub(super) fn same_element<'v>(&self, element: &Value, old: &'v Value) -> Option<&'v Value> {
        if self.list_type != ListType::Map {
            return None;
        }
        let key = self.key_of(element)?;
        old.as_array()?.iter().find(|old| self.key_of(old).is_some_and(|old| old == key))
    }

    /// Whether a value has no fault here.
    fn accepts(&self, value: &Value) -> bool {
        self.faults(value, None, &Path::ROOT).is_empty()
    }

    fn faults(&self, value: &Value, old: Option<&Value>, path: &Path<'_>) -> Faults {
        let mut faults = Faults::default();
        self.validate(value, old, path, &mut faults);
        faults
    }
}

/// A number as Go's `%v` writes it.
fn shown(number: f64) -> String {
    match super::parse::whole(number) {
        Some(whole) => whole.to_string(),
        None => number.to_string(),
    }
}

impl Checks {
    fn enumeration(&self, value: &Value, path: &Path<'_>, faults: &mut Faults) {
        if self.values.is_empty() || self.values.contains(value) {
            return;
        }
        let shown = |value: &Value| match value {
            Value::String(text) => text.clone(),
            value => value.to_string(),
        };
        let values: Vec<String> = self.values.iter().map(shown).collect();
        faults.unsupported_of(path, value.clone(), values.iter().map(String::as_str));
    }

    fn junctors(&self, value: &Value, old: Option<&Value>, path: &Path<'_>, faults: &mut Faults) {
        if !self.any_of.is_empty() && !self.any_of.iter().any(|node| node.accepts(value)) {
            faults.nowhere(&format!("\"{path}\" must validate at least one schema (anyOf)"));
            faults.append(self.any_of[0].faults(value, old, path));
        }
        if !self.one_of.is_empty() {
            let message = format!("\"{path}\" must validate one and only one schema (oneOf).");
            match self.one_of.iter().filter(|node| node.accepts(value)).count() {
                1 => {}
                0 => {
                    faults.nowhere(&format!("{message} Found none valid"));
                    faults.append(self.one_of[0].faults(value, old, path));
                }
                count => {
                    faults.nowhere(&format!("{message} Found {count} valid alternatives"));
                }
            }
        }
        if !self.all_of.is_empty() {
            let mut valid = 0;
            for node in &self.all_of {
                let found = node.faults(value, old, path);
                valid += usize::from(found.is_empty());
                faults.append(found);
            }
            if valid < self.all_of.len() {
                let none = if valid == 0 { ". None validated" } else { "" };
                faults.nowhere(&format!("\"{path}\" must validate all the schemas (allOf){none}"));
            }
        }
        if self.not.as_ref().is_some_and(|node| node.accepts(value)) {
            faults.nowhere(&format!("\"{path}\" must not validate the schema (not)"));
        }
    }

    fn text(&self, text: &str, path: &Path<'_>, faults: &mut Faults) {
        let len = if self.max_length.or(self.min_length).is_some() {
            text.chars().count() as u64
        } else {
            0
        };
        if let Some(max) = self.max_length.filter(|max| len > *max) {
            faults.too_long(path, usize::try_from(max).unwrap_or(usize::MAX));
        }
        if let Some(min) = self.min_length.filter(|min| len < *min) {
            let detail = format!("{path} in body should be at least {min} chars long");
            faults.invalid(path, text, detail);
        }
        if let Some(pattern) = &self.pattern
            && !pattern.regex.is_match(text)
        {
            let detail = format!("{path} in body should match '{}'", pattern.text);
            faults.invalid(path, text, detail);
        }
        if !self.format.is_empty() && !format::matches(&self.format, text) {
            let detail = format!("{path} in body must be of type {}: {text:?}", self.format);
            faults.wrong_type(path, text, &detail);
        }
    }

    fn number(&self, kind: Kind, number: f64, path: &Path<'_>, faults: &mut Faults) {
        let value = || match super::parse::whole(number) {
            Some(whole) => Value::from(whole),
            None => Value::from(number),
        };
        let in_range = match (kind, &*self.format) {
            (Kind::Integer, "int32") => {
                (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&number)
            }
            (Kind::Number, "float") => number.abs() <= f64::from(f32::MAX),
            _ => true,
        };
        if !in_range {
            faults.nowhere(&format!(
                "Checked value must be of type {} with format {} in {path}",
                kind.as_str(),
                self.format
            ));
        }
        if let Some(factor) = self.multiple_of.filter(|factor| *factor > 0.0) {
            let times = number / factor;
            if times.fract() != 0.0 {
                let detail = format!("{path} in body should be a multiple of {}", shown(factor));
                faults.invalid(path, value(), detail);
            }
        }
        if let Some(max) = self.maximum {
            let bad = number > max || (self.exclusive_maximum && number == max);
            if bad {
                let or_equal = if self.exclusive_maximum { "" } else { " or equal to" };
                let detail = format!("{path} in body should be less than{or_equal} {}", shown(max));
                faults.invalid(path, value(), detail);
            }
        }
        if let Some(min) = self.minimum {
            let bad = number < min || (self.exclusive_minimum && number == min);
            if bad {
                let or_equal = if self.exclusive_minimum { "" } else { " or equal to" };
                let detail =
                    format!("{path} in body should be greater than{or_equal} {}", shown(min));
                faults.invalid(path, value(), detail);
            }
        }
    }

    fn list(&self, len: usize, path: &Path<'_>, faults: &mut Faults) {
        if let Some(min) = self.min_items.filter(|min| (len as u64) < *min) {
            faults.invalid(path, len, format!("{path} in body should have at least {min} items"));
        }
        if let Some(max) = self.max_items.filter(|max| len as u64 > *max) {
            faults.too_many(path, len, usize::try_from(max).unwrap_or(usize::MAX));
        }
    }

    fn object(&self, map: &serde_json::Map<String, Value>, path: &Path<'_>, faults: &mut Faults) {
        let len = map.len();
        if let Some(min) = self.min_properties.filter(|min| (len as u64) < *min) {
            let detail = format!("{path} in body should have at least {min} properties");
            faults.invalid(path, len, detail);
        }
        if let Some(max) = self.max_properties.filter(|max| len as u64 > *max) {
            faults.too_many(path, len, usize::try_from(max).unwrap_or(usize::MAX));
        }
        for name in self.required.iter().filter(|name| !map.contains_key(&***name)) {
            faults.required(&path.child(name), "");
        }
    }
}

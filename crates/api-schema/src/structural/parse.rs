//! From a definition's JSON to nodes.

use serde_json::{Map, Number, Value};

use super::{Additional, Checks, Kind, Node, Pattern, Rule};
use crate::{ListType, tree};

/// Schemas may not be nested deeper; deeper JSON does not decode either.
const DEPTH_MAX: usize = 100;

impl Node {
    /// Reads a `JSONSchemaProps`.
    ///
    /// # Errors
    /// Where a part is of the wrong type, or a pattern does not compile; the
    /// text says where.
    pub fn parse(schema: &Value) -> Result<Self, String> {
        node(schema, 0)
    }
}

/// Whether a `pattern` compiles.
///
/// # Errors
/// Why it does not.
pub fn check_pattern(text: &str) -> Result<(), String> {
    re2::compile(text).map(drop)
}

/// Numbers with nothing after the point as whole numbers, at any depth: what
/// upstream's decoder and encoder make of `1.0`, and what equality needs.
pub(crate) fn canonical(value: &mut Value) {
    match value {
        Value::Number(number) => {
            if let Some(whole) = number.as_f64().filter(|_| number.is_f64()).and_then(whole) {
                *number = Number::from(whole);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(canonical),
        Value::Object(map) => map.values_mut().for_each(canonical),
        _ => {}
    }
}

/// Floats up to here hold every whole number.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

pub(super) fn whole(number: f64) -> Option<i64> {
    (number.fract() == 0.0 && number.abs() <= WHOLE_MAX).then_some(number as i64)
}

fn node(schema: &Value, depth: usize) -> Result<Node, String> {
    let map = schema.as_object().ok_or("a schema must be an object")?;
    if depth > DEPTH_MAX {
        return Err(format!("schemas are nested more than {DEPTH_MAX} deep"));
    }
    let said = tree::text(schema, "type");
    let below =
        |key: &str, schema: &Value| node(schema, depth + 1).map_err(|why| format!("{key}: {why}"));
    let mut properties = Vec::new();
    for (name, schema) in tree::entries(schema, "properties") {
        properties.push((name.as_str().into(), below(name, schema)?));
    }
    properties.sort_by(|(a, _): &(Box<str>, Node), (b, _)| a.cmp(b));
    let list_type = match tree::text(schema, "x-kubernetes-list-type") {
        "atomic" => ListType::Atomic,
        "set" => ListType::Set,
        "map" => ListType::Map,
        _ => ListType::Unset,
    };
    Ok(Node {
        kind: Kind::parse(said).ok_or_else(|| format!("unknown type {said:?}"))?,
        nullable: tree::flag(schema, "nullable"),
        int_or_string: tree::flag(schema, "x-kubernetes-int-or-string"),
        preserve_unknown: tree::flag(schema, "x-kubernetes-preserve-unknown-fields"),
        embedded: tree::flag(schema, "x-kubernetes-embedded-resource"),
        atomic: tree::text(schema, "x-kubernetes-map-type") == "atomic",
        list_type,
        list_keys: texts(schema, "x-kubernetes-list-map-keys"),
        properties,
        additional: match map.get("additionalProperties") {
            None | Some(Value::Null | Value::Bool(false)) => Additional::None,
            Some(Value::Bool(true)) => Additional::Any,
            Some(schema) => Additional::Node(below("additionalProperties", schema)?.into()),
        },
        items: match map.get("items") {
            None | Some(Value::Null) => None,
            Some(schema) => Some(below("items", schema)?.into()),
        },
        default: map.get("default").map(|default| {
            let mut default = default.clone();
            canonical(&mut default);
            default
        }),
        rules: tree::list(schema, "x-kubernetes-validations").iter().map(rule).collect(),
        checks: checks(map, depth)?,
    })
}

fn texts(schema: &Value, key: &str) -> Vec<Box<str>> {
    tree::list(schema, key).iter().filter_map(Value::as_str).map(Into::into).collect()
}

fn rule(rule: &Value) -> Rule {
    let text = |key| tree::text(rule, key).to_owned();
    Rule {
        rule: text("rule"),
        message: text("message"),
        message_expression: text("messageExpression"),
        reason: text("reason"),
        field_path: text("fieldPath"),
        optional_old_self: tree::flag(rule, "optionalOldSelf"),
    }
}

fn checks(map: &Map<String, Value>, depth: usize) -> Result<Option<Box<Checks>>, String> {
    let number = |key: &str| map.get(key).and_then(Value::as_f64);
    let count = |key: &str| map.get(key).and_then(Value::as_u64);
    let flag = |key: &str| map.get(key).and_then(Value::as_bool).unwrap_or_default();
    let nodes = |key: &str| -> Result<Vec<Node>, String> {
        let list = map.get(key).and_then(Value::as_array);
        list.into_iter()
            .flatten()
            .map(|schema| node(schema, depth + 1).map_err(|why| format!("{key}: {why}")))
            .collect()
    };
    let pattern = match map.get("pattern").and_then(Value::as_str) {
        None | Some("") => None,
        Some(text) => {
            let regex = re2::compile(text).map_err(|why| format!("pattern {text:?}: {why}"))?;
            Some(Pattern { text: text.into(), regex })
        }
    };
    let mut values = map.get("enum").and_then(Value::as_array).cloned().unwrap_or_default();
    values.iter_mut().for_each(canonical);
    let required = map.get("required").and_then(Value::as_array);
    let checks = Checks {
        format: map.get("format").and_then(Value::as_str).unwrap_or_default().into(),
        maximum: number("maximum"),
        exclusive_maximum: flag("exclusiveMaximum"),
        minimum: number("minimum"),
        exclusive_minimum: flag("exclusiveMinimum"),
        multiple_of: number("multipleOf"),
        max_length: count("maxLength"),
        min_length: count("minLength"),
        max_items: count("maxItems"),
        min_items: count("minItems"),
        max_properties: count("maxProperties"),
        min_properties: count("minProperties"),
        pattern,
        values,
        required: required
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(Into::into)
            .collect(),
        all_of: nodes("allOf")?,
        any_of: nodes("anyOf")?,
        one_of: nodes("oneOf")?,
        not: match map.get("not") {
            None | Some(Value::Null) => None,
            Some(schema) => {
                Some(node(schema, depth + 1).map_err(|why| format!("not: {why}"))?.into())
            }
        },
    };
    Ok((checks != Checks::default()).then(|| checks.into()))
}

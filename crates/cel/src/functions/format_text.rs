//! `'%d of %s'.format([…])`: clauses, their precision, and how each kind of
//! value is written. Numbers with a fraction are written as in en_US.

use super::{
    conversions::{double, text},
    strings::check_len,
};
use crate::{
    fault::Fault,
    value::{List, Map, Value},
};

const PRECISION: usize = 6;
/// More digits than any double has; also what bounds the work of one clause.
const PRECISION_MAX: usize = 1000;

/// Fills the clauses of a format with values, in order.
///
/// # Errors
/// A clause is wrong or its value is, or there are too few values.
pub(super) fn format(format: &str, values: &List<'_>) -> Result<String, Fault> {
    let mut written = String::new();
    let mut rest = format;
    let mut next = 0;
    while let Some(at) = rest.find('%') {
        written.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            written.push('%');
            rest = after;
            continue;
        }
        let precision = match rest.strip_prefix('.') {
            None => None,
            Some(after) => {
                let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
                rest = &after[end..];
                let digits = after[..end].parse().ok().filter(|digits| *digits <= PRECISION_MAX);
                Some(digits.ok_or_else(|| {
                    Fault::new(format!(
                        "could not parse formatting clause: error while parsing precision: {:?}",
                        &after[..end]
                    ))
                })?)
            }
        };
        let Some(clause) = rest.chars().next() else {
            return Err(Fault::new("could not parse formatting clause: unexpected end of string"));
        };
        rest = &rest[clause.len_utf8()..];
        let value =
            values.get(next).ok_or_else(|| Fault::new(format!("index {next} out of range")))??;
        next += 1;
        let wrote = one(clause, precision, &value)?;
        written.push_str(&wrote);
        check_len(written.len())?;
    }
    written.push_str(rest);
    Ok(written)
}

fn one(clause: char, precision: Option<usize>, value: &Value<'_>) -> Result<String, Fault> {
    let digits = precision.unwrap_or(PRECISION);
    let only = |what: &str, on: &str| {
        Err(Fault::new(format!(
            "error during formatting: {what} clause can only be used on {on}, was given {}",
            value.type_name()
        )))
    };
    match (clause, value) {
        ('s', _) => string(value),
        ('d', Value::Int(number)) => Ok(number.to_string()),
        ('d', Value::Uint(number)) => Ok(number.to_string()),
        ('d', _) => only("decimal", "integers"),
        ('f', _) => match as_double(value) {
            Some(number) => Ok(fixed(number, digits)),
            None => only("fixed-point", "doubles"),
        },
        ('e', _) => match as_double(value) {
            Some(number) => Ok(scientific(number, digits)),
            None => only("scientific", "doubles"),
        },
        ('b', Value::Int(number)) => Ok(signed(*number, |n| format!("{n:b}"))),
        ('b', Value::Uint(number)) => Ok(format!("{number:b}")),
        ('b', Value::Bool(value)) => Ok(u8::from(*value).to_string()),
        ('b', _) => only("binary", "integers and bools"),
        ('o', Value::Int(number)) => Ok(signed(*number, |n| format!("{n:o}"))),
        ('o', Value::Uint(number)) => Ok(format!("{number:o}")),
        ('o', _) => only("octal", "integers"),
        ('x' | 'X', _) => {
            let hex = match value {
                Value::Int(number) => signed(*number, |n| format!("{n:x}")),
                Value::Uint(number) => format!("{number:x}"),
                Value::String(text) => text.bytes().map(|b| format!("{b:02x}")).collect(),
                Value::Bytes(bytes) => bytes.iter().map(|b| format!("{b:02x}")).collect(),
                _ => return only("hex", "integers, byte buffers, and strings"),
            };
            Ok(if clause == 'X' { hex.to_ascii_uppercase() } else { hex })
        }
        _ => Err(Fault::new(format!(
            "could not parse formatting clause: unrecognized formatting clause {:?}",
            clause.to_string()
        ))),
    }
}

fn signed(number: i64, digits: fn(u64) -> String) -> String {
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{}", digits(number.unsigned_abs()))
}

fn as_double(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Double(number) => Some(*number),
        Value::String(text) => match &text[..] {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

fn not_finite(number: f64) -> Option<String> {
    match number {
        number if number.is_nan() => Some("NaN".into()),
        f64::INFINITY => Some("∞".into()),
        f64::NEG_INFINITY => Some("-∞".into()),
        _ => None,
    }
}

/// With a comma between thousands.
fn fixed(number: f64, digits: usize) -> String {
    if let Some(text) = not_finite(number) {
        return text;
    }
    let plain = format!("{:.digits$}", number.abs());
    let (whole, fraction) = plain.split_once('.').unwrap_or((&plain, ""));
    let mut written = String::from(if number.is_sign_negative() { "-" } else { "" });
    for (nth, digit) in whole.chars().enumerate() {
        if nth > 0 && (whole.len() - nth).is_multiple_of(3) {
            written.push(',');
        }
        written.push(digit);
    }
    if !fraction.is_empty() {
        written.push('.');
        written.push_str(fraction);
    }
    written
}

/// `3.140000×10⁰⁰`.
fn scientific(number: f64, digits: usize) -> String {
    if let Some(text) = not_finite(number) {
        return text;
    }
    let plain = format!("{number:.digits$e}");
    let (mantissa, exponent) = plain.split_once('e').unwrap_or((&plain, "0"));
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ("⁻", exponent),
        None => ("", exponent),
    };
    let raised = |c: char| match c.to_digit(10) {
        Some(digit) => ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'][digit as usize],
        None => c,
    };
    let exponent: String = format!("{exponent:0>2}").chars().map(raised).collect();
    format!("{mantissa}×10{sign}{exponent}")
}

fn string(value: &Value<'_>) -> Result<String, Fault> {
    match value {
        Value::List(list) => list_text(list),
        Value::Map(map) => map_text(map),
        Value::Null => Ok("null".into()),
        other => match text(other) {
            Some(text) => text,
            None => Err(Fault::new(format!(
                "error during formatting: string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps, was given {}",
                other.type_name()
            ))),
        },
    }
}

fn list_text(list: &List<'_>) -> Result<String, Fault> {
    let mut written = Vec::new();
    for value in list.iter() {
        written.push(nested(&value?)?);
    }
    Ok(format!("[{}]", written.join(", ")))
}

fn map_text(map: &Map<'_>) -> Result<String, Fault> {
    let mut written = Vec::new();
    for key in map.keys() {
        if let Some(value) = map.get(&key) {
            written.push((nested(&key)?, nested(&value?)?));
        }
    }
    written.sort();
    let written: Vec<String> =
        written.into_iter().map(|(key, value)| format!("{key}:{value}")).collect();
    Ok(format!("{{{}}}", written.join(", ")))
}

/// A value within a list or map is written as a literal.
fn nested(value: &Value<'_>) -> Result<String, Fault> {
    Ok(match value {
        Value::String(text) => format!("{:?}", &text[..]),
        Value::Bytes(_) => format!("b{:?}", string(value)?),
        Value::Double(number) if number.is_finite() => format!("{number:.PRECISION$}"),
        Value::Double(number) => format!("{:?}", double(*number)),
        Value::Timestamp(time) => format!("timestamp(\"{time}\")"),
        Value::Duration(_) => format!("duration({:?})", string(value)?),
        _ => string(value)?,
    })
}

//! From one type to another.

use super::{
    Function, Library, Outcome, Overload,
    Pattern::{
        A, Bool, Bytes, Double, Duration, Dyn, Int, Opaque, String, Timestamp, TypeOf, Uint,
    },
    function, global, no,
};
use crate::{
    cost::Cost,
    fault::Fault,
    time::{self, Timestamp as Time},
    value::Value,
};

pub(super) const FUNCTIONS: &[Function] = &[
    row("type", &[global(&[A], TypeOf(&A), Cost::Unit)], |args| Ok(Value::Type(args[0].ty()))),
    row("dyn", &[global(&[A], Dyn, Cost::Unit)], |args| Ok(args[0].clone())),
    row(
        "bool",
        &[global(&[Bool], Bool, Cost::Unit), global(&[String], Bool, Cost::Unit)],
        |args| match args {
            [Value::Bool(value)] => Ok(Value::Bool(*value)),
            [Value::String(text)] => match &text[..] {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
                _ => cannot("string", "bool"),
            },
            _ => no(),
        },
    ),
    row(
        "bytes",
        &[global(&[Bytes], Bytes, Cost::Unit), global(&[String], Bytes, Cost::ToBytes)],
        |args| match args {
            [Value::Bytes(_)] => Ok(args[0].clone()),
            [Value::String(text)] => Ok(Value::Bytes(text.as_bytes().into())),
            _ => no(),
        },
    ),
    row(
        "double",
        &[
            global(&[Double], Double, Cost::Unit),
            global(&[Int], Double, Cost::Unit),
            global(&[String], Double, Cost::Unit),
            global(&[Uint], Double, Cost::Unit),
        ],
        |args| match args {
            [Value::Double(number)] => Ok(Value::Double(*number)),
            [Value::Int(number)] => Ok(Value::Double(*number as f64)),
            [Value::Uint(number)] => Ok(Value::Double(*number as f64)),
            [Value::String(text)] => match text.parse() {
                Ok(number) => Ok(Value::Double(number)),
                Err(_) => cannot("string", "double"),
            },
            _ => no(),
        },
    ),
    row(
        "duration",
        &[global(&[Duration], Duration, Cost::Unit), global(&[String], Duration, Cost::Unit)],
        |args| match args {
            [Value::Duration(nanos)] => Ok(Value::Duration(*nanos)),
            [Value::String(text)] => match time::duration(text) {
                Ok(nanos) => Ok(Value::Duration(nanos)),
                Err(_) => cannot("string", "google.protobuf.Duration"),
            },
            _ => no(),
        },
    ),
    row(
        "timestamp",
        &[
            global(&[Timestamp], Timestamp, Cost::Unit),
            global(&[Int], Timestamp, Cost::Unit),
            global(&[String], Timestamp, Cost::Unit),
        ],
        |args| match args {
            [Value::Timestamp(time)] => Ok(Value::Timestamp(*time)),
            [Value::Int(seconds)] => Ok(Value::Timestamp(Time::new(*seconds, 0)?)),
            [Value::String(text)] => match Time::parse(text) {
                Ok(time) => Ok(Value::Timestamp(time)),
                Err(_) => cannot("string", "google.protobuf.Timestamp"),
            },
            _ => no(),
        },
    ),
    row(
        "int",
        &[
            global(&[Int], Int, Cost::Unit),
            global(&[Double], Int, Cost::Unit),
            global(&[Duration], Int, Cost::Unit),
            global(&[String], Int, Cost::Unit),
            global(&[Timestamp], Int, Cost::Unit),
            global(&[Uint], Int, Cost::Unit),
        ],
        to_int,
    ),
    row(
        "uint",
        &[
            global(&[Uint], Uint, Cost::Unit),
            global(&[Double], Uint, Cost::Unit),
            global(&[Int], Uint, Cost::Unit),
            global(&[String], Uint, Cost::Unit),
        ],
        to_uint,
    ),
    row(
        "string",
        &[
            global(&[String], String, Cost::Unit),
            global(&[Bool], String, Cost::Unit),
            global(&[Bytes], String, Cost::BytesToText),
            global(&[Double], String, Cost::Unit),
            global(&[Duration], String, Cost::Unit),
            global(&[Int], String, Cost::Unit),
            global(&[Timestamp], String, Cost::Unit),
            global(&[Uint], String, Cost::Unit),
            global(&[Opaque("net.IP")], String, Cost::Unit),
            global(&[Opaque("net.CIDR")], String, Cost::Unit),
        ],
        |args| match text(&args[0]) {
            Some(text) => Ok(Value::text(text?)),
            None => no(),
        },
    ),
];

/// Whether constant arguments are converted when the expression is compiled.
pub(crate) fn is_conversion(name: &str) -> bool {
    FUNCTIONS.iter().any(|row| row.name == name)
}

const fn row(
    name: &'static str,
    overloads: &'static [Overload],
    run: for<'a> fn(&[Value<'a>]) -> Outcome<'a>,
) -> Function {
    function(Library::Standard, name, overloads, run)
}

fn cannot<'a>(from: &str, to: &str) -> Outcome<'a> {
    Err(Fault::new(format!("type conversion error from '{from}' to '{to}'")))
}

fn to_int<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let overflow = || Fault::new("integer overflow");
    Ok(Value::Int(match args {
        [Value::Int(number)] => *number,
        [Value::Uint(number)] => i64::try_from(*number).map_err(|_| overflow())?,
        // Both bounds are doubles, and the upper one is just out of range.
        [Value::Double(number)]
            if *number > -9.223_372_036_854_776e18 && *number < 9.223_372_036_854_776e18 =>
        {
            *number as i64
        }
        [Value::Double(_)] => return Err(overflow()),
        [Value::Duration(nanos)] => *nanos,
        [Value::Timestamp(time)] => time.seconds,
        [Value::String(text)] => match text.parse() {
            Ok(number) => number,
            Err(_) => return cannot("string", "int"),
        },
        _ => return no(),
    }))
}

fn to_uint<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let overflow = || Fault::new("unsigned integer overflow");
    Ok(Value::Uint(match args {
        [Value::Uint(number)] => *number,
        [Value::Int(number)] => u64::try_from(*number).map_err(|_| overflow())?,
        [Value::Double(number)] if *number >= 0.0 && *number < 1.844_674_407_370_955_2e19 => {
            *number as u64
        }
        [Value::Double(_)] => return Err(overflow()),
        [Value::String(text)] => match text.parse() {
            Ok(number) => number,
            Err(_) => return cannot("string", "uint"),
        },
        _ => return no(),
    }))
}

/// What `string(x)` gives; `None` for what has no text.
pub(crate) fn text(value: &Value<'_>) -> Option<Result<std::string::String, Fault>> {
    Some(Ok(match value {
        Value::String(text) => text.to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Uint(number) => number.to_string(),
        Value::Double(number) => double(*number),
        Value::Duration(nanos) => time::duration_text(*nanos),
        Value::Timestamp(time) => time.to_string(),
        Value::Type(ty) => crate::value::type_name(ty),
        Value::Ip(address) => address.to_string(),
        Value::Cidr(cidr) => cidr.to_string(),
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => {
                return Some(Err(Fault::new("invalid UTF-8 in bytes, cannot convert to string")));
            }
        },
        _ => return None,
    }))
}

/// Go's `%g`: the shortest digits that read back, with an exponent below 1e-4
/// and from 1e6 on.
pub(super) fn double(number: f64) -> std::string::String {
    if number.is_nan() {
        return "NaN".into();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf" } else { "-Inf" }.into();
    }
    let scientific = format!("{number:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        return format!("{number}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

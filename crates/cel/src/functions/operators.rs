//! Arithmetic, comparison, membership and size. What the evaluator does itself
//! because it may leave operands out (`&&`, `?:`, indexing) has a row for its
//! types and costs.

use std::cmp::Ordering;

use super::{
    Function, Library, Outcome, Overload,
    Pattern::{
        A, B, Bool, Bytes, Double, Duration, Int, List, Map, Optional, String, Timestamp, Uint,
    },
    function, global, member, no,
};
use crate::{
    cost::Cost,
    equal::{add_lists, compare, equal},
    fault::Fault,
    time::Timestamp as Time,
    value::Value,
};

const LIST: super::Pattern = List(&A);
const MAP: super::Pattern = Map(&A, &B);

pub(super) const FUNCTIONS: &[Function] = &[
    row("_?_:_", &[global(&[Bool, A, A], A, Cost::Conditional)], |_| no()),
    row("_&&_", &[global(&[Bool, Bool], Bool, Cost::Logic)], |_| no()),
    row("_||_", &[global(&[Bool, Bool], Bool, Cost::Logic)], |_| no()),
    row("!_", &[global(&[Bool], Bool, Cost::Unit)], |args| match args {
        [Value::Bool(value)] => Ok(Value::Bool(!value)),
        _ => no(),
    }),
    row("@not_strictly_false", &[global(&[Bool], Bool, Cost::Unit)], |_| no()),
    row("_==_", &[global(&[A, A], Bool, Cost::Equal)], |args| {
        Ok(Value::Bool(equal(&args[0], &args[1])?))
    }),
    row("_!=_", &[global(&[A, A], Bool, Cost::NotEqual)], |args| {
        Ok(Value::Bool(!equal(&args[0], &args[1])?))
    }),
    row("_<_", ORDER, |args| order(args, |order| order == Ordering::Less)),
    row("_<=_", ORDER, |args| order(args, |order| order != Ordering::Greater)),
    row("_>_", ORDER, |args| order(args, |order| order == Ordering::Greater)),
    row("_>=_", ORDER, |args| order(args, |order| order != Ordering::Less)),
    row(
        "_+_",
        &[
            global(&[Bytes, Bytes], Bytes, Cost::Concat),
            global(&[Double, Double], Double, Cost::Unit),
            global(&[Duration, Duration], Duration, Cost::Unit),
            global(&[Duration, Timestamp], Timestamp, Cost::Unit),
            global(&[Timestamp, Duration], Timestamp, Cost::Unit),
            global(&[Int, Int], Int, Cost::Unit),
            global(&[LIST, LIST], LIST, Cost::ConcatList),
            global(&[String, String], String, Cost::Concat),
            global(&[Uint, Uint], Uint, Cost::Unit),
        ],
        add,
    ),
    row(
        "_-_",
        &[
            global(&[Double, Double], Double, Cost::Unit),
            global(&[Duration, Duration], Duration, Cost::Unit),
            global(&[Int, Int], Int, Cost::Unit),
            global(&[Timestamp, Duration], Timestamp, Cost::Unit),
            global(&[Timestamp, Timestamp], Duration, Cost::Unit),
            global(&[Uint, Uint], Uint, Cost::Unit),
        ],
        subtract,
    ),
    row("_*_", NUMBERS, |args| match args {
        [Value::Int(a), Value::Int(b)] => int(a.checked_mul(*b)),
        [Value::Uint(a), Value::Uint(b)] => uint(a.checked_mul(*b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a * b)),
        _ => no(),
    }),
    row("_/_", NUMBERS, |args| match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => {
            Err(Fault::new("division by zero"))
        }
        [Value::Int(a), Value::Int(b)] => int(a.checked_div(*b)),
        [Value::Uint(a), Value::Uint(b)] => uint(a.checked_div(*b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a / b)),
        _ => no(),
    }),
    row(
        "_%_",
        &[global(&[Int, Int], Int, Cost::Unit), global(&[Uint, Uint], Uint, Cost::Unit)],
        |args| match args {
            [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => {
                Err(Fault::new("modulus by zero"))
            }
            [Value::Int(a), Value::Int(b)] => int(a.checked_rem(*b)),
            [Value::Uint(a), Value::Uint(b)] => uint(a.checked_rem(*b)),
            _ => no(),
        },
    ),
    row("-_", &[global(&[Double], Double, Cost::Unit), global(&[Int], Int, Cost::Unit)], |args| {
        match args {
            [Value::Int(a)] => int(a.checked_neg()),
            [Value::Double(a)] => Ok(Value::Double(-a)),
            _ => no(),
        }
    }),
    row(
        "_[_]",
        &[
            global(&[LIST, Int], A, Cost::Index),
            global(&[MAP, A], B, Cost::Index),
            global(&[Optional(&LIST), Int], Optional(&A), Cost::Unit),
            global(&[Optional(&MAP), A], Optional(&B), Cost::Unit),
        ],
        |_| no(),
    ),
    row(
        "_[?_]",
        &[
            global(&[LIST, Int], Optional(&A), Cost::Unit),
            global(&[Optional(&LIST), Int], Optional(&A), Cost::Unit),
            global(&[MAP, A], Optional(&B), Cost::Unit),
            global(&[Optional(&MAP), A], Optional(&B), Cost::Unit),
        ],
        |_| no(),
    ),
    row("_?._", &[global(&[super::Pattern::Dyn, String], Optional(&A), Cost::Unit)], |_| no()),
    row(
        "@in",
        &[global(&[A, LIST], Bool, Cost::InList), global(&[A, MAP], Bool, Cost::Unit)],
        contains,
    ),
    row(
        "size",
        &[
            global(&[Bytes], Int, Cost::Unit),
            member(&[Bytes], Int, Cost::Unit),
            global(&[LIST], Int, Cost::Unit),
            member(&[LIST], Int, Cost::Unit),
            global(&[MAP], Int, Cost::Unit),
            member(&[MAP], Int, Cost::Unit),
            global(&[String], Int, Cost::Unit),
            member(&[String], Int, Cost::Unit),
        ],
        |args| match args {
            [Value::String(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_)] => {
                i64::try_from(args[0].size()).map_or_else(|_| no(), |size| Ok(Value::Int(size)))
            }
            _ => no(),
        },
    ),
    function(
        Library::Comprehensions,
        "cel.@mapInsert",
        &[global(&[MAP, A, B], MAP, Cost::Unit), global(&[MAP, MAP], MAP, Cost::Unit)],
        |_| no(),
    ),
];

const NUMBERS: &[Overload] = &[
    global(&[Double, Double], Double, Cost::Unit),
    global(&[Int, Int], Int, Cost::Unit),
    global(&[Uint, Uint], Uint, Cost::Unit),
];

const ORDER: &[Overload] = &[
    global(&[Bool, Bool], Bool, Cost::Unit),
    global(&[Int, Int], Bool, Cost::Unit),
    global(&[Int, Double], Bool, Cost::Unit),
    global(&[Int, Uint], Bool, Cost::Unit),
    global(&[Uint, Uint], Bool, Cost::Unit),
    global(&[Uint, Double], Bool, Cost::Unit),
    global(&[Uint, Int], Bool, Cost::Unit),
    global(&[Double, Double], Bool, Cost::Unit),
    global(&[Double, Int], Bool, Cost::Unit),
    global(&[Double, Uint], Bool, Cost::Unit),
    global(&[String, String], Bool, Cost::Order),
    global(&[Bytes, Bytes], Bool, Cost::Order),
    global(&[Timestamp, Timestamp], Bool, Cost::Unit),
    global(&[Duration, Duration], Bool, Cost::Unit),
];

const fn row(
    name: &'static str,
    overloads: &'static [Overload],
    run: for<'a> fn(&[Value<'a>]) -> Outcome<'a>,
) -> Function {
    function(Library::Standard, name, overloads, run)
}

fn int<'a>(number: Option<i64>) -> Outcome<'a> {
    number.map(Value::Int).ok_or_else(|| Fault::new("integer overflow"))
}

fn uint<'a>(number: Option<u64>) -> Outcome<'a> {
    number.map(Value::Uint).ok_or_else(|| Fault::new("unsigned integer overflow"))
}

fn duration<'a>(nanos: Option<i64>) -> Outcome<'a> {
    nanos.map(Value::Duration).ok_or_else(|| Fault::new("duration overflow"))
}

fn time<'a>(time: Result<Time, Fault>) -> Outcome<'a> {
    time.map(Value::Timestamp)
}

fn order<'a>(args: &[Value<'a>], holds: fn(Ordering) -> bool) -> Outcome<'a> {
    let nan = |value: &Value<'_>| matches!(value, Value::Double(number) if number.is_nan());
    match compare(&args[0], &args[1]) {
        Some(order) => Ok(Value::Bool(holds(order))),
        None if args.iter().any(nan) => Err(Fault::new("NaN values cannot be ordered")),
        None => no(),
    }
}

fn add<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Int(a), Value::Int(b)] => int(a.checked_add(*b)),
        [Value::Uint(a), Value::Uint(b)] => uint(a.checked_add(*b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a + b)),
        [Value::String(a), Value::String(b)] => Ok(Value::text([&a[..], &b[..]].concat())),
        [Value::Bytes(a), Value::Bytes(b)] => Ok(Value::Bytes([&a[..], &b[..]].concat().into())),
        [Value::List(a), Value::List(b)] => Ok(Value::List(add_lists(a, b)?)),
        [Value::Duration(a), Value::Duration(b)] => duration(a.checked_add(*b)),
        [Value::Timestamp(a), Value::Duration(b)] | [Value::Duration(b), Value::Timestamp(a)] => {
            time(a.plus(*b))
        }
        _ => no(),
    }
}

fn subtract<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Int(a), Value::Int(b)] => int(a.checked_sub(*b)),
        [Value::Uint(a), Value::Uint(b)] => uint(a.checked_sub(*b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a - b)),
        [Value::Duration(a), Value::Duration(b)] => duration(a.checked_sub(*b)),
        [Value::Timestamp(a), Value::Duration(b)] => match b.checked_neg() {
            Some(back) => time(a.plus(back)),
            None => Err(Fault::new("duration overflow")),
        },
        [Value::Timestamp(a), Value::Timestamp(b)] => Ok(Value::Duration(a.since(*b)?)),
        _ => no(),
    }
}

fn contains<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [value, Value::List(list)] => {
            for element in list.iter() {
                if equal(&element?, value)? {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        [key, Value::Map(map)] => match map.get(key) {
            Some(Err(fault)) => Err(fault),
            found => Ok(Value::Bool(found.is_some())),
        },
        _ => no(),
    }
}

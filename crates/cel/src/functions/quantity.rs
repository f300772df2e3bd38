//! Amounts of resources.

use std::cmp::Ordering;

use api_object::quantity::Quantity;

use super::{
    Function, Library, Outcome, Overload,
    Pattern::{Bool, Double, Int, Opaque, String as Str},
    function, global, member, no,
};
use crate::{cost::Cost, fault::Fault, value::Value};

const QUANTITY: super::Pattern = Opaque("kubernetes.Quantity");
const PARSE: Cost = Cost::Parse { sized: false };

pub(super) const FUNCTIONS: &[Function] = &[
    row("quantity", &[global(&[Str], QUANTITY, PARSE)], |args| match args {
        [Value::String(text)] => match Quantity::parse(text) {
            Ok(quantity) => Ok(Value::Quantity(quantity)),
            Err(error) => Err(Fault::new(error.to_string())),
        },
        _ => no(),
    }),
    row("isQuantity", &[global(&[Str], Bool, PARSE)], |args| match args {
        [Value::String(text)] => Ok(Value::Bool(Quantity::parse(text).is_ok())),
        _ => no(),
    }),
    row("sign", &[member(&[QUANTITY], Int, Cost::Unit)], |args| match args {
        [Value::Quantity(quantity)] => Ok(Value::Int(match quantity {
            quantity if quantity.is_zero() => 0,
            quantity if quantity.is_negative() => -1,
            _ => 1,
        })),
        _ => no(),
    }),
    row("isInteger", &[member(&[QUANTITY], Bool, Cost::Unit)], |args| match args {
        [Value::Quantity(quantity)] => Ok(Value::Bool(quantity.whole().is_some())),
        _ => no(),
    }),
    row("asInteger", &[member(&[QUANTITY], Int, Cost::Unit)], |args| match args {
        [Value::Quantity(quantity)] => match quantity.whole() {
            Some(units) => Ok(Value::Int(units)),
            None => Err(Fault::new("cannot convert value to integer")),
        },
        _ => no(),
    }),
    row("asApproximateFloat", &[member(&[QUANTITY], Double, Cost::Unit)], |args| match args {
        [Value::Quantity(quantity)] => Ok(Value::Double(quantity.approximate())),
        _ => no(),
    }),
    row("add", SUM, |args| sum(args, |a, b| a + b)),
    row("sub", SUM, |args| sum(args, |a, b| a - b)),
];

/// Quantities and versions are compared by functions of the same names.
pub(super) const fn row(
    name: &'static str,
    overloads: &'static [Overload],
    run: for<'a> fn(&[Value<'a>]) -> Outcome<'a>,
) -> Function {
    function(Library::Quantity, name, overloads, run)
}

const SUM: &[Overload] = &[
    member(&[QUANTITY, QUANTITY], QUANTITY, Cost::Unit),
    member(&[QUANTITY, Int], QUANTITY, Cost::Unit),
];

fn sum<'a>(args: &[Value<'a>], sum: fn(Quantity, Quantity) -> Quantity) -> Outcome<'a> {
    match args {
        [Value::Quantity(a), Value::Quantity(b)] => Ok(Value::Quantity(sum(*a, *b))),
        [Value::Quantity(a), Value::Int(b)] => {
            Ok(Value::Quantity(sum(*a, Quantity::from_units(*b))))
        }
        _ => no(),
    }
}

/// Which of two quantities or versions is greater; `None` for anything else.
pub(super) fn order(args: &[Value<'_>]) -> Option<Ordering> {
    match args {
        [Value::Quantity(a), Value::Quantity(b)] => Some(a.cmp(b)),
        [Value::Semver(a), Value::Semver(b)] => Some(a.precedence(b)),
        _ => None,
    }
}

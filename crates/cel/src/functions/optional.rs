//! Values that may be none. `or` and `orValue` leave their argument alone where
//! there is a value, which the evaluator sees to.

use super::{
    Function, Library, Outcome, Overload,
    Pattern::{A, Bool, List, Optional},
    function, global, member, no,
};
use crate::{cost::Cost, fault::Fault, value::Value};

const SOME: super::Pattern = Optional(&A);

pub(super) const FUNCTIONS: &[Function] = &[
    row("optional.of", &[global(&[A], SOME, Cost::Unit)], |args| Ok(Value::some(args[0].clone()))),
    row("optional.ofNonZeroValue", &[global(&[A], SOME, Cost::Unit)], |args| {
        Ok(match args[0].is_zero() {
            true => Value::Optional(None),
            false => Value::some(args[0].clone()),
        })
    }),
    row("optional.none", &[global(&[], SOME, Cost::Unit)], |_| Ok(Value::Optional(None))),
    row("value", &[member(&[SOME], A, Cost::Unit)], |args| match args {
        [Value::Optional(Some(value))] => Ok((**value).clone()),
        [Value::Optional(None)] => Err(Fault::new("optional.none() dereference")),
        _ => no(),
    }),
    row("hasValue", &[member(&[SOME], Bool, Cost::Unit)], |args| match args {
        [Value::Optional(value)] => Ok(Value::Bool(value.is_some())),
        _ => no(),
    }),
    row("or", &[member(&[SOME, SOME], SOME, Cost::Unit)], |_| no()),
    row("orValue", &[member(&[SOME, A], A, Cost::Unit)], |_| no()),
    row("first", &[member(&[List(&A)], SOME, Cost::Unit)], |args| match args {
        [Value::List(list)] => at(list, Some(0)),
        _ => no(),
    }),
    row("last", &[member(&[List(&A)], SOME, Cost::Unit)], |args| match args {
        [Value::List(list)] => at(list, list.len().checked_sub(1)),
        _ => no(),
    }),
    row("optional.unwrap", &[global(&[List(&SOME)], List(&A), Cost::Unit)], unwrap),
    row("unwrapOpt", &[member(&[List(&SOME)], List(&A), Cost::Unit)], unwrap),
];

const fn row(
    name: &'static str,
    overloads: &'static [Overload],
    run: for<'a> fn(&[Value<'a>]) -> Outcome<'a>,
) -> Function {
    function(Library::Optional, name, overloads, run)
}

fn at<'a>(list: &crate::value::List<'a>, at: Option<usize>) -> Outcome<'a> {
    match at.and_then(|at| list.get(at)) {
        Some(value) => Ok(Value::some(value?)),
        None => Ok(Value::Optional(None)),
    }
}

fn unwrap<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::List(list)] = args else { return no() };
    let mut values = Vec::new();
    for value in list.iter() {
        match value? {
            Value::Optional(Some(value)) => values.push((*value).clone()),
            Value::Optional(None) => {}
            other => {
                return Err(Fault::new(format!("value {} is not optional", other.type_name())));
            }
        }
    }
    Ok(Value::list(values))
}

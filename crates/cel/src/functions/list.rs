//! Lists, and lists as sets.

use std::cmp::Ordering;

use super::{
    COMPARABLE, Function, Library, Outcome, Overload, Pattern,
    Pattern::{A, Bool, Bytes, Double, Duration, Int, List, String, Timestamp, Uint},
    function, global, member, no,
};
use crate::{
    cost::Cost,
    equal::{check_count, compare, equal},
    fault::Fault,
    value::{List as Values, Value},
};

const LIST: Pattern = List(&A);

/// One overload for each type that has an order: a list of it, and what the
/// function gives.
macro_rules! each_comparable {
    ($($of:ident),*; $result:ident, $cost:expr) => {
        &[$(member(&[List(&$of)], each_comparable!(@$result $of), $cost)),*]
    };
    (@bool $of:ident) => { Bool };
    (@element $of:ident) => { $of };
    (@list $of:ident) => { List(&$of) };
}

pub(super) const FUNCTIONS: &[Function] = &[
    row(
        "isSorted",
        each_comparable!(Int, Uint, Double, Bool, Duration, Timestamp, String, Bytes; bool, Cost::Scan),
        |args| {
            let values = values(args)?;
            let mut sorted = true;
            for pair in values.windows(2) {
                sorted &= order(&pair[0], &pair[1])? != Ordering::Greater;
            }
            Ok(Value::Bool(sorted))
        },
    ),
    row("sum", each_comparable!(Int, Uint, Double, Duration; element, Cost::Scan), sum),
    row(
        "max",
        each_comparable!(Int, Uint, Double, Bool, Duration, Timestamp, String, Bytes; element, Cost::Scan),
        |args| best(args, "max", Ordering::Greater),
    ),
    row(
        "min",
        each_comparable!(Int, Uint, Double, Bool, Duration, Timestamp, String, Bytes; element, Cost::Scan),
        |args| best(args, "min", Ordering::Less),
    ),
    row("indexOf", &[member(&[LIST, A], Int, Cost::Scan)], |args| position(args, false)),
    row("lastIndexOf", &[member(&[LIST, A], Int, Cost::Scan)], |args| position(args, true)),
    row("slice", &[member(&[LIST, Int, Int], LIST, Cost::Slice)], |args| match args {
        [Value::List(list), Value::Int(from), Value::Int(to)] => slice(list, *from, *to),
        _ => no(),
    }),
    row(
        "flatten",
        &[
            member(&[List(&LIST)], LIST, Cost::Flatten),
            member(&[List(&Pattern::Dyn), Int], List(&Pattern::Dyn), Cost::Flatten),
        ],
        |args| match args {
            [Value::List(list)] => flatten(list, 1),
            [Value::List(_), Value::Int(depth)] if *depth < 0 => {
                Err(Fault::new("level must be non-negative"))
            }
            [Value::List(list), Value::Int(depth)] => flatten(list, *depth),
            _ => no(),
        },
    ),
    row(
        "sort",
        each_comparable!(Int, Uint, Double, Bool, Duration, Timestamp, String, Bytes; list, Cost::Sort),
        |args| {
            let values = values(args)?;
            sort(values.clone(), values)
        },
    ),
    row("@sortByAssociatedKeys", SORT_BY, |args| match args {
        [Value::List(list), Value::List(keys)] => {
            sort(list.iter().collect::<Result<_, _>>()?, keys.iter().collect::<Result<_, _>>()?)
        }
        _ => no(),
    }),
    row("lists.range", &[global(&[Int], List(&Int), Cost::Range)], |args| match args {
        [Value::Int(end)] if *end > RANGE_MAX => {
            Err(Fault::new(format!("lists.range(): {end} is more than {RANGE_MAX}")))
        }
        [Value::Int(end)] => Ok(Value::list((0..*end).map(Value::Int).collect())),
        _ => no(),
    }),
    row("reverse", &[member(&[LIST], LIST, Cost::Reverse)], |args| {
        let mut values = values(args)?;
        values.reverse();
        Ok(Value::list(values))
    }),
    row("distinct", &[member(&[LIST], LIST, Cost::Distinct)], distinct),
    set("sets.contains", Cost::Sets(1), |args| subset(&args[1], &args[0]).map(Value::Bool)),
    set("sets.equivalent", Cost::Sets(2), |args| {
        Ok(Value::Bool(subset(&args[1], &args[0])? && subset(&args[0], &args[1])?))
    }),
    set("sets.intersects", Cost::Sets(1), |args| {
        let [Value::List(a), Value::List(b)] = args else { return no() };
        for value in a.iter() {
            if has(b, &value?)? {
                return Ok(Value::Bool(true));
            }
        }
        Ok(Value::Bool(false))
    }),
];

/// A longer range would be charged for after it was made: it costs more than
/// any budget, and is not made at all.
const RANGE_MAX: i64 = 1_000_000;

const SORT_BY: &[Overload] = &[
    member(&[LIST, List(&COMPARABLE[0])], LIST, Cost::SortBy),
    member(&[LIST, List(&COMPARABLE[1])], LIST, Cost::SortBy),
    member(&[LIST, List(&COMPARABLE[2])], LIST, Cost::SortBy),
    member(&[LIST, List(&COMPARABLE[3])], LIST, Cost::SortBy),
    member(&[LIST, List(&COMPARABLE[4])], LIST, Cost::SortBy),
    member(&[LIST, List(&COMPARABLE[5])], LIST, Cost::SortBy),
    member(&[LIST, List(&COMPARABLE[6])], LIST, Cost::SortBy),
    member(&[LIST, List(&COMPARABLE[7])], LIST, Cost::SortBy),
];

const fn row(
    name: &'static str,
    overloads: &'static [Overload],
    run: for<'a> fn(&[Value<'a>]) -> Outcome<'a>,
) -> Function {
    function(Library::Lists, name, overloads, run)
}

const fn set(
    name: &'static str,
    cost: Cost,
    run: for<'a> fn(&[Value<'a>]) -> Outcome<'a>,
) -> Function {
    const ONCE: &[Overload] = &[global(&[LIST, LIST], Bool, Cost::Sets(1))];
    const TWICE: &[Overload] = &[global(&[LIST, LIST], Bool, Cost::Sets(2))];
    let overloads = match cost {
        Cost::Sets(2) => TWICE,
        _ => ONCE,
    };
    function(Library::Sets, name, overloads, run)
}

fn values<'a>(args: &[Value<'a>]) -> Result<Vec<Value<'a>>, Fault> {
    match args {
        [Value::List(list), ..] => list.iter().collect(),
        _ => Err(Fault::no_such_overload()),
    }
}

fn order(a: &Value<'_>, b: &Value<'_>) -> Result<Ordering, Fault> {
    compare(a, b).ok_or_else(Fault::no_such_overload)
}

fn sum<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let values = values(args)?;
    let overflow = |what: &str| Fault::new(format!("{what} overflow"));
    let mut sum = match values.first() {
        None | Some(Value::Int(_)) => Value::Int(0),
        Some(Value::Uint(_)) => Value::Uint(0),
        Some(Value::Double(_)) => Value::Double(0.0),
        Some(Value::Duration(_)) => Value::Duration(0),
        Some(_) => return no(),
    };
    for value in &values {
        sum = match (&sum, value) {
            (Value::Int(a), Value::Int(b)) => {
                Value::Int(a.checked_add(*b).ok_or_else(|| overflow("integer"))?)
            }
            (Value::Uint(a), Value::Uint(b)) => {
                Value::Uint(a.checked_add(*b).ok_or_else(|| overflow("unsigned integer"))?)
            }
            (Value::Double(a), Value::Double(b)) => Value::Double(a + b),
            (Value::Duration(a), Value::Duration(b)) => {
                Value::Duration(a.checked_add(*b).ok_or_else(|| overflow("duration"))?)
            }
            _ => return no(),
        };
    }
    Ok(sum)
}

fn best<'a>(args: &[Value<'a>], name: &str, wanted: Ordering) -> Outcome<'a> {
    let mut values = values(args)?.into_iter();
    let mut best =
        values.next().ok_or_else(|| Fault::new(format!("{name} called on empty list")))?;
    for value in values {
        if order(&value, &best)? == wanted {
            best = value;
        }
    }
    Ok(best)
}

fn position<'a>(args: &[Value<'a>], last: bool) -> Outcome<'a> {
    let [Value::List(list), wanted] = args else { return no() };
    let mut found = -1;
    for (at, value) in list.iter().enumerate() {
        if equal(&value?, wanted)? {
            found = i64::try_from(at).unwrap_or(i64::MAX);
            if !last {
                break;
            }
        }
    }
    Ok(Value::Int(found))
}

fn slice<'a>(list: &Values<'a>, from: i64, to: i64) -> Outcome<'a> {
    let wrong = |why: &str| Err(Fault::new(format!("cannot slice({from}, {to}), {why}")));
    let (Ok(start), Ok(end)) = (usize::try_from(from), usize::try_from(to)) else {
        return wrong("negative indexes not supported");
    };
    if start > end {
        return wrong("start index must be less than or equal to end index");
    }
    if end > list.len() {
        return wrong(&format!("list is length {}", list.len()));
    }
    let values = (start..end).filter_map(|at| list.get(at)).collect::<Result<_, _>>()?;
    Ok(Value::list(values))
}

fn flatten<'a>(list: &Values<'a>, depth: i64) -> Outcome<'a> {
    fn walk<'a>(list: &Values<'a>, depth: i64, flat: &mut Vec<Value<'a>>) -> Result<(), Fault> {
        for value in list.iter() {
            match value? {
                Value::List(inner) if depth > 0 => walk(&inner, depth - 1, flat)?,
                value => flat.push(value),
            }
            check_count(flat.len())?;
        }
        Ok(())
    }
    let mut flat = Vec::new();
    walk(list, depth, &mut flat)?;
    Ok(Value::list(flat))
}

fn sort<'a>(values: Vec<Value<'a>>, keys: Vec<Value<'a>>) -> Outcome<'a> {
    if values.len() != keys.len() {
        return Err(Fault::new(format!(
            "@sortByAssociatedKeys() expected a list of the same size as the associated keys list, but got {} and {} elements respectively",
            values.len(),
            keys.len()
        )));
    }
    if let Some(first) = keys.first() {
        if keys.iter().any(|key| key.ty() != first.ty()) {
            return Err(Fault::new("list elements must have the same type"));
        }
        if !matches!(first, Value::Double(_)) && compare(first, first).is_none() {
            return Err(Fault::new("list elements must be comparable"));
        }
    }
    let mut places: Vec<usize> = (0..keys.len()).collect();
    // NaN has no order; it stays where it is.
    places.sort_by(|&a, &b| match (&keys[a], &keys[b]) {
        (Value::Double(a), Value::Double(b)) => a.total_cmp(b),
        (a, b) => compare(a, b).unwrap_or(Ordering::Equal),
    });
    Ok(Value::list(places.into_iter().map(|at| values[at].clone()).collect()))
}

fn distinct<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let mut unique: Vec<Value<'a>> = Vec::new();
    for value in values(args)? {
        let mut seen = false;
        for known in &unique {
            seen |= equal(&value, known)?;
        }
        if !seen {
            unique.push(value);
        }
    }
    Ok(Value::list(unique))
}

fn has(list: &Values<'_>, wanted: &Value<'_>) -> Result<bool, Fault> {
    for value in list.iter() {
        if equal(&value?, wanted)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn subset(part: &Value<'_>, whole: &Value<'_>) -> Result<bool, Fault> {
    let (Value::List(part), Value::List(whole)) = (part, whole) else {
        return Err(Fault::no_such_overload());
    };
    for value in part.iter() {
        if !has(whole, &value?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

//! Parts of points and spans of time.

use super::{
    Function, Library, Outcome, Overload,
    Pattern::{Duration, Int, String, Timestamp},
    function, member, no,
};
use crate::{
    cost::Cost,
    fault::Fault,
    time::{Civil, zone_offset},
    value::Value,
};

pub(super) const FUNCTIONS: &[Function] = &[
    row("getFullYear", DATE, |args| part(args, |at| at.year)),
    row("getMonth", DATE, |args| part(args, |at| at.month - 1)),
    row("getDayOfYear", DATE, |args| part(args, |at| at.day_of_year)),
    row("getDayOfMonth", DATE, |args| part(args, |at| at.day - 1)),
    row("getDate", DATE, |args| part(args, |at| at.day)),
    row("getDayOfWeek", DATE, |args| part(args, |at| at.weekday)),
    row("getHours", CLOCK, |args| match args {
        [Value::Duration(nanos)] => Ok(Value::Int(nanos / 3_600_000_000_000)),
        _ => part(args, |at| at.hour),
    }),
    row("getMinutes", CLOCK, |args| match args {
        [Value::Duration(nanos)] => Ok(Value::Int(nanos / 60_000_000_000)),
        _ => part(args, |at| at.minute),
    }),
    row("getSeconds", CLOCK, |args| match args {
        [Value::Duration(nanos)] => Ok(Value::Int(nanos / 1_000_000_000)),
        _ => part(args, |at| at.second),
    }),
    row("getMilliseconds", CLOCK, |args| match args {
        [Value::Duration(nanos)] => Ok(Value::Int(nanos / 1_000_000)),
        [Value::Timestamp(time), ..] => {
            part(args, |_| 0)?;
            Ok(Value::Int(i64::from(time.nanos / 1_000_000)))
        }
        _ => no(),
    }),
];

const DATE: &[Overload] =
    &[member(&[Timestamp], Int, Cost::Unit), member(&[Timestamp, String], Int, Cost::Unit)];

const CLOCK: &[Overload] = &[
    member(&[Timestamp], Int, Cost::Unit),
    member(&[Timestamp, String], Int, Cost::Unit),
    member(&[Duration], Int, Cost::Unit),
];

const fn row(
    name: &'static str,
    overloads: &'static [Overload],
    run: for<'a> fn(&[Value<'a>]) -> Outcome<'a>,
) -> Function {
    function(Library::Standard, name, overloads, run)
}

/// In UTC, or where the second argument says. Zones are offsets: there is no
/// database of names in the binary.
fn part<'a>(args: &[Value<'a>], part: fn(&Civil) -> i64) -> Outcome<'a> {
    let (time, offset) = match args {
        [Value::Timestamp(time)] => (time, 0),
        [Value::Timestamp(time), Value::String(zone)] => {
            let offset = match &zone[..] {
                "" | "UTC" => Some(0),
                zone => zone_offset(zone),
            };
            (time, offset.ok_or_else(|| Fault::new(format!("unknown time zone {}", &zone[..])))?)
        }
        _ => return no(),
    };
    Ok(Value::Int(part(&time.civil(offset))))
}

//! Text. Places in it are counted in code points.

use super::{
    Function, Library, Outcome, Overload,
    Pattern::{Bool, Dyn, Int, List, String},
    format_text, function, global, member, no,
};
use crate::{
    cost::Cost,
    fault::Fault,
    value::{List as Values, Value},
};

pub(super) const FUNCTIONS: &[Function] = &[
    standard("contains", &[member(&[String, String], Bool, Cost::Contains)], |args| {
        test(args, |text, part| text.contains(part))
    }),
    standard("startsWith", &[member(&[String, String], Bool, Cost::Affix)], |args| {
        test(args, |text, part| text.starts_with(part))
    }),
    standard("endsWith", &[member(&[String, String], Bool, Cost::Affix)], |args| {
        test(args, |text, part| text.ends_with(part))
    }),
    row("charAt", &[member(&[String, Int], String, Cost::Unit)], |args| match args {
        [Value::String(text), Value::Int(at)] => {
            let len = text.chars().count();
            match usize::try_from(*at) {
                Ok(at) if at == len => Ok(Value::text("")),
                Ok(at) if at < len => {
                    Ok(Value::text(text.chars().skip(at).take(1).collect::<Box<str>>()))
                }
                _ => out_of_range(*at),
            }
        }
        _ => no(),
    }),
    row(
        "indexOf",
        &[
            member(&[String, String], Int, Cost::Scan),
            member(&[String, String, Int], Int, Cost::Scan),
        ],
        |args| match args {
            [Value::String(text), Value::String(part)] => index_of(text, part, 0),
            [Value::String(text), Value::String(part), Value::Int(from)] => {
                index_of(text, part, *from)
            }
            _ => no(),
        },
    ),
    row(
        "lastIndexOf",
        &[
            member(&[String, String], Int, Cost::Scan),
            member(&[String, String, Int], Int, Cost::Scan),
        ],
        |args| match args {
            [Value::String(text), Value::String(part)] => last_index_of(text, part, None),
            [Value::String(text), Value::String(part), Value::Int(from)] => {
                last_index_of(text, part, Some(*from))
            }
            _ => no(),
        },
    ),
    row("lowerAscii", &[member(&[String], String, Cost::Transform)], |args| match args {
        [Value::String(text)] => Ok(Value::text(text.to_ascii_lowercase())),
        _ => no(),
    }),
    row("upperAscii", &[member(&[String], String, Cost::Transform)], |args| match args {
        [Value::String(text)] => Ok(Value::text(text.to_ascii_uppercase())),
        _ => no(),
    }),
    row("trim", &[member(&[String], String, Cost::Transform)], |args| match args {
        [Value::String(text)] => Ok(Value::text(text.trim())),
        _ => no(),
    }),
    row(
        "replace",
        &[
            member(&[String, String, String], String, Cost::Replace),
            member(&[String, String, String, Int], String, Cost::Replace),
        ],
        |args| match args {
            [Value::String(text), Value::String(from), Value::String(to)] => {
                replace(text, from, to, -1)
            }
            [Value::String(text), Value::String(from), Value::String(to), Value::Int(count)] => {
                replace(text, from, to, *count)
            }
            _ => no(),
        },
    ),
    row(
        "split",
        &[
            member(&[String, String], List(&String), Cost::Split),
            member(&[String, String, Int], List(&String), Cost::Split),
        ],
        |args| match args {
            [Value::String(text), Value::String(by)] => Ok(split(text, by, -1)),
            [Value::String(text), Value::String(by), Value::Int(count)] => {
                Ok(split(text, by, *count))
            }
            _ => no(),
        },
    ),
    row(
        "substring",
        &[
            member(&[String, Int], String, Cost::Transform),
            member(&[String, Int, Int], String, Cost::Transform),
        ],
        |args| match args {
            [Value::String(text), Value::Int(from)] => substring(text, *from, None),
            [Value::String(text), Value::Int(from), Value::Int(to)] => {
                substring(text, *from, Some(*to))
            }
            _ => no(),
        },
    ),
    row(
        "join",
        &[
            member(&[List(&String)], String, Cost::Join),
            member(&[List(&String), String], String, Cost::Join),
        ],
        |args| match args {
            [Value::List(list)] => join(list, ""),
            [Value::List(list), Value::String(by)] => join(list, by),
            _ => no(),
        },
    ),
    row("format", &[member(&[String, List(&Dyn)], String, Cost::Format)], |args| match args {
        [Value::String(format), Value::List(values)] => {
            Ok(Value::text(format_text::format(format, values)?))
        }
        _ => no(),
    }),
    row("strings.quote", &[global(&[String], String, Cost::Quote)], |args| match args {
        [Value::String(text)] => Ok(Value::text(quote(text))),
        _ => no(),
    }),
];

const fn row(
    name: &'static str,
    overloads: &'static [Overload],
    run: for<'a> fn(&[Value<'a>]) -> Outcome<'a>,
) -> Function {
    function(Library::Strings, name, overloads, run)
}

const fn standard(
    name: &'static str,
    overloads: &'static [Overload],
    run: for<'a> fn(&[Value<'a>]) -> Outcome<'a>,
) -> Function {
    function(Library::Standard, name, overloads, run)
}

fn test<'a>(args: &[Value<'a>], holds: fn(&str, &str) -> bool) -> Outcome<'a> {
    match args {
        [Value::String(text), Value::String(part)] => Ok(Value::Bool(holds(text, part))),
        _ => no(),
    }
}

fn out_of_range<'a>(at: i64) -> Outcome<'a> {
    Err(Fault::new(format!("index out of range: {at}")))
}

fn found<'a>(at: Option<usize>) -> Outcome<'a> {
    Ok(Value::Int(at.and_then(|at| i64::try_from(at).ok()).unwrap_or(-1)))
}

/// The place of the byte offset in code points.
fn place(text: &str, byte: usize) -> usize {
    text[..byte].chars().count()
}

/// The byte offset of a place; the end for places past it.
fn byte(text: &str, place: usize) -> usize {
    text.char_indices().nth(place).map_or(text.len(), |(byte, _)| byte)
}

fn index_of<'a>(text: &str, part: &str, from: i64) -> Outcome<'a> {
    let Ok(start) = usize::try_from(from) else { return out_of_range(from) };
    let len = text.chars().count();
    if part.is_empty() {
        return found(Some(start.min(len)));
    }
    if start >= len {
        return found(None);
    }
    let start = byte(text, start);
    found(text[start..].find(part).map(|at| place(text, start + at)))
}

fn last_index_of<'a>(text: &str, part: &str, from: Option<i64>) -> Outcome<'a> {
    let len = text.chars().count();
    let from = match from {
        None if part.is_empty() => return found(Some(len)),
        None => len.saturating_sub(1),
        Some(from) => match usize::try_from(from) {
            Ok(from) => from,
            Err(_) => return out_of_range(from),
        },
    };
    if part.is_empty() {
        return found(Some(from.min(len)));
    }
    if from >= len {
        return found(None);
    }
    // A match may start at `from` and so end past it.
    let end = byte(text, from.saturating_add(part.chars().count()));
    found(text[..end].rfind(part).map(|at| place(text, at)))
}

fn replace<'a>(text: &str, from: &str, to: &str, count: i64) -> Outcome<'a> {
    let limit = usize::try_from(count).unwrap_or(usize::MAX);
    let places = text.matches(from).take(limit).count();
    check_len(text.len().saturating_add(places.saturating_mul(to.len())))?;
    Ok(Value::text(match usize::try_from(count) {
        Ok(count) => text.replacen(from, to, count),
        Err(_) => text.replace(from, to),
    }))
}

fn split<'a>(text: &str, by: &str, count: i64) -> Value<'a> {
    let parts: Vec<&str> = match (count, by) {
        (0, _) => Vec::new(),
        (count, "") => {
            let limit = usize::try_from(count).unwrap_or(usize::MAX);
            let mut parts = Vec::new();
            let mut rest = text;
            while let Some(c) = rest.chars().next() {
                let at = if parts.len() + 1 == limit { rest.len() } else { c.len_utf8() };
                let (part, after) = rest.split_at(at);
                parts.push(part);
                rest = after;
            }
            parts
        }
        (count, by) => match usize::try_from(count) {
            Ok(limit) => text.splitn(limit, by).collect(),
            Err(_) => text.split(by).collect(),
        },
    };
    Value::list(parts.into_iter().map(Value::text).collect())
}

fn substring<'a>(text: &str, from: i64, to: Option<i64>) -> Outcome<'a> {
    let len = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    if let Some(to) = to
        && from > to
    {
        return Err(Fault::new(format!("invalid substring range. start: {from}, end: {to}")));
    }
    for at in [Some(from), to].into_iter().flatten() {
        if !(0..=len).contains(&at) {
            return out_of_range(at);
        }
    }
    let place = |at: i64| byte(text, usize::try_from(at).unwrap_or(usize::MAX));
    Ok(Value::text(&text[place(from)..place(to.unwrap_or(len))]))
}

fn join<'a>(list: &Values<'a>, by: &str) -> Outcome<'a> {
    let mut joined = std::string::String::new();
    for (nth, value) in list.iter().enumerate() {
        let Value::String(text) = value? else { return no() };
        if nth > 0 {
            joined.push_str(by);
        }
        joined.push_str(&text);
        check_len(joined.len())?;
    }
    Ok(Value::text(joined))
}

/// What these functions cost does not grow with all that their result does, so
/// the result has a bound of its own.
pub(super) fn check_len(bytes: usize) -> Result<(), Fault> {
    const BYTES_MAX: usize = 16 << 20;
    match bytes > BYTES_MAX {
        true => Err(Fault::new(format!("text of more than {BYTES_MAX} bytes"))),
        false => Ok(()),
    }
}

fn quote(text: &str) -> std::string::String {
    let mut quoted = std::string::String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

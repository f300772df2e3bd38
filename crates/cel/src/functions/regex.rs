//! Regular expressions.

use regex::Regex;

use super::{
    Function, Library, Outcome, Overload,
    Pattern::{Bool, Int, List, String as Str},
    function, global, member, no,
};
use crate::{
    cost::Cost,
    fault::Fault,
    value::{Text, Value},
};

pub(super) const FUNCTIONS: &[Function] = &[
    function(
        Library::Standard,
        "matches",
        &[global(&[Str, Str], Bool, Cost::Unit), member(&[Str, Str], Bool, Cost::Matches)],
        |args| match args {
            [Value::String(text), Value::String(pattern)] => {
                with(pattern, |regex| Value::Bool(regex.is_match(text)))
            }
            _ => no(),
        },
    ),
    row("find", &[member(&[Str, Str], Str, Cost::Find)], |args| match args {
        [Value::String(text), Value::String(pattern)] => {
            with(pattern, |regex| Value::text(regex.find(text).map_or("", |found| found.as_str())))
        }
        _ => no(),
    }),
    row(
        "findAll",
        &[
            member(&[Str, Str], List(&Str), Cost::Find),
            member(&[Str, Str, Int], List(&Str), Cost::Find),
        ],
        |args| {
            let (text, pattern, limit) = match args {
                [Value::String(text), Value::String(pattern)] => (text, pattern, usize::MAX),
                [Value::String(text), Value::String(pattern), Value::Int(limit)] => {
                    (text, pattern, usize::try_from(*limit).unwrap_or(usize::MAX))
                }
                _ => return no(),
            };
            with(pattern, |regex| {
                let found = regex.find_iter(text).take(limit);
                Value::list(found.map(|found| Value::text(found.as_str())).collect())
            })
        },
    ),
];

/// The functions whose second argument is a regular expression.
pub(crate) const PATTERN_FUNCTIONS: [&str; 3] = ["matches", "find", "findAll"];

const fn row(
    name: &'static str,
    overloads: &'static [Overload],
    run: for<'a> fn(&[Value<'a>]) -> Outcome<'a>,
) -> Function {
    function(Library::Regex, name, overloads, run)
}

fn with<'a>(pattern: &Text<'_>, then: impl FnOnce(&Regex) -> Value<'a>) -> Outcome<'a> {
    match pattern {
        Text::Pattern(pattern) => Ok(then(&pattern.regex)),
        other => Ok(then(&Pattern::new(other).map_err(Fault::new)?.regex)),
    }
}

/// A compiled regular expression and what it was compiled from.
#[derive(Debug)]
pub struct Pattern {
    source: Box<str>,
    regex: Regex,
}

impl Pattern {
    /// Compiles a regular expression in RE2's syntax.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn new(source: &str) -> Result<Self, String> {
        let regex = re2::compile(source)
            .map_err(|why| format!("error parsing regexp: {why}: `{source}`"))?;
        Ok(Self { source: source.into(), regex })
    }

    pub(crate) fn source(&self) -> &str {
        &self.source
    }
}

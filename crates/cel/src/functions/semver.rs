//! Semantic versions, and the comparisons that quantities have as well.

use std::{cmp::Ordering, sync::Arc};

use super::{
    Function, Library, Outcome, Overload,
    Pattern::{Bool, Int, Opaque, String as Str},
    function, global, member, no,
    quantity::order,
};
use crate::{cost::Cost, fault::Fault, value::Value};

const SEMVER: super::Pattern = Opaque("kubernetes.Semver");
const QUANTITY: super::Pattern = Opaque("kubernetes.Quantity");
const PARSE: Cost = Cost::Parse { sized: false };

pub(super) const FUNCTIONS: &[Function] = &[
    row("semver", &[global(&[Str], SEMVER, PARSE), global(&[Str, Bool], SEMVER, PARSE)], |args| {
        Ok(Value::Semver(Arc::new(parse(args)?.map_err(Fault::new)?)))
    }),
    row("isSemver", &[global(&[Str], Bool, PARSE), global(&[Str, Bool], Bool, PARSE)], |args| {
        Ok(Value::Bool(parse(args)?.is_ok()))
    }),
    row("major", PART, |args| part(args, 0)),
    row("minor", PART, |args| part(args, 1)),
    row("patch", PART, |args| part(args, 2)),
    row("isGreaterThan", TEST, |args| test(args, Ordering::Greater)),
    row("isLessThan", TEST, |args| test(args, Ordering::Less)),
    row(
        "compareTo",
        &[
            member(&[QUANTITY, QUANTITY], Int, Cost::Unit),
            member(&[SEMVER, SEMVER], Int, Cost::Unit),
        ],
        |args| match order(args) {
            Some(order) => Ok(Value::Int(order as i64)),
            None => no(),
        },
    ),
];

const PART: &[Overload] = &[member(&[SEMVER], Int, Cost::Unit)];
const TEST: &[Overload] =
    &[member(&[QUANTITY, QUANTITY], Bool, Cost::Unit), member(&[SEMVER, SEMVER], Bool, Cost::Unit)];

const fn row(
    name: &'static str,
    overloads: &'static [Overload],
    run: for<'a> fn(&[Value<'a>]) -> Outcome<'a>,
) -> Function {
    function(Library::Semver, name, overloads, run)
}

fn parse(args: &[Value<'_>]) -> Result<Result<Semver, String>, Fault> {
    match args {
        [Value::String(text)] => Ok(Semver::parse(text)),
        [Value::String(text), Value::Bool(normalize)] => match normalize {
            true => Ok(normalized(text).and_then(|text| Semver::parse(&text))),
            false => Ok(Semver::parse(text)),
        },
        _ => Err(Fault::no_such_overload()),
    }
}

fn part<'a>(args: &[Value<'a>], part: usize) -> Outcome<'a> {
    match args {
        [Value::Semver(version)] => match i64::try_from(version.numbers[part]) {
            Ok(number) => Ok(Value::Int(number)),
            Err(_) => Err(Fault::new("integer overflow")),
        },
        _ => no(),
    }
}

fn test<'a>(args: &[Value<'a>], wanted: Ordering) -> Outcome<'a> {
    match order(args) {
        Some(order) => Ok(Value::Bool(order == wanted)),
        None => no(),
    }
}

/// A version as semver.org defines it.
#[derive(Clone, Debug)]
pub struct Semver {
    numbers: [u64; 3],
    pre: Vec<Identifier>,
}

/// A part of what follows the dash; numbers come before words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Identifier {
    Number(u64),
    Word(String),
}

impl Semver {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("Version string empty".into());
        }
        let (text, build) = match text.split_once('+') {
            Some((text, build)) => (text, Some(build)),
            None => (text, None),
        };
        let (core, pre) = match text.split_once('-') {
            Some((core, pre)) => (core, Some(pre)),
            None => (text, None),
        };
        let parts: Vec<&str> = core.splitn(3, '.').collect();
        let [major, minor, patch] = parts[..] else {
            return Err("No Major.Minor.Patch elements found".into());
        };
        let numbers = [number(major, "major")?, number(minor, "minor")?, number(patch, "patch")?];
        let pre = match pre {
            Some(pre) => pre.split('.').map(identifier).collect::<Result<_, _>>()?,
            None => Vec::new(),
        };
        for part in build.into_iter().flat_map(|build| build.split('.')) {
            if part.is_empty() {
                return Err("Build meta data is empty".into());
            }
            check_word(part)?;
        }
        Ok(Self { numbers, pre })
    }

    /// Which comes first; build metadata counts for nothing.
    pub(crate) fn precedence(&self, other: &Self) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| match (self.pre.len(), other.pre.len()) {
            (0, 0) => Ordering::Equal,
            // A version comes after all of its pre-releases.
            (0, _) => Ordering::Greater,
            (_, 0) => Ordering::Less,
            _ => self.pre.cmp(&other.pre),
        })
    }
}

fn number(text: &str, what: &str) -> Result<u64, String> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("Invalid character(s) found in {what} number {text:?}"));
    }
    if text.len() > 1 && text.starts_with('0') {
        return Err(format!(
            "{}{} number must not contain leading zeroes {text:?}",
            what[..1].to_uppercase(),
            &what[1..]
        ));
    }
    text.parse().map_err(|_| format!("{what} number {text:?} is out of range"))
}

fn check_word(text: &str) -> Result<(), String> {
    match text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        true => Ok(()),
        false => Err(format!("Invalid character(s) found in {text:?}")),
    }
}

fn identifier(text: &str) -> Result<Identifier, String> {
    if text.is_empty() {
        return Err("Prerelease is empty".into());
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        if text.len() > 1 && text.starts_with('0') {
            return Err(format!(
                "Numeric PreRelease version must not contain leading zeroes {text:?}"
            ));
        }
        if let Ok(number) = text.parse() {
            return Ok(Identifier::Number(number));
        }
    }
    check_word(text)?;
    Ok(Identifier::Word(text.to_owned()))
}

/// `v1.02` as `1.2.0`.
fn normalized(text: &str) -> Result<String, String> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let (core, rest) = match text.find(['-', '+']) {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let mut parts: Vec<&str> = core
        .splitn(3, '.')
        .map(|part| match part.trim_start_matches('0') {
            "" if !part.is_empty() => "0",
            part => part,
        })
        .collect();
    if parts.len() < 3 && !rest.is_empty() {
        return Err("short version cannot contain PreRelease/Build meta data".into());
    }
    while parts.len() < 3 {
        parts.push("0");
    }
    Ok(format!("{}{rest}", parts.join(".")))
}

//! What calls cost: the kinds of cost, and what is charged when a call is
//! evaluated. What a call may cost at most, known before, is in `estimate`.
//! The numbers are part of the API: definitions are refused by them.

use std::fmt;

use crate::{
    fault::Fault,
    value::{List, Map, Value},
};

/// Reading a name or a field.
pub(crate) const SELECT: u64 = 1;
/// Making a list, a map, an object.
pub(crate) const LIST: u64 = 10;
pub(crate) const MAP: u64 = 30;
pub(crate) const OBJECT: u64 = 40;
/// Going through text once, by code point.
pub(crate) const TRAVERSE: f64 = 0.1;
/// Each code point of a regular expression, for each unit of text.
pub(crate) const PATTERN: f64 = 0.25;
/// A decision on what somebody may do.
pub(crate) const DECISION: u64 = 350_000;

/// How the cost of a call comes about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Cost {
    /// One unit.
    Unit,
    /// `?:`: the condition and one branch.
    Conditional,
    /// `&&`, `||`: one operand or both.
    Logic,
    /// An element of a list or map.
    Index,
    Equal,
    NotEqual,
    /// `<` and its like on text and bytes.
    Order,
    /// Text or bytes, one after the other.
    Concat,
    ConcatList,
    InList,
    /// `startsWith`, `endsWith`.
    Affix,
    Contains,
    Matches,
    /// Like `matches`, and what was found.
    Find,
    ToBytes,
    BytesToText,
    Quote,
    Format,
    /// Through a list or text once.
    Scan,
    /// Text of the same length.
    Transform,
    Replace,
    Split,
    Join,
    /// Text is read as something; whether that has the size of the text.
    Parse {
        sized: bool,
    },
    ParseTwice,
    /// Whether an address, perhaps given as text, is in a block.
    ContainsIp {
        parse: bool,
    },
    ContainsCidr {
        parse: bool,
    },
    /// A text against a named format.
    Validate,
    Slice,
    Flatten,
    Range,
    Reverse,
    Distinct,
    Sort,
    SortBy,
    /// Each element of one list with each of the other, so many times.
    Sets(u8),
    /// A decision on what somebody may do.
    Decide,
}

/// `size` times `factor`, rounded up.
pub(crate) fn scale(size: u64, factor: f64) -> u64 {
    // Casts from floats saturate.
    (size as f64 * factor).ceil() as u64
}

impl Cost {
    /// What a call with these arguments costs, where that does not depend on
    /// its result: it is charged before the call is made.
    pub(crate) fn before(self, args: &[Value<'_>]) -> Option<u64> {
        let size = |at: usize| args.get(at).map_or(1, Value::size);
        let traverse = |at: usize| scale(size(at), TRAVERSE);
        Some(match self {
            Self::Conditional | Self::Logic => 0,
            Self::Unit | Self::Index | Self::ConcatList => 1,
            Self::Decide => DECISION,
            Self::Equal => match &args[0] {
                Value::Ip(_) | Value::Cidr(_) => 1,
                _ => compared(args),
            },
            Self::NotEqual | Self::Order => compared(args),
            Self::Concat => scale(size(0).saturating_add(size(1)), TRAVERSE),
            Self::InList => size(1),
            Self::Affix => traverse(1),
            Self::ToBytes
            | Self::BytesToText
            | Self::Quote
            | Self::Format
            | Self::Transform
            | Self::Parse { .. } => traverse(0),
            Self::Replace | Self::Split | Self::ParseTwice => scale(size(0), 2.0 * TRAVERSE),
            Self::Contains => traverse(0).saturating_mul(traverse(1)),
            Self::Matches | Self::Find => matching(size(0), size(1)),
            Self::Validate => match &args[0] {
                Value::Format(format) => matching(size(1), format.pattern_len),
                _ => 1,
            },
            Self::Scan => traversal(&args[0]).unwrap_or(1),
            Self::ContainsIp { parse } => {
                scale(2 * size(0), TRAVERSE) + if parse { traverse(1) } else { 0 }
            }
            Self::ContainsCidr { parse } => {
                let compare = scale(2 * size(0), TRAVERSE) + traverse(0) + 1;
                compare + if parse { traverse(1) } else { 0 }
            }
            Self::Flatten => {
                let depth = match args.get(1) {
                    Some(Value::Int(depth)) => *depth as f64,
                    _ => 1.0,
                };
                allocating(depth, size(0))
            }
            Self::Range => match &args[0] {
                Value::Int(end) => allocating(1.0, u64::try_from(*end).unwrap_or(0)),
                _ => 1,
            },
            Self::Reverse => allocating(1.0, size(0)),
            Self::Distinct | Self::Sort => each_with_each(&args[0]),
            Self::SortBy => each_with_each(&args[1]),
            Self::Sets(times) => {
                size(0).saturating_mul(size(1)).saturating_mul(u64::from(times)).saturating_add(1)
            }
            Self::Slice | Self::Join => return None,
        })
    }

    /// What a call that gave this costs, where [`Self::before`] cannot know.
    pub(crate) fn after(self, result: &Result<Value<'_>, Fault>) -> u64 {
        let size = result.as_ref().map_or(1, Value::size);
        match self {
            Self::Slice => allocating(1.0, size),
            Self::Join => scale(size, 2.0 * TRAVERSE),
            _ => 0,
        }
    }
}

/// Two values are compared up to the end of the shorter one.
fn compared(args: &[Value<'_>]) -> u64 {
    if let [Value::String(a), Value::String(b)] = args {
        // Counting the code points of a long text for a short one would be work
        // that is not charged. A text has at least a quarter of its bytes.
        let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
        let count = short.chars().count() as u64;
        let enough = long.len() as u64 / 4 >= count;
        let other = if enough { count } else { long.chars().count() as u64 };
        return scale(count.min(other), TRAVERSE);
    }
    scale(args[0].size().min(args[1].size()), TRAVERSE)
}

pub(crate) fn matching(text: u64, pattern: u64) -> u64 {
    scale(text.saturating_add(1), TRAVERSE).saturating_mul(scale(pattern, PATTERN))
}

/// A call that makes a list.
fn allocating(factor: f64, size: u64) -> u64 {
    ((size as f64 * factor) as u64).saturating_add(1 + LIST)
}

fn each_with_each(value: &Value<'_>) -> u64 {
    let size = value.size();
    let mut factor = 2.0;
    if let Value::List(list) = value
        && let Some(Ok(Value::String(_) | Value::Bytes(_))) = list.get(0)
    {
        factor += TRAVERSE;
    }
    allocating(factor, size.saturating_mul(size))
}

/// Once through a value and all that is in it.
fn traversal(value: &Value<'_>) -> Result<u64, Fault> {
    let bytes = |len: usize| (len as f64 * TRAVERSE) as u64;
    Ok(match value {
        Value::String(text) => bytes(text.len()),
        Value::Bytes(value) => bytes(value.len()),
        Value::List(list) => of_list(list)?,
        Value::Map(map) => of_map(map)?,
        _ => 1,
    })
}

fn of_list(list: &List<'_>) -> Result<u64, Fault> {
    let mut cost = 0u64;
    for value in list.iter() {
        cost = cost.saturating_add(traversal(&value?)?);
    }
    Ok(cost)
}

fn of_map(map: &Map<'_>) -> Result<u64, Fault> {
    let mut cost = 0u64;
    for key in map.keys() {
        cost = cost.saturating_add(traversal(&key)?);
        if let Some(value) = map.get(&key) {
            cost = cost.saturating_add(traversal(&value?)?);
        }
    }
    Ok(cost)
}

/// For documentation: how the cost grows.
impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unit | Self::Index | Self::ConcatList => "1",
            Self::Conditional => "the condition and one branch",
            Self::Logic => "the operands evaluated",
            Self::Equal | Self::NotEqual | Self::Order => "0.1 × the smaller size",
            Self::Concat => "0.1 × the sum of sizes",
            Self::InList => "the length",
            Self::Affix => "0.1 × the length of the part",
            Self::ToBytes
            | Self::BytesToText
            | Self::Quote
            | Self::Format
            | Self::Transform
            | Self::Parse { .. } => "0.1 × the length",
            Self::Replace | Self::Split | Self::ParseTwice => "0.2 × the length",
            Self::Join => "0.2 × the length of the result",
            Self::Contains => "0.1 × the length × 0.1 × the length of the part",
            Self::Matches | Self::Find => "0.1 × the length × 0.25 × the length of the expression",
            Self::Validate => "0.1 × the length × 0.25 × the length of the format's expression",
            Self::Scan => "once through everything",
            Self::ContainsIp { .. } | Self::ContainsCidr { .. } => "a few units",
            Self::Slice | Self::Range | Self::Reverse => "11 + the length of the result",
            Self::Flatten => "11 + depth × the length",
            Self::Distinct | Self::Sort | Self::SortBy => "11 + 2 × the length squared",
            Self::Decide => "350,000",
            Self::Sets(1) => "1 + the product of the lengths",
            Self::Sets(_) => "1 + twice the product of the lengths",
        })
    }
}

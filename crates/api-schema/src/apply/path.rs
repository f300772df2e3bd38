//! One step of a path into an object, as `FieldsV1` names it: `f:spec`,
//! `k:{"name":"web"}`, `v:"a/finalizer"`, `i:3`.

use std::{cmp::Ordering, fmt};

use serde_json::Value;

/// A step from a value to one of its parts.
#[derive(Clone, Debug)]
pub enum Step {
    /// A field of a struct or an entry of a map.
    Field(Box<str>),
    /// The element of a list whose key fields have these values, by name.
    Key(Box<[(Box<str>, Value)]>),
    /// The element of a set.
    Value(Value),
    /// An element by its place; written by nobody, but read.
    Index(i64),
}

impl Step {
    /// A field of a struct or an entry of a map.
    pub fn field(name: &str) -> Self {
        Self::Field(name.into())
    }

    /// Reads `f:name` and its likes. `None` for kinds of steps that a later
    /// version may know, which are skipped.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub(super) fn parse(text: &str) -> Result<Option<Self>, String> {
        let (kind, rest) = match text.as_bytes() {
            [kind, b':', ..] => (*kind, &text[2..]),
            [_, _, ..] => return Err(format!("missing colon: {text}")),
            _ => return Err(format!("key must be 2 characters long: {text}")),
        };
        let json = |error: serde_json::Error| format!("{text}: {error}");
        match kind {
            b'f' => Ok(Some(Self::Field(rest.into()))),
            b'v' => serde_json::from_str(rest).map(|value| Some(Self::Value(value))).map_err(json),
            b'k' => {
                let map: serde_json::Map<String, Value> =
                    serde_json::from_str(rest).map_err(json)?;
                // A map of JSON is sorted by name.
                let key = map.into_iter().map(|(name, value)| (name.into(), value));
                Ok(Some(Self::Key(key.collect())))
            }
            b'i' => rest
                .parse()
                .map(|index| Some(Self::Index(index)))
                .map_err(|e| format!("{text}: {e}")),
            _ => Ok(None),
        }
    }

    /// Writes the text that [`Self::parse`] reads.
    pub(super) fn write(&self, out: &mut String) {
        use fmt::Write;
        let written = match self {
            Self::Field(name) => write!(out, "f:{name}"),
            Self::Value(value) => write!(out, "v:{value}"),
            Self::Index(index) => write!(out, "i:{index}"),
            Self::Key(fields) => {
                out.push_str("k:{");
                for (index, (name, value)) in fields.iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    let name = Value::from(&**name);
                    write!(out, "{comma}{name}:{value}").expect("text takes all");
                }
                out.push('}');
                Ok(())
            }
        };
        written.expect("text takes all");
    }
}

/// As conflicts and faults show it: `.spec`, `[name="web"]`, `[="x"]`, `[3]`.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Value(value) => write!(f, "[={value}]"),
            Self::Index(index) => write!(f, "[{index}]"),
            Self::Key(fields) => {
                f.write_str("[")?;
                for (index, (name, value)) in fields.iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    write!(f, "{comma}{name}={value}")?;
                }
                f.write_str("]")
            }
        }
    }
}

impl Ord for Step {
    /// Upstream's order, which is the order in which sets are written.
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Field(a), Self::Field(b)) => a.cmp(b),
            (Self::Key(a), Self::Key(b)) => {
                for ((name, value), (other_name, other)) in a.iter().zip(b) {
                    let order = name.cmp(other_name).then_with(|| compare(value, other));
                    if order != Ordering::Equal {
                        return order;
                    }
                }
                a.len().cmp(&b.len())
            }
            (Self::Value(a), Self::Value(b)) => compare(a, b),
            (Self::Index(a), Self::Index(b)) => a.cmp(b),
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }
}

impl Step {
    fn rank(&self) -> u8 {
        match self {
            Self::Field(_) => 0,
            Self::Key(_) => 1,
            Self::Value(_) => 2,
            Self::Index(_) => 3,
        }
    }
}

impl PartialOrd for Step {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Step {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Step {}

/// A total order of values, in which 1 and 1.0 are the same.
pub(super) fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => {
                let (a, b) = (a.as_f64().unwrap_or(f64::NAN), b.as_f64().unwrap_or(f64::NAN));
                a.total_cmp(&b)
            }
        },
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Array(a), Value::Array(b)) => {
            let differing = a.iter().zip(b).map(|(a, b)| compare(a, b));
            differing
                .into_iter()
                .find(|order| order.is_ne())
                .unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        (Value::Object(a), Value::Object(b)) => {
            let differing =
                a.iter().zip(b).map(|((k, a), (l, b))| k.cmp(l).then_with(|| compare(a, b)));
            differing
                .into_iter()
                .find(|order| order.is_ne())
                .unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        (a, b) => rank(a).cmp(&rank(b)),
    }
}

fn rank(value: &Value) -> u8 {
    match value {
        Value::Number(_) => 0,
        Value::String(_) => 1,
        Value::Bool(_) => 2,
        Value::Array(_) => 3,
        Value::Object(_) => 4,
        Value::Null => 5,
    }
}

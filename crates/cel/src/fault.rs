//! Why an evaluation has no value. Errors are values: `&&`, `||`, `all` and
//! `exists` may leave them out; running out of budget they may not.

use std::fmt;

/// Why an evaluation has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The expression is wrong for these values, in upstream's words.
    Value(Box<str>),
    /// The evaluation cost more than it may.
    CostLimit,
}

impl Fault {
    pub(crate) fn new(message: impl Into<Box<str>>) -> Self {
        Self::Value(message.into())
    }

    pub(crate) fn no_such_overload() -> Self {
        Self::new("no such overload")
    }

    pub(crate) fn no_such_key(key: impl fmt::Display) -> Self {
        Self::new(format!("no such key: {key}"))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(message) => f.write_str(message),
            Self::CostLimit => f.write_str("operation cancelled: actual cost limit exceeded"),
        }
    }
}

impl std::error::Error for Fault {}

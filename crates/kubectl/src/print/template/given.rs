//! A value while a template runs, and how Go holds it.

use serde_json::Value;

use super::go_text;

/// What is in a map or a list is an `interface {}`, and what went through a pipeline is of
/// its own type. So a null of the object is not the same as what is not there.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) value: Value,
    pub(super) is_boxed: bool,
    /// A number of the template is an `int`, one of the object an `int64`.
    is_own: bool,
}

impl Given {
    pub(super) fn plain(value: Value) -> Self {
        Self { value, is_boxed: false, is_own: false }
    }

    pub(super) fn boxed(value: Value) -> Self {
        Self { is_boxed: true, ..Self::plain(value) }
    }

    /// What the template itself says or counts.
    pub(super) fn own(value: Value) -> Self {
        Self { is_own: true, ..Self::plain(value) }
    }

    pub(super) fn missing() -> Self {
        Self::plain(Value::Null)
    }

    /// The same out of its map or list.
    pub(super) fn unboxed(self) -> Self {
        Self { is_boxed: false, ..self }
    }

    pub(super) fn is_missing(&self) -> bool {
        !self.is_boxed && self.value.is_null()
    }

    /// The type by which it is held.
    pub(super) fn held(&self) -> &'static str {
        if self.is_boxed { "interface {}" } else { self.kind() }
    }

    /// Its own type.
    pub(super) fn kind(&self) -> &'static str {
        match go_text::kind(&self.value) {
            "int64" if self.is_own => "int",
            kind => kind,
        }
    }
}

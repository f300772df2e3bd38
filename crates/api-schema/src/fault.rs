//! Faults of an object, in upstream's words (apimachinery `validation/field`),
//! since scripts and people match on them.

use std::fmt;

use api_object::status::Cause;
use serde_json::Value;

/// A place in an object, `spec.containers[0].name`. Lives on the stack and is
/// only written out when there is a fault.
#[derive(Clone, Copy, Debug, Default)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    segment: Segment<'a>,
}

#[derive(Clone, Copy, Debug, Default)]
enum Segment<'a> {
    #[default]
    Root,
    Name(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    /// The object itself.
    pub const ROOT: Path<'static> = Path { parent: None, segment: Segment::Root };

    /// Whether this is the object itself.
    pub(crate) fn is_root(&self) -> bool {
        self.parent.is_none() && matches!(self.segment, Segment::Root)
    }

    /// A field, or several joined by dots, of the object itself.
    pub const fn new(name: &'a str) -> Self {
        Self { parent: None, segment: Segment::Name(name) }
    }

    /// A field, or several joined by dots.
    pub const fn child<'b>(&'b self, name: &'b str) -> Path<'b> {
        Path { parent: Some(self), segment: Segment::Name(name) }
    }

    /// An element of a list.
    pub const fn index<'b>(&'b self, index: usize) -> Path<'b> {
        Path { parent: Some(self), segment: Segment::Index(index) }
    }

    /// An entry of a map.
    pub const fn key<'b>(&'b self, key: &'b str) -> Path<'b> {
        Path { parent: Some(self), segment: Segment::Key(key) }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dot = match self.parent {
            Some(parent) => {
                parent.fmt(f)?;
                !matches!(parent, Path { parent: None, segment: Segment::Root })
            }
            None => false,
        };
        match self.segment {
            Segment::Root => Ok(()),
            Segment::Name(name) if dot => write!(f, ".{name}"),
            Segment::Name(name) => f.write_str(name),
            Segment::Index(index) => write!(f, "[{index}]"),
            Segment::Key(key) => write!(f, "[{key}]"),
        }
    }
}

/// What is wrong with an object, in the order in which it was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Faults(Vec<Cause>);

impl Faults {
    fn push(&mut self, reason: &str, path: &Path<'_>, message: String) {
        self.0.push(Cause { reason: reason.into(), message, field: path.to_string() });
    }

    /// `Required value`, or `Required value: detail`.
    pub fn required(&mut self, path: &Path<'_>, detail: &str) {
        self.push("FieldValueRequired", path, with_detail("Required value", detail));
    }

    /// `Invalid value: "x": detail`.
    pub fn invalid(&mut self, path: &Path<'_>, value: impl Into<Value>, detail: impl AsRef<str>) {
        let message = format!("Invalid value: {}", shown(&value.into()));
        self.push("FieldValueInvalid", path, with_detail(&message, detail.as_ref()));
    }

    /// `Invalid value: detail`, where no single value is to blame.
    pub fn invalid_whole(&mut self, path: &Path<'_>, detail: &str) {
        self.push("FieldValueInvalid", path, with_detail("Invalid value", detail));
    }

    /// The same for a value that upstream shows in another form than JSON's.
    pub fn invalid_shown(&mut self, path: &Path<'_>, shown: &str, detail: &str) {
        let message = format!("Invalid value: {shown}");
        self.push("FieldValueInvalid", path, with_detail(&message, detail));
    }

    /// One `Invalid value` for each message of a name rule.
    pub fn invalid_all(&mut self, path: &Path<'_>, value: &str, details: Vec<String>) {
        for detail in details {
            self.invalid(path, value, detail);
        }
    }

    /// `Duplicate value: "x"`.
    pub fn duplicate(&mut self, path: &Path<'_>, value: impl Into<Value>) {
        let message = format!("Duplicate value: {}", shown(&value.into()));
        self.push("FieldValueDuplicate", path, message);
    }

    /// `Forbidden: detail`.
    pub fn forbidden(&mut self, path: &Path<'_>, detail: &str) {
        self.push("FieldValueForbidden", path, with_detail("Forbidden", detail));
    }

    /// `Too long: may not be more than N bytes`.
    pub fn too_long(&mut self, path: &Path<'_>, bytes_max: usize) {
        let message = format!("Too long: may not be more than {bytes_max} bytes");
        self.push("FieldValueTooLong", path, message);
    }

    /// `Too many: N: must have at most M items`.
    pub fn too_many(&mut self, path: &Path<'_>, count: usize, count_max: usize) {
        let message = format!("Too many: {count}: must have at most {count_max} items");
        self.push("FieldValueTooMany", path, message);
    }

    /// `Unsupported value: "x": supported values: "A", "B"`.
    pub fn unsupported<'v>(
        &mut self,
        path: &Path<'_>,
        value: impl Into<Value>,
        supported: impl IntoIterator<Item = &'v str>,
    ) {
        let mut supported: Vec<&str> = supported.into_iter().collect();
        supported.sort_unstable();
        self.unsupported_of(path, value, supported);
    }

    /// The same, with the values in the order in which they are given: that of a
    /// custom kind's schema.
    pub fn unsupported_of<'v>(
        &mut self,
        path: &Path<'_>,
        value: impl Into<Value>,
        supported: impl IntoIterator<Item = &'v str>,
    ) {
        let supported: Vec<String> =
            supported.into_iter().map(|value| format!("{value:?}")).collect();
        let message = format!(
            "Unsupported value: {}: supported values: {}",
            shown(&value.into()),
            supported.join(", ")
        );
        self.push("FieldValueNotSupported", path, message);
    }

    /// `Internal error: detail`.
    pub fn internal(&mut self, path: &Path<'_>, detail: &str) {
        self.push("InternalError", path, with_detail("Internal error", detail));
    }

    /// `Not found: "x"`.
    pub fn not_found(&mut self, path: &Path<'_>, value: impl Into<Value>) {
        self.push("FieldValueNotFound", path, format!("Not found: {}", shown(&value.into())));
    }

    /// How much is wrong so far.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// `Invalid value: "integer": detail`, for a value of the wrong type.
    pub fn wrong_type(&mut self, path: &Path<'_>, value: impl Into<Value>, detail: &str) {
        let message = format!("Invalid value: {}", shown(&value.into()));
        self.push("FieldValueTypeInvalid", path, with_detail(&message, detail));
    }

    /// `Invalid value: "": detail` of no field, which upstream spells `<nil>`.
    pub fn nowhere(&mut self, detail: &str) {
        self.invalid(&Path::new("<nil>"), "", detail);
    }

    /// Takes in what was found elsewhere.
    pub fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// The same for faults of a part, whose fields begin below `path`.
    pub fn append_below(&mut self, path: &Path<'_>, other: Self) {
        let below = |cause: Cause| Cause { field: format!("{path}.{}", cause.field), ..cause };
        self.0.extend(other.0.into_iter().map(below));
    }

    /// Whether a value has the wrong type, which makes further questions moot.
    pub fn has_wrong_type(&self) -> bool {
        self.0.iter().any(|cause| cause.reason == "FieldValueTypeInvalid")
    }

    /// Whether values may not be what rules take them for, so that rules are
    /// not looked at.
    pub(crate) fn block_rules(&self) -> bool {
        const REASONS: [&str; 5] = [
            "FieldValueNotSupported",
            "FieldValueRequired",
            "FieldValueTooLong",
            "FieldValueTooMany",
            "FieldValueTypeInvalid",
        ];
        self.0.iter().any(|cause| REASONS.contains(&cause.reason.as_str()))
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// For [`api_object::Status::invalid`].
    pub fn into_causes(self) -> Vec<Cause> {
        self.0
    }
}

fn with_detail(message: &str, detail: &str) -> String {
    if detail.is_empty() { message.to_owned() } else { format!("{message}: {detail}") }
}

/// Text in quotes (nothing is the text `null`), numbers bare, objects as JSON.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        value => value.to_string(),
    }
}

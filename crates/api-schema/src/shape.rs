//! Shapes: the types of the API as rows of integers.
//!
//! All names live in one text and rows refer to them by offset, so that a
//! thousand types are a few allocations, rows are `Copy`, and a schema made from
//! a CustomResourceDefinition is the same thing as the built-in one.

use std::{borrow::Cow, sync::Arc};

/// A piece of a schema's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Text {
    pub(crate) start: u32,
    pub(crate) len: u32,
}

/// The number of a shape in its schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShapeId(pub u32);

/// What a value is, leaving lists, maps and pointers aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A JSON string.
    String,
    /// A JSON boolean.
    Bool,
    /// A number without fraction in 32 bits.
    Int32,
    /// A number without fraction in 64 bits.
    Int64,
    /// Any JSON number.
    Float64,
    /// A list of strings as an element of a map (`ExtraValue`); protobuf wraps
    /// it in a message with the repeated field 1.
    Strings,
    /// Base64 text.
    Bytes,
    /// Any JSON value (`apiextensions` JSON).
    Any,
    /// Any JSON object: `runtime.RawExtension`, `FieldsV1`, `runtime.Object`.
    Object,
    /// A `resource.Quantity`: text, or a number that becomes text.
    Quantity,
    /// A number or text.
    IntOrString,
    /// RFC 3339, seconds.
    Time,
    /// RFC 3339, microseconds.
    MicroTime,
    /// Go's duration text, `1h2m3s`.
    Duration,
    /// An object with fields of its own.
    Struct(ShapeId),
    /// A list or map directly inside of a list or map (custom resources): the
    /// only field of the shape says what it holds and how it merges.
    Nested(ShapeId),
}

/// How a field holds its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// The value itself: an absent struct is the struct with nothing set.
    One,
    /// A pointer: absent and zero are different things.
    Pointer,
    /// A list.
    List,
    /// A map from text.
    Map,
}

/// `x-kubernetes-list-type`, of which maps and structs know atomic too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    /// Nothing was said: atomic for lists, granular for maps and structs.
    #[default]
    Unset,
    /// Replaced as a whole.
    Atomic,
    /// Scalars, each at most once.
    Set,
    /// Objects told apart by [`Rule::keys`].
    Map,
}

/// One field of a struct.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    pub(crate) name: Text,
    /// What the field (or each of its elements) is.
    pub ty: Type,
    /// Whether it is a list, a map, a pointer or the value itself.
    pub holds: Holds,
    /// How server-side apply merges it.
    pub list_type: ListType,
    /// Left out of JSON where empty (Go's `omitempty`).
    pub omit_empty: bool,
    /// Clients must send it.
    pub required: bool,
    /// Merge elements (`patchStrategy: merge`).
    pub patch_merge: bool,
    /// Drop fields that the patch does not name (`patchStrategy: retainKeys`).
    pub patch_retain_keys: bool,
    /// The protobuf field number; 0 where protobuf does not carry it.
    pub number: u16,
    /// Embedded structs are flat in JSON and nested messages in protobuf: the
    /// numbers of the messages around this field, outermost first; 0 for none.
    pub within: [u8; 2],
    pub(crate) rule: u16,
}

/// What only some fields have.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rule {
    pub(crate) values: Text,
    pub(crate) keys: Text,
    pub(crate) merge_key: Text,
    pub(crate) default: Text,
    pub(crate) union: Option<ShapeId>,
}

/// A struct: named fields.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub(crate) name: Text,
    pub(crate) first: u32,
    pub(crate) count: u32,
    /// Server-side apply replaces it as a whole (`structType: atomic`).
    pub atomic: bool,
    /// Fields that the shape does not name are kept (custom resources).
    pub preserve_unknown: bool,
}

/// An arena of shapes. Built from text by [`Schema::parse`].
#[derive(Debug)]
pub struct Schema {
    pub(crate) text: Cow<'static, str>,
    pub(crate) shapes: Vec<Shape>,
    pub(crate) fields: Vec<Field>,
    pub(crate) rules: Vec<Rule>,
    /// Shape numbers sorted by name.
    pub(crate) by_name: Vec<u32>,
}

impl Schema {
    /// The words behind a reference.
    pub fn text(&self, text: Text) -> &str {
        &self.text[text.start as usize..][..text.len as usize]
    }

    /// The shape of a number.
    pub fn shape(&self, id: ShapeId) -> &Shape {
        &self.shapes[id.0 as usize]
    }

    /// `core/v1.Container`.
    pub fn name(&self, id: ShapeId) -> &str {
        self.text(self.shape(id).name)
    }

    /// The fields of a shape, in the order of declaration.
    pub fn fields(&self, id: ShapeId) -> &[Field] {
        let shape = self.shape(id);
        &self.fields[shape.first as usize..][..shape.count as usize]
    }

    /// The field with this JSON name.
    pub fn field(&self, id: ShapeId, name: &str) -> Option<&Field> {
        self.position(id, name).map(|at| &self.fields(id)[at])
    }

    /// The same, as its place among the fields.
    pub(crate) fn position(&self, id: ShapeId, name: &str) -> Option<usize> {
        // Few names are of one length, so few are looked at.
        let is =
            |field: &Field| field.name.len as usize == name.len() && self.text(field.name) == name;
        self.fields(id).iter().position(is)
    }

    /// What a list or map inside of a list or map holds ([`Type::Nested`]).
    pub(crate) fn nested(&self, id: ShapeId) -> Option<&Field> {
        self.fields(id).first()
    }

    /// The JSON name of a field.
    pub fn field_name(&self, field: &Field) -> &str {
        self.text(field.name)
    }

    /// The shape called `core/v1.Pod`.
    pub fn find(&self, name: &str) -> Option<ShapeId> {
        let at = self.by_name.binary_search_by(|&id| self.name(ShapeId(id)).cmp(name)).ok()?;
        Some(ShapeId(self.by_name[at]))
    }

    /// All shapes.
    pub fn ids(&self) -> impl Iterator<Item = ShapeId> + use<> {
        (0..self.shapes.len() as u32).map(ShapeId)
    }

    fn rule(&self, field: &Field) -> &Rule {
        &self.rules[usize::from(field.rule)]
    }

    /// The values a closed enumeration allows; none for any text.
    pub fn values(&self, field: &Field) -> impl Iterator<Item = &str> {
        self.text(self.rule(field).values).split('|').filter(|value| !value.is_empty())
    }

    /// The keys that tell elements of a list apart (`x-kubernetes-list-map-keys`).
    pub fn keys(&self, field: &Field) -> impl Iterator<Item = &str> {
        self.text(self.rule(field).keys).split(',').filter(|key| !key.is_empty())
    }

    /// `patchMergeKey`; empty for lists of scalars.
    pub fn merge_key(&self, field: &Field) -> &str {
        self.text(self.rule(field).merge_key)
    }

    /// The default as JSON text; empty for none.
    pub fn default_text(&self, field: &Field) -> &str {
        self.text(self.rule(field).default)
    }

    /// For JSON of several forms ([`Type::Any`]), the message that it travels as
    /// in protobuf: one field for each form.
    pub fn union_of(&self, field: &Field) -> Option<ShapeId> {
        self.rule(field).union
    }
}

/// A shape and the schema it lives in.
#[derive(Clone, Debug)]
pub struct ShapeRef {
    /// The arena.
    pub schema: Arc<Schema>,
    /// The shape in it.
    pub id: ShapeId,
}

impl ShapeRef {
    /// The shape of that name; `None` where the schema has none.
    pub fn find(schema: &Arc<Schema>, name: &str) -> Option<Self> {
        Some(Self { schema: schema.clone(), id: schema.find(name)? })
    }
}

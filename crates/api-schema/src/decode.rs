//! From JSON to the canonical tree of a shape: types checked, unknown and
//! duplicate fields found, quantities and times in their canonical form, what
//! is empty left out exactly where upstream's encoder would leave it out.
//!
//! One walk does it all, over bytes and over trees (patch results) alike.

mod expected;
mod walk;

use api_object::Status;
use serde::de::DeserializeSeed;
use serde_json::{Map, Value};

use crate::{Holds, ResourceSpec, Schema, ShapeId, ShapeRef, Type, tree};
pub use expected::{Expected, cannot_be_handled};
use walk::Walk;

/// Patches and protobuf can nest what JSON's parser would not read again.
const LEVELS_MAX: usize = 127;

/// The `fieldValidation` parameter: what happens to fields nobody knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Dropped silently.
    Ignore,
    /// Dropped with a `Warning` header: what clients get that do not say.
    #[default]
    Warn,
    /// Refused.
    Strict,
}

impl FieldValidation {
    /// Reads the query parameter; `None` for a word that is none of the three.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "Warn" => Some(Self::Warn),
            "Ignore" => Some(Self::Ignore),
            "Strict" => Some(Self::Strict),
            _ => None,
        }
    }
}

impl ShapeRef {
    /// Decodes JSON bytes into the canonical tree. The second part are faults
    /// that only strict validation minds: `unknown field "spec.foo"`.
    ///
    /// # Errors
    /// Where the bytes are no JSON or a value has the wrong type; the message
    /// reads like the one of upstream's decoder.
    pub fn decode(&self, bytes: &[u8]) -> Result<(Value, Vec<String>), String> {
        let mut walk = Walk::new(&self.schema);
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let result = walk
            .root(self.id)
            .deserialize(&mut deserializer)
            .and_then(|value| deserializer.end().map(|()| value));
        walk.finish(result)
    }

    /// The same for a tree.
    ///
    /// # Errors
    /// Where a value has the wrong type, or the tree is nested more deeply than
    /// JSON is read.
    pub fn conform(&self, tree: Value) -> Result<(Value, Vec<String>), String> {
        if tree::is_deeper(&tree, LEVELS_MAX) {
            return Err("exceeded max depth".into());
        }
        conform(&self.schema, self.id, tree)
    }
}

/// Makes a tree canonical along a shape.
pub(crate) fn conform(
    schema: &Schema,
    id: ShapeId,
    tree: Value,
) -> Result<(Value, Vec<String>), String> {
    let mut walk = Walk::new(schema);
    let result = walk.root(id).deserialize(tree);
    walk.finish(result)
}

impl ResourceSpec {
    /// Decodes a request body of this kind; the second part are texts for
    /// `Warning` headers.
    ///
    /// # Errors
    /// 400 in upstream's words: not JSON, wrong types, another kind or version,
    /// unknown or duplicate fields where `mode` is strict.
    pub fn decode(
        &self,
        bytes: &[u8],
        mode: FieldValidation,
    ) -> Result<(Value, Vec<String>), Status> {
        match &self.custom {
            None => {
                let decoded = self.shape.decode(bytes);
                self.expected().check(Some(bytes), decoded, mode)
            }
            Some(custom) => self.decode_custom(custom, bytes, mode),
        }
    }

    /// The same for a tree, such as the result of a patch.
    ///
    /// # Errors
    /// As for [`Self::decode`].
    pub fn conform(
        &self,
        tree: Value,
        mode: FieldValidation,
    ) -> Result<(Value, Vec<String>), Status> {
        match &self.custom {
            None => self.expected().check(None, self.shape.conform(tree), mode),
            Some(custom) => self.conform_custom(custom, tree, mode),
        }
    }

    /// What a body of this kind should be.
    pub fn expected(&self) -> Expected<'_> {
        Expected {
            api_version: self.api_version(),
            version: &self.version,
            kind: &self.kind,
            shape: self.custom.is_none().then_some(&self.shape),
        }
    }
}

impl Schema {
    /// A struct with nothing set, as upstream would encode it.
    pub fn zero_struct(&self, id: ShapeId) -> Value {
        let mut map = Map::new();
        self.fill(id, &mut map);
        Value::Object(map)
    }

    /// Adds the fields that upstream's encoder writes though nothing was set.
    pub(crate) fn fill(&self, id: ShapeId, map: &mut Map<String, Value>) {
        for field in self.fields(id) {
            let always = match (field.holds, field.ty) {
                (Holds::One, Type::Struct(_)) => true,
                (Holds::One, _) => !field.omit_empty,
                _ => false,
            };
            let name = self.field_name(field);
            if always && !map.contains_key(name) {
                match self.zero(field.ty) {
                    Value::Null => {}
                    value => drop(map.insert(name.to_owned(), value)),
                }
            }
        }
    }

    pub(crate) fn zero(&self, ty: Type) -> Value {
        match ty {
            Type::String | Type::Bytes => "".into(),
            Type::Bool => false.into(),
            Type::Int32 | Type::Int64 | Type::IntOrString => 0.into(),
            Type::Float64 => 0.into(),
            Type::Quantity => "0".into(),
            Type::Duration => "0s".into(),
            Type::Strings => Value::Array(Vec::new()),
            Type::Any | Type::Nested(_) | Type::Object | Type::Time | Type::MicroTime => {
                Value::Null
            }
            Type::Struct(id) => self.zero_struct(id),
        }
    }
}

#[cfg(test)]
mod tests;

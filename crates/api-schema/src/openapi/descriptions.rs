//! What types and fields are for, in sentences: the text that `kubectl explain`
//! shows.
//!
//! ```text
//! *
//!  kind The kind of object that this is.
//! core/v1.Pod A group of containers that run together on one node.
//!  spec What should run.
//! ```
//!
//! A line that begins a type has its sentence after the name; fields follow, one
//! line each. Under `*` stand the fields that mean the same in every type.

use std::{borrow::Cow, collections::HashMap};

use crate::{Field, Schema, ShapeId};

/// The name of the type whose fields are those of every type.
const ANY_TYPE: &str = "*";

/// Sentences by type and field. Large, and only needed while a document is made.
#[derive(Debug, Default)]
pub struct Descriptions {
    text: Cow<'static, str>,
    /// Type and field (empty for the type itself) to a place in the text.
    places: HashMap<(Box<str>, Box<str>), (usize, usize)>,
}

impl Descriptions {
    /// Reads the text form. Lines without a sentence say nothing.
    pub fn parse(text: impl Into<Cow<'static, str>>) -> Self {
        let text = text.into();
        let mut places = HashMap::new();
        let mut of_type: Box<str> = "".into();
        let mut at = 0;
        for line in text.split_inclusive('\n') {
            let start = at;
            at += line.len();
            let line = line.trim_end();
            let is_field = line.starts_with(' ');
            let word = line.trim_start();
            if word.is_empty() || word.starts_with('#') {
                continue;
            }
            let (name, sentence) = word.split_once(' ').unwrap_or((word, ""));
            let place = (start + line.len() - sentence.len(), sentence.len());
            let field: Box<str> = match is_field {
                true => name.into(),
                false => {
                    of_type = name.into();
                    "".into()
                }
            };
            if !sentence.is_empty() {
                places.insert((of_type.clone(), field), place);
            }
        }
        Self { text, places }
    }

    fn find(&self, of_type: &str, field: &str) -> Option<&str> {
        let key: (Box<str>, Box<str>) = (of_type.into(), field.into());
        let (start, len) = *self.places.get(&key)?;
        Some(&self.text[start..start + len])
    }

    /// What a type is; empty where nothing is said.
    pub fn of_type(&self, schema: &Schema, id: ShapeId) -> &str {
        self.find(schema.name(id), "").unwrap_or_default()
    }

    /// What a field of a type is for; empty where nothing is said.
    pub fn of_field<'a>(&'a self, schema: &'a Schema, id: ShapeId, field: &Field) -> &'a str {
        let name = schema.field_name(field);
        let own = self.find(schema.name(id), name);
        own.or_else(|| self.find(ANY_TYPE, name)).unwrap_or_default()
    }

    /// Which types, and which of their fields, are spoken of; for tests that
    /// compare with the shapes.
    pub fn names(&self) -> impl Iterator<Item = (&str, &str)> {
        self.places.keys().map(|(of_type, field)| (&**of_type, &**field))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_fall_back_to_what_every_type_has() {
        let text = "# words\n*\n kind The kind.\nx.A An A.\n b The b.\n kind Its own.\nx.B\n";
        let descriptions = Descriptions::parse(text);
        let schema = Schema::parse(
            "x.A\n b 1 string\n kind 0 string\nx.B\n b 1 string\n kind 0 string".into(),
        )
        .expect("valid");
        let of = |shape: &str, field: &str| {
            let id = schema.find(shape).expect("there");
            match field {
                "" => descriptions.of_type(&schema, id),
                name => descriptions.of_field(&schema, id, schema.field(id, name).expect("there")),
            }
            .to_owned()
        };
        assert_eq!(of("x.A", ""), "An A.");
        assert_eq!(of("x.A", "b"), "The b.");
        assert_eq!(of("x.A", "kind"), "Its own.");
        assert_eq!(of("x.B", ""), "");
        assert_eq!(of("x.B", "b"), "");
        assert_eq!(of("x.B", "kind"), "The kind.");
    }
}

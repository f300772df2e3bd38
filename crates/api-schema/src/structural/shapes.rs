//! A structural schema as an arena of shapes, so that what works on shapes
//! (server-side apply, documents) works on custom kinds.
//!
//! A list or map directly inside of a list or map is a shape whose only field
//! says what it holds ([`Type::Nested`]).

use std::{borrow::Cow, collections::HashMap};

use super::{Additional, Kind, Node};
use crate::{
    Field, Holds, ListType, Schema, ShapeId, Type,
    shape::{Rule, Shape, Text},
};

// Shapes that every kind's schema has.
const META: &str = "meta/v1.ObjectMeta";
const DELETE_OPTIONS: &str = "meta/v1.DeleteOptions";

impl Schema {
    /// The shapes of a custom kind; its own is called `name`. What all kinds
    /// share is copied from `builtin`.
    ///
    /// # Errors
    /// Where the schema has more parts than an arena can hold, or `builtin` lacks
    /// a shared shape.
    pub fn structural(name: &str, root: &Node, builtin: &Self) -> Result<Self, String> {
        let mut builder = Builder {
            builtin,
            copied: HashMap::new(),
            meta: None,
            schema: Self {
                text: Cow::Borrowed(""),
                shapes: Vec::new(),
                fields: Vec::new(),
                rules: vec![Rule::default()],
                by_name: Vec::new(),
            },
            text: String::new(),
        };
        for name in [META, DELETE_OPTIONS] {
            let id = builtin.find(name).ok_or_else(|| format!("no shape {name:?}"))?;
            let copy = builder.copy(id)?;
            builder.meta.get_or_insert(copy);
        }
        builder.object(name, root, true)?;
        let Builder { mut schema, text, .. } = builder;
        schema.text = text.into();
        let mut by_name: Vec<u32> = (0..schema.shapes.len() as u32).collect();
        by_name.sort_by(|&a, &b| schema.name(ShapeId(a)).cmp(schema.name(ShapeId(b))));
        schema.by_name = by_name;
        Ok(schema)
    }
}

struct Builder<'a> {
    builtin: &'a Schema,
    copied: HashMap<ShapeId, ShapeId>,
    /// The copy of `ObjectMeta`.
    meta: Option<ShapeId>,
    schema: Schema,
    text: String,
}

impl Builder<'_> {
    fn text(&mut self, text: &str) -> Text {
        let start = self.text.len() as u32;
        self.text.push_str(text);
        Text { start, len: text.len() as u32 }
    }

    fn rule(&mut self, rule: Rule) -> Result<u16, String> {
        let at = u16::try_from(self.schema.rules.len());
        self.schema.rules.push(rule);
        at.map_err(|_| "the schema has too many defaults and enumerations".into())
    }

    fn reserve(&mut self, shape: Shape) -> ShapeId {
        self.schema.shapes.push(shape);
        ShapeId(self.schema.shapes.len() as u32 - 1)
    }

    fn set_fields(&mut self, id: ShapeId, fields: Vec<Field>) {
        let shape = &mut self.schema.shapes[id.0 as usize];
        shape.first = self.schema.fields.len() as u32;
        shape.count = fields.len() as _;
        self.schema.fields.extend(fields);
    }

    /// A built-in shape and what it refers to.
    fn copy(&mut self, id: ShapeId) -> Result<ShapeId, String> {
        if let Some(known) = self.copied.get(&id) {
            return Ok(*known);
        }
        let builtin = self.builtin;
        let name = self.text(builtin.name(id));
        let copy = self.reserve(Shape { name, ..*builtin.shape(id) });
        self.copied.insert(id, copy);
        let mut fields = Vec::new();
        for field in builtin.fields(id) {
            let ty = match field.ty {
                Type::Struct(inner) => Type::Struct(self.copy(inner)?),
                ty => ty,
            };
            let name = self.text(builtin.field_name(field));
            let old = builtin.rules[usize::from(field.rule)];
            let union = match old.union {
                Some(inner) => Some(self.copy(inner)?),
                None => None,
            };
            let mut text = |text| self.text(builtin.text(text));
            let rule = Rule {
                values: text(old.values),
                keys: text(old.keys),
                merge_key: text(old.merge_key),
                default: text(old.default),
                union,
            };
            let rule = if field.rule == 0 { 0 } else { self.rule(rule)? };
            fields.push(Field { name, ty, rule, ..*field });
        }
        self.set_fields(copy, fields);
        Ok(copy)
    }

    /// The shape of an object with named fields; `root` for one that has
    /// apiVersion, kind and metadata though its schema does not say so.
    fn object(&mut self, name: &str, node: &Node, root: bool) -> Result<ShapeId, String> {
        let meta = self.meta.filter(|_| root || node.embedded);
        let shape = Shape {
            name: self.text(name),
            first: 0,
            count: 0,
            atomic: node.atomic,
            preserve_unknown: node.preserve_unknown,
        };
        let id = self.reserve(shape);
        let mut fields = Vec::new();
        if let Some(meta) = meta {
            for (name, ty, holds) in [
                ("apiVersion", Type::String, Holds::One),
                ("kind", Type::String, Holds::One),
                ("metadata", Type::Struct(meta), Holds::One),
            ] {
                let name = self.text(name);
                fields.push(Field { omit_empty: true, ..plain(name, ty, holds) });
            }
        }
        let required = node.checks.as_ref().map_or(&[][..], |checks| &checks.required);
        for (property, inner) in &node.properties {
            if meta.is_some() && matches!(&**property, "apiVersion" | "kind" | "metadata") {
                continue;
            }
            let mut field = self.field(&format!("{name}.{property}"), property, inner)?;
            field.required = required.contains(property);
            fields.push(field);
        }
        self.set_fields(id, fields);
        Ok(id)
    }

    fn field(&mut self, path: &str, name: &str, node: &Node) -> Result<Field, String> {
        let (holds, ty) = match (node.kind, &node.additional) {
            (Kind::Object, Additional::Node(inner)) if node.properties.is_empty() => {
                (Holds::Map, self.element(path, inner)?)
            }
            (Kind::Object, Additional::Any) if node.properties.is_empty() => {
                (Holds::Map, Type::Any)
            }
            (Kind::Array, _) => match &node.items {
                Some(items) => (Holds::List, self.element(path, items)?),
                None => (Holds::List, Type::Any),
            },
            _ => (Holds::Pointer, self.element(path, node)?),
        };
        let mut field = plain(self.text(name), ty, holds);
        field.omit_empty = true;
        field.list_type = match node.atomic {
            true => ListType::Atomic,
            false => node.list_type,
        };
        let default = node.default.as_ref().map(ToString::to_string).unwrap_or_default();
        let keys = node.list_keys.join(",");
        if !default.is_empty() || !keys.is_empty() {
            let (default, keys) = (self.text(&default), self.text(&keys));
            field.rule = self.rule(Rule { default, keys, ..Rule::default() })?;
        }
        Ok(field)
    }

    /// A list or map that a list or map holds.
    fn nested(&mut self, path: &str, node: &Node) -> Result<ShapeId, String> {
        let name = self.text(path);
        let id = self.reserve(Shape {
            name,
            first: 0,
            count: 0,
            atomic: false,
            preserve_unknown: false,
        });
        let field = self.field(&format!("{path}[]"), "", node)?;
        self.set_fields(id, vec![field]);
        Ok(id)
    }

    /// What one value is, where it is held by nothing.
    fn element(&mut self, path: &str, node: &Node) -> Result<Type, String> {
        Ok(match node.kind {
            _ if node.int_or_string => Type::IntOrString,
            Kind::String => Type::String,
            Kind::Integer => Type::Int64,
            Kind::Number => Type::Float64,
            Kind::Boolean => Type::Bool,
            Kind::Object if matches!(node.additional, Additional::None) => {
                Type::Struct(self.object(path, node, false)?)
            }
            Kind::Object | Kind::Array => Type::Nested(self.nested(path, node)?),
            Kind::Any => Type::Any,
        })
    }
}

fn plain(name: Text, ty: Type, holds: Holds) -> Field {
    Field {
        name,
        ty,
        holds,
        list_type: ListType::Unset,
        omit_empty: false,
        required: false,
        patch_merge: false,
        patch_retain_keys: false,
        number: 0,
        within: [0; 2],
        rule: 0,
    }
}

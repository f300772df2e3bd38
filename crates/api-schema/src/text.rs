//! The text form of a schema, one line a field, and the builder behind it.
//!
//! ```text
//! core/v1.Container
//!  name 1 string
//!  ports 6 []core/v1.ContainerPort omit keys=containerPort,protocol merge=containerPort
//! core/v1.ObjectFieldSelector atomic
//!  fieldPath 2 string required
//! ```
//!
//! A type is `string`, `bool`, `int32`, … or a shape's name, after `[]` for a
//! list, `{}` for a map, `*` for a pointer. `any as=SHAPE` is JSON of several
//! forms that protobuf carries in a message with a field for each. The committed tables have this form:
//! a change of the API is a readable difference, reading all of it takes less
//! than a millisecond, and names stay where they are, in the text.

use std::{borrow::Cow, collections::HashMap, fmt};

use crate::shape::{Field, Holds, ListType, Rule, Schema, Shape, ShapeId, Text, Type};

/// A schema text that does not parse: the line and why.
#[derive(Debug, PartialEq, Eq)]
pub struct ShapeTextError {
    /// From 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for ShapeTextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

impl std::error::Error for ShapeTextError {}

impl Schema {
    /// Reads the text form.
    ///
    /// # Errors
    /// Where a line is malformed or names a shape that is not in the text.
    pub fn parse(text: Cow<'static, str>) -> Result<Self, ShapeTextError> {
        let mut ids = HashMap::new();
        for line in text.lines().filter(|line| opens_shape(line)) {
            let name = line.split(' ').next().unwrap_or_default();
            ids.insert(name.to_owned(), ids.len() as u32);
        }
        let mut schema = Self {
            text: Cow::Borrowed(""),
            shapes: Vec::with_capacity(ids.len()),
            fields: Vec::new(),
            rules: vec![Rule::default()],
            by_name: Vec::new(),
        };
        for (number, line) in text.lines().enumerate() {
            let at = |word: &str| Text {
                start: (word.as_ptr() as usize - text.as_ptr() as usize) as u32,
                len: word.len() as u32,
            };
            let fault = |why: String| ShapeTextError { line: number + 1, why };
            if opens_shape(line) {
                let mut words = line.split(' ');
                let name = at(words.next().unwrap_or_default());
                let first = schema.fields.len() as u32;
                let mut shape =
                    Shape { name, first, count: 0, atomic: false, preserve_unknown: false };
                for word in words {
                    match word {
                        "atomic" => shape.atomic = true,
                        "open" => shape.preserve_unknown = true,
                        _ => return Err(fault(format!("unknown word {word:?}"))),
                    }
                }
                schema.shapes.push(shape);
            } else if let Some(words) = line.strip_prefix(' ') {
                let (field, rule) = field(words, &ids, at).map_err(fault)?;
                schema.push_field(field, rule).map_err(fault)?;
            } else if !line.is_empty() && !line.starts_with('#') {
                return Err(fault("neither a shape nor a field".into()));
            }
        }
        schema.text = text;
        schema.by_name = (0..schema.shapes.len() as u32).collect();
        let mut by_name = std::mem::take(&mut schema.by_name);
        by_name.sort_by(|&a, &b| schema.name(ShapeId(a)).cmp(schema.name(ShapeId(b))));
        schema.by_name = by_name;
        Ok(schema)
    }

    fn push_field(&mut self, mut field: Field, rule: Option<Rule>) -> Result<(), String> {
        let shape = self.shapes.last_mut().ok_or("a field before any shape")?;
        shape.count += 1;
        if let Some(rule) = rule {
            field.rule = u16::try_from(self.rules.len()).map_err(|_| "too many rules")?;
            self.rules.push(rule);
        }
        self.fields.push(field);
        Ok(())
    }
}

fn opens_shape(line: &str) -> bool {
    line.starts_with(|c: char| c.is_ascii_alphabetic())
}

/// `ports 6 []core/v1.ContainerPort omit keys=a,b merge=a`
fn field(
    line: &str,
    ids: &HashMap<String, u32>,
    at: impl Fn(&str) -> Text,
) -> Result<(Field, Option<Rule>), String> {
    // A default is JSON and may have spaces, so it comes last; values of an
    // enumeration may have some too and come before it.
    let tail = |line, word| match str::split_once(line, word) {
        Some((line, tail)) => (line, Some(tail)),
        None => (line, None),
    };
    let (line, default) = tail(line, " default=");
    let (line, values) = tail(line, " enum=");
    let mut words = line.split(' ');
    let mut next = |what: &str| words.next().ok_or_else(|| format!("no {what}"));
    let name = next("name")?;
    let number = next("number")?.parse().map_err(|_| "the number is none".to_owned())?;
    let (holds, ty) = ty(next("type")?, ids)?;
    let mut field = Field {
        name: at(name),
        ty,
        holds,
        list_type: ListType::Unset,
        omit_empty: false,
        required: false,
        patch_merge: false,
        patch_retain_keys: false,
        number,
        within: [0; 2],
        rule: 0,
    };
    let mut rule = Rule::default();
    let mut ruled = default.is_some() || values.is_some();
    rule.default = default.map(&at).unwrap_or_default();
    rule.values = values.map(&at).unwrap_or_default();
    for word in words {
        let (word, value) = word.split_once('=').unwrap_or((word, ""));
        match word {
            "omit" => field.omit_empty = true,
            "required" => field.required = true,
            "atomic" => field.list_type = ListType::Atomic,
            "set" => field.list_type = ListType::Set,
            "retain" => field.patch_retain_keys = true,
            "in" => {
                for (slot, number) in field.within.iter_mut().zip(value.split('.')) {
                    *slot = number.parse().map_err(|_| format!("in={value}"))?;
                }
            }
            "as" => {
                let id = ids.get(value).ok_or_else(|| format!("no shape {value:?}"))?;
                rule.union = Some(ShapeId(*id));
                ruled = true;
            }
            "keys" => {
                field.list_type = ListType::Map;
                rule.keys = at(value);
                ruled = true;
            }
            "merge" => {
                field.patch_merge = true;
                rule.merge_key = at(value);
                ruled |= !value.is_empty();
            }
            _ => return Err(format!("unknown word {word:?}")),
        }
    }
    Ok((field, ruled.then_some(rule)))
}

fn ty(word: &str, ids: &HashMap<String, u32>) -> Result<(Holds, Type), String> {
    let (holds, name) = if let Some(name) = word.strip_prefix("[]") {
        (Holds::List, name)
    } else if let Some(name) = word.strip_prefix("{}") {
        (Holds::Map, name)
    } else if let Some(name) = word.strip_prefix('*') {
        (Holds::Pointer, name)
    } else {
        (Holds::One, word)
    };
    let ty = match name {
        "string" => Type::String,
        "bool" => Type::Bool,
        "int32" => Type::Int32,
        "int64" => Type::Int64,
        "float64" => Type::Float64,
        "strings" => Type::Strings,
        "bytes" => Type::Bytes,
        "any" => Type::Any,
        "object" => Type::Object,
        "quantity" => Type::Quantity,
        "intOrString" => Type::IntOrString,
        "time" => Type::Time,
        "microTime" => Type::MicroTime,
        "duration" => Type::Duration,
        name => Type::Struct(ShapeId(*ids.get(name).ok_or_else(|| format!("no shape {name:?}"))?)),
    };
    Ok((holds, ty))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read() {
        let text = "# words\nx.A open\n b 2 []x.B omit keys=k,l merge=k\n n 3 *int32 in=4.5 default={\"a\": 1}\n u 4 any as=x.B\nx.B atomic\n k 1 string enum=P|Q\n";
        let schema = Schema::parse(text.into()).expect("valid");
        let a = schema.find("x.A").expect("there");
        let b = schema.find("x.B").expect("there");
        assert!(schema.shape(a).preserve_unknown && schema.shape(b).atomic);
        let field = schema.field(a, "b").expect("there");
        assert_eq!((field.ty, field.holds), (Type::Struct(b), Holds::List));
        assert_eq!(schema.keys(field).collect::<Vec<_>>(), ["k", "l"]);
        assert_eq!(schema.merge_key(field), "k");
        let n = schema.field(a, "n").expect("there");
        assert_eq!((n.within, n.number, schema.default_text(n)), ([4, 5], 3, "{\"a\": 1}"));
        let u = schema.field(a, "u").expect("there");
        assert_eq!((u.ty, schema.union_of(u), schema.union_of(n)), (Type::Any, Some(b), None));
        let k = schema.field(b, "k").expect("there");
        assert_eq!(schema.values(k).collect::<Vec<_>>(), ["P", "Q"]);
    }

    #[test]
    fn a_bad_line_is_named() {
        for (text, line) in [("x.A\n b", 2), (" b 1 string", 1), ("x.A\n b 1 x.C", 2), ("-", 1)] {
            assert_eq!(Schema::parse(text.into()).expect_err(text).line, line, "{text}");
        }
    }
}

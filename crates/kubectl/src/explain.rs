//! `kubectl explain`: fields and what they are for, from an OpenAPI v3 document.

use serde_json::Value;

use crate::{
    discovery::ApiResource,
    failure::{Failure, Outcome},
};

/// How wide text is.
const COLUMNS: usize = 76;
/// How many values of an enumeration are listed.
const SHOWN: usize = 4;

/// Which fields of fields are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// None.
    Flat,
    /// All of them.
    All,
    /// Down to this level.
    Max(usize),
}

/// The text for a field of a resource, and what is missing.
pub(crate) fn explain(
    document: &Value,
    resource: &ApiResource,
    path: &[&str],
    depth: Depth,
) -> (String, Outcome) {
    let mut out = String::new();
    if !resource.group.is_empty() {
        out.push_str(&format!("GROUP:      {}\n", resource.group));
    }
    out.push_str(&format!("KIND:       {}\nVERSION:    {}\n\n", resource.kind, resource.version));
    let schemas = &document["components"]["schemas"];
    let of_kind =
        schemas.as_object().into_iter().flatten().map(|(_, schema)| schema).find(|schema| {
            schema["x-kubernetes-group-version-kind"].as_array().into_iter().flatten().any(|gvk| {
                gvk["kind"] == resource.kind.as_str()
                    && gvk["group"].as_str().unwrap_or_default() == resource.group
                    && gvk["version"] == resource.version.as_str()
            })
        });
    let Some(root) = of_kind else {
        let why = format!("the server tells nothing of {}", resource.kind);
        return (out, Err(Failure::Message(why)));
    };
    let reader = Reader { schemas };
    let mut schema = root;
    let mut field = None;
    for name in path {
        let inner = reader.element(schema);
        let next = &reader.fields_of(inner)[*name];
        if next.is_null() {
            let why = format!("field {name:?} does not exist");
            return (out, Err(Failure::Message(why)));
        }
        field = Some((*name, next));
        schema = next;
    }
    if let Some((name, schema)) = field {
        out.push_str(&format!("FIELD: {name} <{}>\n", reader.type_of(schema)));
        let values = reader.values(schema);
        if !values.is_empty() {
            out.push_str(&format!(
                "ENUM:\n{}\n",
                values.iter().map(|v| format!("    {v}\n")).collect::<String>()
            ));
        }
        if values.is_empty() {
            out.push('\n');
        }
        out.push('\n');
    }
    out.push_str("DESCRIPTION:\n");
    let texts = reader.descriptions(schema);
    if texts.is_empty() {
        out.push_str("    <empty>\n");
    }
    for text in &texts {
        out.push_str(&wrapped(text, 4));
    }
    out.push_str("    \n");
    let inner = reader.element(schema);
    let fields = reader.fields_of(inner);
    if fields.as_object().is_some_and(|fields| !fields.is_empty()) {
        out.push_str("FIELDS:\n");
        reader.fields(&mut out, inner, 1, depth, &mut Vec::new());
    }
    out.push('\n');
    (out, Ok(()))
}

struct Reader<'d> {
    schemas: &'d Value,
}

impl<'d> Reader<'d> {
    /// What a reference refers to, which may stand in an `allOf`.
    fn target(&self, schema: &'d Value) -> Option<&'d Value> {
        let direct = schema["$ref"].as_str().or(schema["allOf"][0]["$ref"].as_str())?;
        Some(&self.schemas[direct.rsplit('/').next()?])
    }

    /// What elements of a list or map are, or the value itself.
    fn element(&self, schema: &'d Value) -> &'d Value {
        let mut schema = schema;
        loop {
            schema = if let Some(target) = self.target(schema) {
                target
            } else if schema["type"] == "array" {
                &schema["items"]
            } else if schema["additionalProperties"].is_object() {
                &schema["additionalProperties"]
            } else {
                return schema;
            };
        }
    }

    fn fields_of(&self, schema: &'d Value) -> &'d Value {
        &schema["properties"]
    }

    fn required(&self, schema: &Value, name: &str) -> bool {
        schema["required"].as_array().into_iter().flatten().any(|required| required == name)
    }

    fn values(&self, schema: &'d Value) -> Vec<String> {
        let values = schema["enum"].as_array().into_iter().flatten();
        values.map(|value| value.as_str().map_or(value.to_string(), str::to_owned)).collect()
    }

    /// `[]Container`, `map[string]string`, `integer`.
    fn type_of(&self, schema: &'d Value) -> String {
        if let Some(reference) = schema["$ref"].as_str().or(schema["allOf"][0]["$ref"].as_str()) {
            let target = &self.schemas[reference.rsplit('/').next().unwrap_or_default()];
            // References to what is no struct are that: a time is a string.
            if !target["properties"].is_object()
                && target["type"].is_string()
                && target["type"] != "object"
            {
                return self.type_of(target);
            }
            return reference.rsplit('.').next().unwrap_or_default().to_owned();
        }
        if schema["oneOf"].is_array() || schema["x-kubernetes-int-or-string"] == true {
            return "IntOrString".to_owned();
        }
        match schema["type"].as_str() {
            Some("array") => format!("[]{}", self.type_of(&schema["items"])),
            Some("object") if schema["additionalProperties"].is_object() => {
                format!("map[string]{}", self.type_of(&schema["additionalProperties"]))
            }
            Some("object") => "Object".to_owned(),
            Some(name) => name.to_owned(),
            None => "Object".to_owned(),
        }
    }

    /// Of the field, and of what it refers to.
    fn descriptions(&self, schema: &'d Value) -> Vec<String> {
        let mut texts: Vec<String> = Vec::new();
        let mut at = Some(schema);
        while let Some(schema) = at {
            if let Some(text) = schema["description"].as_str()
                && !texts.iter().any(|known| known == text)
            {
                texts.push(text.to_owned());
            }
            at = match schema["type"].as_str() {
                Some("array") => Some(&schema["items"]),
                _ => self.target(schema),
            };
        }
        texts
    }

    fn fields(
        &self,
        out: &mut String,
        schema: &'d Value,
        level: usize,
        depth: Depth,
        seen: &mut Vec<*const Value>,
    ) {
        let indent = "  ".repeat(level);
        let mut fields: Vec<_> = self.fields_of(schema).as_object().into_iter().flatten().collect();
        fields.sort_by_key(|(name, _)| *name);
        for (name, field) in fields {
            let required = if self.required(schema, name) { " -required-" } else { "" };
            out.push_str(&format!("{indent}{name}\t<{}>{required}\n", self.type_of(field)));
            let values = self.values(field);
            if !values.is_empty() {
                let more = if values.len() > SHOWN { ", ...." } else { "" };
                let shown = &values[..values.len().min(SHOWN)];
                out.push_str(&format!("{indent}enum: {}{more}\n", shown.join(", ")));
            }
            if depth != Depth::Flat {
                let inner = self.element(field);
                let address: *const Value = inner;
                // Some types hold themselves.
                let deeper = !matches!(depth, Depth::Max(max) if level >= max);
                if deeper && self.fields_of(inner).is_object() && !seen.contains(&address) {
                    seen.push(address);
                    self.fields(out, inner, level + 1, depth, seen);
                    seen.pop();
                }
                continue;
            }
            let text = self.descriptions(field).into_iter().next().unwrap_or_default();
            let text = if text.is_empty() { "<no description>".to_owned() } else { text };
            out.push_str(&wrapped(&text, 4));
            out.push('\n');
        }
    }
}

/// Text in lines of a width, indented.
fn wrapped(text: &str, indent: usize) -> String {
    let mut out = String::new();
    let pad = " ".repeat(indent);
    for paragraph in text.split('\n') {
        let mut line = String::new();
        for word in paragraph.split(' ') {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > COLUMNS {
                out.push_str(&format!("{pad}{line}\n"));
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        out.push_str(&format!("{pad}{line}\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document() -> Value {
        json!({"components": {"schemas": {
            "io.x.Foo": {
                "description": "A foo.", "type": "object", "required": ["spec"],
                "x-kubernetes-group-version-kind": [{"group": "x.io", "version": "v1", "kind": "Foo"}],
                "properties": {
                    "spec": {"description": "What is wanted.", "allOf": [{"$ref": "#/components/schemas/io.x.FooSpec"}]},
                    "at": {"$ref": "#/components/schemas/io.x.Time"},
                },
            },
            "io.x.FooSpec": {"description": "Wishes.", "type": "object", "properties": {
                "items": {"type": "array", "items": {"type": "string"}, "description": "Things."},
            }},
            "io.x.Time": {"type": "string"},
        }}})
    }

    #[test]
    fn fields_are_told() {
        let resource = ApiResource {
            group: "x.io".into(),
            version: "v1".into(),
            kind: "Foo".into(),
            ..ApiResource::default()
        };
        let (text, outcome) = explain(&document(), &resource, &[], Depth::Flat);
        assert!(outcome.is_ok());
        assert!(text.contains("  at\t<string>\n    <no description>\n"), "{text}");
        assert!(text.contains("  spec\t<FooSpec> -required-\n    What is wanted.\n"), "{text}");
        let (text, outcome) = explain(&document(), &resource, &["spec", "items"], Depth::Flat);
        assert!(outcome.is_ok() && text.contains("FIELD: items <[]string>"), "{text}");
        let (_, outcome) = explain(&document(), &resource, &["nope"], Depth::Flat);
        assert!(outcome.expect_err("none").message().contains("does not exist"));
    }
}

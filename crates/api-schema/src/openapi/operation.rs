//! One operation of a path, and how each version of the specification writes it.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{
    Dialect, object,
    parameters::{self, Parameter},
};

/// What may be asked of a path.
#[derive(Default)]
pub(super) struct Operation {
    /// How clients that are made from the document call it:
    /// `readCoreV1NamespacedPodStatus`.
    pub(super) id: String,
    /// `rbacAuthorization_v1`.
    pub(super) tag: String,
    pub(super) description: String,
    /// `x-kubernetes-action`; empty for what is about no resource.
    pub(super) action: &'static str,
    /// `x-kubernetes-group-version-kind`, likewise.
    pub(super) kind: Option<Value>,
    pub(super) parameters: Vec<Parameter>,
    pub(super) body: Option<Body>,
    pub(super) consumes: &'static [&'static str],
    pub(super) produces: Vec<&'static str>,
    pub(super) codes: &'static [u16],
    pub(super) answer: Answer,
}

/// What is sent.
pub(super) struct Body {
    /// The name of its definition.
    pub(super) name: String,
    pub(super) required: bool,
}

/// What is answered.
#[derive(Default)]
pub(super) enum Answer {
    #[default]
    Text,
    /// The name of its definition.
    Object(String),
}

/// A path with its operations by method.
pub(super) fn path(mut operations: Vec<(&'static str, Operation)>, dialect: Dialect) -> Value {
    let lists = operations.iter_mut().map(|(_, operation)| &mut operation.parameters);
    let common = parameters::common(lists);
    let operations =
        operations.into_iter().map(|(method, operation)| (method, operation.write(dialect)));
    let mut item = object(operations.collect());
    if !common.is_empty() {
        item["parameters"] = parameters::write(common, dialect).into();
    }
    item
}

impl Operation {
    fn write(self, dialect: Dialect) -> Value {
        let mut out = Map::new();
        out.insert("operationId".into(), self.id.into());
        out.insert("tags".into(), json!([self.tag]));
        out.insert("description".into(), self.description.into());
        if !self.action.is_empty() {
            out.insert("x-kubernetes-action".into(), self.action.into());
        }
        if let Some(kind) = self.kind {
            out.insert("x-kubernetes-group-version-kind".into(), kind);
        }
        let mut parameters = parameters::write(self.parameters, dialect);
        let produces: BTreeSet<&str> = self.produces.iter().copied().collect();
        let answer = match &self.answer {
            Answer::Text => json!({ "type": "string" }),
            Answer::Object(name) => dialect.reference(name),
        };
        let content = |types: &mut dyn Iterator<Item = &str>, schema: &Value| -> Value {
            types.map(|media| (media.to_owned(), json!({ "schema": schema }))).collect()
        };
        let answer = match dialect {
            Dialect::V2 => {
                out.insert("consumes".into(), json!(self.consumes));
                out.insert("produces".into(), json!(produces));
                out.insert("schemes".into(), json!(["https"]));
                if let Some(body) = self.body {
                    let mut parameter = json!({
                        "name": "body", "in": "body", "schema": dialect.reference(&body.name),
                    });
                    if body.required {
                        parameter["required"] = true.into();
                    }
                    parameters.push(parameter);
                }
                ("schema", answer)
            }
            Dialect::V3 => {
                if let Some(body) = self.body {
                    let schema = dialect.reference(&body.name);
                    let content = content(&mut self.consumes.iter().copied(), &schema);
                    let mut body_of = json!({ "content": content });
                    if body.required {
                        body_of["required"] = true.into();
                    }
                    out.insert("requestBody".into(), body_of);
                }
                ("content", content(&mut produces.into_iter(), &answer))
            }
        };
        if !parameters.is_empty() {
            out.insert("parameters".into(), parameters.into());
        }
        let mut responses = Map::new();
        for code in self.codes {
            let response = json!({ "description": said(*code), answer.0: answer.1 });
            responses.insert(code.to_string(), response);
        }
        responses.insert("401".into(), json!({ "description": "Unauthorized" }));
        out.insert("responses".into(), responses.into());
        Value::Object(out)
    }
}

fn said(code: u16) -> &'static str {
    match code {
        201 => "Created",
        202 => "Accepted",
        _ => "OK",
    }
}

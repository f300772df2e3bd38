//! Runs what a template was read into.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Node, Pipeline, Place, Term, functions::call, go_text::shown};

/// How many blocks may be run within each other.
const DEEPEST_RUN: usize = 300;
/// More output is refused, as a loop could write without end.
const LONGEST_OUTPUT: usize = 1 << 30;

pub(super) struct Run<'t> {
    pub(super) out: String,
    pub(super) variables: Vec<(String, Value)>,
    pub(super) named: &'t BTreeMap<String, Vec<Node>>,
    pub(super) depth: usize,
    /// Which template it is that runs, and what of it.
    pub(super) name: &'t str,
    pub(super) place: Option<&'t Place>,
}

/// How a block was left.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Flow {
    On,
    Break,
    Continue,
}

pub(super) fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(on) => *on,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

impl<'t> Run<'t> {
    pub(super) fn nodes(&mut self, nodes: &'t [Node], dot: &Value) -> Result<Flow, String> {
        let scope = self.variables.len();
        self.depth += 1;
        if self.depth > DEEPEST_RUN {
            return Err(format!("exceeded maximum template depth ({DEEPEST_RUN})"));
        }
        let mut flow = Flow::On;
        for node in nodes {
            flow = self.node(node, dot)?;
            if flow != Flow::On {
                break;
            }
            if self.out.len() > LONGEST_OUTPUT {
                return Err("the output is too long".to_owned());
            }
        }
        self.depth -= 1;
        self.variables.truncate(scope);
        Ok(flow)
    }

    fn node(&mut self, node: &'t Node, dot: &Value) -> Result<Flow, String> {
        let scope = self.variables.len();
        let flow = match node {
            Node::Text(text) => {
                self.out.push_str(text);
                return Ok(Flow::On);
            }
            Node::Print(pipeline) => {
                if let [command] = pipeline.commands.as_slice()
                    && matches!(command.terms.as_slice(), [Term::Literal(Value::Null)])
                {
                    self.place = Some(&command.place);
                    return Err("nil is not a command".to_owned());
                }
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.variables.is_empty() {
                    match value {
                        Value::Null => self.out.push_str("<no value>"),
                        value => self.out.push_str(&shown(&value)),
                    }
                }
                // What is declared here is known to those behind it.
                return Ok(Flow::On);
            }
            Node::If(condition, body, otherwise) => {
                let value = self.pipeline(condition, dot)?;
                self.nodes(if truth(&value) { body } else { otherwise }, dot)?
            }
            Node::With(condition, body, otherwise) => {
                let value = self.pipeline(condition, dot)?;
                match truth(&value) {
                    true => self.nodes(body, &value)?,
                    false => self.nodes(otherwise, dot)?,
                }
            }
            Node::Range(over, body, otherwise) => self.range(over, body, otherwise, dot)?,
            Node::Named(name, argument, place) => {
                self.place = Some(place);
                let named = self.named;
                let body =
                    named.get(name).ok_or_else(|| format!("template {name:?} not defined"))?;
                let value = match argument {
                    Some(argument) => self.pipeline(argument, dot)?,
                    None => Value::Null,
                };
                let outer =
                    std::mem::replace(&mut self.variables, vec![("$".into(), value.clone())]);
                let outside = std::mem::replace(&mut self.name, name);
                self.nodes(body, &value)?;
                self.name = outside;
                self.variables = outer;
                Flow::On
            }
            Node::Break => Flow::Break,
            Node::Continue => Flow::Continue,
        };
        self.variables.truncate(scope);
        Ok(flow)
    }

    fn range(
        &mut self,
        over: &'t Pipeline,
        body: &'t [Node],
        otherwise: &'t [Node],
        dot: &Value,
    ) -> Result<Flow, String> {
        let value = self.value(over, dot)?;
        let pairs: Box<dyn Iterator<Item = (Value, Value)>> = match value {
            Value::Array(items) => {
                Box::new(items.into_iter().enumerate().map(|(i, item)| (i.into(), item)))
            }
            Value::Object(map) => Box::new(map.into_iter().map(|(key, item)| (key.into(), item))),
            Value::Null => Box::new(std::iter::empty()),
            Value::Number(number) if number.is_i64() => {
                let end = number.as_i64().unwrap_or(0);
                Box::new((0..end).map(|i| (i.into(), i.into())))
            }
            other => return Err(format!("range can't iterate over {}", shown(&other))),
        };
        let mut any = false;
        for (key, item) in pairs {
            any = true;
            let scope = self.variables.len();
            match over.variables.as_slice() {
                [one] => self.variables.push((one.clone(), item.clone())),
                [first, second] => {
                    self.variables.push((first.clone(), key));
                    self.variables.push((second.clone(), item.clone()));
                }
                _ => {}
            }
            let flow = self.nodes(body, &item)?;
            self.variables.truncate(scope);
            if flow == Flow::Break {
                break;
            }
        }
        if any { Ok(Flow::On) } else { self.nodes(otherwise, dot) }
    }

    fn pipeline(&mut self, pipeline: &'t Pipeline, dot: &Value) -> Result<Value, String> {
        let value = self.value(pipeline, dot)?;
        if let [name] = pipeline.variables.as_slice() {
            let known = self.variables.iter_mut().rev().find(|(known, _)| known == name);
            match known {
                Some((_, slot)) if !pipeline.declares => *slot = value.clone(),
                _ => self.variables.push((name.clone(), value.clone())),
            }
        }
        Ok(value)
    }

    /// What a pipeline comes to, given to no variable.
    fn value(&mut self, pipeline: &'t Pipeline, dot: &Value) -> Result<Value, String> {
        let mut last: Option<Value> = None;
        for command in &pipeline.commands {
            let piped = last.take();
            last = Some(match command.terms.as_slice() {
                [Term::Function(name, place), others @ ..] => {
                    let mut arguments = Vec::new();
                    for term in others {
                        let value = self.term(term, dot)?;
                        let decided = match name.as_str() {
                            "and" => !truth(&value),
                            "or" => truth(&value),
                            _ => false,
                        };
                        arguments.push(value);
                        // The others need not even be possible.
                        if decided {
                            break;
                        }
                    }
                    arguments.extend(piped);
                    call(name, &arguments).inspect_err(|why| {
                        // How many there are is seen before they are looked at.
                        let counted = why.starts_with("wrong number of args");
                        self.place = Some(if counted { place } else { &command.place });
                    })?
                }
                [Term::Path(_, path, place), _, ..] if !path.is_empty() => {
                    self.place = Some(place);
                    let name = path.last().map_or("", String::as_str);
                    return Err(format!("{name} is not a method but has arguments"));
                }
                [term] => self.term(term, dot)?,
                _ => {
                    self.place = Some(&command.place);
                    return Err("can't give argument to non-function".to_owned());
                }
            });
        }
        Ok(last.unwrap_or_default())
    }

    fn term(&mut self, term: &'t Term, dot: &Value) -> Result<Value, String> {
        let follow = |value: &Value, path: &[String]| -> Result<Value, String> {
            let mut value = value;
            for name in path {
                value = match value {
                    Value::Object(map) => map.get(name).unwrap_or(&Value::Null),
                    Value::Null => &Value::Null,
                    _ => return Err(format!("can't evaluate field {name} in type interface {{}}")),
                };
            }
            Ok(value.clone())
        };
        match term {
            Term::Literal(value) => Ok(value.clone()),
            Term::Path(None, path, place) => {
                self.place = Some(place);
                follow(dot, path)
            }
            Term::Path(Some(name), path, place) => {
                self.place = Some(place);
                let known = self.variables.iter().rev().find(|(known, _)| known == name);
                let (_, value) = known.ok_or_else(|| format!("undefined variable {name:?}"))?;
                follow(value, path)
            }
            Term::Inner(pipeline, path, place) => {
                let value = self.pipeline(pipeline, dot)?;
                self.place = Some(place);
                follow(&value, path)
            }
            Term::Function(name, place) => {
                self.place = Some(place);
                call(name, &[])
            }
        }
    }
}

//! Runs what a template was read into.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    Command, Node, Operand, Pipe, Place, Term,
    functions::{self, call},
    given::Given,
    go_text::shown,
};

/// How many blocks may be run within each other.
const DEEPEST_RUN: usize = 300;
/// More output is refused, as a loop could write without end.
const LONGEST_OUTPUT: usize = 1 << 30;

pub(super) struct Run<'t> {
    pub(super) out: String,
    pub(super) variables: Vec<(String, Given)>,
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
    pub(super) fn nodes(&mut self, nodes: &'t [Node], dot: &Given) -> Result<Flow, String> {
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

    fn node(&mut self, node: &'t Node, dot: &Given) -> Result<Flow, String> {
        let scope = self.variables.len();
        let flow = match node {
            Node::Text(text) => {
                self.out.push_str(text);
                return Ok(Flow::On);
            }
            Node::Print(pipe) => {
                let given = self.pipe(pipe, dot)?;
                if pipe.variables.is_empty() {
                    match given.value {
                        Value::Null => self.out.push_str("<no value>"),
                        value => self.out.push_str(&shown(&value)),
                    }
                }
                // What is declared here is known to those behind it.
                return Ok(Flow::On);
            }
            Node::If(condition, body, otherwise) => {
                let given = self.pipe(condition, dot)?;
                self.nodes(if truth(&given.value) { body } else { otherwise }, dot)?
            }
            Node::With(condition, body, otherwise) => {
                let given = self.pipe(condition, dot)?;
                match truth(&given.value) {
                    true => self.nodes(body, &given)?,
                    false => self.nodes(otherwise, dot)?,
                }
            }
            Node::Range(over, body, otherwise) => self.range(over, (body, otherwise), dot)?,
            Node::Named(name, argument, place) => {
                self.place = Some(place);
                let named = self.named;
                let body =
                    named.get(name).ok_or_else(|| format!("template {name:?} not defined"))?;
                let given = match argument {
                    Some(argument) => self.pipe(argument, dot)?,
                    None => Given::missing(),
                };
                let outer =
                    std::mem::replace(&mut self.variables, vec![("$".into(), given.clone())]);
                let outside = std::mem::replace(&mut self.name, name);
                self.nodes(body, &given)?;
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
        over: &'t Pipe,
        (body, otherwise): (&'t [Node], &'t [Node]),
        dot: &Given,
    ) -> Result<Flow, String> {
        let value = self.pipe(over, dot)?.value;
        let pairs: Box<dyn Iterator<Item = (Value, Given)>> = match value {
            Value::Array(items) => Box::new(
                items.into_iter().enumerate().map(|(i, item)| (i.into(), Given::boxed(item))),
            ),
            Value::Object(map) => {
                Box::new(map.into_iter().map(|(key, item)| (key.into(), Given::boxed(item))))
            }
            Value::Null => Box::new(std::iter::empty()),
            Value::Number(number) if number.is_i64() && over.variables.len() > 1 => {
                return Err(format!("can't use {number} to iterate over more than one variable"));
            }
            Value::Number(number) if number.is_i64() => {
                let end = number.as_i64().unwrap_or(0);
                Box::new((0..end).map(|i| (i.into(), Given::own(i.into()))))
            }
            other => return Err(format!("range can't iterate over {}", shown(&other))),
        };
        let mut any = false;
        for (key, item) in pairs {
            any = true;
            match over.variables.as_slice() {
                [one] => self.assign(one, &item)?,
                [first, second] => {
                    self.assign(first, &Given::own(key))?;
                    self.assign(second, &item)?;
                }
                _ => {}
            }
            let flow = self.nodes(body, &item)?;
            if flow == Flow::Break {
                break;
            }
        }
        if any { Ok(Flow::On) } else { self.nodes(otherwise, dot) }
    }

    fn pipe(&mut self, pipe: &'t Pipe, dot: &Given) -> Result<Given, String> {
        let given = self.value(pipe, dot)?;
        for name in &pipe.variables {
            match pipe.declares {
                true => self.variables.push((name.clone(), given.clone())),
                false => self.assign(name, &given)?,
            }
        }
        Ok(given)
    }

    fn assign(&mut self, name: &str, given: &Given) -> Result<(), String> {
        let known = self.variables.iter_mut().rev().find(|(known, _)| known == name);
        let (_, slot) = known.ok_or_else(|| format!("undefined variable: {name}"))?;
        *slot = given.clone();
        Ok(())
    }

    /// What a pipeline comes to, given to no variable.
    fn value(&mut self, pipe: &'t Pipe, dot: &Given) -> Result<Given, String> {
        self.place = Some(&pipe.place);
        let mut last: Option<Given> = None;
        for command in &pipe.commands {
            let given = self.command(command, dot, last.take())?;
            last = Some(given.unboxed());
        }
        Ok(last.unwrap_or_else(Given::missing))
    }

    fn command(
        &mut self,
        command: &'t Command,
        dot: &Given,
        piped: Option<Given>,
    ) -> Result<Given, String> {
        let [first, others @ ..] = command.operands.as_slice() else {
            return Err("empty command".to_owned());
        };
        let argued = !others.is_empty() || piped.is_some();
        match &first.term {
            Term::Function(name) => {
                self.place = Some(&first.place);
                return self.function(name, (&first.place, &command.place), (others, piped), dot);
            }
            Term::Field(_) | Term::Variable(..) | Term::Chain(..) => {}
            // Where it stands is not said of what is in parentheses.
            Term::Inner(_) => {}
            Term::Literal(_) | Term::Dot | Term::Nil => self.place = Some(&first.place),
        }
        let has_fields = match &first.term {
            Term::Field(_) | Term::Chain(..) => true,
            Term::Variable(_, fields) => !fields.is_empty(),
            _ => false,
        };
        if argued && !has_fields {
            if matches!(first.term, Term::Variable(..)) {
                self.place = Some(&first.place);
            }
            return Err(format!("can't give argument to non-function {}", first.place.text));
        }
        if matches!(first.term, Term::Nil) {
            return Err("nil is not a command".to_owned());
        }
        self.operand(first, dot, argued)
    }

    /// Calls a function; it is said where it stands, and the command.
    fn function(
        &mut self,
        name: &str,
        (place, whole): (&'t Place, &'t Place),
        (operands, piped): (&'t [Operand], Option<Given>),
        dot: &Given,
    ) -> Result<Given, String> {
        functions::counted(name, operands.len(), piped.is_some())?;
        let decides = |value: &Value| match name {
            "and" => !truth(value),
            "or" => truth(value),
            _ => false,
        };
        let mut arguments = Vec::new();
        for (i, operand) in operands.iter().enumerate() {
            let of_text = i == 0 && functions::takes_text(name);
            let given = self.argument(operand, dot, of_text)?;
            let decided = decides(&given.value);
            arguments.push(given);
            // The others need not even be possible.
            if decided {
                break;
            }
        }
        let decided = arguments.last().is_some_and(|given| decides(&given.value));
        if let Some(piped) = piped.filter(|_| !decided) {
            self.place = Some(place);
            if arguments.is_empty() && functions::takes_text(name) {
                is_text(&piped)?;
            }
            arguments.push(piped);
        }
        call(name, &arguments).inspect_err(|_| self.place = Some(whole))
    }

    /// A function's argument, which for some is text.
    fn argument(
        &mut self,
        operand: &'t Operand,
        dot: &Given,
        of_text: bool,
    ) -> Result<Given, String> {
        self.place = Some(&operand.place);
        match &operand.term {
            Term::Nil if of_text => return Err("cannot assign nil to string".to_owned()),
            Term::Literal(value) if of_text && !value.is_string() => {
                return Err(format!("expected string; found {}", operand.place.text));
            }
            _ => {}
        }
        let given = self.operand(operand, dot, false)?;
        if of_text {
            is_text(&given)?;
        }
        Ok(given)
    }

    /// What an operand stands for; whether it has arguments, which a field cannot take.
    fn operand(
        &mut self,
        operand: &'t Operand,
        dot: &Given,
        argued: bool,
    ) -> Result<Given, String> {
        match &operand.term {
            Term::Literal(value) => Ok(Given::own(value.clone())),
            Term::Nil => Ok(Given::missing()),
            Term::Dot => Ok(dot.clone()),
            Term::Field(fields) => {
                self.place = Some(&operand.place);
                follow(dot, fields, argued)
            }
            Term::Variable(name, fields) => {
                self.place = Some(&operand.place);
                let known = self.variables.iter().rev().find(|(known, _)| known == name);
                let (_, given) = known.ok_or_else(|| format!("undefined variable: {name}"))?;
                follow(given, fields, argued)
            }
            Term::Inner(pipe) => self.pipe(pipe, dot),
            Term::Function(name) => {
                let place = &operand.place;
                self.place = Some(place);
                self.function(name, (place, place), (&[], None), dot)
            }
            Term::Chain(of, fields) => {
                self.place = Some(&operand.place);
                let given = self.operand(of, dot, false)?;
                follow(&given, fields, argued)
            }
        }
    }
}

fn is_text(given: &Given) -> Result<(), String> {
    match &given.value {
        Value::String(_) => Ok(()),
        Value::Null if given.is_missing() => Err("invalid value; expected string".to_owned()),
        Value::Null => Err("wrong type for value; expected string; got interface {}".to_owned()),
        _ => Err(format!("wrong type for value; expected string; got {}", given.kind())),
    }
}

/// The fields of a value, one within the other.
fn follow(given: &Given, fields: &[String], argued: bool) -> Result<Given, String> {
    let mut found = given.clone();
    for (i, field) in fields.iter().enumerate() {
        found = match &found.value {
            Value::Object(_) if argued && i + 1 == fields.len() => {
                return Err(format!("{field} is not a method but has arguments"));
            }
            Value::Object(map) => map.get(field).cloned().map_or_else(Given::missing, Given::boxed),
            Value::Null if !found.is_boxed => Given::missing(),
            Value::Null => {
                return Err(format!("nil pointer evaluating {}.{field}", found.held()));
            }
            _ => return Err(format!("can't evaluate field {field} in type {}", found.held())),
        };
    }
    Ok(found)
}

//! Rules on objects. Everything an object's rules cost together is counted; no
//! rule is looked at after the budget is used up.

use cel::{Fault, Value as Cel};
use serde_json::Value;

use super::{
    super::{Kind, Node},
    Below, CALL_COST_MAX, Compiled, CompiledRule, OBJECT_COST_MAX, OLD_SELF, Rules, SELF,
    field_path,
};
use crate::{Faults, Path};

/// A longer message is not used.
const MESSAGE_BYTES_MAX: usize = 5 * 1024;
const EXHAUSTED: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

impl Rules {
    /// Faults of an object by its rules. Rules that compare with what was there
    /// hold where `old` has the same part; of a part that did not change,
    /// other faults are borne.
    pub(crate) fn evaluate(&self, new: &Value, old: Option<&Value>, faults: &mut Faults) {
        let Some(compiled) = self.compiled() else { return };
        let mut run = Run { budget: OBJECT_COST_MAX, faults };
        // The stop says that the budget is used up, which is told already.
        let _ = run.node(
            compiled,
            &self.schema,
            Part { new, old, twin: old, around: None },
            &Path::ROOT,
        );
    }
}

/// A part of an object and of what was there.
#[derive(Clone, Copy)]
struct Part<'v> {
    new: &'v Value,
    /// `oldSelf`.
    old: Option<&'v Value>,
    /// The same part before, where it can be told to be the same; what does not
    /// change is measured by it.
    twin: Option<&'v Value>,
    /// The nearest part around that has a twin, and its twin.
    around: Option<(&'v Value, &'v Value)>,
}

impl<'v> Part<'v> {
    fn below(&self, new: &'v Value, old: Option<&'v Value>, twin: Option<&'v Value>) -> Self {
        let around = self.twin.map(|twin| (self.new, twin)).or(self.around);
        Self { new, old, twin: self.twin.and(twin), around }
    }

    fn is_unchanged(&self) -> bool {
        match (self.twin, self.around) {
            (Some(twin), _) => twin == self.new,
            (None, Some((new, twin))) => new == twin,
            (None, None) => false,
        }
    }
}

/// Nothing more is looked at.
struct Stop;

struct Run<'f> {
    budget: u64,
    faults: &'f mut Faults,
}

impl Run<'_> {
    fn node(
        &mut self,
        compiled: &Compiled,
        node: &Node,
        part: Part<'_>,
        path: &Path<'_>,
    ) -> Result<(), Stop> {
        if part.new.is_null() {
            return Ok(());
        }
        self.rules(compiled, node, part, path)?;
        for (below, child) in &compiled.children {
            self.children(below, child, node, part, path)?;
        }
        Ok(())
    }

    fn children(
        &mut self,
        below: &Below,
        compiled: &Compiled,
        node: &Node,
        part: Part<'_>,
        path: &Path<'_>,
    ) -> Result<(), Stop> {
        match (below, part.new) {
            (Below::Property(name), Value::Object(map)) => {
                let (Some(new), Some(child)) = (map.get(&**name), node.property(name)) else {
                    return Ok(());
                };
                let part = named(&part, new, name, path);
                self.node(compiled, child, part, &path.child(name))
            }
            (Below::Additional, Value::Object(map)) => {
                for (name, new) in map {
                    let (None, Some(child)) = (node.property(name), node.entry(name)) else {
                        continue;
                    };
                    let part = named(&part, new, name, path);
                    self.node(compiled, child, part, &path.key(name))?;
                }
                Ok(())
            }
            (Below::Items, Value::Array(list)) => {
                let Some(items) = node.items.as_deref() else { return Ok(()) };
                for (index, new) in list.iter().enumerate() {
                    let old = part.old.and_then(|old| node.same_element(new, old));
                    let twin = part.twin.and_then(|twin| node.same_element(new, twin));
                    let part = part.below(new, old, twin);
                    self.node(compiled, items, part, &path.index(index))?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn rules(
        &mut self,
        compiled: &Compiled,
        node: &Node,
        part: Part<'_>,
        path: &Path<'_>,
    ) -> Result<(), Stop> {
        if compiled.rules.is_empty() {
            return Ok(());
        }
        if self.budget == 0 {
            self.faults.invalid(&told(path), node.kind.as_str(), EXHAUSTED);
            return Err(Stop);
        }
        for rule in &compiled.rules {
            self.rule(rule, compiled, node, part, path)?;
        }
        Ok(())
    }

    fn rule(
        &mut self,
        compiled: &CompiledRule,
        at: &Compiled,
        node: &Node,
        part: Part<'_>,
        path: &Path<'_>,
    ) -> Result<(), Stop> {
        let whole = &told(path);
        let (rule, kind) = (&compiled.rule, node.kind.as_str());
        let program = match &compiled.program {
            Ok(program) => program,
            Err(why) => {
                self.faults.invalid(whole, kind, format!("rule compile error: {why}"));
                return Ok(());
            }
        };
        let transition = program.uses(OLD_SELF);
        if transition && part.old.is_none() && !rule.optional_old_self {
            return Ok(());
        }
        let name = match rule.message.as_str() {
            "" => rule.rule.trim(),
            message => message.trim(),
        };
        let variables = match variables(at, rule.optional_old_self, part) {
            Ok(variables) => variables,
            Err(fault) => {
                let detail = format!("{fault} evaluating rule: {name}");
                self.faults.invalid(whole, kind, detail);
                return Ok(());
            }
        };
        let (value, cost) = program.evaluate(&variables, CALL_COST_MAX);
        let Some(budget) = self.budget.checked_sub(cost) else {
            self.faults.invalid(whole, kind, EXHAUSTED);
            return Err(Stop);
        };
        self.budget = budget;
        match value {
            Ok(Cel::Bool(true)) => return Ok(()),
            Ok(_) => {}
            Err(fault @ Fault::CostLimit) => {
                let detail = format!(
                    "'{fault}': no further validation rules will be run due to call cost exceeds limit for rule: {name}"
                );
                self.faults.invalid(whole, kind, detail);
                return Err(Stop);
            }
            Err(fault) => {
                let text = fault.to_string();
                let detail = match text.starts_with("no such overload") {
                    true => format!(
                        "'{text}': call arguments did not match a supported operator, function or macro signature for rule: {name}"
                    ),
                    false => format!("{text} evaluating rule: {name}"),
                };
                self.faults.invalid(whole, kind, detail);
                return Ok(());
            }
        }
        let detail = match self.message(compiled, &variables) {
            Ok(Some(message)) => message,
            Ok(None) if rule.message.is_empty() => format!("failed rule: {name}"),
            Ok(None) => name.to_owned(),
            Err(why) => {
                self.faults.invalid(whole, kind, why);
                return Err(Stop);
            }
        };
        if transition || !part.is_unchanged() {
            let field = field_path::normalize(&rule.field_path, node).ok();
            match &field {
                Some(field) => self.failed(&path.child(field), rule, node, part.new, &detail),
                None => self.failed(whole, rule, node, part.new, &detail),
            }
        }
        Ok(())
    }

    /// What the rule's expression makes of the message; nothing where it fails.
    fn message<'a>(
        &mut self,
        rule: &'a CompiledRule,
        variables: &[Option<Cel<'a>>],
    ) -> Result<Option<String>, String> {
        let Some(program) = &rule.message else { return Ok(None) };
        let (value, cost) = program.evaluate(variables, CALL_COST_MAX);
        let Some(budget) = self.budget.checked_sub(cost) else {
            return Err("messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run".into());
        };
        if value.as_ref().is_err_and(|fault| *fault == Fault::CostLimit) {
            return Err(format!(
                "no further validation rules will be run due to call cost exceeds limit for messageExpression: {:?}",
                rule.rule.message_expression
            ));
        }
        self.budget = budget;
        Ok(match value {
            Ok(Cel::String(text)) => {
                let text = text.trim();
                let good =
                    !text.is_empty() && text.len() <= MESSAGE_BYTES_MAX && !text.contains('\n');
                good.then(|| text.to_owned())
            }
            _ => None,
        })
    }

    fn failed(
        &mut self,
        path: &Path<'_>,
        rule: &super::Rule,
        node: &Node,
        value: &Value,
        detail: &str,
    ) {
        let whole = matches!(node.kind, Kind::Object | Kind::Array);
        match rule.reason.as_str() {
            "FieldValueForbidden" => self.faults.forbidden(path, detail),
            "FieldValueRequired" => self.faults.required(path, detail),
            "FieldValueDuplicate" => self.faults.duplicate(path, value.clone()),
            _ if whole => self.faults.invalid_whole(path, detail),
            _ => self.faults.invalid(path, value.clone(), detail),
        }
    }
}

/// The path that faults tell: upstream's word for the object itself is `<nil>`.
fn told<'p>(path: &Path<'p>) -> Path<'p> {
    if path.is_root() { Path::new("<nil>") } else { *path }
}

/// An entry of an object by name. What changes with the version of the whole
/// object has no twin.
fn named<'v>(part: &Part<'v>, new: &'v Value, name: &str, path: &Path<'_>) -> Part<'v> {
    let old = part.old.and_then(|old| old.get(name));
    let versioned = path.is_root() && matches!(name, "apiVersion" | "kind");
    let twin = part.twin.filter(|_| !versioned).and_then(|twin| twin.get(name));
    part.below(new, old, twin)
}

fn variables<'v>(
    at: &'v Compiled,
    optional: bool,
    part: Part<'v>,
) -> Result<Vec<Option<Cel<'v>>>, Fault> {
    let new = Cel::json(part.new, &at.declaration)?;
    let old = part.old.map(|old| Cel::json(old, &at.declaration)).transpose()?;
    let mut variables = vec![None, None];
    variables[SELF] = Some(new);
    variables[OLD_SELF] = match optional {
        true => Some(Cel::Optional(old.map(Into::into))),
        false => old,
    };
    Ok(variables)
}

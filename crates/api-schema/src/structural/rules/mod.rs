//! Validation rules of custom objects (`x-kubernetes-validations`): compiled
//! from the schema, told about when a definition is written (`check`), and
//! evaluated on objects (`evaluate`).

mod check;
mod evaluate;
mod field_path;
#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use cel::{CompileError, Declaration, Environment, Kind as Declared, Program, Type, Variable};
pub use check::check;

use super::{
    Node, Rule, Step,
    declare::{declare, escape},
};

/// One evaluation may cost this much, about a tenth of a second.
const CALL_COST_MAX: u64 = 1_000_000;
/// All evaluations for one object.
const OBJECT_COST_MAX: u64 = 10_000_000;

const SELF: usize = 0;
const OLD_SELF: usize = 1;

/// The rules of one version of a custom kind. They are compiled when the first
/// object is looked at: most versions of most definitions see none.
#[derive(Debug)]
pub struct Rules {
    schema: Arc<Node>,
    /// Most schemas have none, which must cost their objects nothing.
    any: bool,
    compiled: OnceLock<Option<Compiled>>,
}

impl Rules {
    /// The rules of a schema.
    pub fn of(schema: Arc<Node>) -> Self {
        Self { any: schema.has_rules(), schema, compiled: OnceLock::new() }
    }

    /// Whether there is any rule.
    pub(crate) fn any(&self) -> bool {
        self.any
    }

    fn compiled(&self) -> Option<&Compiled> {
        self.compiled
            .get_or_init(|| {
                let declared = declare(&self.schema, true)?;
                Compiled::of(&self.schema, Arc::new(declared.declaration))
            })
            .as_ref()
    }
}

/// The rules of a node and of those below it that have some.
#[derive(Debug)]
struct Compiled {
    declaration: Arc<Declaration>,
    rules: Vec<CompiledRule>,
    children: Vec<(Below, Compiled)>,
}

/// How a node is reached from the one above.
#[derive(Clone, Debug, PartialEq)]
enum Below {
    Property(Box<str>),
    Additional,
    Items,
}

impl From<Step<'_>> for Below {
    fn from(step: Step<'_>) -> Self {
        match step {
            Step::Property(name) => Self::Property(name.into()),
            Step::Additional => Self::Additional,
            Step::Items => Self::Items,
        }
    }
}

/// One rule.
#[derive(Debug)]
struct CompiledRule {
    rule: Rule,
    /// What is wrong with it, which the definition was not refused for: it was
    /// written before somebody looked.
    program: Result<Program, String>,
    message: Option<Program>,
}

impl Compiled {
    fn of(node: &Node, declaration: Arc<Declaration>) -> Option<Self> {
        if !node.has_rules() {
            return None;
        }
        let rules = node.rules.iter().map(|rule| compile(rule, &declaration)).collect();
        let children = node
            .children()
            .filter_map(|(step, child)| {
                let declaration = below(&declaration, step, child)?;
                Some((step.into(), Self::of(child, declaration)?))
            })
            .collect();
        Some(Self { declaration, rules, children })
    }
}

/// What a node below is declared as. A property that expressions have no name
/// for has rules of its own all the same.
fn below(declaration: &Declaration, step: Step<'_>, child: &Node) -> Option<Arc<Declaration>> {
    match (step, &declaration.kind) {
        (Step::Property(name), Declared::Object(object)) => match escape(name) {
            Some(escaped) => Some(object.fields.get(&*escaped)?.declaration.clone()),
            None => Some(declare(child, child.embedded)?.declaration.into()),
        },
        (Step::Additional, Declared::Map(values)) => Some(values.clone()),
        (Step::Items, Declared::List { items, .. }) => Some(items.clone()),
        _ => None,
    }
}

/// `self` and `oldSelf`.
fn environment(declaration: &Arc<Declaration>, optional_old_self: bool) -> Environment {
    let ty = declaration.ty();
    let old = match optional_old_self {
        true => Type::optional(ty.clone()),
        false => ty.clone(),
    };
    let variable =
        |name: &str, ty| Variable { name: name.into(), ty, declaration: Some(declaration.clone()) };
    Environment::kubernetes(vec![variable("self", ty), variable("oldSelf", old)])
}

fn compile(rule: &Rule, declaration: &Arc<Declaration>) -> CompiledRule {
    let environment = environment(declaration, rule.optional_old_self);
    let program = environment.compile(&rule.rule).map_err(|error| error.to_string());
    let program = program.and_then(|program| match program.ty() {
        Type::Bool => Ok(program),
        _ => Err("cel expression must evaluate to a bool".to_owned()),
    });
    let message = message(rule, &environment).and_then(Result::ok);
    CompiledRule { rule: rule.clone(), program, message }
}

/// The expression for a rule's message, where it has one.
fn message(rule: &Rule, environment: &Environment) -> Option<Result<Program, String>> {
    if rule.message_expression.is_empty() {
        return None;
    }
    Some(match environment.compile(&rule.message_expression) {
        Ok(program) if *program.ty() == Type::String => Ok(program),
        Ok(_) => Err("messageExpression must evaluate to a string".into()),
        Err(CompileError::Issues(issues)) => {
            Err(format!("messageExpression compilation failed: {issues}"))
        }
        Err(CompileError::Constant(fault)) => {
            Err(format!("messageExpression instantiation failed: {fault}"))
        }
    })
}

//! The Common Expression Language, with the functions that Kubernetes adds.
//!
//! An [`Environment`] says which variables an expression may use and what they
//! are; [`Environment::compile`] reads the expression, checks its types and
//! estimates what it costs at most, so that what is wrong with it is told when
//! it is written and not when it is used. A [`Program`] is evaluated on JSON,
//! which is looked at in place, within a budget that is counted as upstream
//! counts it.
//!
//! This crate knows no object, no schema, no HTTP and no storage. Reading
//! order: `token`, `parse` and `macros` make an `ast`; `check` (with `types` and
//! the table of `functions`) finds out what its nodes are; `estimate` and `cost`
//! say what they cost; `plan` and `eval` compute. Time zones are offsets:
//! there is no database of names.

mod ast;
mod check;
mod containers;
mod cost;
mod declaration;
mod equal;
mod estimate;
mod eval;
mod fault;
mod functions;
mod issues;
mod literals;
mod macros;
mod parse;
mod plan;
#[cfg(test)]
mod print;
#[cfg(test)]
mod tests;
mod time;
mod token;
mod types;
mod value;

use std::sync::Arc;

pub use declaration::{Declaration, Kind, Merge, Object, ObjectField};
pub use fault::Fault;
pub use functions::{
    Library,
    authorizer::{Access, Authorizer, Decision, Question, Resource, Target},
    documentation,
};
pub use issues::Issues;
pub use token::is_reserved;
pub use types::Type;
pub use value::Value;

/// What expressions may use.
#[derive(Clone, Debug)]
pub struct Environment {
    /// Variables; values are given in this order.
    pub variables: Vec<Variable>,
    /// Where functions come from.
    pub libraries: Vec<Library>,
}

/// A variable.
#[derive(Clone, Debug)]
pub struct Variable {
    /// Its name; may have dots.
    pub name: String,
    /// What it is.
    pub ty: Type,
    /// What is known of the JSON behind it, for estimates.
    pub declaration: Option<Arc<Declaration>>,
}

impl Variable {
    /// A variable whose size is not known.
    pub fn new(name: &str, ty: Type) -> Self {
        Self { name: name.into(), ty, declaration: None }
    }

    /// A variable that is JSON of a kind.
    pub fn declared(name: &str, declaration: Arc<Declaration>) -> Self {
        Self { name: name.into(), ty: declaration.ty(), declaration: Some(declaration) }
    }
}

/// Why there is no program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompileError {
    /// The expression is wrong.
    Issues(Issues),
    /// A constant part of it has no value.
    Constant(Fault),
}

impl std::fmt::Display for CompileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Issues(issues) => write!(f, "compilation failed: {issues}"),
            Self::Constant(fault) => write!(f, "program instantiation failed: {fault}"),
        }
    }
}

impl std::error::Error for CompileError {}

impl Environment {
    /// All of Kubernetes' functions, and these variables.
    pub fn kubernetes(variables: Vec<Variable>) -> Self {
        Self { variables, libraries: Library::KUBERNETES.to_vec() }
    }

    /// Makes a program of an expression.
    ///
    /// # Errors
    /// What is wrong with the expression.
    pub fn compile(&self, source: &str) -> Result<Program, CompileError> {
        let (ast, root) = parse::parse(source, &self.libraries).map_err(CompileError::Issues)?;
        let checked = check::check(ast, root, self, source).map_err(CompileError::Issues)?;
        let mut issues = Issues::new(source);
        literals::check(&checked, &mut issues);
        if !issues.is_empty() {
            return Err(CompileError::Issues(issues));
        }
        let declarations: Vec<Option<&Declaration>> =
            self.variables.iter().map(|variable| variable.declaration.as_deref()).collect();
        Ok(Program {
            ty: checked.ty(checked.root).clone(),
            cost_max: estimate::cost_max(&checked, &declarations),
            uses: (0..self.variables.len()).map(|variable| checked.uses(variable)).collect(),
            plan: plan::plan(&checked).map_err(CompileError::Constant)?,
        })
    }
}

/// A compiled expression.
#[derive(Debug)]
pub struct Program {
    plan: plan::Plan,
    ty: Type,
    cost_max: u64,
    uses: Box<[bool]>,
}

impl Program {
    /// The type of its value.
    pub fn ty(&self) -> &Type {
        &self.ty
    }

    /// The most that an evaluation costs, where variables are as declared.
    pub fn cost_max(&self) -> u64 {
        self.cost_max
    }

    /// Whether it uses a variable of the environment, by number.
    pub fn uses(&self, variable: usize) -> bool {
        self.uses.get(variable).copied().unwrap_or(false)
    }

    /// Evaluates with the environment's variables in order; `None` for one that
    /// has no value. Gives the value and what the evaluation cost; one that
    /// costs more than `cost_max` ends with [`Fault::CostLimit`].
    pub fn evaluate<'a>(
        &'a self,
        variables: &[Option<Value<'a>>],
        cost_max: u64,
    ) -> (Result<Value<'a>, Fault>, u64) {
        eval::evaluate(&self.plan, variables, cost_max)
    }
}

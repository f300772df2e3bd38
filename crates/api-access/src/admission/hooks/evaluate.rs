//! What expressions say of a request, within upstream's budgets.

use std::{collections::BTreeMap, sync::Arc};

use api_kinds::expression::{Admission, Facts, Has};
use api_object::Status;
use api_registry::Attributes;
use cel::{Fault, Program, Value as Known};
use serde_json::Value;

use super::{
    matching::Meant,
    policy::{Expression, Policy, Validation},
    review, rights,
    versions::{self, Shown},
    webhook::Conditions,
};
use crate::{Access, state::NAMESPACES};

/// For all expressions of a policy together.
const POLICY_COST_MAX: u64 = 10_000_000;
/// For all of `matchConditions` together.
const CONDITIONS_COST_MAX: u64 = 2_500_000;
/// For one expression.
const EXPRESSION_COST_MAX: u64 = 1_000_000;
/// Longer messages are not shown.
const MESSAGE_BYTES_MAX: usize = 5 * 1024;
const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// What the names stand for, except for the parameters.
pub(super) struct Ground {
    request: Value,
    namespace: Value,
    pub(super) shown: Shown,
    authorizer: (Arc<cel::Access>, Arc<cel::Access>),
}

impl Ground {
    /// Of a request as it is meant; with the Namespace only if that is looked at.
    ///
    /// # Errors
    /// Something cannot be had.
    pub(super) async fn new(
        access: &Access,
        attributes: &Attributes,
        meant: &Meant,
        with_namespace: bool,
    ) -> Result<Self, Status> {
        let authorizer = rights::authorizer(access, attributes);
        let authorizer = authorizer.ok_or_else(|| Status::internal("the server is stopping"))?;
        let namespace = match with_namespace {
            true => namespace(access, &attributes.namespace).await?,
            false => Value::Null,
        };
        Ok(Self {
            request: review::request(attributes, meant),
            namespace,
            shown: versions::shown(access, attributes, meant).await?,
            authorizer,
        })
    }

    /// With one of a policy's parameters.
    pub(super) fn facts<'a>(&'a self, params: &'a Value) -> Facts<'a> {
        Facts {
            object: &self.shown.object,
            old_object: &self.shown.old,
            request: &self.request,
            namespace: &self.namespace,
            params,
            authorizer: self.authorizer.clone(),
            variables: Vec::new(),
        }
    }
}

async fn namespace(access: &Access, name: &str) -> Result<Value, Status> {
    if name.is_empty() {
        return Ok(Value::Null);
    }
    let api =
        access.api.get().ok_or_else(|| Status::internal("access control is not running yet"))?;
    match api.get(NAMESPACES, "", name).await {
        Ok(object) => serde_json::from_slice(&object.bytes).map_err(Status::internal),
        Err(error) if error.is_not_found() => Err(Status::not_found(&NAMESPACES.gvr(), name)),
        Err(error) => Err(Status::internal(error)),
    }
}

/// Evaluates within what is left of a budget.
fn run<'a>(
    text: &str,
    program: &'a Program,
    values: &[Option<Known<'a>>],
    budget: &mut u64,
) -> Result<Known<'a>, String> {
    let (value, cost) = program.evaluate(values, EXPRESSION_COST_MAX);
    match budget.checked_sub(cost) {
        Some(left) => *budget = left,
        None => {
            *budget = 0;
            return Err(OUT_OF_BUDGET.into());
        }
    }
    value.map_err(|fault| format!("expression '{}' resulted in error: {fault}", text.trim()))
}

/// Whether all of `matchConditions` hold. One that does not decides, whatever is
/// wrong with others.
///
/// # Errors
/// What is wrong with those that have no value.
pub(super) fn hold(conditions: &Conditions, facts: &Facts<'_>) -> Result<bool, String> {
    let mut errors = Vec::new();
    let mut budget = CONDITIONS_COST_MAX;
    let values = Admission::default().values(conditions.has, facts).map_err(told)?;
    for (text, program) in &conditions.programs {
        let value = match program {
            Ok(program) => run(text, program, &values, &mut budget),
            Err(error) => Err(error.clone()),
        };
        match value {
            Ok(Known::Bool(false)) => return Ok(false),
            Ok(_) => {}
            Err(error) => errors.push(error),
        }
    }
    match errors.as_slice() {
        [] => Ok(true),
        [one] => Err(one.clone()),
        many => Err(format!("[{}]", many.join(", "))),
    }
}

fn told(fault: Fault) -> String {
    fault.to_string()
}

/// A policy at work on one request with one of its parameters.
pub(super) struct Work<'a> {
    policy: &'a Policy,
    facts: Facts<'a>,
    /// Why variables have no value; told where they are used.
    failed: BTreeMap<String, String>,
    budget: u64,
}

/// What a validation says.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    Fine,
    /// It does not hold: what is said, and the reason that the policy gives.
    Denied(String, String),
    /// It has no value, so that the failure policy decides.
    Error(String),
}

impl<'a> Work<'a> {
    /// Computes the variables.
    pub(super) fn new(policy: &'a Policy, facts: Facts<'a>) -> Self {
        let mut work = Self { policy, facts, failed: BTreeMap::new(), budget: POLICY_COST_MAX };
        for (name, expression) in &policy.variables {
            match work.evaluate(expression) {
                Ok(value) => work.facts.variables.push((name.clone(), value)),
                Err(error) => drop(work.failed.insert(name.clone(), error)),
            }
        }
        work
    }

    fn values(&self, has: Has) -> Result<Vec<Option<Known<'a>>>, String> {
        self.policy.compiler.values(has, &self.facts).map_err(told)
    }

    /// The value of an expression.
    ///
    /// # Errors
    /// Why it has none.
    pub(super) fn evaluate(&mut self, expression: &'a Expression) -> Result<Known<'a>, String> {
        let values = self.values(expression.has)?;
        let program = expression.program.as_ref().map_err(Clone::clone)?;
        let value = run(&expression.text, program, &values, &mut self.budget);
        value.map_err(|error| {
            let missing = error.rsplit_once("no such key: ").map(|(_, name)| name);
            match missing.and_then(|name| Some((name, self.failed.get(name)?))) {
                Some((name, why)) => format!(
                    "expression '{}' resulted in error: composited variable {name:?} fails to evaluate: {why}",
                    expression.text.trim()
                ),
                None => error,
            }
        })
    }

    /// What each validation says, and each audit annotation that has no value.
    pub(super) fn verdicts(&mut self) -> Vec<Verdict> {
        let policy = self.policy;
        let mut verdicts = Vec::new();
        for validation in &policy.validations {
            verdicts.push(match self.evaluate(&validation.expression) {
                Ok(Known::Bool(true)) => Verdict::Fine,
                Ok(_) => Verdict::Denied(self.message(validation), validation.reason.clone()),
                Err(error) => Verdict::Error(error),
            });
        }
        for annotation in &policy.annotations {
            if let Err(error) = self.evaluate(annotation) {
                verdicts.push(Verdict::Error(error));
            }
        }
        verdicts
    }

    fn message(&mut self, validation: &'a Validation) -> String {
        let computed = validation.message_expression.as_ref().and_then(|expression| {
            match self.evaluate(expression) {
                Ok(Known::String(text)) => Some(text.trim().to_owned()),
                _ => None,
            }
        });
        let fits = |text: &String| {
            !text.is_empty() && text.len() <= MESSAGE_BYTES_MAX && !text.contains('\n')
        };
        match computed.filter(fits) {
            Some(text) => text,
            None if !validation.message.is_empty() => validation.message.clone(),
            None => format!("failed expression: {}", validation.expression.text.trim()),
        }
    }
}

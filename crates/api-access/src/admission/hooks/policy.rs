//! What is remembered of a policy: its expressions, compiled.

use api_kinds::expression::{Admission, Has, uses_namespace};
use api_schema::tree;
use cel::{Program, Type};
use serde_json::Value;

use super::{matching::Matcher, webhook::Conditions};

/// An expression with its text, or what is wrong with it.
#[derive(Debug)]
pub(super) struct Expression {
    pub(super) text: String,
    pub(super) program: Result<Program, String>,
    pub(super) has: Has,
}

/// A validating or a mutating policy.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) name: String,
    /// `apiVersion` and `kind` of its parameters.
    pub(super) param_kind: Option<(String, String)>,
    pub(super) matcher: Matcher,
    pub(super) conditions: Conditions,
    /// What knows the names of the expressions.
    pub(super) compiler: Admission,
    pub(super) variables: Vec<(String, Expression)>,
    pub(super) validations: Vec<Validation>,
    /// What would go into an audit log; that they have a value is asked of them here too.
    pub(super) annotations: Vec<Expression>,
    pub(super) mutations: Vec<Mutation>,
    /// A policy that cannot be evaluated is passed over.
    pub(super) ignore: bool,
    /// It wants to be asked again after a change.
    pub(super) willing: bool,
    pub(super) uses_namespace: bool,
}

#[derive(Debug)]
pub(super) struct Validation {
    pub(super) expression: Expression,
    pub(super) message: String,
    pub(super) message_expression: Option<Expression>,
    pub(super) reason: String,
}

#[derive(Debug)]
pub(super) struct Mutation {
    pub(super) expression: Expression,
    /// It gives a JSON patch, not a piece of an object.
    pub(super) is_patch: bool,
}

impl Policy {
    /// Of an object that was let in.
    pub(crate) fn of(object: &Value) -> Self {
        let spec = tree::get(object, "spec");
        let kind = tree::get(spec, "paramKind");
        let param_kind = kind.is_object().then(|| {
            (tree::text(kind, "apiVersion").to_owned(), tree::text(kind, "kind").to_owned())
        });
        let has = Has { params: param_kind.is_some(), authorizer: true, ..Has::default() };
        let mut compiler = match tree::list(spec, "variables") {
            [] => Admission::default(),
            _ => Admission::with_variables(),
        };
        let mut variables = Vec::new();
        for variable in tree::list(spec, "variables") {
            let name = tree::text(variable, "name").to_owned();
            let expression = compile(&compiler, tree::text(variable, "expression"), has);
            let ty = expression.program.as_ref().map_or(Type::Dyn, |program| program.ty().clone());
            compiler.define(&name, ty);
            variables.push((name, expression));
        }
        let validation = |validation: &Value| {
            let text = tree::text(validation, "messageExpression");
            let of_message = Has { authorizer: false, ..has };
            Validation {
                expression: compile(&compiler, tree::text(validation, "expression"), has),
                message: tree::text(validation, "message").trim().to_owned(),
                message_expression: (!text.is_empty())
                    .then(|| compile(&compiler, text, of_message)),
                reason: tree::text(validation, "reason").to_owned(),
            }
        };
        let mutation = |mutation: &Value| {
            let is_patch = tree::text(mutation, "patchType") == "JSONPatch";
            let field = if is_patch { "jsonPatch" } else { "applyConfiguration" };
            let text = tree::text(tree::get(mutation, field), "expression");
            let of_patches = Has { patches: true, ..has };
            Mutation { expression: compile(&compiler, text, of_patches), is_patch }
        };
        let annotation =
            |annotation: &Value| compile(&compiler, tree::text(annotation, "valueExpression"), has);
        let validations: Vec<Validation> =
            tree::list(spec, "validations").iter().map(validation).collect();
        let annotations = tree::list(spec, "auditAnnotations").iter().map(annotation).collect();
        let mutations: Vec<Mutation> = tree::list(spec, "mutations").iter().map(mutation).collect();
        let mut policy = Self {
            name: tree::text(object, "metadata.name").to_owned(),
            param_kind,
            matcher: Matcher::of_resources(tree::get(spec, "matchConstraints")),
            conditions: Conditions::of(tree::list(spec, "matchConditions"), true),
            variables,
            validations,
            annotations,
            mutations,
            ignore: tree::text(spec, "failurePolicy") == "Ignore",
            willing: tree::text(spec, "reinvocationPolicy") == "IfNeeded",
            uses_namespace: false,
            compiler,
        };
        let looks = |expression: &Expression| expression.program.as_ref().is_ok_and(uses_namespace);
        let uses_namespace = policy.expressions().any(looks);
        policy.uses_namespace = uses_namespace;
        policy
    }

    fn expressions(&self) -> impl Iterator<Item = &Expression> {
        let mut all: Vec<&Expression> = self.variables.iter().map(|(_, each)| each).collect();
        for validation in &self.validations {
            all.push(&validation.expression);
            all.extend(&validation.message_expression);
        }
        all.extend(&self.annotations);
        all.extend(self.mutations.iter().map(|mutation| &mutation.expression));
        all.into_iter()
    }
}

fn compile(compiler: &Admission, text: &str, has: Has) -> Expression {
    let program =
        compiler.compile(text, has).map_err(|error| format!("compilation error: {error}"));
    Expression { text: text.to_owned(), program, has }
}

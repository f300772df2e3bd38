//! The type checker: what every node is, which overloads every call may mean,
//! and what is wrong with that.

use std::collections::BTreeMap;

use crate::{
    Environment,
    ast::{Ast, Expr, ExprId, Field, Fold, Literal},
    functions::{self, Function, Overload},
    issues::Issues,
    types::{Substitutions, Type, most_general},
};

/// An expression whose types are known.
pub(crate) struct Checked {
    pub(crate) ast: Ast,
    pub(crate) root: ExprId,
    types: Vec<Type>,
    /// What a name that is no local variable refers to.
    references: BTreeMap<ExprId, Reference>,
    calls: BTreeMap<ExprId, Vec<Candidate>>,
}

/// An overload that a call may mean, and the function it is one of.
#[derive(Clone, Copy)]
pub(crate) struct Candidate {
    pub(crate) function: &'static Function,
    pub(crate) overload: &'static Overload,
}

/// What a name refers to.
#[derive(Clone)]
pub(crate) enum Reference {
    /// A variable of the environment, by number.
    Variable(usize),
    /// A type.
    Type(Type),
}

impl Checked {
    pub(crate) fn ty(&self, id: ExprId) -> &Type {
        &self.types[id.0 as usize]
    }

    pub(crate) fn reference(&self, id: ExprId) -> Option<&Reference> {
        self.references.get(&id)
    }

    pub(crate) fn variable(&self, id: ExprId) -> Option<usize> {
        match self.references.get(&id) {
            Some(Reference::Variable(number)) => Some(*number),
            _ => None,
        }
    }

    pub(crate) fn candidates(&self, id: ExprId) -> &[Candidate] {
        self.calls.get(&id).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn overloads(&self, id: ExprId) -> Vec<&'static Overload> {
        self.candidates(id).iter().map(|candidate| candidate.overload).collect()
    }

    /// Whether the variable of this number is used at all.
    pub(crate) fn uses(&self, variable: usize) -> bool {
        let is =
            |reference: &Reference| matches!(reference, Reference::Variable(n) if *n == variable);
        self.references.values().any(is)
    }
}

/// Checks a parsed expression.
///
/// # Errors
/// Everything that is wrong with it.
pub(crate) fn check(
    ast: Ast,
    root: ExprId,
    environment: &Environment,
    source: &str,
) -> Result<Checked, Issues> {
    let types = ast.ids().map(|_| Type::Error).collect();
    let mut checker = Checker {
        checked: Checked { ast, root, types, references: BTreeMap::new(), calls: BTreeMap::new() },
        environment,
        open: Substitutions::default(),
        scope: Vec::new(),
        issues: Issues::new(source),
    };
    checker.check(root);
    if !checker.issues.is_empty() {
        return Err(checker.issues);
    }
    for ty in &mut checker.checked.types {
        *ty = checker.open.apply(ty, true);
    }
    Ok(checker.checked)
}

struct Checker<'e> {
    checked: Checked,
    environment: &'e Environment,
    open: Substitutions,
    /// Variables of the folds around, innermost last.
    scope: Vec<(Box<str>, Type)>,
    issues: Issues,
}

/// Types by the names that expressions use.
fn named_type(name: &str) -> Option<Type> {
    Some(match name {
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "list" => Type::list(Type::Dyn),
        "map" => Type::map(Type::Dyn, Type::Dyn),
        "null_type" => Type::Null,
        "type" => Type::Type(None),
        "optional_type" => Type::optional(Type::Dyn),
        "google.protobuf.Duration" => Type::Duration,
        "google.protobuf.Timestamp" => Type::Timestamp,
        "net.IP" => Type::Opaque("net.IP"),
        "net.CIDR" => Type::Opaque("net.CIDR"),
        "kubernetes.Quantity" => Type::Opaque("kubernetes.Quantity"),
        "kubernetes.URL" => Type::Opaque("kubernetes.URL"),
        "kubernetes.Semver" => Type::Opaque("kubernetes.Semver"),
        "kubernetes.NamedFormat" => Type::Opaque("kubernetes.NamedFormat"),
        _ => return None,
    })
}

impl Checker<'_> {
    fn report(&mut self, at: ExprId, message: String) {
        self.issues.add(self.checked.ast.offset(at), message);
    }

    fn undeclared(&mut self, at: ExprId, name: &str) -> Type {
        self.report(at, format!("undeclared reference to '{name}' (in container '')"));
        Type::Error
    }

    fn mismatch(&mut self, at: ExprId, expected: &Type, found: &Type) {
        self.report(at, format!("expected type '{expected}' but found '{found}'"));
    }

    fn ty(&self, id: ExprId) -> Type {
        self.checked.ty(id).clone()
    }

    fn check(&mut self, id: ExprId) -> Type {
        let ty = match self.checked.ast.expr(id).clone() {
            Expr::Literal(literal) => literal_type(&literal),
            Expr::Ident(name) => self.ident(id, &name),
            Expr::Select { operand, field, test } => self.select(id, operand, &field, test),
            Expr::Call { function, target, args } => self.call(id, &function, target, &args),
            Expr::List(elements) => {
                let mut of = None;
                for element in elements {
                    let mut ty = self.check(element.value);
                    if element.optional {
                        ty = self.unwrap(element.value, ty);
                    }
                    of = Some(self.join(of, ty));
                }
                Type::list(of.unwrap_or_else(|| self.open.fresh()))
            }
            Expr::Map(entries) => {
                let mut of: Option<(Type, Type)> = None;
                for entry in entries {
                    let key = self.check(entry.key);
                    let mut value = self.check(entry.value);
                    if entry.optional {
                        value = self.unwrap(entry.value, value);
                    }
                    of = Some(match of {
                        None => (key, value),
                        Some((keys, values)) => {
                            (self.join(Some(keys), key), self.join(Some(values), value))
                        }
                    });
                }
                let (key, value) = of.unwrap_or_else(|| (self.open.fresh(), self.open.fresh()));
                Type::map(key, value)
            }
            Expr::Struct { name, fields } => self.message(id, &name, &fields),
            Expr::Fold(fold) => self.fold(&fold),
        };
        self.checked.types[id.0 as usize] = ty.clone();
        ty
    }

    /// What is made by naming its type.
    fn message(&mut self, id: ExprId, name: &str, fields: &[Field]) -> Type {
        let known = name.trim_start_matches('.');
        let message = functions::patch::message(known, &self.environment.libraries);
        for field in fields {
            let mut found = self.check(field.value);
            if field.optional {
                found = self.unwrap(field.value, found);
            }
            if message.is_none() {
                continue;
            }
            let (name, at) = (&field.name, field.offset);
            match functions::patch::field(known, name) {
                None => self.issues.add(at, format!("undefined field '{name}'")),
                Some(wanted) if !self.open.assign(&wanted, &found) => self.issues.add(
                    at,
                    format!(
                        "expected type of field '{name}' is '{wanted}' but provided type is '{found}'"
                    ),
                ),
                Some(_) => {}
            }
        }
        match (message, named_type(known)) {
            (Some(ty), _) => ty,
            (None, Some(ty)) => {
                let name = crate::value::type_name(&ty);
                self.report(id, format!("'{name}' is not a message type"));
                Type::Error
            }
            (None, None) => self.undeclared(id, name),
        }
    }

    /// The type of an optional element or entry.
    fn unwrap(&mut self, at: ExprId, ty: Type) -> Type {
        match ty {
            Type::Optional(of) => (*of).clone(),
            Type::Dyn => Type::Dyn,
            ty => {
                self.mismatch(at, &Type::optional(ty.clone()), &ty);
                ty
            }
        }
    }

    fn join(&mut self, before: Option<Type>, next: Type) -> Type {
        match before {
            None => next,
            Some(before) if self.open.assign(&before, &next) => most_general(&before, &next),
            Some(_) => Type::Dyn,
        }
    }

    fn local(&self, name: &str) -> Option<Type> {
        self.scope.iter().rev().find(|(known, _)| **known == *name).map(|(_, ty)| ty.clone())
    }

    fn ident(&mut self, id: ExprId, name: &str) -> Type {
        if let Some(ty) = self.local(name) {
            return ty;
        }
        match self.resolve(id, name.trim_start_matches('.')) {
            Some(ty) => ty,
            None => self.undeclared(id, name),
        }
    }

    /// A name of the environment, or of a type.
    fn resolve(&mut self, id: ExprId, name: &str) -> Option<Type> {
        let variables = &self.environment.variables;
        let (reference, ty) = match variables.iter().position(|variable| variable.name == name) {
            Some(number) => (Reference::Variable(number), variables[number].ty.clone()),
            None => {
                let ty = named_type(name)?;
                (Reference::Type(ty.clone()), Type::Type(Some(ty.into())))
            }
        };
        self.checked.references.insert(id, reference);
        Some(ty)
    }

    fn select(&mut self, id: ExprId, operand: ExprId, field: &str, test: bool) -> Type {
        if !test
            && let Some(name) = self.checked.ast.qualified(id)
            && name.split('.').next().is_some_and(|first| self.local(first).is_none())
            && let Some(ty) = self.resolve(id, name.trim_start_matches('.'))
        {
            self.checked.ast.replace(id, Expr::Ident(name.into()));
            return ty;
        }
        let ty = self.field(id, operand, field, false);
        match test {
            true => Type::Bool,
            false => self.open.apply(&ty, false),
        }
    }

    fn field(&mut self, id: ExprId, operand: ExprId, field: &str, optional: bool) -> Type {
        let operand = self.check(operand);
        let operand = self.open.apply(&operand, false);
        let (target, was_optional) = match operand {
            Type::Optional(of) => ((*of).clone(), true),
            operand => (operand, false),
        };
        let found = match &target {
            Type::Map(of) => of.1.clone(),
            Type::Object(object) => match object.field(field) {
                Some(field) => field.declaration.ty(),
                None => {
                    self.report(id, format!("undefined field '{field}'"));
                    Type::Error
                }
            },
            Type::Message(name) => match functions::patch::field(name, field) {
                Some(ty) => ty,
                None => {
                    self.report(id, format!("undefined field '{field}'"));
                    Type::Error
                }
            },
            Type::Param(_) => {
                self.open.assign(&Type::Dyn, &target);
                Type::Dyn
            }
            Type::Dyn | Type::Error => Type::Dyn,
            other => {
                self.report(id, format!("type '{other}' does not support field selection"));
                Type::Dyn
            }
        };
        if was_optional || optional { Type::optional(found) } else { found }
    }

    fn call(
        &mut self,
        id: ExprId,
        function: &str,
        target: Option<ExprId>,
        args: &[ExprId],
    ) -> Type {
        if function == "_?._"
            && let Expr::Literal(Literal::String(field)) = self.checked.ast.expr(args[1]).clone()
        {
            let ty = self.field(id, args[0], &field, true);
            let row = functions::find(function, &self.environment.libraries).next();
            if let Some(function) = row {
                let candidate = Candidate { function, overload: &function.overloads[0] };
                self.checked.calls.insert(id, vec![candidate]);
            }
            self.checked.types[args[1].0 as usize] = Type::String;
            return self.open.apply(&ty, false);
        }
        for &arg in args {
            self.check(arg);
        }
        let Some(target) = target else {
            let name = function.trim_start_matches('.');
            return self.resolve_call(id, name, None, args);
        };
        if let Some(prefix) = self.checked.ast.qualified(target) {
            let name = format!("{}.{function}", prefix.trim_start_matches('.'));
            let known = functions::find(&name, &self.environment.libraries).next().is_some();
            if known {
                let args = args.to_vec();
                let call =
                    Expr::Call { function: name.as_str().into(), target: None, args: args.clone() };
                self.checked.ast.replace(id, call);
                return self.resolve_call(id, &name, None, &args);
            }
        }
        self.check(target);
        self.resolve_call(id, function, Some(target), args)
    }

    fn resolve_call(
        &mut self,
        id: ExprId,
        name: &str,
        target: Option<ExprId>,
        args: &[ExprId],
    ) -> Type {
        let mut types: Vec<Type> = target.iter().chain(args).map(|arg| self.ty(*arg)).collect();
        if name == "_&&_" || name == "_||_" {
            return self.logic(id, name, args, &types);
        }
        let mut candidates = Vec::new();
        let mut result: Option<Type> = None;
        let mut known = false;
        for function in functions::find(name, &self.environment.libraries) {
            known = true;
            for overload in function.overloads {
                if overload.member != target.is_some() || overload.params.len() != types.len() {
                    continue;
                }
                let open = overload.result.is_open()
                    || overload.params.iter().any(functions::Pattern::is_open);
                let (a, b) = match open {
                    true => (self.open.fresh(), self.open.fresh()),
                    false => (Type::Dyn, Type::Dyn),
                };
                let params: Vec<Type> =
                    overload.params.iter().map(|param| param.ty(&a, &b)).collect();
                if !self.open.assign_all(&types, &params) {
                    continue;
                }
                candidates.push(Candidate { function, overload });
                let found = self.open.apply(&overload.result.ty(&a, &b), false);
                result = Some(match result {
                    None => found,
                    Some(before) if before.is_dyn() || before == found => before,
                    Some(_) => Type::Dyn,
                });
            }
        }
        if !known {
            return self.undeclared(id, name);
        }
        let Some(result) = result else {
            for ty in &mut types {
                *ty = self.open.apply(ty, true);
            }
            let shown: Vec<String> = types.iter().map(Type::to_string).collect();
            let (on, with) = shown.split_at(usize::from(target.is_some()));
            let on = on.iter().map(|ty| format!("{ty}.")).collect::<String>();
            let with = with.join(", ");
            self.report(
                id,
                format!("found no matching overload for '{name}' applied to '{on}({with})'"),
            );
            return Type::Error;
        };
        self.checked.calls.insert(id, candidates);
        result
    }

    fn logic(&mut self, id: ExprId, name: &str, args: &[ExprId], types: &[Type]) -> Type {
        let mut fits = true;
        for (&arg, ty) in args.iter().zip(types) {
            if !self.open.assign(ty, &Type::Bool) {
                self.mismatch(arg, &Type::Bool, ty);
                fits = false;
            }
        }
        for function in functions::find(name, &self.environment.libraries) {
            let candidate = Candidate { function, overload: &function.overloads[0] };
            self.checked.calls.insert(id, vec![candidate]);
        }
        if fits { Type::Bool } else { Type::Error }
    }

    fn fold(&mut self, fold: &Fold) -> Type {
        let range = self.check(fold.range);
        let range = self.open.apply(&range, false);
        let accu = self.check(fold.init);
        let before = self.scope.len();
        self.scope.push((fold.accu.clone(), accu.clone()));
        let two = fold.var2.is_some();
        let (var, var2) = match &range {
            Type::List(of) if two => (Type::Int, (**of).clone()),
            Type::List(of) => ((**of).clone(), Type::Dyn),
            Type::Map(of) => (of.0.clone(), of.1.clone()),
            Type::Dyn | Type::Error => (Type::Dyn, Type::Dyn),
            Type::Param(_) => {
                self.open.assign(&Type::Dyn, &range);
                (Type::Dyn, Type::Dyn)
            }
            other => {
                self.report(
                    fold.range,
                    format!(
                        "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                    ),
                );
                (Type::Error, Type::Error)
            }
        };
        self.scope.push((fold.var.clone(), var));
        if let Some(name) = &fold.var2 {
            self.scope.push((name.clone(), var2));
        }
        self.check(fold.condition);
        self.assert(fold.condition, &Type::Bool);
        self.check(fold.step);
        self.assert(fold.step, &accu);
        self.scope.truncate(before + 1);
        let result = self.check(fold.result);
        self.scope.truncate(before);
        self.open.apply(&result, false)
    }

    fn assert(&mut self, at: ExprId, wanted: &Type) {
        let found = self.ty(at);
        if !self.open.assign(wanted, &found) {
            self.mismatch(at, wanted, &found);
        }
    }
}

fn literal_type(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}

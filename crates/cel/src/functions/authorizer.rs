//! Questions to whoever decides what somebody may do: `authorizer`.

use std::{fmt, sync::Arc};

use api_object::name;

use super::{
    Function, Library, Outcome, Overload,
    Pattern::{Bool, Opaque, String as Str},
    function, member, no,
};
use crate::{cost::Cost, fault::Fault, types::Type, value::Value};

const AUTHORIZER: super::Pattern = Opaque("kubernetes.authorization.Authorizer");
const PATH: super::Pattern = Opaque("kubernetes.authorization.PathCheck");
const GROUP: super::Pattern = Opaque("kubernetes.authorization.GroupCheck");
const RESOURCE: super::Pattern = Opaque("kubernetes.authorization.ResourceCheck");
const DECISION: super::Pattern = Opaque("kubernetes.authorization.Decision");

/// Decides what somebody may do: the user of a request, or a service account.
pub trait Authorizer: fmt::Debug + Send + Sync {
    /// The answer to one question.
    fn decide(&self, question: &Question) -> Decision;
}

/// What is asked: whether somebody may do something to something.
#[derive(Clone, Debug)]
pub struct Question {
    /// Namespace and name of the service account that it is about; `None` for
    /// the user of the request.
    pub account: Option<(String, String)>,
    /// What it is done to.
    pub target: Target,
    /// What is done.
    pub verb: String,
}

/// What something is done to.
#[derive(Clone, Debug)]
pub enum Target {
    /// A path that is no resource.
    Path(String),
    /// A resource.
    Resource(Resource),
}

/// A resource as a question names it; what is empty was not given.
#[derive(Clone, Debug, Default)]
pub struct Resource {
    /// Its API group.
    pub group: String,
    /// Its plural.
    pub resource: String,
    /// A part of it.
    pub subresource: String,
    /// Where it is.
    pub namespace: String,
    /// Which one.
    pub name: String,
    /// Which ones, by field.
    pub field_selector: String,
    /// Which ones, by label.
    pub label_selector: String,
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    /// It may be done.
    pub allowed: bool,
    /// Why.
    pub reason: String,
    /// What went wrong while it was decided.
    pub error: Option<String>,
}

/// A question on its way from `authorizer` to its answer.
#[derive(Clone, Debug)]
pub struct Access {
    authorizer: Arc<dyn Authorizer>,
    account: Option<(String, String)>,
    step: Step,
}

#[derive(Clone, Debug)]
enum Step {
    Authorizer,
    Group(String),
    Target(Target),
    Decision(Decision),
}

impl Access {
    /// `authorizer`.
    pub fn authorizer(authorizer: Arc<dyn Authorizer>) -> Self {
        Self { authorizer, account: None, step: Step::Authorizer }
    }

    /// `authorizer.requestResource`.
    pub fn resource(authorizer: Arc<dyn Authorizer>, resource: Resource) -> Self {
        Self { authorizer, account: None, step: Step::Target(Target::Resource(resource)) }
    }

    pub(crate) fn ty(&self) -> Type {
        let pattern = match &self.step {
            Step::Authorizer => AUTHORIZER,
            Step::Group(_) => GROUP,
            Step::Target(Target::Path(_)) => PATH,
            Step::Target(Target::Resource(_)) => RESOURCE,
            Step::Decision(_) => DECISION,
        };
        pattern.ty(&Type::Dyn, &Type::Dyn)
    }

    fn then<'a>(&self, step: Step) -> Outcome<'a> {
        Ok(Value::Access(Arc::new(Self { step, ..self.clone() })))
    }
}

/// What variables of these types are declared as.
pub(crate) fn types() -> (Type, Type) {
    let ty = |pattern: super::Pattern| pattern.ty(&Type::Dyn, &Type::Dyn);
    (ty(AUTHORIZER), ty(RESOURCE))
}

pub(super) const FUNCTIONS: &[Function] = &[
    row("path", &[member(&[AUTHORIZER, Str], PATH, Cost::Unit)], |args| {
        let (access, path) = asked(args)?;
        match (&access.step, path.is_empty()) {
            (Step::Authorizer, false) => access.then(Step::Target(Target::Path(path.into()))),
            (Step::Authorizer, true) => Err(Fault::new("path must not be empty")),
            _ => no(),
        }
    }),
    row("group", &[member(&[AUTHORIZER, Str], GROUP, Cost::Unit)], |args| {
        let (access, group) = asked(args)?;
        match access.step {
            Step::Authorizer => access.then(Step::Group(group.into())),
            _ => no(),
        }
    }),
    row("serviceAccount", &[member(&[AUTHORIZER, Str, Str], AUTHORIZER, Cost::Unit)], |args| {
        match args {
            [Value::Access(access), Value::String(namespace), Value::String(account)]
                if matches!(access.step, Step::Authorizer) =>
            {
                if !name::dns1123_subdomain(account).is_empty() {
                    return Err(Fault::new("Invalid service account name"));
                }
                if !name::dns1123_label(namespace).is_empty() {
                    return Err(Fault::new("Invalid service account namespace"));
                }
                let account = Some((namespace.to_string(), account.to_string()));
                Ok(Value::Access(Arc::new(Access { account, ..(**access).clone() })))
            }
            _ => no(),
        }
    }),
    row("resource", &[member(&[GROUP, Str], RESOURCE, Cost::Unit)], |args| {
        let (access, resource) = asked(args)?;
        match &access.step {
            Step::Group(group) => access.then(Step::Target(Target::Resource(Resource {
                group: group.clone(),
                resource: resource.into(),
                ..Resource::default()
            }))),
            _ => no(),
        }
    }),
    row("subresource", NARROWER, |args| narrower(args, |resource| &mut resource.subresource)),
    row("namespace", NARROWER, |args| narrower(args, |resource| &mut resource.namespace)),
    row("name", NARROWER, |args| narrower(args, |resource| &mut resource.name)),
    row("fieldSelector", NARROWER, |args| narrower(args, |resource| &mut resource.field_selector)),
    row("labelSelector", NARROWER, |args| narrower(args, |resource| &mut resource.label_selector)),
    row(
        "check",
        &[
            member(&[PATH, Str], DECISION, Cost::Decide),
            member(&[RESOURCE, Str], DECISION, Cost::Decide),
        ],
        |args| {
            let (access, verb) = asked(args)?;
            let Step::Target(target) = &access.step else { return no() };
            let question = Question {
                account: access.account.clone(),
                target: target.clone(),
                verb: verb.into(),
            };
            access.then(Step::Decision(access.authorizer.decide(&question)))
        },
    ),
    row("allowed", &[member(&[DECISION], Bool, Cost::Unit)], |args| {
        Ok(Value::Bool(decision(args)?.allowed))
    }),
    row("reason", &[member(&[DECISION], Str, Cost::Unit)], |args| {
        Ok(Value::text(decision(args)?.reason.as_str()))
    }),
    row("errored", &[member(&[DECISION], Bool, Cost::Unit)], |args| {
        Ok(Value::Bool(decision(args)?.error.is_some()))
    }),
    row("error", &[member(&[DECISION], Str, Cost::Unit)], |args| {
        Ok(Value::text(decision(args)?.error.as_deref().unwrap_or("")))
    }),
];

const NARROWER: &[Overload] = &[member(&[RESOURCE, Str], RESOURCE, Cost::Unit)];

const fn row(
    name: &'static str,
    overloads: &'static [Overload],
    run: for<'a> fn(&[Value<'a>]) -> Outcome<'a>,
) -> Function {
    function(Library::Authorizer, name, overloads, run)
}

/// What a question is so far, and the text that takes it further.
fn asked<'v>(args: &'v [Value<'_>]) -> Result<(&'v Access, &'v str), Fault> {
    match args {
        [Value::Access(access), Value::String(text)] => Ok((access, text)),
        _ => Err(Fault::no_such_overload()),
    }
}

fn decision<'v>(args: &'v [Value<'_>]) -> Result<&'v Decision, Fault> {
    match args {
        [Value::Access(access)] => match &access.step {
            Step::Decision(decision) => Ok(decision),
            _ => Err(Fault::no_such_overload()),
        },
        _ => Err(Fault::no_such_overload()),
    }
}

fn narrower<'a>(args: &[Value<'_>], field: fn(&mut Resource) -> &mut String) -> Outcome<'a> {
    let (access, text) = asked(args)?;
    let Step::Target(Target::Resource(resource)) = &access.step else { return no() };
    let mut resource = resource.clone();
    *field(&mut resource) = text.into();
    access.then(Step::Target(Target::Resource(resource)))
}

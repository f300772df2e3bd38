//! CEL expressions in kinds: which names they may use, whether they compile, and
//! what those names stand for when they are evaluated.
//!
//! Whether an expression is there is checked by who has it, in upstream's words.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use api_schema::{Faults, Path};
use cel::{
    Access, CompileError, Declaration, Environment, Fault, Kind, Library, Merge, Object,
    ObjectField, Program, Type, Value as Known, Variable,
};
use serde_json::Value;

/// What an expression may use beyond `object`, `oldObject`, `request`,
/// `namespaceObject` and the `variables` before it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Has {
    /// `params`.
    pub params: bool,
    /// `authorizer` and `authorizer.requestResource`.
    pub authorizer: bool,
    /// `Object{…}` and `JSONPatch{…}`.
    pub patches: bool,
}

/// What the names stand for in one evaluation.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// Null where there is none.
    pub object: &'a Value,
    /// Null where there is none.
    pub old_object: &'a Value,
    /// An `admission/v1` `AdmissionRequest` without its objects.
    pub request: &'a Value,
    /// The Namespace; null for what is in none.
    pub namespace: &'a Value,
    /// Null where the policy is bound without.
    pub params: &'a Value,
    /// `authorizer` and `authorizer.requestResource`.
    pub authorizer: (Arc<Access>, Arc<Access>),
    /// `variables`, those that have a value.
    pub variables: Vec<(String, Known<'a>)>,
}

/// The number of `namespaceObject` among the names.
const NAMESPACE_OBJECT: usize = 3;

/// Whether an expression looks at the Namespace.
pub fn uses_namespace(program: &Program) -> bool {
    program.uses(NAMESPACE_OBJECT)
}

/// What an expression has to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gives {
    Bool,
    Text,
    TextOrNull,
    /// A piece of an object that is applied.
    Object,
    Patches,
    Anything,
}

impl Gives {
    fn takes(self, ty: &Type) -> bool {
        match self {
            Self::Bool => *ty == Type::Bool,
            Self::Text => *ty == Type::String,
            Self::TextOrNull => matches!(ty, Type::String | Type::Null),
            Self::Object | Self::Patches => ty.to_string() == self.name(),
            Self::Anything => true,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Text => "string",
            Self::TextOrNull => "one of [string null_type]",
            Self::Object => "Object",
            Self::Patches => "list(JSONPatch)",
            Self::Anything => "dyn",
        }
    }
}

/// Compiles the expressions of one policy or webhook, one after the other.
#[derive(Debug, Default)]
pub struct Admission {
    /// `None` where the policy defines no variables: then there is no such name.
    variables: Option<BTreeMap<Box<str>, ObjectField>>,
}

impl Admission {
    /// For a policy that defines variables, none of them so far.
    pub fn with_variables() -> Self {
        Self { variables: Some(BTreeMap::new()) }
    }

    /// Adds what is wrong with an expression, and gives the type of its value.
    pub(crate) fn check(
        &self,
        path: &Path<'_>,
        text: &str,
        has: Has,
        gives: Gives,
        faults: &mut Faults,
    ) -> Type {
        let Some(program) = compile(path, text, &self.environment(has), faults) else {
            return Type::Dyn;
        };
        if !gives.takes(program.ty()) {
            faults.invalid(path, text, format!("must evaluate to {}", gives.name()));
        }
        program.ty().clone()
    }

    /// Compiles an expression that was checked when it was written.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn compile(&self, text: &str, has: Has) -> Result<Program, CompileError> {
        self.environment(has).compile(text)
    }

    /// The values of the names of an expression that was compiled with the same `has`.
    ///
    /// # Errors
    /// The request or the Namespace is not what it is declared as.
    pub fn values<'a>(&self, has: Has, facts: &Facts<'a>) -> Result<Vec<Option<Known<'a>>>, Fault> {
        let any = |value: &'a Value| Known::json(value, &Declaration::ANY);
        let declared = |value: &'a Value, declaration: &'static Declaration| match value {
            Value::Null => Ok(Known::Null),
            value => Known::json(value, declaration),
        };
        let mut values = vec![
            any(facts.object)?,
            any(facts.old_object)?,
            declared(facts.request, &REQUEST)?,
            declared(facts.namespace, &NAMESPACE)?,
        ];
        if has.params {
            values.push(any(facts.params)?);
        }
        if has.authorizer {
            let (all, resource) = &facts.authorizer;
            values.push(Known::Access(all.clone()));
            values.push(Known::Access(resource.clone()));
        }
        if self.variables.is_some() {
            values.push(Known::fields(facts.variables.clone())?);
        }
        Ok(values.into_iter().map(Some).collect())
    }

    /// A variable that the expressions after it may use.
    pub fn define(&mut self, name: &str, ty: Type) {
        let declaration =
            Declaration { kind: Kind::Made(ty), elements_max: u64::MAX, nullable: true };
        let field = ObjectField { json: name.into(), declaration: declaration.into() };
        self.variables.get_or_insert_default().insert(name.into(), field);
    }

    fn environment(&self, has: Has) -> Environment {
        let mut variables = vec![
            Variable::new("object", Type::Dyn),
            Variable::new("oldObject", Type::Dyn),
            Variable::declared("request", REQUEST.clone()),
            Variable::declared("namespaceObject", NAMESPACE.clone()),
        ];
        if has.params {
            variables.push(Variable::new("params", Type::Dyn));
        }
        if has.authorizer {
            variables.push(Variable::new("authorizer", Type::authorizer()));
            variables.push(Variable::new("authorizer.requestResource", Type::resource_check()));
        }
        if let Some(fields) = &self.variables {
            let object = Object { name: "kubernetes.variables".into(), fields: fields.clone() };
            variables.push(Variable::new("variables", Type::Object(object.into())));
        }
        let mut environment = Environment::kubernetes(variables);
        if has.patches {
            environment.libraries.push(Library::Patch);
        }
        environment
    }
}

fn compile(
    path: &Path<'_>,
    text: &str,
    environment: &Environment,
    faults: &mut Faults,
) -> Option<Program> {
    match environment.compile(text) {
        Ok(program) => return Some(program),
        Err(error @ CompileError::Issues(_)) => faults.invalid(path, text, error.to_string()),
        Err(error @ CompileError::Constant(_)) => faults.internal(path, &error.to_string()),
    }
    None
}

/// The most that looking at one device may cost.
const DEVICE_COST_MAX: u64 = 1_000_000;

/// Adds what is wrong with a selector of devices.
pub(crate) fn check_device(path: &Path<'_>, text: &str, faults: &mut Faults) {
    let mut environment = Environment::kubernetes(vec![Variable::declared("device", device())]);
    environment.libraries.push(Library::Bindings);
    let Some(program) = compile(path, text, &environment, faults) else { return };
    let ty = program.ty();
    if !matches!(ty, Type::Bool | Type::Dyn) {
        let detail = format!("must evaluate to bool or the unknown type, not {ty}");
        faults.invalid(path, text, detail);
    } else if program.cost_max() > DEVICE_COST_MAX {
        faults.forbidden(path, "too complex, exceeds cost limit");
    }
}

/// A device as its selectors see it. Sizes are the limits of a ResourceSlice.
fn device() -> Arc<Declaration> {
    let of = |kind, elements_max| Arc::new(Declaration { kind, elements_max, nullable: false });
    let by_domain = |values| of(Kind::Map(of(Kind::Map(values), 32)), 32);
    object(
        "kubernetes.DRADevice",
        [
            ("driver", of(Kind::String, 63)),
            ("attributes", by_domain(of(Kind::Any, 64))),
            ("capacity", by_domain(of(Kind::Quantity, 64))),
            ("allowMultipleAllocations", of(Kind::Bool, 1)),
        ],
    )
}

static REQUEST: LazyLock<Arc<Declaration>> = LazyLock::new(|| {
    let kind = || three("kubernetes.GroupVersionKind", "kind");
    let resource = || three("kubernetes.GroupVersionResource", "resource");
    let user = object(
        "kubernetes.UserInfo",
        [
            ("username", text()),
            ("uid", text()),
            ("groups", list(text())),
            ("extra", any_size(Kind::Map(list(text())))),
        ],
    );
    object(
        "kubernetes.AdmissionRequest",
        [
            ("kind", kind()),
            ("resource", resource()),
            ("subResource", text()),
            ("requestKind", kind()),
            ("requestResource", resource()),
            ("requestSubResource", text()),
            ("name", text()),
            ("namespace", text()),
            ("operation", text()),
            ("userInfo", user),
            ("dryRun", any_size(Kind::Bool)),
            ("options", any_size(Kind::Any)),
        ],
    )
});

static NAMESPACE: LazyLock<Arc<Declaration>> = LazyLock::new(|| {
    let texts = || any_size(Kind::Map(text()));
    let time = || any_size(Kind::DateTime);
    let number = || any_size(Kind::Int);
    let metadata = object(
        "kubernetes.NamespaceMetadata",
        [
            ("name", text()),
            ("generateName", text()),
            ("namespace", text()),
            ("labels", texts()),
            ("annotations", texts()),
            ("UID", text()),
            ("creationTimestamp", time()),
            ("deletionGracePeriodSeconds", number()),
            ("deletionTimestamp", time()),
            ("generation", number()),
            ("resourceVersion", text()),
            ("finalizers", list(text())),
        ],
    );
    let condition = object(
        "kubernetes.NamespaceCondition",
        [
            ("status", text()),
            ("type", text()),
            ("lastTransitionTime", time()),
            ("message", text()),
            ("reason", text()),
        ],
    );
    let spec = object("kubernetes.NamespaceSpec", [("finalizers", list(text()))]);
    let status =
        object("kubernetes.NamespaceStatus", [("conditions", list(condition)), ("phase", text())]);
    object("kubernetes.Namespace", [("metadata", metadata), ("spec", spec), ("status", status)])
});

fn any_size(kind: Kind) -> Arc<Declaration> {
    Arc::new(Declaration { kind, elements_max: u64::MAX, nullable: false })
}

fn text() -> Arc<Declaration> {
    any_size(Kind::String)
}

fn list(items: Arc<Declaration>) -> Arc<Declaration> {
    any_size(Kind::List { items, merge: Merge::Atomic })
}

/// Group, version, and the word for what it is.
fn three(name: &str, last: &'static str) -> Arc<Declaration> {
    object(name, [("group", text()), ("version", text()), (last, text())])
}

/// Fields go by their JSON names, but for a Namespace's `UID`.
fn object<const N: usize>(
    name: &str,
    fields: [(&'static str, Arc<Declaration>); N],
) -> Arc<Declaration> {
    let fields = fields.into_iter().map(|(name, declaration)| {
        let json = if name == "UID" { "uid" } else { name };
        (name.into(), ObjectField { json: json.into(), declaration })
    });
    let object = Object { name: name.into(), fields: fields.collect() };
    any_size(Kind::Object(object.into()))
}

/// Whether a text can be the name of a variable.
pub(crate) fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
        && !cel::is_reserved(text)
}

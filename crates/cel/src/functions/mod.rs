//! The functions: one row each, with overloads, what a call costs, and what it
//! does. The checker, the estimate, the evaluator and the documentation read
//! the same table.

pub(crate) mod authorizer;
pub(crate) mod conversions;
mod format_text;
mod list;
pub(crate) mod named_format;
pub(crate) mod network;
mod operators;
mod optional;
pub(crate) mod patch;
mod quantity;
pub(crate) mod regex;
pub(crate) mod semver;
mod strings;
mod timestamps;
pub(crate) mod url;

use std::fmt::Write;

use crate::{
    cost::Cost,
    fault::Fault,
    types::{Substitutions, Type},
    value::Value,
};

/// What a call gives.
pub(crate) type Outcome<'a> = Result<Value<'a>, Fault>;

/// One function.
pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) library: Library,
    pub(crate) overloads: &'static [Overload],
    pub(crate) run: for<'a> fn(&[Value<'a>]) -> Outcome<'a>,
}

/// Arguments a function takes, and what it gives for them.
#[derive(Debug)]
pub(crate) struct Overload {
    /// Called on its first argument.
    pub(crate) member: bool,
    pub(crate) params: &'static [Pattern],
    pub(crate) result: Pattern,
    pub(crate) cost: Cost,
}

/// A type in an overload.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pattern {
    Dyn,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Duration,
    Timestamp,
    Opaque(&'static str),
    /// Any type, the same wherever it stands in one call.
    A,
    B,
    List(&'static Pattern),
    Map(&'static Pattern, &'static Pattern),
    Optional(&'static Pattern),
    TypeOf(&'static Pattern),
}

/// Where functions come from. An environment has all of those it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    /// The language itself.
    Standard,
    /// Values that may be none.
    Optional,
    /// Text.
    Strings,
    /// Lists.
    Lists,
    /// Lists as sets.
    Sets,
    /// What two-variable macros become.
    Comprehensions,
    /// Regular expressions beyond `matches`.
    Regex,
    /// URLs.
    Urls,
    /// Addresses and blocks of them.
    Network,
    /// Amounts of resources.
    Quantity,
    /// Formats by name.
    Format,
    /// Semantic versions.
    Semver,
    /// What somebody may do.
    Authorizer,
    /// The macro `cel.bind`; not in Kubernetes' own set.
    Bindings,
    /// Objects and patches that expressions make; not in that set either.
    Patch,
}

impl Library {
    /// All that Kubernetes offers to every expression.
    pub const KUBERNETES: &'static [Library] = &[
        Self::Standard,
        Self::Optional,
        Self::Strings,
        Self::Lists,
        Self::Sets,
        Self::Comprehensions,
        Self::Regex,
        Self::Urls,
        Self::Network,
        Self::Quantity,
        Self::Format,
        Self::Semver,
        Self::Authorizer,
    ];
}

/// Every function, by group.
const TABLE: &[&[Function]] = &[
    operators::FUNCTIONS,
    conversions::FUNCTIONS,
    timestamps::FUNCTIONS,
    optional::FUNCTIONS,
    strings::FUNCTIONS,
    list::FUNCTIONS,
    regex::FUNCTIONS,
    url::FUNCTIONS,
    network::FUNCTIONS,
    quantity::FUNCTIONS,
    named_format::FUNCTIONS,
    semver::FUNCTIONS,
    authorizer::FUNCTIONS,
    patch::FUNCTIONS,
];

/// The rows of that name in these libraries: a name such as `indexOf` may have
/// one for text and one for lists.
pub(crate) fn find<'n>(
    name: &'n str,
    libraries: &'n [Library],
) -> impl Iterator<Item = &'static Function> + use<'n> {
    TABLE
        .iter()
        .flat_map(|group| group.iter())
        .filter(move |row| row.name == name && libraries.contains(&row.library))
}

/// The functions as Markdown: a line for each overload.
pub fn documentation(libraries: &[Library]) -> String {
    let mut text = String::from("| library | function | cost |\n|---|---|---|\n");
    for row in TABLE.iter().flat_map(|group| group.iter()) {
        if !libraries.contains(&row.library) || row.name.contains('@') {
            continue;
        }
        for overload in row.overloads {
            let mut open = Substitutions::default();
            let (a, b) = (open.fresh(), open.fresh());
            let types: Vec<String> =
                overload.params.iter().map(|param| param.ty(&a, &b).to_string()).collect();
            let (target, args) = types.split_at(usize::from(overload.member));
            let dot = if overload.member { "." } else { "" };
            let result = overload.result.ty(&a, &b);
            let args = args.join(", ");
            let (library, target) = (row.library, target.join(""));
            let name = row.name.replace('|', "\\|");
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "| {library:?} | `{target}{dot}{name}({args}) -> {result}` | {} |",
                overload.cost
            );
        }
    }
    text.replace("_var0", "A").replace("_var1", "B")
}

impl Pattern {
    /// The type, with `a` and `b` for what is left open.
    pub(crate) fn ty(&self, a: &Type, b: &Type) -> Type {
        match self {
            Self::Dyn => Type::Dyn,
            Self::Bool => Type::Bool,
            Self::Int => Type::Int,
            Self::Uint => Type::Uint,
            Self::Double => Type::Double,
            Self::String => Type::String,
            Self::Bytes => Type::Bytes,
            Self::Duration => Type::Duration,
            Self::Timestamp => Type::Timestamp,
            Self::Opaque(name) => Type::Opaque(name),
            Self::A => a.clone(),
            Self::B => b.clone(),
            Self::List(of) => Type::list(of.ty(a, b)),
            Self::Map(key, value) => Type::map(key.ty(a, b), value.ty(a, b)),
            Self::Optional(of) => Type::optional(of.ty(a, b)),
            Self::TypeOf(of) => Type::Type(Some(std::sync::Arc::new(of.ty(a, b)))),
        }
    }

    /// Whether it leaves something open.
    pub(crate) fn is_open(&self) -> bool {
        match self {
            Self::A | Self::B => true,
            Self::List(of) | Self::Optional(of) | Self::TypeOf(of) => of.is_open(),
            Self::Map(key, value) => key.is_open() || value.is_open(),
            _ => false,
        }
    }
}

/// A row for a function or operator.
const fn function(
    library: Library,
    name: &'static str,
    overloads: &'static [Overload],
    run: for<'a> fn(&[Value<'a>]) -> Outcome<'a>,
) -> Function {
    Function { name, library, overloads, run }
}

const fn global(params: &'static [Pattern], result: Pattern, cost: Cost) -> Overload {
    Overload { member: false, params, result, cost }
}

const fn member(params: &'static [Pattern], result: Pattern, cost: Cost) -> Overload {
    Overload { member: true, params, result, cost }
}

/// The types that have an order.
const COMPARABLE: [Pattern; 8] = [
    Pattern::Int,
    Pattern::Uint,
    Pattern::Double,
    Pattern::Bool,
    Pattern::Duration,
    Pattern::Timestamp,
    Pattern::String,
    Pattern::Bytes,
];

fn no<'a>() -> Outcome<'a> {
    Err(Fault::no_such_overload())
}

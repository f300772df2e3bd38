//! What is known beforehand about the JSON behind a variable: its types, its
//! bounds, and how its lists compare.

use std::{collections::BTreeMap, sync::Arc};

use crate::{token::is_reserved, types::Type};

/// What a JSON value is and how large it may be.
#[derive(Clone, Debug)]
pub struct Declaration {
    /// What it is.
    pub kind: Kind,
    /// At most so many elements, entries, code points or bytes; what the cost
    /// of an expression is estimated with.
    pub elements_max: u64,
    /// `null` is a value of it.
    pub nullable: bool,
}

/// What a JSON value is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Anything: its JSON says what it is.
    Any,
    /// A number or text, told apart when evaluated.
    IntOrString,
    /// `true` or `false`.
    Bool,
    /// A number without fraction.
    Int,
    /// A number.
    Double,
    /// Text.
    String,
    /// Base64 text.
    Bytes,
    /// An amount of a resource, as text.
    Quantity,
    /// A duration in Go's notation.
    Duration,
    /// `YYYY-MM-DD`.
    Date,
    /// RFC 3339.
    DateTime,
    /// A list.
    List {
        /// What its elements are.
        items: Arc<Declaration>,
        /// How two of them compare and add up.
        merge: Merge,
    },
    /// An object with values of one kind.
    Map(Arc<Declaration>),
    /// An object with named fields.
    Object(Arc<Object>),
    /// What another expression gives; no JSON is behind it.
    Made(Type),
}

/// How two lists compare and add up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Merge {
    /// Element by element; one after the other.
    #[default]
    Atomic,
    /// In any order; what is in both is there once.
    Set,
    /// Elements are told apart by these fields, in any order; later ones win.
    Map(Arc<[Box<str>]>),
}

/// Named fields.
#[derive(Debug)]
pub struct Object {
    /// What messages call the type.
    pub name: String,
    /// By the identifier that expressions use.
    pub fields: BTreeMap<Box<str>, ObjectField>,
}

/// A field of an [`Object`].
#[derive(Clone, Debug)]
pub struct ObjectField {
    /// Its name in JSON.
    pub json: Box<str>,
    /// What it is.
    pub declaration: Arc<Declaration>,
}

impl Object {
    /// The field that an expression names: a word that is no name may follow a dot
    /// as it is.
    pub(crate) fn field(&self, name: &str) -> Option<&ObjectField> {
        let escaped = || is_reserved(name).then(|| format!("__{name}__"));
        self.fields.get(name).or_else(|| self.fields.get(&*escaped()?))
    }
}

impl Declaration {
    /// Anything of any size.
    pub const ANY: Declaration =
        Declaration { kind: Kind::Any, elements_max: u64::MAX, nullable: true };

    /// The type that expressions see.
    pub fn ty(&self) -> Type {
        match &self.kind {
            Kind::Any | Kind::IntOrString => Type::Dyn,
            Kind::Bool => Type::Bool,
            Kind::Int => Type::Int,
            Kind::Double => Type::Double,
            Kind::String => Type::String,
            Kind::Bytes => Type::Bytes,
            Kind::Quantity => Type::Opaque("kubernetes.Quantity"),
            Kind::Duration => Type::Duration,
            Kind::Date | Kind::DateTime => Type::Timestamp,
            Kind::List { items, .. } => Type::list(items.ty()),
            Kind::Map(values) => Type::map(Type::String, values.ty()),
            Kind::Object(object) => Type::Object(object.clone()),
            Kind::Made(ty) => ty.clone(),
        }
    }

    pub(crate) fn items(&self) -> Option<&Declaration> {
        match &self.kind {
            Kind::List { items, .. } => Some(items),
            _ => None,
        }
    }

    pub(crate) fn values(&self) -> Option<&Declaration> {
        match &self.kind {
            Kind::Map(values) => Some(values),
            _ => None,
        }
    }

    /// A field by its name in [`Object::fields`] alone: upstream knows no size of
    /// what a word names that is no name.
    pub(crate) fn field(&self, name: &str) -> Option<&Declaration> {
        match &self.kind {
            Kind::Object(object) => object.fields.get(name).map(|field| &*field.declaration),
            _ => None,
        }
    }
}

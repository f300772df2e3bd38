//! Types as the checker sees them, and how it fits one to another.

use std::{fmt, sync::Arc};

use crate::{declaration::Object, functions};

/// The type of an expression.
#[derive(Clone, Debug)]
pub enum Type {
    /// Known when evaluated only.
    Dyn,
    /// What an expression has that was refused already.
    Error,
    /// The type of `null`.
    Null,
    /// `true` and `false`.
    Bool,
    /// 64 bits with a sign.
    Int,
    /// 64 bits without a sign.
    Uint,
    /// 64 bits of floating point.
    Double,
    /// Text.
    String,
    /// Bytes.
    Bytes,
    /// A span of time.
    Duration,
    /// A point in time.
    Timestamp,
    /// A list of elements of one type.
    List(Arc<Type>),
    /// Keys and values of one type each.
    Map(Arc<(Type, Type)>),
    /// A value or none.
    Optional(Arc<Type>),
    /// The type of a type.
    Type(Option<Arc<Type>>),
    /// A type of a library, by name.
    Opaque(&'static str),
    /// Named fields.
    Object(Arc<Object>),
    /// What an expression makes by naming it.
    Message(Arc<str>),
    /// A type that an overload leaves open, by number.
    Param(u32),
}

impl Type {
    /// The type of `authorizer`.
    pub fn authorizer() -> Self {
        functions::authorizer::types().0
    }

    /// The type of `authorizer.requestResource`.
    pub fn resource_check() -> Self {
        functions::authorizer::types().1
    }

    /// A list of these.
    pub fn list(of: Type) -> Self {
        Self::List(Arc::new(of))
    }

    /// A map.
    pub fn map(key: Type, value: Type) -> Self {
        Self::Map(Arc::new((key, value)))
    }

    /// One of these, or none.
    pub fn optional(of: Type) -> Self {
        Self::Optional(Arc::new(of))
    }

    pub(crate) fn is_dyn(&self) -> bool {
        matches!(self, Self::Dyn)
    }

    fn is_dyn_or_error(&self) -> bool {
        matches!(self, Self::Dyn | Self::Error)
    }

    /// Types that were messages once take `null`.
    fn takes_null(&self) -> bool {
        matches!(
            self,
            Self::Null
                | Self::Optional(_)
                | Self::Opaque(_)
                | Self::Object(_)
                | Self::Message(_)
                | Self::Duration
                | Self::Timestamp
        )
    }

    /// Of one size whatever the value.
    pub(crate) fn is_scalar(&self) -> bool {
        match self {
            Self::Bool
            | Self::Int
            | Self::Uint
            | Self::Double
            | Self::Duration
            | Self::Timestamp => true,
            Self::Optional(of) => of.is_scalar(),
            _ => false,
        }
    }
}

impl PartialEq for Type {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::List(a), Self::List(b)) | (Self::Optional(a), Self::Optional(b)) => a == b,
            (Self::Map(a), Self::Map(b)) => a == b,
            (Self::Type(a), Self::Type(b)) => a == b,
            (Self::Opaque(a), Self::Opaque(b)) => a == b,
            (Self::Object(a), Self::Object(b)) => a.name == b.name,
            (Self::Message(a), Self::Message(b)) => a == b,
            (Self::Param(a), Self::Param(b)) => a == b,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dyn => "dyn",
            Self::Error => "!error!",
            Self::Null => "null",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Duration => "duration",
            Self::Timestamp => "timestamp",
            Self::List(of) => return write!(f, "list({of})"),
            Self::Map(of) => return write!(f, "map({}, {})", of.0, of.1),
            Self::Optional(of) => return write!(f, "optional_type({of})"),
            Self::Type(None) => "type",
            Self::Type(Some(of)) => return write!(f, "type({of})"),
            Self::Opaque(name) => name,
            Self::Object(object) => &object.name,
            Self::Message(name) => name,
            Self::Param(number) => return write!(f, "_var{number}"),
        })
    }
}

/// What open types stand for so far, by number.
#[derive(Debug, Default)]
pub(crate) struct Substitutions {
    by_param: Vec<Option<Type>>,
    /// What was changed by the assignment under way, to take it back.
    trail: Vec<(usize, Option<Type>)>,
}

/// A type of more parts is cut to `dyn` there. Values of such types cannot be
/// built by expressions that people write, but by ones that double a type
/// again and again.
const TYPE_PARTS_MAX: usize = 1000;

impl Substitutions {
    /// An open type that stands for nothing yet.
    pub(crate) fn fresh(&mut self) -> Type {
        self.by_param.push(None);
        Type::Param((self.by_param.len() - 1) as u32)
    }

    fn find(&self, ty: &Type) -> Option<&Type> {
        let Type::Param(number) = ty else { return None };
        self.by_param.get(*number as usize)?.as_ref()
    }

    fn set(&mut self, param: &Type, ty: Type) {
        if let Type::Param(number) = param {
            let at = *number as usize;
            self.trail.push((at, self.by_param[at].replace(ty)));
        }
    }

    /// The type with open types replaced by what they stand for; the rest by
    /// `dyn` where `close` says so.
    pub(crate) fn apply(&self, ty: &Type, close: bool) -> Type {
        self.apply_parts(ty, close, &mut TYPE_PARTS_MAX.clone())
    }

    fn apply_parts(&self, ty: &Type, close: bool, parts: &mut usize) -> Type {
        let Some(left) = parts.checked_sub(1) else { return Type::Dyn };
        *parts = left;
        let mut of = |ty: &Type| self.apply_parts(ty, close, parts);
        match ty {
            Type::Param(_) => match self.find(ty) {
                Some(found) => of(found),
                None if close => Type::Dyn,
                None => ty.clone(),
            },
            Type::List(inner) => Type::list(of(inner)),
            Type::Optional(inner) => Type::optional(of(inner)),
            Type::Map(inner) => {
                let key = of(&inner.0);
                Type::map(key, of(&inner.1))
            }
            Type::Type(Some(inner)) => Type::Type(Some(Arc::new(of(inner)))),
            _ => ty.clone(),
        }
    }

    /// Whether `from` fits `to`; what open types come to stand for is kept only
    /// where it does.
    pub(crate) fn assign(&mut self, from: &Type, to: &Type) -> bool {
        self.assign_all(std::slice::from_ref(from), std::slice::from_ref(to))
    }

    /// [`Self::assign`] for several at once: all fit, or nothing is kept.
    pub(crate) fn assign_all(&mut self, from: &[Type], to: &[Type]) -> bool {
        if from.len() != to.len() {
            return false;
        }
        self.trail.clear();
        let fits = from.iter().zip(to).all(|(from, to)| self.fits(from, to));
        if !fits {
            while let Some((at, before)) = self.trail.pop() {
                self.by_param[at] = before;
            }
        }
        fits
    }

    fn fits(&mut self, from: &Type, to: &Type) -> bool {
        if let Type::Param(_) = to {
            match self.stand_for(from, to) {
                (true, _) => return true,
                (false, true) => return false,
                (false, false) => {}
            }
        }
        if let Type::Param(_) = from {
            return self.stand_for(to, from).0;
        }
        if from.is_dyn_or_error() || to.is_dyn_or_error() {
            return true;
        }
        match (from, to) {
            (Type::Null, other) | (other, Type::Null) => other.takes_null(),
            (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => {
                self.fits(a, b)
            }
            (Type::Map(a), Type::Map(b)) => self.fits(&a.0, &b.0) && self.fits(&a.1, &b.1),
            (Type::Type(_), Type::Type(_)) => true,
            _ => from == to,
        }
    }

    /// Whether the open type `param` may stand for `ty`, and whether it stood
    /// for something before.
    fn stand_for(&mut self, ty: &Type, param: &Type) -> (bool, bool) {
        if ty == param {
            return (true, true);
        }
        if let Some(found) = self.find(param).cloned() {
            if *ty == found {
                return (true, true);
            }
            if !self.fits(ty, &found) {
                return (false, true);
            }
            let general = most_general(ty, &found);
            if !self.occurs(param, &general) {
                self.set(param, general);
            }
            return (true, true);
        }
        if self.occurs(param, ty) {
            return (false, false);
        }
        self.set(param, ty.clone());
        (true, false)
    }

    fn occurs(&self, param: &Type, within: &Type) -> bool {
        if param == within {
            return true;
        }
        match within {
            Type::Param(_) => self.find(within).is_some_and(|found| self.occurs(param, found)),
            Type::List(of) | Type::Optional(of) | Type::Type(Some(of)) => self.occurs(param, of),
            Type::Map(of) => self.occurs(param, &of.0) || self.occurs(param, &of.1),
            _ => false,
        }
    }
}

/// The wider of two types that fit each other.
pub(crate) fn most_general(a: &Type, b: &Type) -> Type {
    if less_specific(a, b) { a.clone() } else { b.clone() }
}

fn less_specific(a: &Type, b: &Type) -> bool {
    match (a, b) {
        (Type::Dyn | Type::Param(_), _) => true,
        (_, Type::Dyn | Type::Param(_)) => false,
        (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => {
            less_specific(a, b)
        }
        (Type::Map(a), Type::Map(b)) => less_specific(&a.0, &b.0) && less_specific(&a.1, &b.1),
        (Type::Type(_), Type::Type(_)) => true,
        _ => a == b,
    }
}

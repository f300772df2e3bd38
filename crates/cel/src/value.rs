//! Values: what expressions compute with. JSON is looked at in place, through
//! its declaration, and never copied.

use std::{borrow::Cow, collections::BTreeMap, net::IpAddr, ops::Deref, sync::Arc};

use api_object::quantity::Quantity;
use serde_json::Value as Json;

use crate::{
    containers::shown,
    declaration::{Declaration, Kind, Merge},
    fault::Fault,
    functions::{
        authorizer::Access, named_format::NamedFormat, network::Cidr, regex::Pattern,
        semver::Semver, url::Url,
    },
    time::{self, Timestamp},
    types::Type,
};

/// A value, borrowing from the JSON that an expression is evaluated on.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number with a sign.
    Int(i64),
    /// A number without a sign.
    Uint(u64),
    /// A number in floating point.
    Double(f64),
    /// Text.
    String(Text<'a>),
    /// Bytes.
    Bytes(Arc<[u8]>),
    /// Nanoseconds.
    Duration(i64),
    /// A point in time.
    Timestamp(Timestamp),
    /// A list.
    List(List<'a>),
    /// A map, or an object with fields.
    Map(Map<'a>),
    /// The type of something.
    Type(Type),
    /// A value or none.
    Optional(Option<Arc<Value<'a>>>),
    /// An address.
    Ip(IpAddr),
    /// A block of addresses.
    Cidr(Cidr),
    /// An amount of a resource.
    Quantity(Quantity),
    /// A URL.
    Url(Arc<Url>),
    /// A semantic version.
    Semver(Arc<Semver>),
    /// A named format.
    Format(&'static NamedFormat),
    /// A question about what somebody may do, or its answer.
    Access(Arc<Access>),
}

/// Text: a piece of JSON, or made by an expression. A regular expression that
/// is a literal is compiled once and is text as well.
#[derive(Clone, Debug)]
pub enum Text<'a> {
    /// A piece of JSON.
    Borrowed(&'a str),
    /// Made by an expression.
    Shared(Arc<str>),
    /// A literal that is used as a regular expression.
    Pattern(Arc<Pattern>),
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Shared(text) => text,
            Self::Pattern(pattern) => pattern.source(),
        }
    }
}

/// A list.
#[derive(Clone, Debug)]
pub enum List<'a> {
    /// A list in JSON.
    Json(&'a [Json], &'a Declaration),
    /// Made by an expression.
    Made(Arc<Vec<Value<'a>>>, Cow<'a, Merge>),
    /// One after the other. Adding two lists costs one unit whatever their
    /// length, so it must not copy them.
    Joined(Arc<Joined<'a>>),
}

/// Two lists and their length together.
#[derive(Debug)]
pub struct Joined<'a> {
    pub(crate) left: List<'a>,
    pub(crate) right: List<'a>,
    pub(crate) len: usize,
}

/// A map, or an object with fields.
#[derive(Clone, Debug)]
pub enum Map<'a> {
    /// An object in JSON.
    Json(&'a serde_json::Map<String, Json>, &'a Declaration),
    /// Made by an expression: by key, the key as it was given and the value.
    Made(Arc<Entries<'a>>),
}

/// The entries of a map made by an expression.
pub(crate) type Entries<'a> = BTreeMap<Key<'a>, (Value<'a>, Value<'a>)>;

/// A scalar by which entries and elements are told apart. Numbers that are
/// equal are one key, whatever their types.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key<'a> {
    /// `true` or `false`.
    Bool(bool),
    /// Any whole number.
    Int(i128),
    /// The bits of a number with a fraction.
    Fraction(u64),
    /// Text.
    Text(Cow<'a, str>),
}

impl<'a> Value<'a> {
    /// Text made by an expression.
    pub(crate) fn text(text: impl Into<Arc<str>>) -> Self {
        Self::String(Text::Shared(text.into()))
    }

    /// A list made by an expression.
    pub(crate) fn list(values: Vec<Value<'a>>) -> Self {
        Self::List(List::Made(Arc::new(values), Cow::Owned(Merge::Atomic)))
    }

    pub(crate) fn some(value: Value<'a>) -> Self {
        Self::Optional(Some(Arc::new(value)))
    }

    /// An object of these fields.
    ///
    /// # Errors
    /// A field is there twice.
    pub fn fields(fields: Vec<(String, Value<'a>)>) -> Result<Self, Fault> {
        let entries = fields.into_iter().map(|(name, value)| (Self::text(name), value));
        Map::of(entries.collect()).map(Self::Map)
    }

    /// The JSON that says the same, as an expression's result leaves this crate.
    ///
    /// # Errors
    /// There is none: types and questions have no JSON.
    pub fn to_json(&self) -> Result<Json, Fault> {
        use base64::Engine;
        Ok(match self {
            Self::Null | Self::Optional(None) => Json::Null,
            Self::Bool(value) => Json::from(*value),
            Self::Int(number) => Json::from(*number),
            Self::Uint(number) => Json::from(*number),
            // As Go writes it: a whole number has no fraction.
            Self::Double(number) if number.fract() == 0.0 && number.abs() < 1e15 => {
                Json::from(*number as i64)
            }
            Self::Double(number) => Json::from(*number),
            Self::Bytes(bytes) => {
                Json::from(base64::engine::general_purpose::STANDARD.encode(bytes))
            }
            Self::Optional(Some(value)) => value.to_json()?,
            Self::List(list) => {
                let items = list.iter().map(|item| item.and_then(|item| item.to_json()));
                Json::Array(items.collect::<Result<_, _>>()?)
            }
            Self::Map(map) => {
                let mut object = serde_json::Map::new();
                for key in map.keys() {
                    let Some(value) = map.get(&key) else { continue };
                    object.insert(shown(&key), value?.to_json()?);
                }
                Json::Object(object)
            }
            other => match crate::functions::conversions::text(other) {
                Some(text) => Json::from(text?),
                None => {
                    let why = format!("{} has no JSON form", other.type_name());
                    return Err(Fault::new(why));
                }
            },
        })
    }

    /// A JSON value as its declaration says.
    ///
    /// # Errors
    /// The JSON is not what the declaration says.
    pub fn json(json: &'a Json, declaration: &'a Declaration) -> Result<Self, Fault> {
        if json.is_null() {
            return match declaration.nullable {
                true => Ok(Self::Null),
                false => Err(Fault::new("invalid data, got null for schema with nullable=false")),
            };
        }
        let text = |json: &'a Json| match json {
            Json::String(text) => Ok(text.as_str()),
            other => Err(Fault::new(format!("invalid data, expected string, got {}", name(other)))),
        };
        Ok(match (&declaration.kind, json) {
            (Kind::Any | Kind::Made(_), json) => Self::any(json),
            (Kind::IntOrString, Json::String(text)) => Self::String(Text::Borrowed(text)),
            (Kind::IntOrString, Json::Number(number)) if number.as_i64().is_some() => {
                Self::any(json)
            }
            (Kind::IntOrString, _) => {
                return Err(Fault::new(
                    "invalid data, expected XIntOrString value to be either a string or integer",
                ));
            }
            (Kind::Bool, Json::Bool(value)) => Self::Bool(*value),
            (Kind::Bool, _) => {
                return Err(Fault::new(format!("invalid data, expected bool, got {}", name(json))));
            }
            (Kind::Int, _) => match json.as_i64() {
                Some(number) => Self::Int(number),
                None => {
                    return Err(Fault::new(format!(
                        "invalid data, expected int, got {}",
                        name(json)
                    )));
                }
            },
            (Kind::Double, _) => match json.as_f64() {
                Some(number) => Self::Double(number),
                None => {
                    return Err(Fault::new(format!(
                        "invalid data, expected float, got {}",
                        name(json)
                    )));
                }
            },
            (Kind::String, _) => Self::String(Text::Borrowed(text(json)?)),
            (Kind::Bytes, _) => Self::Bytes(base64(text(json)?)?.into()),
            (Kind::Quantity, _) => match Quantity::parse(text(json)?) {
                Ok(quantity) => Self::Quantity(quantity),
                Err(error) => return Err(Fault::new(error.to_string())),
            },
            (Kind::Duration, _) => Self::Duration(time::schema_duration(text(json)?)?),
            (Kind::Date, _) => Self::Timestamp(time::date(text(json)?)?),
            (Kind::DateTime, _) => Self::Timestamp(Timestamp::parse(text(json)?)?),
            (Kind::List { .. }, Json::Array(items)) => Self::List(List::Json(items, declaration)),
            (Kind::List { .. }, _) => {
                return Err(Fault::new(
                    "invalid data, expected an array for the provided schema with type=array",
                ));
            }
            (Kind::Map(_) | Kind::Object(_), Json::Object(entries)) => {
                Self::Map(Map::Json(entries, declaration))
            }
            (Kind::Map(_) | Kind::Object(_), _) => {
                return Err(Fault::new(
                    "invalid data, expected a map for the provided schema with type=object",
                ));
            }
        })
    }

    fn any(json: &'a Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(number), _) => Self::Int(number),
                (None, Some(number)) => Self::Uint(number),
                (None, None) => Self::Double(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Self::String(Text::Borrowed(text)),
            Json::Array(items) => Self::List(List::Json(items, &Declaration::ANY)),
            Json::Object(entries) => Self::Map(Map::Json(entries, &Declaration::ANY)),
        }
    }

    /// The type that `type(x)` gives; parameters are not known at run time.
    pub(crate) fn ty(&self) -> Type {
        match self {
            Self::Null => Type::Null,
            Self::Bool(_) => Type::Bool,
            Self::Int(_) => Type::Int,
            Self::Uint(_) => Type::Uint,
            Self::Double(_) => Type::Double,
            Self::String(_) => Type::String,
            Self::Bytes(_) => Type::Bytes,
            Self::Duration(_) => Type::Duration,
            Self::Timestamp(_) => Type::Timestamp,
            Self::List(_) => Type::list(Type::Dyn),
            Self::Map(_) => Type::map(Type::Dyn, Type::Dyn),
            Self::Type(_) => Type::Type(None),
            Self::Optional(_) => Type::optional(Type::Dyn),
            Self::Ip(_) => Type::Opaque("net.IP"),
            Self::Cidr(_) => Type::Opaque("net.CIDR"),
            Self::Quantity(_) => Type::Opaque("kubernetes.Quantity"),
            Self::Url(_) => Type::Opaque("kubernetes.URL"),
            Self::Semver(_) => Type::Opaque("kubernetes.Semver"),
            Self::Format(_) => Type::Opaque("kubernetes.NamedFormat"),
            Self::Access(access) => access.ty(),
        }
    }

    /// What messages and `string(type(x))` call its type.
    pub(crate) fn type_name(&self) -> String {
        type_name(&self.ty())
    }

    /// Code points, bytes, elements or entries; 1 for what has no size. What
    /// costs are counted in.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::String(text) => text.chars().count() as u64,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::List(list) => list.len() as u64,
            Self::Map(map) => map.len() as u64,
            Self::Optional(Some(value)) => value.size(),
            Self::Ip(IpAddr::V4(_)) => 4,
            Self::Ip(IpAddr::V6(_)) => 16,
            Self::Cidr(cidr) => match cidr.address {
                IpAddr::V4(_) => 4,
                IpAddr::V6(_) => 16,
            },
            _ => 1,
        }
    }

    /// The key that a scalar is; `None` for what is no scalar.
    pub(crate) fn key(&self) -> Option<Key<'a>> {
        Some(match self {
            Self::Bool(value) => Key::Bool(*value),
            Self::Int(number) => Key::Int(i128::from(*number)),
            Self::Uint(number) => Key::Int(i128::from(*number)),
            // Beyond 2^64 no whole number of the other types is equal.
            Self::Double(number) if number.fract() == 0.0 && number.abs() < 2e19 => {
                Key::Int(*number as i128)
            }
            Self::Double(number) => Key::Fraction(number.to_bits()),
            Self::String(Text::Borrowed(text)) => Key::Text(Cow::Borrowed(text)),
            Self::String(text) => Key::Text(Cow::Owned(text.to_string())),
            _ => return None,
        })
    }

    /// What `optional.ofNonZeroValue` takes for nothing.
    pub(crate) fn is_zero(&self) -> bool {
        match self {
            Self::Null | Self::Bool(false) | Self::Int(0) | Self::Uint(0) | Self::Duration(0) => {
                true
            }
            Self::Double(number) => *number == 0.0,
            Self::String(text) => text.is_empty(),
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::List(list) => list.len() == 0,
            Self::Map(map) => map.len() == 0,
            Self::Optional(None) => true,
            _ => false,
        }
    }
}

pub(crate) fn type_name(ty: &Type) -> String {
    match ty {
        Type::List(_) => "list".into(),
        Type::Map(_) => "map".into(),
        Type::Null => "null_type".into(),
        Type::Type(_) => "type".into(),
        Type::Optional(_) => "optional_type".into(),
        Type::Duration => "google.protobuf.Duration".into(),
        Type::Timestamp => "google.protobuf.Timestamp".into(),
        other => other.to_string(),
    }
}

fn name(json: &Json) -> &'static str {
    match json {
        Json::Null => "<nil>",
        Json::Bool(_) => "bool",
        Json::Number(number) if number.is_f64() => "float64",
        Json::Number(_) => "int64",
        Json::String(_) => "string",
        Json::Array(_) => "[]interface {}",
        Json::Object(_) => "map[string]interface {}",
    }
}

fn base64(text: &str) -> Result<Vec<u8>, Fault> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .map_err(|error| Fault::new(format!("Invalid byte formatted string {text}: {error}")))
}

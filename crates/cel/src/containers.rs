//! Lists and maps: looking into JSON in place, and what expressions make.

use std::{borrow::Cow, sync::Arc};

use crate::{
    declaration::{Declaration, Kind, Merge, Object},
    fault::Fault,
    value::{Entries, Joined, Key, List, Map, Text, Value},
};

impl<'a> List<'a> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Json(items, _) => items.len(),
            Self::Made(values, _) => values.len(),
            Self::Joined(joined) => joined.len,
        }
    }

    pub(crate) fn get(&self, at: usize) -> Option<Result<Value<'a>, Fault>> {
        match self {
            Self::Json(items, declaration) => {
                let items_declaration = declaration.items().unwrap_or(&Declaration::ANY);
                items.get(at).map(|item| Value::json(item, items_declaration))
            }
            Self::Made(values, _) => values.get(at).cloned().map(Ok),
            Self::Joined(joined) => match at.checked_sub(joined.left.len()) {
                None => joined.left.get(at),
                Some(at) => joined.right.get(at),
            },
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Result<Value<'a>, Fault>> + '_ {
        (0..self.len()).filter_map(|at| self.get(at))
    }

    pub(crate) fn merge(&self) -> &Merge {
        match self {
            Self::Json(_, declaration) => match &declaration.kind {
                Kind::List { merge, .. } => merge,
                _ => &Merge::Atomic,
            },
            Self::Made(_, merge) => merge,
            Self::Joined(_) => &Merge::Atomic,
        }
    }

    pub(crate) fn join(left: List<'a>, right: List<'a>) -> List<'a> {
        let len = left.len() + right.len();
        Self::Joined(Arc::new(Joined { left, right, len }))
    }
}

impl<'a> Map<'a> {
    /// A map of these entries.
    ///
    /// # Errors
    /// A key is there twice, or can be no key.
    pub(crate) fn of(entries: Vec<(Value<'a>, Value<'a>)>) -> Result<Self, Fault> {
        let mut made = Entries::new();
        for (key, value) in entries {
            insert(&mut made, key, value)?;
        }
        Ok(Self::Made(Arc::new(made)))
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Json(entries, _) => entries.len(),
            Self::Made(entries) => entries.len(),
        }
    }

    /// The value of a key, where there is one.
    pub(crate) fn get(&self, key: &Value<'a>) -> Option<Result<Value<'a>, Fault>> {
        match (self, key) {
            (Self::Json(..), Value::String(key)) => self.field(key),
            (Self::Json(..), _) => Some(Err(Fault::no_such_overload())),
            (Self::Made(entries), key) => {
                entries.get(&key.key()?).map(|(_, value)| Ok(value.clone()))
            }
        }
    }

    /// The value of a text key. Fields of an object that are `null` are absent,
    /// and those that its declaration does not name cannot be seen.
    pub(crate) fn field(&self, key: &str) -> Option<Result<Value<'a>, Fault>> {
        match self {
            Self::Json(entries, declaration) => match &declaration.kind {
                Kind::Object(object) => {
                    let field = object.field(key)?;
                    let json = entries.get(&*field.json).filter(|json| !json.is_null())?;
                    Some(Value::json(json, &field.declaration))
                }
                _ => {
                    let values = declaration.values().unwrap_or(&Declaration::ANY);
                    Some(Value::json(entries.get(key)?, values))
                }
            },
            Self::Made(entries) => {
                let key = Key::Text(Cow::Owned(key.to_owned()));
                entries.get(&key).map(|(_, value)| Ok(value.clone()))
            }
        }
    }

    pub(crate) fn keys(&self) -> Vec<Value<'a>> {
        match self {
            Self::Json(entries, declaration) => match &declaration.kind {
                Kind::Object(object) => {
                    let object: &'a Object = object;
                    let fields = object.fields.iter();
                    fields
                        .filter(|(_, field)| entries.contains_key(&*field.json))
                        .map(|(name, _)| Value::String(Text::Borrowed(name)))
                        .collect()
                }
                _ => entries.keys().map(|key| Value::String(Text::Borrowed(key))).collect(),
            },
            Self::Made(entries) => entries.values().map(|(key, _)| key.clone()).collect(),
        }
    }
}

/// Puts an entry into a map.
///
/// # Errors
/// The key is there already, or can be no key.
pub(crate) fn insert<'a>(
    entries: &mut Entries<'a>,
    key: Value<'a>,
    value: Value<'a>,
) -> Result<(), Fault> {
    let Some(known) = key.key() else {
        return Err(Fault::new(format!("unsupported key type: {}", key.type_name())));
    };
    if entries.contains_key(&known) {
        return Err(Fault::new(format!("insert failed: key {} already exists", shown(&key))));
    }
    entries.insert(known, (key, value));
    Ok(())
}

/// A key in a message.
pub(crate) fn shown(key: &Value<'_>) -> String {
    match crate::functions::conversions::text(key) {
        Some(Ok(text)) => text,
        _ => key.type_name(),
    }
}

//! The versions of a kind, for managers that named their fields in another one
//! than the request's. What decides about managers is pure and cannot wait for
//! webhooks: it does without a conversion that nobody made yet, and says so.

use std::{cell::RefCell, sync::Arc};

use api_schema::{Catalogue, ResourceSpec, ShapeRef, apply::Versions, tree};
use serde_json::Value;

use crate::convert::is_foreign;

/// Conversions that somebody else made, and those that were missed.
#[derive(Default)]
pub(crate) struct Conversions {
    made: Vec<Conversion>,
    missed: RefCell<Vec<(String, Value)>>,
}

struct Conversion {
    api_version: String,
    from: Value,
    /// `None` where it cannot be had.
    to: Option<Value>,
}

impl Conversions {
    /// Remembers one.
    pub(crate) fn put(&mut self, api_version: String, from: Value, to: Option<Value>) {
        self.made.push(Conversion { api_version, from, to });
    }

    /// The versions and objects that were asked for and not there.
    pub(crate) fn take_missed(&mut self) -> Vec<(String, Value)> {
        std::mem::take(self.missed.get_mut())
    }

    fn get(&self, api_version: &str, from: &Value) -> Option<Value> {
        let made =
            self.made.iter().find(|made| made.api_version == api_version && made.from == *from);
        if let Some(made) = made {
            return made.to.clone();
        }
        let mut missed = self.missed.borrow_mut();
        let again = |(version, object): &(String, Value)| version == api_version && object == from;
        if !missed.iter().any(again) {
            missed.push((api_version.to_owned(), from.clone()));
        }
        None
    }
}

/// The versions in which a kind is served.
pub(crate) struct Served<'a> {
    spec: &'a ResourceSpec,
    catalogue: &'a Catalogue,
    conversions: &'a Conversions,
}

impl<'a> Served<'a> {
    /// Those of a row, with the conversions that were made for it.
    pub(crate) fn new(
        spec: &'a ResourceSpec,
        catalogue: &'a Catalogue,
        conversions: &'a Conversions,
    ) -> Self {
        Self { spec, catalogue, conversions }
    }

    fn other(&self, api_version: &str) -> Option<Arc<ResourceSpec>> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        self.catalogue.by_kind(group, version, &self.spec.kind)
    }

    fn between(&self, from: &ResourceSpec, to: &ResourceSpec, mut object: Value) -> Option<Value> {
        let api_version = to.api_version();
        if is_foreign(self.spec) {
            if tree::text(&object, "kind").is_empty() {
                // What an object is compared with before it is there.
                return Some(to.shape.schema.zero_struct(to.shape.id));
            }
            return self.conversions.get(&api_version, &object);
        }
        if let Some(stored) = &from.stored_as {
            object = (stored.to_stored)(object);
        }
        if let Some(stored) = &to.stored_as {
            object = (stored.from_stored)(object);
        }
        tree::set(&mut object, "apiVersion", api_version);
        Some(object)
    }
}

impl Versions for Served<'_> {
    fn convert(&self, object: &Value, api_version: &str) -> Option<(ShapeRef, Value)> {
        let other = self.other(api_version)?;
        let converted = self.between(self.spec, &other, object.clone())?;
        Some((other.shape.clone(), converted))
    }

    fn convert_back(&self, object: Value, api_version: &str) -> Option<Value> {
        self.between(&*self.other(api_version)?, self.spec, object)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_conversion_is_missed_once_and_then_known() {
        let mut conversions = Conversions::default();
        let from = json!({"kind": "A"});
        assert_eq!(conversions.get("g/v2", &from), None);
        assert_eq!(conversions.get("g/v2", &from), None);
        assert_eq!(conversions.take_missed(), [("g/v2".to_owned(), from.clone())]);
        conversions.put("g/v2".into(), from.clone(), Some(json!(2)));
        conversions.put("g/v3".into(), from.clone(), None);
        assert_eq!(conversions.get("g/v2", &from), Some(json!(2)));
        assert_eq!(conversions.get("g/v3", &from), None, "it cannot be had");
        assert!(conversions.take_missed().is_empty());
    }
}

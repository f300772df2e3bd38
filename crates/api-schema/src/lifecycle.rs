//! What every write of every kind goes through, in the order of a request:
//! `decode`, `default`, `prepare_*`, `stamp`, (admission), `validate_*`, (the store).
//!
//! Metadata that the registry owns (uid, resourceVersion, timestamps) is not
//! touched here; generation is, since when it rises depends on the kind.

use api_object::status::Cause;
use jiff::Timestamp;
use serde_json::Value;

use crate::{
    Faults, Generation, Path, ResourceSpec, Role, Subresource, Type, apply::FieldSet, meta, tree,
};

impl ResourceSpec {
    /// Before a create: status is the server's (but see `status_on_create`), generation starts at 1.
    pub fn prepare_create(&self, object: &mut Value) {
        if self.has_status() && !self.status_on_create {
            self.reset_status(object);
        }
        tree::remove(object, "metadata.generation");
        if self.generation != Generation::None {
            tree::set(object, "metadata.generation", 1);
        }
        (self.hooks.prepare_create)(self, object);
    }

    /// Before an update of the object: status stays as it was, generation rises
    /// where the desired state changed.
    pub fn prepare_update(&self, new: &mut Value, old: &Value) {
        if self.has_status() {
            tree::copy(old, new, "status");
        }
        tree::copy(old, new, "metadata.generation");
        (self.hooks.prepare_update)(self, new, old);
        self.bump_generation(new, old);
    }

    /// Before an update of `status`: everything else stays as it was.
    pub fn prepare_status(&self, new: &mut Value, old: &Value) {
        if self.custom.is_some() {
            // Of a custom object, even labels and annotations stay.
            keep_all_but(new, old, &["status"]);
            return;
        }
        keep_all_but(new, old, &["status", "metadata"]);
        for path in ["generation", "deletionTimestamp", "deletionGracePeriodSeconds"] {
            tree::copy(old, new, &format!("metadata.{path}"));
        }
        (self.hooks.prepare_status)(self, new, old);
    }

    /// Fills in times that only the server knows; follows every preparation.
    pub fn stamp(&self, new: &mut Value, old: Option<&Value>, now: Timestamp) {
        (self.hooks.stamp)(new, old, now);
    }

    /// Lets generation rise where desired state differs from `old`; for writes
    /// that do not go through [`Self::prepare_update`], such as scale.
    pub fn bump_generation(&self, new: &mut Value, old: &Value) {
        let differs = |path| tree::get(new, path) != tree::get(old, path);
        let rises = match self.generation {
            Generation::None => false,
            Generation::Spec => differs("spec"),
            Generation::SpecAndAnnotations => differs("spec") || differs("metadata.annotations"),
            Generation::Content => self.content(new).ne(self.content(old)),
        };
        if rises {
            let generation = tree::int(old, "metadata.generation").unwrap_or(0);
            tree::set(new, "metadata.generation", generation + 1);
        }
    }

    /// Fields that a write of the object, or through a subresource, does not
    /// change whatever it says of them: status from outside of it, all but
    /// metadata and status from within.
    pub fn reset_fields(&self, sub: Option<&Subresource>) -> FieldSet {
        let schema = &self.shape.schema;
        let mut paths: Vec<&str> = match sub.map(|sub| &sub.role) {
            Some(Role::Status) => {
                let all = schema.fields(self.shape.id).iter();
                let all = all.map(|field| schema.field_name(field));
                all.filter(|name| !matches!(*name, "metadata" | "status")).collect()
            }
            None if self.has_status() => vec!["status"],
            _ => Vec::new(),
        };
        let name = sub.map_or("", |sub| &sub.name);
        let own = self.hooks.reset.iter().filter(|(sub, _)| *sub == name);
        paths.extend(own.map(|(_, path)| path));
        FieldSet::of_paths(&paths)
    }

    /// Faults of a new object, in upstream's words, for `Status::invalid`.
    pub fn validate_create(&self, object: &Value) -> Vec<Cause> {
        let mut faults = Faults::default();
        meta::validate(self, object, &mut faults);
        self.validate_content(object, None, &mut faults);
        (self.hooks.validate_create)(self, object, &mut faults);
        faults.into_causes()
    }

    /// Faults of an update.
    pub fn validate_update(&self, new: &Value, old: &Value) -> Vec<Cause> {
        let mut faults = Faults::default();
        meta::validate_update(self, new, old, &mut faults);
        self.validate_content(new, Some(old), &mut faults);
        (self.hooks.validate_update)(self, new, old, &mut faults);
        faults.into_causes()
    }

    /// Faults of an update of status.
    pub fn validate_status(&self, new: &Value, old: &Value) -> Vec<Cause> {
        let mut faults = Faults::default();
        meta::validate_update(self, new, old, &mut faults);
        self.validate_shape(new, Some(old), &mut faults);
        (self.hooks.validate_status)(self, new, old, &mut faults);
        faults.into_causes()
    }

    /// Faults of an update through a subresource that changes a part of the
    /// object: the rules of updates do not hold there, the part's own do.
    pub fn validate_part(
        &self,
        new: &Value,
        old: &Value,
        validate: fn(&Self, &Value, &Value, &mut Faults),
    ) -> Vec<Cause> {
        let mut faults = Faults::default();
        meta::validate_update(self, new, old, &mut faults);
        self.validate_content(new, Some(old), &mut faults);
        validate(self, new, old, &mut faults);
        faults.into_causes()
    }

    fn validate_content(&self, object: &Value, old: Option<&Value>, faults: &mut Faults) {
        self.validate_shape(object, old, faults);
        (self.hooks.validate)(self, object, faults);
    }

    fn validate_shape(&self, object: &Value, old: Option<&Value>, faults: &mut Faults) {
        match &self.custom {
            None => self.shape.schema.validate(self.shape.id, object, &Path::ROOT, faults),
            Some(custom) => self.validate_custom(custom, object, old, faults),
        }
    }

    /// All that is desired: not metadata, and not status where that is told apart.
    fn content<'v>(&self, object: &'v Value) -> impl Iterator<Item = (&'v String, &'v Value)> {
        let has_status = self.has_status();
        object
            .as_object()
            .into_iter()
            .flatten()
            .filter(move |(key, _)| *key != "metadata" && !(has_status && *key == "status"))
    }

    /// Makes status what it is where nothing was observed yet.
    fn reset_status(&self, object: &mut Value) {
        if self.custom.is_some() {
            tree::remove(object, "status");
            return;
        }
        let schema = &self.shape.schema;
        let empty = match schema.field(self.shape.id, "status").map(|field| field.ty) {
            Some(Type::Struct(id)) => schema.zero_struct(id),
            _ => Value::Null,
        };
        match empty {
            Value::Null => drop(tree::remove(object, "status")),
            empty => tree::set(object, "status", empty),
        }
    }
}

/// Makes every top-level field but the named ones the old one's.
pub(crate) fn keep_all_but(new: &mut Value, old: &Value, but: &[&str]) {
    let (Value::Object(new), Value::Object(old)) = (new, old) else { return };
    new.retain(|key, _| but.contains(&key.as_str()));
    for (key, value) in old.iter().filter(|(key, _)| !but.contains(&key.as_str())) {
        new.insert(key.clone(), value.clone());
    }
}

//! What a row of a custom kind has beyond that of a built-in one: a structural
//! schema in place of hooks, and a stored version that others are converted
//! from and to.

use std::{collections::BTreeMap, sync::Arc};

use api_object::Status;
use serde_json::Value;

use crate::{
    Document, Faults, FieldValidation, Path, ResourceSpec, ShapeRef,
    structural::{self, Node, rules::Rules},
    tree,
};

/// The custom part of a row.
#[derive(Clone, Debug)]
pub struct Custom {
    /// What all versions of the kind share; the same `Arc` in all their rows.
    pub definition: Arc<Definition>,
    /// The schema of this version.
    pub schema: Arc<Node>,
    /// The schema's validation rules.
    pub rules: Arc<Rules>,
    /// The same as its author wrote it, for OpenAPI.
    pub document: Document,
    /// The definition is being deleted: nothing can be created any more.
    pub terminating: bool,
}

/// A CustomResourceDefinition, as far as serving its objects needs it.
#[derive(Debug)]
pub struct Definition {
    /// The schema of each version, served or not.
    pub versions: BTreeMap<String, Arc<Node>>,
    /// The version that objects are stored in.
    pub storage_version: String,
    /// How other versions are made of it.
    pub conversion: Conversion,
    /// Stands beside stored objects: those of another number were written under
    /// another schema or version.
    pub epoch: u32,
}

/// `spec.conversion`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conversion {
    /// Only `apiVersion` differs between versions.
    None,
    /// Somebody else converts.
    Webhook(Webhook),
}

/// A webhook: a `clientConfig`, and what it understands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Webhook {
    /// `https://host:port/path`; empty where a service is given.
    pub url: String,
    /// The service to call.
    pub service: Option<WebhookService>,
    /// Certificates that sign the webhook's, as PEM; empty for the system's.
    pub ca_bundle: Vec<u8>,
    /// The versions of the review that the webhook understands.
    pub review_versions: Vec<String>,
}

/// Where a webhook runs inside the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebhookService {
    /// The service's namespace.
    pub namespace: String,
    /// The service's name.
    pub name: String,
    /// `/convert`; may be empty.
    pub path: String,
    /// The service's port.
    pub port: u16,
}

impl Definition {
    /// Stands beside objects that were converted for one request: an epoch that
    /// is never stored.
    pub fn converted_epoch(&self) -> u32 {
        !self.epoch
    }
}

impl Custom {
    /// Makes an object of any version what its own schema says, as it comes
    /// from the store: pruned and defaulted.
    pub fn refresh(&self, object: &mut Value) {
        let said = tree::text(object, "apiVersion");
        let version = said.rsplit('/').next().unwrap_or_default();
        let versions = &self.definition.versions;
        let stored = || versions.get(&self.definition.storage_version);
        if let Some(schema) = versions.get(version).or_else(stored) {
            schema.prune(object);
            schema.default(object);
        }
    }

    /// What is left to do once an object was converted into this version.
    pub fn converted(&self, object: &mut Value) {
        self.schema.prune(object);
    }

    /// Takes from an object what the schema of a version does not know.
    pub fn prune_as(&self, version: &str, object: &mut Value) {
        if let Some(schema) = self.definition.versions.get(version) {
            schema.prune(object);
        }
    }

    /// A row of the same definition, whatever its version.
    pub fn is_of(&self, definition: &Arc<Definition>) -> bool {
        Arc::ptr_eq(&self.definition, definition)
    }
}

impl ResourceSpec {
    /// A request body of a custom kind as JSON.
    pub(crate) fn decode_custom(
        &self,
        custom: &Custom,
        bytes: &[u8],
        mode: FieldValidation,
    ) -> Result<(Value, Vec<String>), Status> {
        let decoded = structural::duplicates(bytes)
            .and_then(|(tree, strict)| self.coerce(custom, tree, strict));
        self.expected().check(Some(bytes), decoded, mode)
    }

    /// A request body of a custom kind as a tree.
    pub(crate) fn conform_custom(
        &self,
        custom: &Custom,
        mut tree: Value,
        mode: FieldValidation,
    ) -> Result<(Value, Vec<String>), Status> {
        structural::canonical(&mut tree);
        let decoded = self.coerce(custom, tree, Vec::new());
        self.expected().check(None, decoded, mode)
    }

    /// Metadata is typed and the rest is pruned.
    fn coerce(
        &self,
        custom: &Custom,
        mut tree: Value,
        mut strict: Vec<String>,
    ) -> Result<(Value, Vec<String>), String> {
        if !tree.is_object() {
            return Err(
                "json: cannot unmarshal into Go value of type map[string]interface {}".into()
            );
        }
        let metadata = ShapeRef::find(&self.shape.schema, "meta/v1.ObjectMeta")
            .ok_or("the schema has no metadata")?;
        let mut unknown = Vec::new();
        if let Some(given) = tree.get_mut("metadata") {
            structural::conform(given, &Path::new("metadata"), &metadata, &mut unknown)?;
        }
        custom.schema.conform_metadata(&mut tree, &Path::ROOT, &metadata, &mut unknown)?;
        let pruned = custom.schema.prune(&mut tree);
        unknown.extend(pruned.into_iter().map(|path| format!("unknown field {path:?}")));
        strict.append(&mut unknown);
        Ok((tree, strict))
    }

    /// Faults of a custom object beyond its own metadata. With `old`, faults
    /// that were there before are borne.
    pub(crate) fn validate_custom(
        &self,
        custom: &Custom,
        new: &Value,
        old: Option<&Value>,
        faults: &mut Faults,
    ) {
        let schema = &custom.schema;
        schema.validate(new, old, &Path::ROOT, faults);
        self.validate_replicas(new, faults);
        schema.validate_embedded(new, &Path::ROOT, faults);
        let mut lists = Faults::default();
        schema.validate_lists(new, &Path::ROOT, &mut lists);
        let mut before = Faults::default();
        if let (false, Some(old)) = (lists.is_empty(), old) {
            schema.validate_lists(old, &Path::ROOT, &mut before);
        }
        if before.is_empty() {
            faults.append(lists);
        }
        match (faults.block_rules(), custom.rules.any()) {
            (_, false) => {}
            (false, true) => custom.rules.evaluate(new, old, faults),
            (true, true) => faults.invalid_shown(
                &Path::new("<nil>"),
                "null",
                "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation",
            ),
        }
    }

    /// The numbers that `scale` reads and writes are none below zero.
    fn validate_replicas(&self, object: &Value, faults: &mut Faults) {
        for sub in &self.subresources {
            let crate::Role::Scale(paths) = &sub.role else { continue };
            for path in [&paths.replicas, &paths.status_replicas] {
                match tree::get(object, path) {
                    Value::Null => {}
                    value if value.as_i64().is_some_and(|n| n < 0) => {
                        let path = Path::new(path);
                        faults.invalid(&path, value.clone(), "should be a non-negative integer");
                    }
                    value if value.as_i64().is_some_and(|n| n > i64::from(i32::MAX)) => {
                        let detail = format!("should be less than or equal to {}", i32::MAX);
                        faults.invalid(&Path::new(path), value.clone(), detail);
                    }
                    _ => {}
                }
            }
        }
    }
}

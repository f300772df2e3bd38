//! The few questions a kind answers itself, as plain functions.

use api_object::Status;
use jiff::Timestamp;
use serde_json::Value;

use crate::{Faults, ResourceSpec};

/// Whether a name suits the kind: messages in upstream's words, none where it does.
pub type NameRule = fn(&str) -> Vec<String>;

/// When `metadata.generation` rises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Generation {
    /// The kind has none.
    #[default]
    None,
    /// When `spec` changes.
    Spec,
    /// When `spec` or annotations change (Deployment).
    SpecAndAnnotations,
    /// When anything but metadata and status changes (EndpointSlice, and custom
    /// resources without a spec).
    Content,
}

/// Pure functions over the object's tree. What every kind shares (metadata,
/// status isolation, generation, structural validation) happens around them, in
/// the methods of [`ResourceSpec`].
#[derive(Clone, Copy, Debug)]
pub struct Hooks {
    /// Which names are allowed.
    pub name: NameRule,
    /// Fills in what is not said. Must change nothing when run again.
    pub default: fn(&ResourceSpec, &mut Value),
    /// Sets and clears what clients have no say in, before a create.
    pub prepare_create: fn(&ResourceSpec, &mut Value),
    /// The same before an update: `(new, old)`.
    pub prepare_update: fn(&ResourceSpec, &mut Value, &Value),
    /// The same before an update of `status`: `(new, old)`.
    pub prepare_status: fn(&ResourceSpec, &mut Value, &Value),
    /// Fills in times that only the server knows: `(new, old, now)`, after every
    /// preparation, that of subresources included.
    pub stamp: fn(&mut Value, Option<&Value>, Timestamp),
    /// Fields that a write through a subresource (empty: the object itself) does
    /// not reach beyond what all kinds share, so that nobody manages them for
    /// having sent them: `(subresource, dotted path)`.
    pub reset: &'static [(&'static str, &'static str)],
    /// Faults of an object on its own; runs on create and on update.
    pub validate: fn(&ResourceSpec, &Value, &mut Faults),
    /// Faults of an object that old ones may have: runs on create only.
    pub validate_create: fn(&ResourceSpec, &Value, &mut Faults),
    /// Faults of a change, beyond those of the object: `(new, old)`.
    pub validate_update: fn(&ResourceSpec, &Value, &Value, &mut Faults),
    /// Faults of a change of status: `(new, old)`.
    pub validate_status: fn(&ResourceSpec, &Value, &Value, &mut Faults),
    /// How many seconds a deletion of this object waits for somebody to confirm
    /// it, given what the client asked for. `None`: objects of this kind go at once.
    pub grace_seconds: fn(&Value, Option<i64>) -> Option<i64>,
    /// A deletion that does not say what becomes of the objects that this one
    /// owns leaves them alone (ReplicationController, Job).
    pub orphans_dependents: bool,
    /// Changes an object when its deletion begins, before it is asked who still
    /// holds it.
    pub begin_delete: fn(&mut Value, Timestamp),
    /// `Warning` headers for an accepted object: `(new, old)`.
    pub warnings: fn(&Value, Option<&Value>) -> Vec<String>,
    /// Refuses a deletion that makes no sense, before anything else happens.
    pub check_delete: fn(&Value) -> Result<(), Status>,
    /// When an object goes by itself, for kinds whose objects do (Event).
    pub expires: Option<fn(&Value) -> Option<Timestamp>>,
}

impl Default for Hooks {
    fn default() -> Self {
        Self {
            name: api_object::name::dns1123_subdomain,
            default: |_, _| {},
            prepare_create: |_, _| {},
            prepare_update: |_, _, _| {},
            prepare_status: |_, _, _| {},
            stamp: |_, _, _| {},
            reset: &[],
            validate: |_, _, _| {},
            validate_create: |_, _, _| {},
            validate_update: |_, _, _, _| {},
            validate_status: |_, _, _, _| {},
            grace_seconds: |_, _| None,
            orphans_dependents: false,
            begin_delete: |_, _| {},
            warnings: |_, _| Vec::new(),
            check_delete: |_| Ok(()),
            expires: None,
        }
    }
}

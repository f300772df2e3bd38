//! One served resource: a row of the catalogue.

use std::borrow::Cow;

use api_object::{GroupVersionKind, GroupVersionResource, Status};
use jiff::Timestamp;
use serde_json::Value;

use crate::{Custom, Faults, Generation, Hooks, JsonPath, ShapeRef, meta, tree};

/// Text that is static for built-in kinds and owned for custom ones.
type Str = Cow<'static, str>;

/// Everything the server needs to know about one resource in one version.
#[derive(Clone, Debug)]
pub struct ResourceSpec {
    /// `apps`; empty for core.
    pub group: Str,
    /// `v1`.
    pub version: Str,
    /// `deployments`: the path segment.
    pub plural: Str,
    /// `deployment`.
    pub singular: Str,
    /// `Deployment`.
    pub kind: Str,
    /// `DeploymentList`; empty for kinds that cannot be listed.
    pub list_kind: Str,
    /// Objects live in namespaces.
    pub namespaced: bool,
    /// Objects are stored. Otherwise a create is answered and forgotten
    /// (access reviews).
    pub stored: bool,
    /// `create delete deletecollection get list patch update watch`, or fewer.
    pub verbs: Vec<Str>,
    /// `deploy`.
    pub short_names: Vec<Str>,
    /// `all`.
    pub categories: Vec<Str>,
    /// What lies below an object's path.
    pub subresources: Vec<Subresource>,
    /// What `kubectl get` shows. Empty: name and age.
    pub columns: Vec<Column>,
    /// Fields that a field selector may name, metadata included.
    pub selectable: Vec<SelectableField>,
    /// The shape of an object.
    pub shape: ShapeRef,
    /// Where another resource's storage holds these objects.
    pub stored_as: Option<StoredAs>,
    /// PUT to a name that does not exist creates it (Lease, Event, …).
    pub allow_create_on_update: bool,
    /// PUT without a resourceVersion overwrites.
    pub allow_unconditional_update: bool,
    /// A create may say the first status (Node, which registers with it).
    pub status_on_create: bool,
    /// A deletion that is done at once answers with the object as it was; with a
    /// Status otherwise.
    pub answers_deleted: bool,
    /// When generation rises.
    pub generation: Generation,
    /// What the kind decides itself.
    pub hooks: Hooks,
    /// The text of the `Warning` header of every request to a deprecated version.
    pub deprecation: Option<String>,
    /// What only custom kinds have; `None` for built-in ones.
    pub custom: Option<Custom>,
}

/// Objects that are kept in another resource's form: both Event groups share one
/// storage.
#[derive(Clone, Copy, Debug)]
pub struct StoredAs {
    /// The group whose storage it is.
    pub group: &'static str,
    /// The version that is stored.
    pub version: &'static str,
    /// The resource whose storage it is.
    pub plural: &'static str,
    /// From this version's form to the stored one.
    pub to_stored: fn(Value) -> Value,
    /// And back.
    pub from_stored: fn(Value) -> Value,
}

/// `pods/log`, `deployments/scale`.
#[derive(Clone, Debug)]
pub struct Subresource {
    /// `status`, `scale`, `log`.
    pub name: Str,
    /// `get patch update`, `create`.
    pub verbs: Vec<Str>,
    /// The kind of its body: group, version and kind as discovery says them.
    pub kind: GroupVersionKind,
    /// The shape of its body; `None` where it takes query parameters only.
    pub shape: Option<ShapeRef>,
    /// What a request to it does.
    pub role: Role,
}

/// What a request to a subresource does.
#[derive(Clone, Debug)]
pub enum Role {
    /// Reads the object; writes change its status only.
    Status,
    /// Reads the object; writes change a part of it only: `finalize`,
    /// `ephemeralcontainers`, `resize`.
    Part {
        /// Takes everything but the part from the old object: `(new, old)`.
        prepare: fn(&ResourceSpec, &mut Value, &Value),
        /// Faults of the change: `(new, old)`.
        validate: fn(&ResourceSpec, &Value, &Value, &mut Faults),
    },
    /// Reads and writes the number of replicas as a `Scale`.
    Scale(ScalePaths),
    /// POST of a body that changes the object and answers a Status: `binding`.
    Post(fn(object: &mut Value, body: &Value, now: Timestamp) -> Result<(), Status>),
    /// POST that somebody beyond the registry answers: `token`, `eviction`.
    Answered,
    /// A stream or a proxied request.
    Connect {
        /// The connection is upgraded (`exec`, `attach`, `portforward`).
        upgrade: bool,
        /// What follows in the path belongs to it (`proxy`).
        path_suffix: bool,
        /// What it takes in the query: `PodExecOptions`.
        options: ShapeRef,
    },
}

/// Where `Scale` finds its numbers in the object.
#[derive(Clone, Debug)]
pub struct ScalePaths {
    /// `spec.replicas`.
    pub replicas: Str,
    /// `status.replicas`.
    pub status_replicas: Str,
    /// `spec.selector` (an object) or a text field; empty for none.
    pub selector: Str,
    /// Group and resource that are said not to be there where the object is not; its own
    /// where nothing is given.
    pub absent: Option<(Str, Str)>,
}

/// A column of the server-side table.
#[derive(Clone, Debug)]
pub struct Column {
    /// `Ready`.
    pub name: Str,
    /// `string`, `integer`, `number`, `boolean`, `date`.
    pub kind: Str,
    /// `name` for the name column; otherwise empty.
    pub format: Str,
    /// For people.
    pub description: Str,
    /// 0 is always shown, 1 with `-o wide`.
    pub priority: i32,
    /// Where the cell comes from.
    pub cell: Cell,
}

/// Where a cell comes from.
#[derive(Clone, Debug)]
pub enum Cell {
    /// Computed.
    With(fn(&Value, Timestamp) -> Value),
    /// The value at a dotted path as it is.
    Path(Str),
    /// How long ago the time at a dotted path is: `5m`, `<unknown>`.
    Age(Str),
    /// The first value that a path leads to, as the column's kind shows it.
    JsonPath(JsonPath),
}

/// A field that selectors may name.
#[derive(Clone, Debug)]
pub struct SelectableField {
    /// `status.phase`.
    pub name: Str,
    /// Where its value comes from.
    pub read: Read,
}

/// Where the value of a selectable field comes from.
#[derive(Clone, Debug)]
pub enum Read {
    /// The scalar at the path that the field's name is; empty where absent.
    ItsName,
    /// Computed.
    With(fn(&Value) -> String),
}

impl ResourceSpec {
    /// Group, version and plural.
    pub fn gvr(&self) -> GroupVersionResource {
        GroupVersionResource::new(&self.group, &self.version, &self.plural)
    }

    /// Group, version and kind.
    pub fn gvk(&self) -> GroupVersionKind {
        GroupVersionKind {
            group: self.group.to_string(),
            version: self.version.to_string(),
            kind: self.kind.to_string(),
        }
    }

    /// `v1`, `apps/v1`.
    pub fn api_version(&self) -> String {
        match &*self.group {
            "" => self.version.to_string(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// Whether the resource itself serves a verb.
    pub fn allows(&self, verb: &str) -> bool {
        self.verbs.iter().any(|served| served == verb)
    }

    /// The subresource called so.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|sub| sub.name == name)
    }

    /// Whether status is written apart from the rest.
    pub fn has_status(&self) -> bool {
        self.subresources.iter().any(|sub| matches!(sub.role, Role::Status))
    }

    /// The value of a selectable field; `None` where the field is not selectable.
    pub fn select(&self, object: &Value, field: &str) -> Option<String> {
        let row = self.selectable.iter().find(|row| row.name == field)?;
        Some(row.read(object))
    }

    /// How many seconds a deletion waits for somebody to confirm it; `None`
    /// where objects go at once.
    pub fn grace_seconds(&self, object: &Value, requested: Option<i64>) -> Option<i64> {
        (self.hooks.grace_seconds)(object, requested)
    }

    /// Texts for `Warning` headers of an accepted write.
    pub fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let mut warnings = (self.hooks.warnings)(new, old);
        if self.custom.is_some() {
            warnings.extend(meta::finalizer_warnings(new, old));
        }
        warnings
    }
}

impl SelectableField {
    /// The field's value in an object; empty where it has none.
    pub fn read(&self, object: &Value) -> String {
        match self.read {
            Read::With(read) => read(object),
            Read::ItsName => tree::scalar(object, &self.name),
        }
    }
}

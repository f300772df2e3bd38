//! What is filled in or refused before a write: the trait that the registry
//! calls and the request it describes. Implemented by `api-access`.

use std::{collections::BTreeSet, sync::Arc};

use api_object::{GroupVersionKind, GroupVersionResource, Status};
use serde_json::Value;

use crate::access::{BoxFuture, UserInfo};

/// What happens to the object (`admission.k8s.io/v1` `Operation`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A new object, or a created subresource such as `pods/binding`.
    Create,
    /// Update and patch, subresources included.
    Update,
    /// Delete, and each object of a deletecollection.
    Delete,
    /// exec, attach, portforward, proxy.
    Connect,
}

impl Operation {
    /// `CREATE`, as webhooks and policies spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// Something else that changes together with the object, in one commit: both
/// happen or neither. It is not admitted itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beside {
    /// Creates an object that must not exist. Where it does, the write is
    /// refused with 429: somebody else was faster, and another try may choose
    /// otherwise.
    Create {
        /// The group of its storage.
        group: &'static str,
        /// The resource of its storage.
        plural: &'static str,
        /// Cluster-scoped, in the form in which it is stored; uid and creation
        /// time are filled in.
        object: Value,
    },
    /// Deletes a cluster-scoped object where it exists.
    Delete {
        /// The group of its storage.
        group: &'static str,
        /// The resource of its storage.
        plural: &'static str,
        /// Its name.
        name: String,
    },
}

/// A write that asks to be admitted.
#[derive(Clone, Debug)]
pub struct Attributes {
    /// What happens.
    pub operation: Operation,
    /// The resource as requested.
    pub resource: GroupVersionResource,
    /// The kind of [`Self::object`]; for subresources the kind of their body
    /// (`policy/v1` `Eviction`, `autoscaling/v1` `Scale`).
    pub kind: GroupVersionKind,
    /// `status`, `binding`, …; empty for the object itself.
    pub subresource: String,
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    /// Empty while a create has only a `generateName`.
    pub name: String,
    /// The new object: decoded and defaulted; `None` for deletes. Mutating
    /// plugins change it in place.
    pub object: Option<Value>,
    /// The stored object for updates and deletes.
    pub old_object: Option<Value>,
    /// Nothing will be stored, so nothing may be allocated or sent.
    pub dry_run: bool,
    /// Who asks.
    pub user: Arc<UserInfo>,
    /// Texts for `Warning` headers; plugins add to them.
    pub warnings: Vec<String>,
    /// What is to be stored or deleted in the same commit. A deletion that only
    /// marks the object leaves it out.
    pub beside: Vec<Beside>,
    /// The options of the request (`meta/v1` `CreateOptions` and the like) as an
    /// object; null for connections.
    pub options: Value,
    /// Who is to be asked again.
    pub reinvocation: Reinvocation,
    /// What `mutate` set aside for this attempt (addresses, ports), in the
    /// plugin's own words, for it to find again in [`Admission::settled`].
    pub reserved: Vec<String>,
}

/// Mutating webhooks and policies that want to be asked again where one after them
/// changed the object (`reinvocationPolicy`). Each is asked twice at most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reinvocation {
    /// This is the second round: of the webhooks and policies only those that are
    /// due are asked.
    pub again: bool,
    /// One of them changed the object, so that there is a second round.
    pub needed: bool,
    /// Who is asked in the second round.
    pub due: BTreeSet<String>,
    /// Who wants to be asked again if there is a change from now on.
    pub willing: BTreeSet<String>,
}

impl Reinvocation {
    /// The object was changed.
    pub fn changed(&mut self) {
        self.needed = true;
        self.due.append(&mut self.willing);
    }

    /// Whether a webhook or policy is asked now.
    pub fn asks(&self, who: &str) -> bool {
        !self.again || self.due.contains(who)
    }
}

/// The plugins in their order. An update is retried when the object changed
/// underneath, and is admitted again each time: both stages must bear that.
pub trait Admission: Send + Sync {
    /// Fills in and changes [`Attributes::object`]; runs before validation.
    ///
    /// # Errors
    /// The request is refused; usually 403 with [`Status::forbidden`].
    fn mutate<'a>(&'a self, attributes: &'a mut Attributes) -> BoxFuture<'a, Result<(), Status>>;

    /// Looks at the final, validated object right before it is stored. It may
    /// add warnings; changes of the object here are lost.
    ///
    /// # Errors
    /// The request is refused.
    fn validate<'a>(&'a self, attributes: &'a mut Attributes) -> BoxFuture<'a, Result<(), Status>>;

    /// Called once at the end of each attempt, one that `mutate` refused
    /// included, with whether the store took it (or may have), so that what
    /// `mutate` reserved (addresses, ports) is kept or given back.
    fn settled(&self, attributes: &Attributes, stored: bool) {
        let _ = (attributes, stored);
    }
}

/// Admits everything unchanged: for tests, and servers that run one kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct AdmitAll;

impl Admission for AdmitAll {
    fn mutate<'a>(&'a self, _: &'a mut Attributes) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async { Ok(()) })
    }

    fn validate<'a>(&'a self, _: &'a mut Attributes) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async { Ok(()) })
    }
}

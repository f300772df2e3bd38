//! Who is asking, and may they: the questions that the request chain puts to
//! whoever knows about identities. Implemented by `api-access`.

use std::{collections::BTreeMap, future::Future, pin::Pin, sync::Arc};

use api_object::Status;

/// A boxed future, so that the traits here can be objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Who a request comes from (`authentication.k8s.io/v1` `UserInfo`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserInfo {
    /// `system:node:a`, `system:serviceaccount:default:x`, `kubernetes-admin`.
    pub name: String,
    /// Empty where the credential carries none.
    pub uid: String,
    /// Every group, `system:authenticated` or `system:unauthenticated` included.
    pub groups: Vec<String>,
    /// `authentication.kubernetes.io/pod-name` and the like.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// The identity of a request without credentials.
    pub fn anonymous() -> Self {
        Self {
            name: "system:anonymous".into(),
            groups: vec!["system:unauthenticated".into()],
            ..Self::default()
        }
    }

    /// Whether the user is in the group.
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }
}

/// What a connection and a request present as proof of identity.
#[derive(Clone, Debug, Default)]
pub struct Credentials<'a> {
    /// From `Authorization: Bearer …`.
    pub bearer: Option<&'a str>,
    /// The client's leaf certificate as DER. TLS has verified the chain
    /// against the client CA, so reading the subject is all that is left.
    pub certificate: Option<&'a [u8]>,
}

/// Turns credentials into a user.
pub trait Authenticator: Send + Sync {
    /// `Ok(None)`: no credentials that this authenticator knows were
    /// presented, so the request is anonymous.
    ///
    /// # Errors
    /// Credentials were presented and are bad: 401 `Unauthorized`.
    fn authenticate<'a>(
        &'a self,
        credentials: Credentials<'a>,
    ) -> BoxFuture<'a, Result<Option<Arc<UserInfo>>, Status>>;
}

/// What a request wants to do, for an authorizer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestAttributes {
    /// Who asks.
    pub user: Arc<UserInfo>,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`,
    /// `deletecollection`; for paths the HTTP method in lower case; also the
    /// virtual verbs of access reviews (`impersonate`, `bind`, `escalate`).
    pub verb: String,
    /// Whether this is about a resource; about [`Self::path`] otherwise.
    pub resource_request: bool,
    /// Empty for core.
    pub group: String,
    /// `v1`; empty or `*` in access reviews.
    pub version: String,
    /// `pods`.
    pub resource: String,
    /// `status`; empty for the resource itself.
    pub subresource: String,
    /// Empty for cluster-scoped resources and for all namespaces.
    pub namespace: String,
    /// Empty for requests about collections.
    pub name: String,
    /// The parsed `fieldSelector` of list, watch and deletecollection, as text.
    pub field_selector: String,
    /// The `labelSelector` of the same, as text.
    pub label_selector: String,
    /// The URL path of a request that is not about a resource.
    pub path: String,
}

/// An authorizer's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Go ahead.
    Allow,
    /// Nobody allows it. `reason` may be empty; it ends the 403's message.
    NoOpinion {
        /// Why, for the log and the answer.
        reason: String,
    },
    /// Refused whatever others say.
    Deny {
        /// Why, for the log and the answer.
        reason: String,
    },
}

/// Says whether a request may go on.
pub trait Authorizer: Send + Sync {
    /// Never fails: what cannot be found out is [`Decision::NoOpinion`] with
    /// the error as its reason.
    fn authorize<'a>(&'a self, attributes: &'a RequestAttributes) -> BoxFuture<'a, Decision>;
}

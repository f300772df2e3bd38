//! Versions of groups that other API servers serve: what APIServices say.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::BoxFuture;

/// Where a version of a group stands among the others. The higher number comes first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Priority {
    /// Empty for core.
    pub group: String,
    /// `v1`.
    pub version: String,
    /// Of the group among groups.
    pub of_group: i64,
    /// Of the version within its group.
    pub of_version: i64,
}

/// A version of a group that another API server serves, behind a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extension {
    /// Which version, and where it stands.
    pub priority: Priority,
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's name.
    pub name: String,
    /// The Service's port.
    pub port: u16,
    /// Certificates that sign the server's, as PEM; empty for the system's.
    pub ca_bundle: Vec<u8>,
    /// Its certificate may be anybody's.
    pub insecure: bool,
    /// It was found to answer.
    pub available: bool,
}

impl Extension {
    /// The name that its certificate is for.
    pub fn server_name(&self) -> String {
        format!("{}.{}.svc", self.name, self.namespace)
    }

    /// `group/version`.
    pub fn group_version(&self) -> String {
        format!("{}/{}", self.priority.group, self.priority.version)
    }
}

/// Every version that an APIService is there for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registered {
    /// Those that this server serves.
    pub local: Vec<Priority>,
    /// Those that others serve, in the place of this server.
    pub others: Vec<Arc<Extension>>,
}

impl Registered {
    /// Who serves a version in this server's place.
    pub fn find(&self, group: &str, version: &str) -> Option<Arc<Extension>> {
        let serves = |other: &&Arc<Extension>| {
            other.priority.group == group && other.priority.version == version
        };
        self.others.iter().find(serves).cloned()
    }
}

/// A connection to another server.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// Knows the API servers beside this one, and how to reach them.
pub trait Extensions: Send + Sync {
    /// What is known now.
    fn registered(&self) -> Arc<Registered>;

    /// A connection with the server's name verified, which shows that it comes
    /// from this server: what is said on it about a user is believed.
    ///
    /// # Errors
    /// Why there is none: `dial tcp …`, `tls: …`.
    fn connect<'a>(
        &'a self,
        extension: &'a Extension,
    ) -> BoxFuture<'a, Result<Box<dyn Connection>, String>>;
}

/// There are no others.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoExtensions;

impl Extensions for NoExtensions {
    fn registered(&self) -> Arc<Registered> {
        Arc::default()
    }

    fn connect<'a>(
        &'a self,
        extension: &'a Extension,
    ) -> BoxFuture<'a, Result<Box<dyn Connection>, String>> {
        let why = format!("{} is not known here", extension.group_version());
        Box::pin(std::future::ready(Err(why)))
    }
}

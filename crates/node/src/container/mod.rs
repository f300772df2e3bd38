//! From a container as the API describes it to one as the runtime runs it.
//! Nothing here does I/O: [`spec::container_spec`] gets all it needs.

pub(crate) mod env;
mod env_file;
mod expand;
pub(crate) mod fields;
pub(crate) mod qos;
pub(crate) mod security;
pub(crate) mod services;
pub(crate) mod spec;

pub(crate) use expand::expand;

/// Why a container cannot be made as described: `CreateContainerConfigError`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ConfigError(pub(crate) String);

impl ConfigError {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

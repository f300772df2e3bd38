//! Pods' addresses and the files that name hosts and resolvers.

pub(crate) mod addresses;
pub(crate) mod files;

//! What get, list, watch, create, update, patch and delete *mean* for any kind:
//! versions, preconditions, finalizers, graceful deletion, dry run.
//!
//! This crate knows no HTTP and no name of a kind; a kind is a `ResourceSpec`.
//! Who may ask ([`access`]) and what is filled in or refused ([`admission`])
//! are traits that others implement.

pub mod access;
pub mod admission;

pub use access::{
    Authenticator, Authorizer, BoxFuture, Credentials, Decision, RequestAttributes, UserInfo,
};
pub use admission::{Admission, AdmitAll, Attributes, Operation};

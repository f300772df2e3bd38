//! What every Kubernetes object has, whatever its kind: names, metadata,
//! selectors, quantities and the `Status` that answers a failed request.
//!
//! This crate knows no kind and does no I/O. Time and randomness come in as
//! arguments. Start reading at [`Object`], the form in which objects travel
//! through the server: their canonical JSON bytes beside the parsed metadata.

#![warn(missing_docs)]

mod gvk;
mod meta;
pub mod name;
mod object;
pub mod quantity;
pub mod selector;
pub mod status;
pub mod time;

pub use gvk::{GroupVersion, GroupVersionKind, GroupVersionResource, version_preference};
pub use meta::{Meta, OwnerReference};
pub use object::{Object, ParseError};
pub use quantity::Quantity;
pub use selector::{FieldSelector, LabelSelector};
pub use status::{Reason, Status};

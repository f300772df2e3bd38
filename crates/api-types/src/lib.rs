//! Typed views of built-in kinds, for reading.
//!
//! Each view holds the fields that a controller, the scheduler or the node
//! reads, and no others: objects are never written back from here, because a
//! view drops what it does not know. Writers send patches. There is no
//! behaviour in this crate beyond a few lookups. Metadata is
//! [`api_object::Meta`]. Start at [`core::Pod`].

#![warn(missing_docs)]

pub mod apps;
pub mod coordination;
pub mod core;
pub mod discovery;
mod fit;
pub mod networking;
pub mod rbac;

use serde::{Deserialize, Serialize};

/// A number or a text: ports by number or name, counts or percentages.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum IntOrString {
    /// `8080`.
    Int(i32),
    /// `http`, `25%`.
    String(String),
}

impl Default for IntOrString {
    fn default() -> Self {
        Self::Int(0)
    }
}

/// Declares views: structs whose absent fields take their default.
macro_rules! views {
    ($($(#[$meta:meta])* $name:ident { $($(#[$fmeta:meta])* $field:ident: $ty:ty,)* })*) => {
        $(
            $(#[$meta])*
            #[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
            #[serde(default, rename_all = "camelCase")]
            pub struct $name { $($(#[$fmeta])* pub $field: $ty,)* }
        )*
    };
}
pub(crate) use views;

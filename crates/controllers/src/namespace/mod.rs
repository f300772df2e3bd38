//! Namespace: empties one that is being deleted, and lets it go.

mod act;
mod plan;

pub(crate) use act::run;

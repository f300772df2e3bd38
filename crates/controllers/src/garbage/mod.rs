//! Garbage collector: what belongs to nobody any more goes, and deletion in
//! the foreground or with orphans does what was asked.
//!
//! Upstream's rules: an object whose owners are all gone is deleted; one that
//! has another owner loses the references to those that are gone; an owner
//! with the finalizer `foregroundDeletion` stays until the dependents that
//! block it are gone; one with `orphan` stays until its dependents have
//! forgotten it.

mod act;
mod graph;
mod plan;
#[cfg(test)]
mod story;

pub(crate) use act::run;

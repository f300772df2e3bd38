//! StorageVersionMigration: every object of a resource is written once without a
//! change, so that none is left in a form of before.

mod act;
mod plan;
#[cfg(test)]
mod story;

pub(crate) use act::run;

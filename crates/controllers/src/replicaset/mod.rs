//! ReplicaSet, and ReplicationController before it: keeps a number of pods of
//! one template running. The kinds are rows of `row.rs`.

mod act;
mod plan;
mod row;
#[cfg(test)]
mod tests;
mod view;

pub(crate) use act::{run, run_replication_controllers};
pub(crate) use plan::first_to_go;

//! ReplicaSet: keeps a number of pods of one template running.

mod act;
mod plan;
#[cfg(test)]
mod tests;
mod view;

pub(crate) use act::run;

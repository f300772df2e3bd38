//! Node lifecycle: notices nodes that fell silent, and keeps the taints that
//! say how a node is.

mod act;
mod plan;
mod zones;

pub(crate) use act::run;

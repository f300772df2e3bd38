//! Decisions as tables, decisions beside a plainly written model, and the
//! whole scheduler on a cluster in memory.

mod affinity;
mod model;
mod preemption;
mod running;
mod simple;
mod spread;
mod storage;
mod world;

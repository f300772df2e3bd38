//! HorizontalPodAutoscaler: how many replicas a workload has, after what is
//! measured of it.
//!
//! `act.rs` asks for scale, pods and metrics every 15 seconds; all else is
//! decided without asking anybody: `replicas.rs` what one metric proposes,
//! `limits.rs` how fast the number may change, `plan.rs` the whole.

mod act;
mod limits;
mod metrics;
mod plan;
mod replicas;
#[cfg(test)]
mod story;
#[cfg(test)]
mod tests;
mod view;

pub(crate) use act::run;

//! One pod on this node, from the first start step to the last trace removed.
//!
//! [`view`] is what was seen and remembered, [`plan`] decides from it without
//! I/O ([`admit`] whether it may run here at all, [`granted`] whether it fits, [`preempt`]
//! who goes where it must),
//! [`status`] tells it in the API's words; [`resize`] changes what running
//! containers get. [`worker`] is the task that acts, through [`setup`], [`start`] and [`stop`];
//! of what fails [`trouble`] knows what the log has been told. [`manager`] follows the
//! API and keeps one worker a pod, at work whatever happens ([`tended`]), and ends what nobody
//! knows ([`missing`]).

mod act;
pub(crate) mod admit;
mod clock;
mod enter;
mod fold;
pub(crate) mod granted;
pub(crate) mod host_ports;
pub(crate) mod lookup;
pub(crate) mod manager;
mod message;
mod mirror;
mod missing;
pub(crate) mod plan;
pub(crate) mod preempt;
pub(crate) mod resize;
pub(crate) mod setup;
pub(crate) mod start;
pub(crate) mod static_pods;
pub(crate) mod status;
pub(crate) mod stop;
mod tell;
mod tended;
mod trouble;
pub(crate) mod user_ranges;
pub(crate) mod view;
pub(crate) mod worker;

#[cfg(test)]
mod plan_tests;
#[cfg(test)]
mod status_tests;

//! Job: pods that run until enough of them have succeeded.
//!
//! A pod that has ended counts once, whatever is lost or repeated: it carries
//! the finalizer `batch.kubernetes.io/job-tracking` until its uid (or its
//! index) is in the Job's status, and the uid moves from there into the
//! counters when the finalizer is gone (KEP-2307). Start at `plan.rs`.

mod act;
mod backoff;
mod count;
#[cfg(test)]
mod ended;
mod indexes;
mod orphans;
mod plan;
mod pods;
mod policy;
#[cfg(test)]
mod property;
mod state;
#[cfg(test)]
mod story;
#[cfg(test)]
mod tests;
mod verdict;
mod view;

pub(crate) use act::run;

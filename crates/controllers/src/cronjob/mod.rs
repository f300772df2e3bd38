//! CronJob: a Job at every moment that a schedule names.
//!
//! A Job's name is made of the moment it is for, so that whatever is lost or
//! repeated, each moment has one Job at most.

mod act;
mod due;
mod plan;
#[cfg(test)]
mod tests;
mod view;

pub(crate) use act::run;

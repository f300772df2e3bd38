//! Deployment: moves its pods from one template to the next through
//! ReplicaSets, one for each template.

mod act;
mod plan;
mod progress;
#[cfg(test)]
mod property;
mod revision;
mod rollout;
mod view;

pub(crate) use act::run;

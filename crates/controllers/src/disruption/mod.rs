//! PodDisruptionBudget: how many pods may be made to leave at this moment. The
//! API server's `pods/eviction` takes from what the status says; this
//! controller gives back.

mod act;
mod plan;
#[cfg(test)]
mod property;
mod scale;
#[cfg(test)]
mod tests;

pub(crate) use act::run;

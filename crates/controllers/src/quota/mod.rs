//! ResourceQuota: counts what a namespace uses. The API server charges what is
//! created; this controller gives back what is gone, and what was charged for a
//! write that then failed.

mod act;
mod follow;
mod plan;
#[cfg(test)]
mod tests;

pub(crate) use act::run;

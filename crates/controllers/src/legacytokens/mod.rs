//! Tokens in Secrets that clusters before 1.24 made by themselves for each account
//! (KEP-2799): when uses began to be noted is kept in a ConfigMap; what nobody uses is
//! refused after a year, and deleted after another. Upstream calls the two the legacy
//! token tracking and the legacy token cleaner.

mod act;
mod plan;

pub(crate) use act::{run, run_tracking};

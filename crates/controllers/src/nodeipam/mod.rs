//! Node IPAM: each node gets its share of the cluster's pod network, one of
//! each family, in `spec.podCIDRs`. A share is never changed; it is free again
//! when its Node is gone.

mod act;
mod plan;

pub(crate) use act::run;
pub use plan::{PodRange, RangeError};

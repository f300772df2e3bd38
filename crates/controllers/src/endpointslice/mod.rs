//! EndpointSlice: the addresses behind each Service.

mod act;
mod plan;
mod view;

pub(crate) use act::run;

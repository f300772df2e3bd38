//! EndpointSlice: the addresses behind each Service; and its older form, the
//! Endpoints object, in both directions (`endpoints.rs`, `mirror.rs`).

mod act;
mod endpoints;
mod mirror;
mod plan;
#[cfg(test)]
mod tests;
mod trigger;
mod view;
mod writer;

pub(crate) use act::run;
pub(crate) use endpoints::run as endpoints;
pub(crate) use mirror::run as mirror;

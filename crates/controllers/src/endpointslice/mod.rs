//! EndpointSlice: the addresses behind each Service.

mod act;
mod plan;
#[cfg(test)]
mod tests;
mod view;

pub(crate) use act::run;

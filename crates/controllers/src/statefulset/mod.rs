//! StatefulSet: pods with names, storage and an order of their own.

mod act;
mod claims;
mod plan;
mod pod;
#[cfg(test)]
mod property;
#[cfg(test)]
mod tests;
mod view;

pub(crate) use act::run;

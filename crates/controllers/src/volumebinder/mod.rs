//! PersistentVolume binder: claims and volumes find each other, classes are
//! told to make volumes, and volumes whose claim is gone are released.

mod act;
mod choose;
mod claim;
mod plan;
#[cfg(test)]
mod tests;
mod view;
mod volume;

pub(crate) use act::run;

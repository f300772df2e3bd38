//! DaemonSet: a pod of one template on each node that fits.

mod act;
mod fit;
mod plan;
#[cfg(test)]
mod property;
mod rolling;
mod status;
#[cfg(test)]
mod story;
#[cfg(test)]
mod tests;
mod view;

pub(crate) use act::run;

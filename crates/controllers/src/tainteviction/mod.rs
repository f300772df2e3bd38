//! Taint eviction: pods leave a node whose `NoExecute` taints they do not
//! tolerate, or no longer: five minutes after it fell silent, by default.

mod act;
mod plan;
#[cfg(test)]
mod story;

pub(crate) use act::run;

//! resource.k8s.io: devices that nodes have, and who may use them (dynamic
//! resource allocation).
//!
//! `claim` is what a pod asks for, `slice` what a driver offers; `device` has
//! the rules that both share.

mod allocation;
pub(crate) mod claim;
mod device;
pub(crate) mod device_class;
mod names;
mod request;
pub(crate) mod slice;
pub(crate) mod taint;

const GROUP: &str = "resource.k8s.io";

//! Whole-system tests: the real binary, driven by stock kubectl.
//!
//! One binary, so that the world is linked once. [`cluster`] brings up a
//! server in a network and mount namespace of its own, [`harness`] several hosts
//! and what goes wrong between them; each file of `stories` tells what a user
//! does and sees. They need root (namespaces, cgroups) and
//! kubectl, and say so where they skip.

#[allow(dead_code, reason = "the bench uses more of it")]
mod cluster;
#[allow(dead_code, reason = "a fault is there before the story that needs it")]
mod harness;
mod stories;
mod systemd;

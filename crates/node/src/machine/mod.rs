//! The node itself: what the machine has ([`facts`]), the Node object made of
//! it ([`object`]), and the loop that keeps object and Lease current
//! ([`heartbeat`]).

pub(crate) mod facts;
pub(crate) mod heartbeat;
pub(crate) mod object;

pub(crate) use facts::Machine;

//! The node itself: what the machine has ([`facts`]), the Node object made of
//! it ([`object`]), what events say of its turns ([`turns`]), whether the API has it
//! ([`registered`]), and the loop that keeps object and Lease current ([`heartbeat`]).

pub(crate) mod facts;
pub(crate) mod heartbeat;
pub(crate) mod object;
mod registered;
mod turns;

pub(crate) use facts::Machine;

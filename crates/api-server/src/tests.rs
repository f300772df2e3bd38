//! Every verb against a store in memory, through the whole chain.

mod harness;
mod lists;
mod streams;
mod watches;
mod writes;
